"""Memberships together: each scene on the simulated cluster, in virtual time, and on a real broker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial, wraps
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from streamproc.kafka.assignment import tasks_of
from streamproc.kafka.leadership import transactional_id
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DescribeGroup,
    InitProducerId,
    Membership,
    NoAnswer,
    OffsetCommit,
    Refused,
)
from streamproc.kafka.timing import Timing
from streamproc.log import Committed, GroupFailed, Partition, Replaced
from streamproc.testing.simulation.client import SimulatedClient
from streamproc.testing.simulation.faults import CALM, ROUGH
from streamproc.testing.simulation.virtual_time import run
from tests.kafka.server import KafkaServer
from tests.kafka.workers import AT_ONCE, TASKS, TIMING, Group, Real, Simulated, Worker, until

Scene = Callable[[Group], Coroutine[Any, Any, None]]


def scene(play: Scene) -> Callable[..., None]:
    """A test that plays it in both worlds."""

    async def played(world: Any, name: str) -> None:
        group = Group(world, name)
        try:
            await play(group)
        finally:
            await group.close()

    @pytest.mark.parametrize("where", ["simulated", "real"])
    @wraps(play)
    def test(where: str, request: pytest.FixtureRequest) -> None:
        if where == "simulated":
            run(_in_simulation(played, play.__name__))
        else:
            bootstrap: str = request.getfixturevalue("kafka")
            asyncio.run(played(Real(bootstrap), play.__name__))

    del test.__wrapped__  # pytest would look for the fixtures of what is wrapped
    return test


async def _in_simulation(played: Callable[[Any, str], Coroutine[Any, Any, None]], name: str) -> None:
    await played(Simulated(), name)


@scene
async def test_two_workers_share_the_tasks_and_keep_what_they_had(group: Group) -> None:
    """The first has all; the second gets half, the first keeps the other half, and each is told one generation."""
    a = await group.start("a")
    assert await group.shared_out(a) == {"a": {0, 1, 2, 3, 4, 5, 6, 7}}
    b = await group.start("b")
    shares = await group.shared_out(a, b)
    assert (len(shares["a"]), len(shares["b"])) == (4, 4)
    c = await group.start("c")
    thirds = await group.shared_out(a, b, c)
    assert thirds["a"] < shares["a"] and thirds["b"] < shares["b"]
    assert a.events[:2] == [a.events[0], "revoked"]
    assert "fenced" not in a.events + b.events + c.events


@scene
async def test_leaving_hands_the_tasks_over_at_once(group: Group) -> None:
    """Nobody waits for the session of one that has left, the leader of the group included."""
    group.timing = AT_ONCE
    a = await group.start("a")
    await group.shared_out(a)
    b = await group.start("b")
    before = await group.shared_out(a, b)
    await a.leave()
    after = await group.shared_out(b)
    assert before["b"] < after["b"] == {0, 1, 2, 3, 4, 5, 6, 7}
    assert "fenced" not in b.events


@scene
async def test_leaving_in_the_middle_of_a_join_holds_nobody_up(group: Group) -> None:
    """The group does not wait for a member that was never told anything."""
    group.timing = AT_ONCE
    a = await group.start("a")
    await group.shared_out(a)
    committing = asyncio.Event()
    a.last_commit = partial(_wait, committing)
    b = await group.start("b")
    await until(lambda: a.events[-1] == "revoked")
    await b.leave()
    committing.set()
    assert await group.shared_out(a) == {"a": {0, 1, 2, 3, 4, 5, 6, 7}}


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@scene
async def test_a_worker_that_restarts_gets_its_tasks_back_and_nobody_notices(group: Group) -> None:
    """Killed or not, within its session; be it the leader or not, and it can lead afterwards."""
    group.timing = AT_ONCE
    a = await group.start("a", shared=b"agreed")
    await group.shared_out(a)
    b = await group.start("b")
    before = await group.shared_out(a, b)
    told = list(b.events)
    a.kill()
    again = await group.start("a", shared=b"something new")
    assert await group.shared_out(again, b) == before
    assert again.shared == b"agreed"
    assert again.generations == b.generations[-1:]
    await asyncio.sleep(10 * AT_ONCE.heartbeat / 1000)
    assert b.events == told
    b.kill()
    b_again = await group.start("b")
    assert await group.shared_out(again, b_again) == before
    c = await group.start("c")
    await group.shared_out(again, b_again, c)
    assert "fenced" not in again.events + b_again.events


@scene
async def test_the_tasks_of_a_dead_worker_move_when_its_session_is_over(group: Group) -> None:
    """Whoever leads fences it first: its transactional id has a new epoch before anyone is told its tasks."""
    a = await group.start("a")
    await group.shared_out(a)
    b = await group.start("b")
    await group.shared_out(a, b)
    client = await group.world.client("test")
    init = InitProducerId(transactional_id(group.name, "a"), TIMING.transaction)
    dead = await _settled(client, init)
    a.kill()
    assert await group.shared_out(b) == {"b": {0, 1, 2, 3, 4, 5, 6, 7}}
    with pytest.raises(Refused) as refused:
        await client.send(InitProducerId(init.transactional_id, init.timeout_ms, dead), 5)
    assert refused.value.code == Code.PRODUCER_FENCED


async def _settled(client: Any, request: Any) -> Any:
    """The coordinator of transactions may have to be found or made first."""
    for _ in range(100):
        try:
            return await client.send(request, 5)
        except Refused:
            await asyncio.sleep(0.1)
    raise AssertionError(request)


@scene
async def test_a_worker_that_gives_up_its_tasks_too_late_is_fenced(group: Group) -> None:
    """Its last commit is refused, and when it joins again it gets a share like any other."""
    a = await group.start("a")
    await group.shared_out(a)
    refused: list[int] = []

    async def slow() -> None:
        under = a.member.membership
        await asyncio.sleep(TIMING.rebalance / 1000 + 1)
        refused.append(await _commit(group, under))

    a.last_commit = slow
    b = await group.start("b")
    await until(lambda: bool(refused))
    assert refused[0] in (Code.ILLEGAL_GENERATION, Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID)
    shares = await group.shared_out(a, b)
    assert (len(shares["a"]), len(shares["b"])) == (4, 4)
    assert "fenced" in a.events


async def _commit(group: Group, under: Membership) -> int:
    client = await group.world.client("commit")
    with suppress(Refused):  # it is there
        await client.send(CreateTopic("tweets", len(TASKS), {}), 5)
    answer = await client.send(OffsetCommit(under, {Partition("tweets", 0): Committed(1, "")}), 5)
    return answer.get(Partition("tweets", 0), Code.NONE)


@scene
async def test_heartbeats_go_on_while_tasks_are_given_up(group: Group) -> None:
    """A last commit that takes longer than the session, but not than the rebalance time-out, costs nothing."""
    a = await group.start("a")
    await group.shared_out(a)
    a.last_commit = partial(asyncio.sleep, (TIMING.session + 200) / 1000)
    b = await group.start("b")
    await group.shared_out(a, b)
    assert "fenced" not in a.events + b.events


@scene
async def test_of_two_processes_of_one_name_the_older_one_ends(group: Group) -> None:
    """It is told Replaced once and for all; they do not take the tasks from one another for ever."""
    older = await group.start("a")
    await group.shared_out(older)
    under = older.member.membership
    newer = await group.start("a")
    await until(lambda: older.ended is not None)
    assert isinstance(older.ended, Replaced)
    assert await group.shared_out(newer) == {"a": {0, 1, 2, 3, 4, 5, 6, 7}}
    assert newer.generations == older.generations
    assert await _commit(group, under) == Code.FENCED_INSTANCE_ID
    await asyncio.sleep(TIMING.session / 1000)
    await older.leave()
    assert len(newer.events) == 1
    assert newer.ended is None


@scene
async def test_an_expelled_worker_is_fenced_and_comes_back(group: Group) -> None:
    """Somebody removed it from the group, by its instance id."""
    a = await group.start("a")
    await group.shared_out(a)
    b = await group.start("b")
    await group.shared_out(a, b)
    await group.expel("a")
    await until(lambda: "fenced" in a.events)
    shares = await group.shared_out(a, b)
    assert (len(shares["a"]), len(shares["b"])) == (4, 4)


@scene
async def test_a_failure_of_one_is_told_to_all(group: Group) -> None:
    """No worker goes on to meet the same error; who failed returns when the others have been told."""
    workers = [await group.start(name) for name in "abc"]
    await group.shared_out(*workers)
    await workers[1].member.fail("record 7 of tweets/3 is broken")
    await until(lambda: all(worker.ended is not None for worker in workers))
    for worker in workers:
        assert isinstance(worker.ended, GroupFailed)
        assert "record 7 of tweets/3 is broken" in str(worker.ended)
        await worker.leave()
    fresh = await group.start("a")
    assert await group.shared_out(fresh) == {"a": {0, 1, 2, 3, 4, 5, 6, 7}}


@scene
async def test_a_rolling_upgrade_passes_the_tasks_to_the_new_plan_when_most_have_it(group: Group) -> None:
    """Until then workers of the new plan have nothing; then those of the old one. Names stay through restarts."""
    names = ["a", "b", "c"]
    old = [await group.start(name, plan="old") for name in names]
    await group.shared_out(*old)
    old[0].kill()
    new = [await group.start("a", plan="new")]
    await until(lambda: new[0].tasks == frozenset())
    await group.shared_out(*old[1:], new[0])
    assert [worker.member.outvoted for worker in (*old[1:], new[0])] == [False, False, True]
    old[1].kill()
    new.append(await group.start("b", plan="new"))
    await group.shared_out(*new, old[2])
    assert old[2].tasks == frozenset()
    old[2].kill()
    new.append(await group.start("c", plan="new"))
    shares = await group.shared_out(*new)
    assert sorted(map(len, shares.values())) == [2, 3, 3]


@scene
async def test_workers_that_disagree_on_a_task_do_not_share_it(group: Group) -> None:
    """The one that came last is told; the others go on."""
    a = await group.start("a")
    await group.shared_out(a)
    other = [TASKS[0]._replace(partitions=(Partition("likes", 0),))]
    b = await group.start("b", tasks=other)
    await until(lambda: b.ended is not None)
    assert "for 'b' task count/0 reads other partitions than for 'a'" in str(b.ended)
    await b.leave()
    await group.shared_out(a)


@scene
async def test_a_group_is_seen_from_outside(group: Group) -> None:
    """Who is in it, and has which tasks."""
    a = await group.start("a")
    await group.shared_out(a)
    b = await group.start("b")
    shares = await group.shared_out(a, b)
    client = await group.world.client("test")
    state = await client.send(DescribeGroup(group.name), 5)
    assert state.state == "Stable"
    seen = {member.instance: {number for _, number in tasks_of(member.assignment)} for member in state.members}
    assert seen == shares


# ------------------------------------------------------------------------------------ on a real broker alone


async def test_another_application_in_the_group_is_named(kafka: str) -> None:
    """Whoever comes second is refused by the coordinator; a worker says what to do about it."""
    consumer = AIOKafkaConsumer("tweets", bootstrap_servers=kafka, group_id="mixed")
    await consumer.start()
    group = Group(Real(kafka), "mixed")
    try:
        worker = await group.start("a")
        await until(lambda: worker.ended is not None)
        assert "another application is in the group: give the app another name" in str(worker.ended)
    finally:
        await group.close()
        await consumer.stop()


async def test_a_process_that_stood_still_for_longer_than_its_session_is_fenced(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so loudly, has lost its membership, and comes back by itself."""
    group = Group(Real(kafka), "blocked")
    try:
        worker = await group.start("a")
        await group.shared_out(worker)
        under = worker.member.membership
        time.sleep(TIMING.session / 1000 + 1)  # noqa: ASYNC251 - that is what must not happen
        assert await _commit(group, under) in (Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID)
        await group.shared_out(worker)
        await until(lambda: worker.events[1:2] == ["fenced"])
        await group.shared_out(worker)
        assert "nothing else could run in this process" in caplog.text
    finally:
        await group.close()


async def test_a_broker_that_is_killed_and_comes_back_costs_nobody_its_membership(own_kafka: KafkaServer) -> None:
    """Within the session. Nobody is told anything; the group goes on where it was."""
    group = Group(Real(own_kafka.bootstrap), "killed", AT_ONCE)
    try:
        a = await group.start("a")
        await group.shared_out(a)
        b = await group.start("b")
        before = await group.shared_out(a, b)
        told = [list(worker.events) for worker in (a, b)]
        await asyncio.to_thread(own_kafka.kill)
        await until(lambda: a.member._session.trouble is not None and b.member._session.trouble is not None)
        await asyncio.to_thread(own_kafka.start)
        await until(lambda: a.member._session.trouble is None and b.member._session.trouble is None)
        assert [worker.events for worker in (a, b)] == told
        assert await group.shared_out(a, b) == before
        c = await group.start("c")
        await group.shared_out(a, b, c)
        assert "fenced" not in a.events + b.events + c.events
    finally:
        await group.close()


# ------------------------------------------------------------------------------------ whatever happens


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_a_task_has_one_owner_a_generation_and_in_the_end_one_owner(seed: int) -> None:
    """Messages lost, late and repeated, brokers and workers that stop, restart, come, go and stand still.

    When that is over, the workers that are left share the tasks evenly, and nobody was left out for good.
    """
    run(_chaos(seed))


async def _chaos(seed: int) -> None:
    rng = random.Random(seed)
    world = Simulated(seed, ROUGH)
    group = Group(world, "chaos", Timing())
    here: dict[str, Worker] = {}
    for _ in range(30):
        await _something(group, world, here, rng)
        await asyncio.sleep(rng.choice([0.01, 0.1, 1, 10, 60]))
    world.cluster.faults = CALM
    await asyncio.sleep(ROUGH.late_ms[1] / 1000 + TIMING.request / 1000)
    for name in "ab":
        if name not in here or isinstance(here[name].ended, Replaced):
            here[name] = await group.start(name)
    here = {name: worker for name, worker in here.items() if not isinstance(worker.ended, Replaced)}
    shares = await group.shared_out(*here.values(), patience_s=400)
    assert max(map(len, shares.values())) - min(map(len, shares.values())) <= 1
    assert len({worker.shared for worker in here.values()}) == 1
    _one_owner_a_generation(group)
    await group.close()


async def _something(group: Group, world: Simulated, here: dict[str, Worker], rng: random.Random) -> None:
    """One worker starts, restarts, leaves, dies, is expelled, or stands still."""
    name = rng.choice("abcd")
    what = rng.choice(["start", "start", "start", "restart", "leave", "kill", "expel", "cut", "slow"])
    worker = here.get(name)
    if worker is not None and isinstance(worker.ended, Replaced):
        # What a killed process had sent came late, and took the place of the next one. Its supervisor starts another.
        del here[name]
        what = "restart"
    if worker is None or what == "restart":
        if worker is not None:
            worker.kill()
        here[name] = await group.start(name, shared=rng.randbytes(2))
    elif what == "leave":
        await here.pop(name).leave()
    elif what == "kill":
        here.pop(name).kill()
    elif what == "expel":
        with suppress(Refused, NoAnswer):
            await group.expel(name)
    elif what == "cut":
        assert isinstance(worker.client, SimulatedClient)
        world.cluster.cut(worker.client, rng.uniform(0.1, 120))
    elif what == "slow":
        worker.last_commit = partial(asyncio.sleep, rng.uniform(0.1, 90))


def _one_owner_a_generation(group: Group) -> None:
    owners: dict[tuple[int, int], str] = {}
    for worker in group.workers:
        for under, tasks in worker.history:
            for task in tasks:
                assert owners.setdefault((under.generation, task), worker.name) == worker.name
