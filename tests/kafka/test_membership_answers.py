"""What a member makes of each answer of its coordinator, and of none: a scripted cluster, in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import pytest

from streamproc.kafka.assignment import (
    Subscription,
    decide,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from streamproc.kafka.consumer_protocol import pack_subscription
from streamproc.kafka.membership import Member
from streamproc.kafka.requests import (
    Cluster,
    Code,
    GroupMember,
    Heartbeat,
    InitProducerId,
    Joined,
    JoinGroup,
    LeaveGroup,
    Membership,
    NoAnswer,
    Producer,
    Refused,
    Request,
    SyncGroup,
)
from streamproc.kafka.timing import Timing
from streamproc.log import Assigned, Fenced, GroupFailed, LogError, Partition, Replaced, Revoked, TaskInput
from streamproc.testing.simulation.virtual_time import run

R = TypeVar("R")

TASKS = [TaskInput("count", number, (Partition("tweets", number),)) for number in range(4)]
TIMING = Timing(session=6_000, heartbeat=300, rebalance=10_000, request=2_000)
SILENCE = object()
"""No answer comes, for as long as one is waited for."""


class Scripted:
    """A coordinator that answers as it is told: of each kind of request in order, the last for ever.

    At first it is that of a group of one, which leads itself. `sent` is all that came, with its time.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[float, Request[Any]]] = []
        self.script: dict[type[Request[Any]], list[Any]] = {
            JoinGroup: [joins(1)],
            SyncGroup: [lambda request: request.assignments[request.member]],
            Heartbeat: [None],
            LeaveGroup: [None],
            InitProducerId: [Producer(1, 1)],
        }

    async def send(self, request: Request[R], timeout_s: float) -> R:
        self.sent.append((asyncio.get_running_loop().time(), request))
        left = self.script[type(request)]
        answer = left.pop(0) if len(left) > 1 else left[0]
        await asyncio.sleep(0)
        if answer is SILENCE:
            await asyncio.sleep(timeout_s)
            raise NoAnswer(type(request).__name__, f"none in {timeout_s:g} s")
        if isinstance(answer, int):
            raise Refused(answer, type(request).__name__)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer  # type: ignore[no-any-return]

    def all(self, kind: type[R]) -> list[R]:
        return [request for _, request in self.sent if isinstance(request, kind)]

    def led_together(self, partitions: Any) -> Any: ...
    def pack(self, columns: Any) -> Any: ...
    async def close(self) -> None: ...


def joins(generation: int, *others: GroupMember, member: str = "w1-id", leader: str | None = None) -> Any:
    """The answer to whoever joins."""

    def answer(request: JoinGroup) -> Joined:
        members = [GroupMember(member, request.instance, request.metadata), *others]
        return Joined(generation, leader or member, member, members if leader in (None, member) else [])

    return answer


def other(instance: str, **said: Any) -> GroupMember:
    says = Subscription(**{"instance": instance, "plan": "", "inputs": tuple(TASKS), **said})
    return GroupMember(f"{instance}-id", instance, encode_subscription(says))


def a_member(cluster: Cluster, **settings: Any) -> Member:
    member = Member(cluster, "trending", "w1", TASKS, TIMING, **settings)
    member.start()
    return member


async def told(member: Member) -> Assigned | Revoked | None:
    """What comes next, within 200 ms."""
    try:
        async with asyncio.timeout(0.2):
            await member.changed.wait()
    except TimeoutError:
        return None
    member.check()
    return member.event()


async def assigned(member: Member) -> set[int]:
    event = await told(member)
    assert isinstance(event, Assigned)
    return {number for _, number in event.tasks}


async def end_of(member: Member, kind: type[LogError], within_s: float = 100) -> LogError:
    """What ended it."""
    async with asyncio.timeout(within_s):
        while True:
            await member.changed.wait()
            try:
                member.check()
            except kind as error:
                return error
            member.event()


def said(request: JoinGroup) -> Subscription:
    return decode_subscription(GroupMember("", "w1", request.metadata))


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def ran(*args: Any, **fixtures: Any) -> None:
        run(test(*args, **fixtures))

    return ran


# ------------------------------------------------------------------------------------ joining


@in_virtual_time
async def test_a_member_is_told_its_tasks_and_commits_under_their_generation() -> None:
    """Until it was told it has no membership to commit under; nothing to tell is no event."""
    member = a_member(Scripted())
    with pytest.raises(Fenced, match="was not assigned any tasks"):
        _ = member.membership
    assert member.event() is None
    assert await assigned(member) == {0, 1, 2, 3}
    assert member.membership == Membership("trending", 1, "w1-id", "w1")
    assert not member.changed.is_set()
    assert await told(member) is None
    await member.leave()


@in_virtual_time
async def test_a_member_joins_as_the_settings_say() -> None:
    """By its instance id, with what it offers; then it is heard as often as the settings say."""
    cluster = Scripted()
    member = a_member(cluster, plan="p1", shared=b"ends")
    await asyncio.sleep(3.05)
    (join,) = cluster.all(JoinGroup)
    assert (join.group, join.member, join.instance) == ("trending", "", "w1")
    assert (join.session_ms, join.rebalance_ms) == (6_000, 10_000)
    assert said(join) == Subscription(instance="w1", plan="p1", inputs=tuple(TASKS), shared=b"ends")
    assert len(cluster.all(Heartbeat)) == 10
    await member.leave()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.INCONSISTENT_GROUP_PROTOCOL, "another application is in the group: give the app another name"),
        (Code.GROUP_AUTHORIZATION_FAILED, "allow the app's user Read on the group"),
        (Code.INVALID_SESSION_TIMEOUT, "session_timeout between the broker's group.min.session.timeout.ms"),
        (Code.GROUP_MAX_SIZE_REACHED, "raise group.max.size"),
        (Code.INVALID_GROUP_ID, "give the app another name"),
        (Code.CLUSTER_AUTHORIZATION_FAILED, "Kafka refused JoinGroup: CLUSTER_AUTHORIZATION_FAILED"),
    ],
)
@in_virtual_time
async def test_a_refusal_that_does_not_pass_ends_the_member_with_the_way_out(code: int, words: str) -> None:
    """It is raised each time, and nobody asks again."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [code]
    member = a_member(cluster)
    for _ in range(2):
        assert words in str(await end_of(member, LogError))
    assert member.event() is None
    await asyncio.sleep(60)
    assert len(cluster.all(JoinGroup)) == 1
    await member.leave()


@pytest.mark.parametrize(
    "trouble", [Code.NOT_COORDINATOR, Code.COORDINATOR_LOAD_IN_PROGRESS, Code.REQUEST_TIMED_OUT, SILENCE]
)
@in_virtual_time
async def test_a_join_goes_on_until_there_is_a_coordinator_and_says_so(
    trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """However long that takes; a worker never waits in silence."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [trouble]
    member = a_member(cluster)
    await asyncio.sleep(200)
    assert await told(member) is None
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 4 <= len(warnings) <= 8
    assert all(words.startswith("w1, in group 'trending', waits for the others to give up") for words in warnings)
    assert "JoinGroup" in warnings[-1]
    cluster.script[JoinGroup] = [joins(1)]
    await asyncio.sleep(3)
    assert await assigned(member) == {0, 1, 2, 3}
    await member.leave()


@in_virtual_time
async def test_who_missed_a_generation_is_there_for_the_next() -> None:
    """However short the time for joining, and however often: else the next goes on without it, and so for ever."""
    cluster = Scripted()
    cluster.script[SyncGroup] = [Code.REBALANCE_IN_PROGRESS]
    timing = TIMING._replace(rebalance=1_000)
    member = Member(cluster, "trending", "w1", TASKS, timing)
    member.start()
    await asyncio.sleep(30)
    joins_at = [at for at, request in cluster.sent if isinstance(request, JoinGroup)]
    assert max(after - before for before, after in pairwise(joins_at)) < timing.rebalance / 5_000
    await member.leave()


@in_virtual_time
async def test_a_first_join_is_repeated_when_all_had_time_to_join_and_a_members_soon() -> None:
    """The first, repeated, would take its own place; another changes nothing, and finds a coordinator that is new."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [SILENCE, joins(1), SILENCE, joins(2)]
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS, None]
    member = a_member(cluster)
    await asyncio.sleep(20)
    first, again, second, once_more = (at for at, request in cluster.sent if isinstance(request, JoinGroup))
    assert again - first > (TIMING.rebalance + TIMING.request) / 1000
    assert once_more - second < TIMING.session / 1000
    await member.leave()


@in_virtual_time
async def test_a_generation_that_is_over_before_it_began_is_told_to_nobody() -> None:
    """The member joins the next one as who it is."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(1), joins(2)]
    cluster.script[SyncGroup].insert(0, Code.REBALANCE_IN_PROGRESS)
    member = a_member(cluster)
    assert await assigned(member) == {0, 1, 2, 3}
    assert member.membership.generation == 2
    assert [request.member for request in cluster.all(JoinGroup)] == ["", "w1-id"]
    await member.leave()


@pytest.mark.parametrize("kind", [JoinGroup, SyncGroup])
@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION])
@in_virtual_time
async def test_a_newcomer_that_is_expelled_joins_again_by_itself(kind: type[Request[Any]], code: int) -> None:
    """It has no tasks that somebody would have to be told of."""
    cluster = Scripted()
    cluster.script[kind].insert(0, code)
    member = a_member(cluster)
    assert await assigned(member) == {0, 1, 2, 3}
    assert [request.member for request in cluster.all(JoinGroup)] == ["", ""]
    await member.leave()


# ------------------------------------------------------------------------------------ a rebalance


@in_virtual_time
async def test_a_change_of_the_group_is_told_once_and_answered_by_joining_again() -> None:
    """Until the release the worker may commit, however long that takes: heartbeats go on."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS]
    cluster.script[JoinGroup] = [joins(2, other("w2"))]
    await asyncio.sleep(0.4)
    assert await told(member) == Revoked()
    await asyncio.sleep(20)
    assert await told(member) is None
    assert member.membership.generation == 1
    assert len(cluster.all(Heartbeat)) > 60
    cluster.script[Heartbeat] = [SILENCE, None]
    await asyncio.sleep(3)
    member.release()
    with pytest.raises(Fenced, match="has released them"):
        _ = member.membership
    assert await assigned(member) == {0, 1}
    assert member.membership.generation == 2
    (_, join) = cluster.all(JoinGroup)
    assert (join.member, said(join).generation, len(said(join).owned)) == ("w1-id", 1, 4)
    await member.leave()


@in_virtual_time
async def test_a_release_that_nobody_asked_for_does_nothing() -> None:
    """The tasks stay."""
    cluster = Scripted()
    member = a_member(cluster)
    member.release()
    await assigned(member)
    member.release()
    assert await told(member) is None
    assert member.membership.generation == 1
    assert len(cluster.all(JoinGroup)) == 1
    await member.leave()


@in_virtual_time
async def test_a_release_may_come_before_the_worker_was_told() -> None:
    """Then it is told its next tasks, and not to give up the last ones."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS, None]
    cluster.script[JoinGroup] = [joins(2)]
    await asyncio.sleep(0.4)
    member.release()
    await assigned(member)
    assert member.membership.generation == 2
    await member.leave()


@in_virtual_time
async def test_tasks_that_the_worker_was_not_told_of_are_given_up_by_themselves() -> None:
    """The group does not wait for a worker that has nothing to commit; it is told the next tasks alone."""
    cluster = Scripted()
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS, None]
    cluster.script[JoinGroup] = [joins(1), joins(2, other("w2"))]
    member = a_member(cluster)
    await asyncio.sleep(0.5)
    assert await assigned(member) == {0, 1}
    assert member.membership.generation == 2
    assert await told(member) is None
    await member.leave()


@in_virtual_time
async def test_the_tasks_are_told_once_more_to_a_worker_that_begins_anew() -> None:
    """But not while they are to be given up, or were."""
    cluster = Scripted()
    member = a_member(cluster)
    member.tell_again()
    assert await assigned(member) == {0, 1, 2, 3}
    member.tell_again()
    assert await assigned(member) == {0, 1, 2, 3}
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS]
    cluster.script[JoinGroup] = [SILENCE]
    await asyncio.sleep(0.4)
    member.tell_again()
    assert await told(member) == Revoked()
    member.release()
    member.tell_again()
    assert await told(member) is None
    await member.leave()


# ------------------------------------------------------------------------------------ the end of a membership


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.UNKNOWN_MEMBER_ID, "'w1' was taken for dead and expelled from group 'trending'"),
        (Code.ILLEGAL_GENERATION, "group 'trending' went on without 'w1'"),
    ],
)
@in_virtual_time
async def test_a_member_that_the_group_went_on_without_is_told_once_and_joins_anew(code: int, words: str) -> None:
    """Not before the worker, which has dropped what it had, asks for what is next."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [code, None]
    cluster.script[JoinGroup] = [joins(3, member="w1-new")]
    assert words in str(await end_of(member, Fenced))
    member.check()
    await asyncio.sleep(10)
    assert len(cluster.all(JoinGroup)) == 1
    assert member.event() is None
    assert await assigned(member) == {0, 1, 2, 3}
    assert member.membership == Membership("trending", 3, "w1-new", "w1")
    assert [request.member for request in cluster.all(JoinGroup)] == ["", ""]
    await member.leave()


@in_virtual_time
async def test_an_end_that_a_commit_was_told_is_not_told_again() -> None:
    """Whoever asks for the membership first is told; the next poll joins again."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.UNKNOWN_MEMBER_ID, None]
    await asyncio.sleep(0.4)
    with pytest.raises(Fenced, match="taken for dead"):
        _ = member.membership
    member.check()
    assert member.event() is None
    assert await assigned(member) == {0, 1, 2, 3}
    await member.leave()


@in_virtual_time
async def test_a_member_that_another_one_replaced_ends_and_never_comes_back() -> None:
    """Two processes of one name must not take it from one another for ever: the older one is told each time."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.FENCED_INSTANCE_ID]
    assert "give each worker of a group a name of its own" in str(await end_of(member, Replaced))
    for _ in range(2):
        with pytest.raises(Replaced):
            member.check()
        with pytest.raises(Replaced):
            _ = member.membership
        assert member.event() is None
    await asyncio.sleep(60)
    await member.leave()
    assert (len(cluster.all(JoinGroup)), len(cluster.all(LeaveGroup))) == (1, 0)


@in_virtual_time
async def test_a_member_that_is_not_heard_for_a_session_takes_itself_for_dead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By its own clock: its tasks may be somebody else's by then. Shorter troubles pass."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [SILENCE, Code.NOT_COORDINATOR, SILENCE, None]
    await asyncio.sleep(10)
    member.check()
    began = asyncio.get_running_loop().time()
    cluster.script[Heartbeat] = [SILENCE]
    error = await end_of(member, Fenced)
    assert 5.5 < asyncio.get_running_loop().time() - began < 7
    assert "the coordinator of group 'trending' has not heard 'w1' for " in str(error)
    assert "w1, in group 'trending', waits for the coordinator to hear this worker (no answer" in caplog.text
    await member.leave()


@pytest.mark.parametrize(
    ("code", "joined_as"), [(Code.UNKNOWN_MEMBER_ID, ["", "w1-id", ""]), (Code.FENCED_INSTANCE_ID, ["", "w1-id"])]
)
@in_virtual_time
async def test_who_was_cut_off_joins_as_who_it_was_and_so_never_replaces_a_newer_one(
    code: int, joined_as: list[str]
) -> None:
    """If another one has taken its name meanwhile it ends; if it was expelled it comes back as somebody new."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [SILENCE]
    await end_of(member, Fenced)
    cluster.script[Heartbeat] = [None]
    cluster.script[JoinGroup] = [code, joins(5, member="w1-new")]
    assert member.event() is None
    if code == Code.FENCED_INSTANCE_ID:
        await end_of(member, Replaced)
    else:
        assert await assigned(member) == {0, 1, 2, 3}
    assert [request.member for request in cluster.all(JoinGroup)] == joined_as
    await member.leave()


@in_virtual_time
async def test_an_answer_to_a_join_that_was_lost_does_not_make_a_member_its_own_rival() -> None:
    """The lost join may have taken effect behind the one that was answered. A second time it is somebody else."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [SILENCE, joins(1)]
    member = a_member(cluster)
    await asyncio.sleep(12.5)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.FENCED_INSTANCE_ID]
    await end_of(member, Fenced)
    assert member.event() is None
    await assigned(member)
    await end_of(member, Replaced)
    await member.leave()


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION])
@in_virtual_time
async def test_a_member_expelled_between_two_generations_is_told_that_its_tasks_may_be_elsewhere(code: int) -> None:
    """It has released them, but has them open still."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS, None]
    await asyncio.sleep(0.4)
    cluster.script[JoinGroup] = [code, joins(3)]
    assert await told(member) == Revoked()
    member.release()
    await end_of(member, Fenced)
    assert member.event() is None
    assert await assigned(member) == {0, 1, 2, 3}
    await member.leave()


@in_virtual_time
async def test_a_process_that_stood_still_says_so_and_asks_the_coordinator(caplog: pytest.LogCaptureFixture) -> None:
    """Only that knows whether the membership is over; the log says what a worker did instead of being heard."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    loop: Any = asyncio.get_running_loop()
    loop._now += 50
    assert await told(member) is None
    assert member.membership.generation == 1
    assert "w1: for 49.7 s nothing else could run in this process" in caplog.text
    cluster.script[Heartbeat] = [Code.UNKNOWN_MEMBER_ID]
    loop._now += 50
    await end_of(member, Fenced)
    await member.leave()


@in_virtual_time
async def test_what_breaks_in_the_background_is_raised_in_the_foreground() -> None:
    """No error ends a membership in silence."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [ZeroDivisionError("a bug")]
    await asyncio.sleep(0.4)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        member.check()
    await member.leave()


# ------------------------------------------------------------------------------------ what a commit learns


@pytest.mark.parametrize(
    ("code", "joins_as"),
    [
        (Code.UNKNOWN_MEMBER_ID, ""),
        (Code.ILLEGAL_GENERATION, ""),
        (Code.REBALANCE_IN_PROGRESS, "w1-id"),
        (Code.NONE, "w1-id"),
    ],
)
@in_virtual_time
async def test_a_refused_commit_ends_the_membership_and_the_next_poll_joins_again(code: int, joins_as: str) -> None:
    """Whoever learnt it from the commit is not told again; heartbeats under it stop."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    assert isinstance(member.lost("the commit was refused", code), Fenced)
    with pytest.raises(Fenced, match="was not assigned any tasks"):
        _ = member.membership
    await asyncio.sleep(10)
    assert len(cluster.all(Heartbeat)) == 0
    member.check()
    assert member.event() is None
    assert await assigned(member) == {0, 1, 2, 3}
    assert cluster.all(JoinGroup)[-1].member == joins_as
    await member.leave()


@in_virtual_time
async def test_a_commit_that_met_a_newer_holder_of_the_name_ends_the_worker() -> None:
    """As a heartbeat would."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    assert isinstance(member.lost("the commit was refused", Code.FENCED_INSTANCE_ID), Replaced)
    await end_of(member, Replaced)
    await asyncio.sleep(60)
    assert len(cluster.all(JoinGroup)) == 1
    await member.leave()


# ------------------------------------------------------------------------------------ leading


@in_virtual_time
async def test_the_leader_fences_who_is_gone_before_anyone_is_assigned() -> None:
    """Once each, and nobody who is present: what the dead have open must not hold up who reads their tasks."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(5, other("w2", generation=4, peers=("w1", "w2", "w3", "w4")))]
    member = a_member(cluster)
    await assigned(member)
    kinds = [type(request) for _, request in cluster.sent]
    assert kinds == [JoinGroup, InitProducerId, InitProducerId, SyncGroup]
    fenced = cluster.all(InitProducerId)
    assert [(one.transactional_id, one.producer, one.timeout_ms) for one in fenced] == [
        ("trending-w3", Producer(), TIMING.transaction),
        ("trending-w4", Producer(), TIMING.transaction),
    ]
    await member.leave()


@pytest.mark.parametrize("trouble", [SILENCE, Code.CONCURRENT_TRANSACTIONS, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED])
@in_virtual_time
async def test_a_generation_begins_though_nobody_could_be_fenced(
    trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """After some tries; what waits for the time-out of the transaction is said."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(5, other("w2", generation=4, peers=("w3",)))]
    cluster.script[InitProducerId] = [trouble]
    member = a_member(cluster)
    await asyncio.sleep(2.5)
    assert await assigned(member) == {0, 2}
    assert "group 'trending': what w3, who is gone, has open could not be aborted" in caplog.text
    await member.leave()


@in_virtual_time
async def test_a_fence_that_the_coordinator_is_too_busy_for_is_tried_again() -> None:
    """It answers so while it aborts what was open."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(5, other("w2", generation=4, peers=("w3",)))]
    cluster.script[InitProducerId] = [Code.CONCURRENT_TRANSACTIONS, Code.CONCURRENT_TRANSACTIONS, Producer(1, 2)]
    member = a_member(cluster)
    assert await assigned(member) == {0, 2}
    assert len(cluster.all(InitProducerId)) == 3
    await member.leave()


@in_virtual_time
async def test_a_leader_that_meets_another_application_names_it() -> None:
    """It assigns nothing, and does not guess."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(1, GroupMember("consumer-7-ab", "", pack_subscription(["tweets"], b"")))]
    member = a_member(cluster)
    error = await end_of(member, LogError)
    assert "member 'consumer-7-ab' of the group is no worker of streamproc" in str(error)
    assert cluster.all(SyncGroup) == []
    await member.leave()
    assert len(cluster.all(LeaveGroup)) == 1


@in_virtual_time
async def test_who_disagrees_on_what_a_task_reads_is_refused_by_the_leader() -> None:
    """With what to do about it."""
    cluster = Scripted()
    elsewhere = (TaskInput("count", 0, (Partition("likes", 0),)),)
    cluster.script[JoinGroup] = [joins(3, other("w0", generation=2, inputs=elsewhere))]
    error = await end_of(a_member(cluster), LogError)
    assert "'w1' cannot be in group 'trending': for 'w1' task count/0 reads other partitions than for 'w0'" in str(
        error
    )


# ------------------------------------------------------------------------------------ restarts


def inherits(plan: str = "", tasks: Sequence[TaskInput] = TASKS, **given: Any) -> bytes:
    """What the leader gave this instance's last process."""
    gives = decide({"w1-old": Subscription(instance="w1", plan=plan, inputs=tuple(tasks))}).assignments["w1-old"]
    return encode_assignment(msgspec.structs.replace(gives, **given))


@in_virtual_time
async def test_a_process_that_comes_back_is_given_what_it_had() -> None:
    """With what the group agreed on, and whatever it brings itself: by the first answer, without a new generation."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(7, member="w1-new", leader="w1-old"), joins(8, member="w1-new")]
    cluster.script[SyncGroup] = [inherits(tasks=TASKS, shared=b"agreed")]
    member = a_member(cluster, shared=b"new")
    event = await told(member)
    assert event == Assigned(frozenset(("count", number) for number in range(4)), b"agreed")
    assert member.membership == Membership("trending", 7, "w1-new", "w1")
    assert [request.assignments for request in cluster.all(SyncGroup)] == [{}]
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS, None]
    cluster.script[SyncGroup] = [lambda request: request.assignments[request.member]]
    await asyncio.sleep(0.4)
    assert await told(member) == Revoked()
    member.release()
    again = await told(member)
    assert isinstance(again, Assigned)
    assert again.shared == b"agreed"
    (_, sync) = cluster.all(SyncGroup)
    assert decode_assignment(sync.assignments["w1-new"]).peers == ("w1",)
    await member.leave()


@pytest.mark.parametrize(
    "before",
    [
        inherits(plan="an older one"),
        inherits(tasks=TASKS[:3]),
        inherits(tasks=(), failure="record 7 is broken"),
        inherits(tasks=(), refusal="other partitions"),
        b"",
    ],
)
@in_virtual_time
async def test_what_its_last_process_was_told_is_not_taken_for_its_own(before: bytes) -> None:
    """What does not fit is decided anew: it says something new, else the coordinator would see no reason to."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(7, member="w1-new", leader="w1-old"), joins(8, member="w1-new")]
    cluster.script[SyncGroup].insert(0, before)
    member = a_member(cluster)
    assert await assigned(member) == {0, 1, 2, 3}
    assert member.membership.generation == 8
    first, second = cluster.all(JoinGroup)
    assert (first.member, second.member) == ("", "w1-new")
    assert first.metadata != second.metadata
    await member.leave()


# ------------------------------------------------------------------------------------ leaving


@pytest.mark.parametrize("when_s", [0.0, 0.1])
@in_virtual_time
async def test_a_member_may_leave_in_the_middle_of_a_join(when_s: float) -> None:
    """Which may have taken effect, answered or not: it leaves by its instance id."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [SILENCE]
    member = a_member(cluster)
    await asyncio.sleep(when_s)
    began = asyncio.get_running_loop().time()
    await member.leave()
    await member.leave()
    assert asyncio.get_running_loop().time() == began
    joined, left = cluster.all(JoinGroup), cluster.all(LeaveGroup)
    assert left == [LeaveGroup("trending", "", "w1")] * len(joined)
    await asyncio.sleep(60)
    assert len(cluster.sent) == 2 * len(joined)


@in_virtual_time
async def test_a_member_that_has_left_is_in_no_group() -> None:
    """It can neither commit nor be told anything."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    await member.leave()
    assert cluster.all(LeaveGroup) == [LeaveGroup("trending", "w1-id", "w1")]
    with pytest.raises(Fenced, match="'w1' has left group 'trending'"):
        _ = member.membership
    with pytest.raises(LogError, match="join it again"):
        member.event()
    await asyncio.sleep(60)
    assert len(cluster.all(Heartbeat)) == 0


@pytest.mark.parametrize("trouble", [SILENCE, Code.NOT_COORDINATOR, Code.GROUP_AUTHORIZATION_FAILED])
@in_virtual_time
async def test_a_broker_that_does_not_answer_holds_up_no_end(trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    """For more than two seconds; what that costs is said."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[LeaveGroup] = [trouble]
    began = asyncio.get_running_loop().time()
    await member.leave()
    assert asyncio.get_running_loop().time() - began <= 2.1
    assert "w1: could not leave group 'trending', so its tasks wait for its session to end (6 s)" in caplog.text


@pytest.mark.parametrize("code", [Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID])
@in_virtual_time
async def test_leaving_a_group_that_one_is_not_in_is_no_trouble(code: int, caplog: pytest.LogCaptureFixture) -> None:
    """It was expelled, or replaced, without having heard of it."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[LeaveGroup] = [code]
    await member.leave()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@in_virtual_time
async def test_a_member_that_is_cancelled_while_it_releases_does_not_come_back() -> None:
    """Leaving right behind a release ends it, wherever it is."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[Heartbeat] = [Code.REBALANCE_IN_PROGRESS]
    await asyncio.sleep(0.4)
    assert await told(member) == Revoked()
    member.release()
    await member.leave()
    await asyncio.sleep(60)
    assert len(cluster.all(JoinGroup)) == 1


# ------------------------------------------------------------------------------------ failing


@in_virtual_time
async def test_a_failure_is_said_to_the_leader_and_told_to_all() -> None:
    """Even if this member leads; then it is in no generation any more, and leaves."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[JoinGroup] = [joins(2, other("w2"))]
    await member.fail("record 7 of tweets/3 is broken")
    at, _ = cluster.sent[-1]
    assert asyncio.get_running_loop().time() - at >= TIMING.heartbeat / 1000  # who is slow to ask was answered too
    assert said(cluster.all(JoinGroup)[-1]).failure == "record 7 of tweets/3 is broken"
    given = cluster.all(SyncGroup)[-1].assignments
    assert sorted(given) == ["w1-id", "w2-id"]
    assert {decode_assignment(one).failure for one in given.values()} == {"record 7 of tweets/3 is broken"}
    assert {decode_assignment(one).tasks for one in given.values()} == {()}
    for _ in range(2):
        with pytest.raises(GroupFailed, match="record 7 of tweets/3 is broken"):
            member.check()
    assert member.event() is None
    await member.leave()
    assert cluster.all(LeaveGroup) == [LeaveGroup("trending", "w1-id", "w1")]


@in_virtual_time
async def test_a_failure_of_another_ends_this_member_for_good() -> None:
    """It does not join again."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(1, other("w2", failure="disk full"))]
    member = a_member(cluster)
    for _ in range(2):
        assert "It said: disk full" in str(await end_of(member, GroupFailed))
    assert member.event() is None
    await asyncio.sleep(60)
    assert len(cluster.sent) == 2
    await member.leave()


@in_virtual_time
async def test_a_failure_that_cannot_be_told_holds_up_no_end(caplog: pytest.LogCaptureFixture) -> None:
    """No longer than the others may take to give up their tasks."""
    cluster = Scripted()
    member = a_member(cluster)
    await assigned(member)
    cluster.script[JoinGroup] = [SILENCE]
    began = asyncio.get_running_loop().time()
    await member.fail("record 7 is broken")
    assert asyncio.get_running_loop().time() - began == TIMING.rebalance / 1000
    assert "w1: could not tell group 'trending' that it must stop: the others did not give up" in caplog.text
    await member.leave()


@in_virtual_time
async def test_a_member_that_comes_back_to_fail_fails_the_group() -> None:
    """What its last process was given is no answer to that."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [joins(7, member="w1-new", leader="w1-old"), joins(8, member="w1-new")]
    cluster.script[SyncGroup].insert(0, inherits())
    member = Member(cluster, "trending", "w1", TASKS, TIMING)
    await member.fail("no state")
    assert decode_assignment(cluster.all(SyncGroup)[-1].assignments["w1-new"]).failure == "no state"
    await member.leave()


# ------------------------------------------------------------------------------------ ids of dynamic members


@in_virtual_time
async def test_an_id_that_is_required_is_used() -> None:
    """KIP-394: brokers ask members without an instance id to come again with the id that they are given."""
    cluster = Scripted()
    cluster.script[JoinGroup] = [Refused(Code.MEMBER_ID_REQUIRED, "JoinGroup", "w1-given"), joins(1, member="w1-given")]
    member = a_member(cluster)
    assert await assigned(member) == {0, 1, 2, 3}
    assert [request.member for request in cluster.all(JoinGroup)] == ["", "w1-given"]
    await member.leave()
