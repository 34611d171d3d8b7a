"""Who gets which task: the decision of a group's leader, and how it travels."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from streamproc.kafka.assignment import (
    Assignment,
    Subscription,
    decide,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
    tasks_of,
)
from streamproc.kafka.consumer_protocol import pack_assignment, pack_subscription
from streamproc.kafka.requests import GroupMember
from streamproc.log import LogError, Partition, TaskInput

TASKS = tuple(
    TaskInput("count", number, (Partition("clicks", number), Partition("views", number))) for number in range(6)
)
NAMES = tuple((task.stage, task.number) for task in TASKS)


def says(instance: str, **told: Any) -> Subscription:
    return Subscription(**{"instance": instance, "plan": "p", "inputs": TASKS, **told})


def group(*members: Subscription) -> Mapping[str, Subscription]:
    return {f"{member.instance}-id": member for member in members}


def owned(members: Mapping[str, Subscription]) -> Mapping[str, Sequence[int]]:
    """The numbers of the tasks that each instance is given."""
    decision = decide(members)
    return {
        members[member].instance: [number for _, number in gives.owned]
        for member, gives in decision.assignments.items()
    }


instances = st.sampled_from(["w1", "w2", "w3", "w4", "w5"])
claims = st.lists(st.sampled_from(NAMES), unique=True, max_size=6).map(tuple)
subscriptions = st.builds(
    Subscription,
    instance=instances,
    plan=st.sampled_from(["p", "q"]),
    inputs=st.lists(st.sampled_from(TASKS), unique=True, max_size=6).map(tuple),
    generation=st.integers(0, 4),
    owned=claims,
    peers=st.lists(st.sampled_from(["w1", "w2", "w3", "gone1", "gone2"]), unique=True, max_size=3).map(tuple),
    shared=st.sampled_from([b"", b"one", b"two"]),
    agreed=st.integers(0, 4),
    failure=st.sampled_from([""] * 9 + ["poison"]),
)
groups = st.lists(subscriptions, min_size=1, max_size=5, unique_by=lambda member: member.instance)


# The decision


@given(groups, st.randoms(use_true_random=False))
def test_the_decision_is_the_same_whoever_makes_it(members: list[Subscription], chance: random.Random) -> None:
    """It is a function of what the members say, whatever the order in which the coordinator lists them."""
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert decide(group(*members)) == decide(group(*shuffled))


@given(groups)
def test_each_task_has_one_owner_that_offers_it_and_runs_the_plan_that_is_served(members: list[Subscription]) -> None:
    """Nobody is given what it cannot run, nothing is given twice, and what somebody of the plan offers is given."""
    decision = decide(group(*members))
    gives = {member.instance: decision.assignments[f"{member.instance}-id"] for member in members}
    served = [member for member in members if member.plan == decision.plan]
    all_given = [task for assignment in gives.values() for task in assignment.tasks]
    offered = {task for member in served for task in member.inputs}
    if any(member.failure for member in members):
        assert all_given == []
        return
    assert sorted(all_given) == sorted(offered)
    for member in members:
        assert set(gives[member.instance].tasks) <= (set(member.inputs) if member in served else set())
    others = {task for member in members for task in member.inputs} - offered
    assert sorted(decision.unowned) == sorted((task.stage, task.number) for task in others)


@given(st.lists(instances, unique=True, min_size=1), st.dictionaries(instances, claims))
def test_shares_are_even_and_as_sticky_as_that_allows(names: list[str], had: Mapping[str, Sequence[Any]]) -> None:
    """Where all offer the same, shares differ by one at most, and nobody loses a task below the smallest share."""
    shares = owned(group(*(says(name, generation=1, owned=had.get(name, ())) for name in names)))
    sizes = [len(share) for share in shares.values()]
    assert sum(sizes) == len(TASKS)
    assert max(sizes) - min(sizes) <= 1
    claimed: set[Any] = set()
    for name in sorted(names):
        sole = set(had.get(name, ())) - claimed
        claimed |= sole
        kept = {("count", number) for number in shares[name]} & sole
        assert len(kept) >= min(len(sole), *sizes)


@given(groups)
def test_a_generation_that_changes_nothing_moves_nothing(members: list[Subscription]) -> None:
    """Members that come again with what they were given are given it again."""
    healthy = [msgspec.structs.replace(member, plan="p", inputs=TASKS, failure="") for member in members]
    first = decide(group(*healthy))
    again = [
        msgspec.structs.replace(member, generation=9, owned=first.assignments[f"{member.instance}-id"].owned)
        for member in healthy
    ]
    second = decide(group(*again))
    assert {member: gives.owned for member, gives in first.assignments.items()} == {
        member: gives.owned for member, gives in second.assignments.items()
    }


def test_a_newcomer_is_given_the_even_share_and_no_more() -> None:
    """Who was there keeps half of what it had; the newcomer gets the other half."""
    assert owned(group(says("old", generation=3, owned=NAMES), says("new"))) == {"old": [0, 1, 2], "new": [3, 4, 5]}


def test_of_two_claims_the_later_generation_wins_then_the_first_name() -> None:
    """A member that was passed over, and comes back with what it once had, takes nothing from who has it now."""
    back = says("back", generation=4, owned=NAMES[:3])
    now = says("now", generation=5, owned=NAMES[:3])
    assert owned(group(back, now)) == {"back": [3, 4, 5], "now": [0, 1, 2]}
    assert owned(group(back, msgspec.structs.replace(now, generation=4))) == {"back": [0, 1, 2], "now": [3, 4, 5]}


def test_a_task_is_given_with_all_that_it_reads() -> None:
    """Partitions of one number, of topics that are read together, have one owner."""
    decision = decide(group(says("a"), says("b")))
    for gives in decision.assignments.values():
        for task in gives.tasks:
            assert [partition.topic for partition in task.partitions] == ["clicks", "views"]
            assert {partition.number for partition in task.partitions} == {task.number}


def test_gone_is_who_was_in_the_last_generation_and_is_not_in_this_one() -> None:
    """As far as any member knows; who is present, be it anew, is never among them."""
    decision = decide(group(says("a", peers=("a", "b", "c")), says("b", peers=("b", "d")), says("e")))
    assert decision.gone == ["c", "d"]
    assert {gives.peers for gives in decision.assignments.values()} == {("a", "b", "e")}


def test_a_failure_is_told_to_all_and_nobody_has_tasks() -> None:
    """Whatever plan a member runs."""
    decision = decide(group(says("a"), says("b", failure="record 7 is broken"), says("c", plan="q")))
    assert [(gives.failure, gives.tasks) for gives in decision.assignments.values()] == [("record 7 is broken", ())] * 3


# Two plans in one group


def test_the_plan_of_most_members_is_served() -> None:
    """Members of the other have no tasks until theirs is the plan of most."""
    old, new = says("a", plan="old", generation=3, owned=NAMES), says("b", plan="new")
    assert owned(group(old, new)) == {"a": [0, 1, 2, 3, 4, 5], "b": []}
    assert owned(group(old, new, says("c", plan="new"))) == {"a": [], "b": [0, 2, 4], "c": [1, 3, 5]}


def test_of_two_plans_with_as_many_members_the_one_that_owned_tasks_last_is_served() -> None:
    """Then the first by name."""
    early, late = says("a", plan="p1", generation=3, owned=NAMES), says("b", plan="p2", generation=4, owned=NAMES[:1])
    idle = says("c", plan="p3", generation=9)
    assert decide(group(early, late, idle)).plan == "p2"
    assert decide(group(says("a", plan="p2"), says("b", plan="p1"))).plan == "p1"


def test_a_task_that_only_the_other_plan_has_stays_without_an_owner() -> None:
    """A worker of an old version cannot run what the new one brings; the decision names it, to be logged."""
    more = TaskInput("count", 6, (Partition("clicks", 6),))
    decision = decide(group(says("a"), says("b"), says("c", plan="new", inputs=(*TASKS, more))))
    assert decision.unowned == [("count", 6)]
    assert sum(len(gives.tasks) for gives in decision.assignments.values()) == 6


def test_members_of_one_plan_that_disagree_on_what_a_task_reads_do_not_share_it() -> None:
    """The one that was there stays; the other is told what to do about it, and the rest goes on."""
    other = says("a", inputs=(TaskInput("count", 0, (Partition("likes", 0),)),), shared=b"others")
    decision = decide(group(other, says("b", generation=2, owned=NAMES)))
    assert decision.assignments["a-id"].refusal == (
        "for 'a' task count/0 reads other partitions than for 'b'; stop the workers of the old version first"
    )
    assert decision.assignments["a-id"].tasks == ()
    assert decision.assignments["b-id"].owned == NAMES
    assert decision.assignments["b-id"].refusal == decision.assignments["b-id"].shared.decode() == ""


# What the group agrees on


def test_what_was_agreed_on_stays_agreed() -> None:
    """Whatever newcomers bring; of two agreements the later counts."""
    members = [says("a", shared=b"mine"), says("c", shared=b"ours", agreed=3), says("b", shared=b"once", agreed=2)]
    assert {gives.shared for gives in decide(group(*members)).assignments.values()} == {b"ours"}


def test_at_first_the_first_name_that_brings_anything_is_agreed_with() -> None:
    """Members without anything to share have no say."""
    members = [says("a"), says("c", shared=b"c's"), says("b", shared=b"b's")]
    assert {gives.shared for gives in decide(group(*members)).assignments.values()} == {b"b's"}


def test_plans_that_are_not_served_have_no_say_in_what_is_shared() -> None:
    """Nor are they told."""
    members = group(says("a", plan="q", shared=b"q's", agreed=7), says("b", shared=b"p's"), says("c"))
    gives = decide(members).assignments
    assert [gives[f"{name}-id"].shared for name in "abc"] == [b"", b"p's", b"p's"]


# How it travels


@given(subscriptions)
def test_a_subscription_arrives_as_it_was_said(member: Subscription) -> None:
    """With all that there is in it."""
    assert decode_subscription(GroupMember("id", member.instance, encode_subscription(member))) == member


@given(groups)
def test_an_assignment_arrives_as_it_was_given(members: list[Subscription]) -> None:
    """With all that there is in it; its tasks are seen from outside too."""
    for gives in decide(group(*members)).assignments.values():
        packed = encode_assignment(gives)
        assert decode_assignment(packed) == gives
        assert tasks_of(packed) == frozenset(gives.owned)
    assert tasks_of(b"") == frozenset()


def test_kafkas_own_tools_understand_the_envelope() -> None:
    """Topics and partitions are where every consumer group has them."""
    subscription = ConsumerProtocolMemberMetadata.decode(encode_subscription(says("a")))
    assert (subscription.version, subscription.subscription) == (0, ["clicks", "views"])
    gives = decide(group(says("a"), says("b"))).assignments["a-id"]
    assignment = ConsumerProtocolMemberAssignment.decode(encode_assignment(gives))
    assert (assignment.version, assignment.assignment) == (0, [("clicks", [0, 2, 4]), ("views", [0, 2, 4])])


def test_a_hundred_workers_of_a_thousand_tasks_fit_into_a_record_of_the_coordinator() -> None:
    """It keeps what all say in one, which may have 1 MB by default."""
    tasks = tuple(TaskInput("by-tag", number, (Partition("app-by-tag", number),)) for number in range(1_000))
    names = tuple((task.stage, task.number) for task in tasks)
    peers = tuple(f"worker-{number}" for number in range(100))
    one = says("worker-1", inputs=tasks, generation=7, owned=names[::100], peers=peers)
    assert len(encode_subscription(one)) < 10_000


NOT_OURS = [
    (b"", "says nothing that Kafka's consumer protocol knows"),
    (b"\x00\x00garbage", "says nothing that Kafka's consumer protocol knows"),
    (struct.pack(">hii", 0, 2**31 - 1, -1), "says nothing that Kafka's consumer protocol knows"),
    (pack_subscription(["tweets"], b""), "is no worker of streamproc"),
    (pack_subscription(["tweets"], b"\xff\xff sticky"), "is no worker of streamproc"),
    (pack_subscription(["tweets"], b"streamproc\x02anything"), "another version of streamproc"),
    (pack_subscription(["tweets"], b"streamproc\x01cut"), "is damaged"),
]


@pytest.mark.parametrize(("metadata", "words"), NOT_OURS)
def test_a_member_that_is_no_worker_is_named(metadata: bytes, words: str) -> None:
    """Another application in the group, or another version: nobody guesses what it means."""
    with pytest.raises(LogError, match="member 'consumer-1-ab' of the group") as raised:
        decode_subscription(GroupMember("consumer-1-ab", "", metadata))
    assert words in str(raised.value)


def test_a_member_that_says_to_be_another_is_named() -> None:
    """Tasks go by instance: two of one name would be given one share."""
    with pytest.raises(LogError, match="member 'b-id' of the group says that it is 'a', but joined as 'b'"):
        decode_subscription(GroupMember("b-id", "b", encode_subscription(says("a"))))


def test_an_assignment_that_no_worker_made_is_an_error() -> None:
    """The group is led by another application."""
    with pytest.raises(LogError, match="the leader of the group is no worker of streamproc"):
        decode_assignment(pack_assignment([Partition("tweets", 0)], b""))


@given(st.binary(max_size=60))
def test_garbage_is_told_from_an_assignment(garbage: bytes) -> None:
    """Never anything but LogError, whatever comes."""
    with pytest.raises(LogError):
        decode_assignment(garbage)


def test_a_later_version_may_say_more() -> None:
    """What is not known is not read."""
    packed = encode_assignment(Assignment(member="m", offer="o", plan="p", peers=("a",)))
    fields = msgspec.msgpack.decode(_user_data(packed))
    assert decode_assignment(_with_user_data(msgspec.msgpack.encode({**fields, "rack": "r1"}))).peers == ("a",)


def _user_data(packed: bytes) -> bytes:
    return zlib.decompress(packed[packed.index(b"streamproc\x01") + 11 :])


def _with_user_data(data: bytes) -> bytes:
    return pack_assignment([], b"streamproc\x01" + zlib.compress(data))
