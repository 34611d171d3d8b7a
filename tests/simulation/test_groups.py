"""Consumer groups of the classic protocol with static members; the same of the simulated and the real cluster."""

import asyncio

import msgspec
import pytest

from streamproc.kafka.consumer_protocol import pack_subscription
from streamproc.kafka.requests import (
    Code,
    DeleteGroup,
    DescribeGroup,
    Heartbeat,
    JoinGroup,
    LeaveGroup,
    Membership,
    NoAnswer,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Refused,
    SyncGroup,
)
from streamproc.log import Committed
from tests.simulation.asking import NOBODY, ask, create, join, join_two, joining, refused, sync
from tests.simulation.bench import Bench, on_both


def heartbeat(membership: Membership) -> Heartbeat:
    return Heartbeat(*membership)


@on_both
async def test_the_first_member_leads(bench: Bench) -> None:
    """It is told who is in the group, shares out, and the group is stable."""
    client = await bench.client("a")
    group = bench.name("g")
    joined = await ask(client, joining(group, "w1"))
    assert (joined.generation, joined.leader) == (1, joined.member)
    assert [(m.member, m.instance, m.metadata) for m in joined.members] == [(joined.member, "w1", b"w1")]
    assert (await ask(client, DescribeGroup(group))).state == "CompletingRebalance"
    membership = await sync(client, group, "w1", joined)
    state = await ask(client, DescribeGroup(group))
    assert state.state == "Stable"
    assert [(m.member, m.instance, m.metadata, m.assignment) for m in state.members] == [
        (membership.member, "w1", b"w1", b"w1")
    ]
    await ask(client, heartbeat(membership))


@on_both
async def test_a_second_member_waits_for_the_first(bench: Bench) -> None:
    """The first learns of it by its heartbeat, joins again, and both are in the next generation, led by the first."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first = await join(one, group, "w1")
    waits = asyncio.create_task(ask(two, joining(group, "w2")))
    await asyncio.sleep(0.2)
    assert not waits.done()
    assert await refused(one, heartbeat(first)) == Code.REBALANCE_IN_PROGRESS
    assert await refused(one, SyncGroup(*first, {})) == Code.REBALANCE_IN_PROGRESS
    assert (await ask(one, DescribeGroup(group))).state == "PreparingRebalance"
    joined = await ask(one, joining(group, "w1", first.member))
    other = await waits
    assert joined.generation == other.generation == first.generation + 1
    assert joined.leader == other.leader == first.member
    assert sorted(m.instance for m in joined.members) == ["w1", "w2"]
    assert list(other.members) == []
    follows = asyncio.create_task(sync(two, group, "w2", other))
    await asyncio.sleep(0.1)
    assert not follows.done()
    await sync(one, group, "w1", joined)
    await ask(two, heartbeat(await follows))


@on_both
async def test_old_generations_and_unknown_members(bench: Bench) -> None:
    """ILLEGAL_GENERATION and UNKNOWN_MEMBER_ID, of heartbeats and syncs; no group is known by members alone."""
    client = await bench.client("a")
    group = bench.name("g")
    membership = await join(client, group, "w1")
    old = membership._replace(generation=membership.generation - 1)
    assert await refused(client, heartbeat(old)) == Code.ILLEGAL_GENERATION
    assert await refused(client, SyncGroup(*old, {})) == Code.ILLEGAL_GENERATION
    for stranger in (Membership(group, 1, "nobody", ""), Membership(group, 1, "nobody", "w2")):
        assert await refused(client, heartbeat(stranger)) == Code.UNKNOWN_MEMBER_ID
        assert await refused(client, SyncGroup(*stranger, {})) == Code.UNKNOWN_MEMBER_ID
    nowhere = membership._replace(group=bench.name("no-group"))
    assert await refused(client, heartbeat(nowhere)) == Code.UNKNOWN_MEMBER_ID
    assert await refused(client, joining(nowhere.group, "w1", "nobody")) == Code.UNKNOWN_MEMBER_ID
    assert await refused(client, joining(group, "w2", "nobody")) == Code.UNKNOWN_MEMBER_ID


@on_both
async def test_a_static_member_comes_back_and_nobody_notices(bench: Bench) -> None:
    """KIP-345: same generation, same assignment, no rebalance; the one before is FENCED_INSTANCE_ID everywhere."""
    one, two, again = await bench.client("a"), await bench.client("b"), await bench.client("c")
    group = bench.name("g")
    leader, old = await join_two(one, two, group)
    joined = await ask(again, joining(group, "w2"))
    assert (joined.generation, joined.leader) == (old.generation, leader.member)
    assert joined.member != old.member
    new = await sync(again, group, "w2", joined)
    await ask(one, heartbeat(leader))
    await ask(again, heartbeat(new))
    assert await refused(two, heartbeat(old)) == Code.FENCED_INSTANCE_ID
    assert await refused(two, SyncGroup(*old, {})) == Code.FENCED_INSTANCE_ID
    assert await refused(two, joining(group, "w2", old.member)) == Code.FENCED_INSTANCE_ID
    assert await refused(two, LeaveGroup(group, old.member, "w2")) == Code.FENCED_INSTANCE_ID
    assert await refused(two, heartbeat(old._replace(instance=""))) == Code.UNKNOWN_MEMBER_ID


@on_both
async def test_a_leader_that_comes_back_asks_as_the_others_do(bench: Bench) -> None:
    """It is not told who is in the group, and that its old member id leads: it takes the assignment that is."""
    old, new = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    before = await join(old, group, "w1")
    joined = await ask(new, joining(group, "w1"))
    assert (joined.generation, joined.leader, list(joined.members)) == (before.generation, before.member, [])
    after = await sync(new, group, "w1", joined)
    await ask(new, heartbeat(after))
    next_generation = await ask(new, joining(group, "w1", after.member))
    assert next_generation.generation == before.generation + 1
    assert next_generation.leader == after.member


@on_both
async def test_a_static_member_that_comes_back_while_the_group_changes(bench: Bench) -> None:
    """Who waits under its id is told FENCED_INSTANCE_ID at once; the new one is in the next generation."""
    one, two, again = await bench.client("a"), await bench.client("b"), await bench.client("c")
    group = bench.name("g")
    first = await join(one, group, "w1")
    waits = asyncio.create_task(ask(two, joining(group, "w2")))
    await asyncio.sleep(0.2)
    comes_back = asyncio.create_task(ask(again, joining(group, "w2")))
    with pytest.raises(Refused) as caught:
        await waits
    assert caught.value.code == Code.FENCED_INSTANCE_ID
    joined = await ask(one, joining(group, "w1", first.member))
    assert sorted(m.instance for m in joined.members) == ["w1", "w2"]
    assert (await comes_back).generation == joined.generation


@on_both
async def test_a_static_member_that_comes_back_between_join_and_sync(bench: Bench) -> None:
    """The leader would share out to a member id that is gone: all join again, and who waits for a sync is told so."""
    one, two, again = await bench.client("a"), await bench.client("b"), await bench.client("c")
    group = bench.name("g")
    first = await join(one, group, "w1")
    second = asyncio.create_task(ask(two, joining(group, "w2")))
    await asyncio.sleep(0.2)
    leads, follows = await asyncio.gather(ask(one, joining(group, "w1", first.member)), second)
    syncs = asyncio.create_task(ask(two, SyncGroup(group, follows.generation, follows.member, "w2", {})))
    await asyncio.sleep(0.2)
    comes_back = asyncio.create_task(ask(again, joining(group, "w2")))
    with pytest.raises(Refused) as caught:
        await syncs
    assert caught.value.code == Code.FENCED_INSTANCE_ID
    assert await refused(one, SyncGroup(group, leads.generation, leads.member, "w1", {})) == Code.REBALANCE_IN_PROGRESS
    assert (await ask(one, joining(group, "w1", leads.member))).generation == leads.generation + 1
    assert (await comes_back).generation == leads.generation + 1


@on_both
async def test_a_session_ends(bench: Bench) -> None:
    """Who is not heard of is out of the group, and the others are told to share out anew."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first, second = await join_two(one, two, group, session_ms=400)
    await asyncio.sleep(1.2)
    assert await refused(two, heartbeat(second)) == Code.UNKNOWN_MEMBER_ID
    assert await refused(one, heartbeat(first)) == Code.REBALANCE_IN_PROGRESS
    joined = await ask(one, joining(group, "w1", first.member))
    assert [m.instance for m in joined.members] == ["w1"]


@on_both
async def test_heartbeats_keep_a_member(bench: Bench) -> None:
    """And nothing else of what it does: a member that beats within its session stays."""
    client = await bench.client("a")
    group = bench.name("g")
    membership = await join(client, group, "w1", session_ms=800)
    for _ in range(8):
        await asyncio.sleep(0.2)
        await ask(client, heartbeat(membership))


@on_both
async def test_a_static_member_leaves_by_its_instance_id(bench: Bench) -> None:
    """Whoever says so, without its member id; the others share out anew at once."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first, second = await join_two(one, two, group)
    assert await refused(one, LeaveGroup(group, "", "w3")) == Code.UNKNOWN_MEMBER_ID
    await ask(one, LeaveGroup(group, "", "w2"))
    assert await refused(two, heartbeat(second)) == Code.UNKNOWN_MEMBER_ID
    assert await refused(one, heartbeat(first)) == Code.REBALANCE_IN_PROGRESS
    await ask(one, LeaveGroup(group, first.member, "w1"))
    state = await ask(one, DescribeGroup(group))
    assert (state.state, list(state.members)) == ("Empty", [])


@on_both
async def test_a_member_that_does_not_join_again_in_time(bench: Bench) -> None:
    """The group goes on without waiting; a static one stays a member until its session ends, of an old generation."""
    one, two = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, one, "in")
    group = bench.name("g")
    slow = await join(one, group, "w1", rebalance_ms=500)
    joined = await ask(two, joining(group, "w2", rebalance_ms=500))
    assert joined.generation == slow.generation + 1
    assert joined.leader == joined.member
    assert sorted(m.instance for m in joined.members) == ["w1", "w2"]
    assert await refused(one, heartbeat(slow)) == Code.ILLEGAL_GENERATION
    answer = await ask(one, OffsetCommit(slow, {p: Committed(1, "")}))
    assert answer == {p: Code.ILLEGAL_GENERATION}


@on_both
async def test_joins_that_change_nothing(bench: Bench) -> None:
    """A member that joins a stable group again, as it was, is answered with what is; the leader begins a rebalance."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    leader, follower = await join_two(one, two, group)
    again = await ask(two, joining(group, "w2", follower.member))
    assert (again.generation, list(again.members)) == (follower.generation, [])
    await ask(one, heartbeat(leader))
    waits_too = asyncio.create_task(ask(one, joining(group, "w1", leader.member)))
    await asyncio.sleep(0.2)
    assert await refused(two, heartbeat(follower)) == Code.REBALANCE_IN_PROGRESS
    assert (await ask(two, joining(group, "w2", follower.member))).generation == leader.generation + 1
    assert (await waits_too).generation == leader.generation + 1


@on_both
async def test_a_join_that_was_given_up_is_taken_over_by_the_next(bench: Bench) -> None:
    """Who asked for the instance id and did not wait for the answer is no member beside who asks for it then."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first = await join(one, group, "w1")
    with pytest.raises(NoAnswer):
        await two.send(joining(group, "w2"), 0.3)
    again = asyncio.create_task(ask(two, joining(group, "w2")))
    await asyncio.sleep(0.3)
    joined = await ask(one, joining(group, "w1", first.member))
    other = await again
    assert sorted(m.instance for m in joined.members) == ["w1", "w2"]
    assert other.member in {m.member for m in joined.members}


@on_both
async def test_a_join_whose_answer_was_lost_is_answered_again(bench: Bench) -> None:
    """Between join and sync, to whoever joins again as it was: the same generation, and to the leader who is in it."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first = await join(one, group, "w1")
    waits = asyncio.create_task(ask(two, joining(group, "w2")))
    await asyncio.sleep(0.2)
    joined = await ask(one, joining(group, "w1", first.member))
    other = await waits
    assert await ask(two, joining(group, "w2", other.member)) == other
    again = await ask(one, joining(group, "w1", first.member))
    assert again.generation == joined.generation
    assert sorted(again.members) == sorted(joined.members)
    await asyncio.gather(sync(one, group, "w1", again), sync(two, group, "w2", other))


@on_both
async def test_a_leader_that_does_not_share_out(bench: Bench) -> None:
    """The others wait for it for the rebalance time-out; then it is out of the group, and they join again."""
    one, two = await bench.client("a"), await bench.client("b")
    group = bench.name("g")
    first = await join(one, group, "w1", rebalance_ms=500)
    waits = asyncio.create_task(ask(two, joining(group, "w2", rebalance_ms=500)))
    await asyncio.sleep(0.2)
    leads = await ask(one, joining(group, "w1", first.member, rebalance_ms=500))
    follows = await waits
    assert await refused(two, SyncGroup(group, follows.generation, follows.member, "w2", {})) == (
        Code.REBALANCE_IN_PROGRESS
    )
    joined = await ask(two, joining(group, "w2", follows.member, rebalance_ms=500))
    assert [m.instance for m in joined.members] == ["w2"]
    assert await refused(one, SyncGroup(group, leads.generation, leads.member, "w1", {})) == Code.UNKNOWN_MEMBER_ID


@on_both
async def test_offsets_outside_of_transactions(bench: Bench) -> None:
    """Of members while they are, of nobody only while there are none."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group = bench.name("g")
    nobody = NOBODY._replace(group=group)
    assert await ask(client, OffsetCommit(nobody, {p: Committed(1, "m")})) == {}
    assert await ask(client, OffsetFetch(group, None)) == {p: (1, "m")}
    joined = await ask(client, joining(group, "w1"))
    now = Membership(group, joined.generation, joined.member, "w1")
    assert await ask(client, OffsetCommit(nobody, {p: Committed(2, "")})) == {p: Code.UNKNOWN_MEMBER_ID}
    assert await ask(client, OffsetCommit(now, {p: Committed(2, "")})) == {p: Code.REBALANCE_IN_PROGRESS}
    membership = await sync(client, group, "w1", joined)
    assert await ask(client, OffsetCommit(membership, {p: Committed(3, "")})) == {}
    old = membership._replace(generation=0)
    assert await ask(client, OffsetCommit(old, {p: Committed(4, "")})) == {p: Code.ILLEGAL_GENERATION}
    assert await ask(client, OffsetFetch(group, [p])) == {p: (3, "")}


@on_both
async def test_offsets_are_deleted_but_those_of_topics_that_a_member_reads(bench: Bench) -> None:
    """KIP-496; whoever asks. A member that does not say what it reads is taken to read all."""
    client = await bench.client("a")
    [p, q] = await create(bench, client, "in", 2)
    [other] = await create(bench, client, "other")
    nowhere = p._replace(topic=bench.name("nowhere"))
    group = bench.name("g")
    assert await refused(client, OffsetDelete(group, [p])) == Code.GROUP_ID_NOT_FOUND
    says = pack_subscription([p.topic], b"")
    joined = await ask(client, msgspec.structs.replace(joining(group, "w1"), metadata=says))
    membership = await sync(client, group, "w1", joined)
    await ask(client, OffsetCommit(membership, {p: Committed(1, ""), q: Committed(2, ""), other: Committed(3, "")}))
    subscribed, unknown = Code.GROUP_SUBSCRIBED_TO_TOPIC, Code.UNKNOWN_TOPIC_OR_PARTITION
    assert await ask(client, OffsetDelete(group, [p, other, nowhere])) == {p: subscribed, nowhere: unknown}
    assert await ask(client, OffsetFetch(group, None)) == {p: (1, ""), q: (2, "")}
    await ask(client, OffsetCommit(membership, {other: Committed(4, "")}))
    joined = await ask(client, joining(group, "w1", membership.member))
    membership = await sync(client, group, "w1", joined)
    assert await ask(client, OffsetDelete(group, [other])) == {other: subscribed}
    await ask(client, LeaveGroup(group, "", "w1"))
    assert await ask(client, OffsetDelete(group, [p, other])) == {}
    assert await ask(client, OffsetFetch(group, None)) == {q: (2, "")}


@on_both
async def test_a_group_is_deleted_when_nobody_is_in_it(bench: Bench) -> None:
    """With its offsets; one that is not there is GROUP_ID_NOT_FOUND, and seen from outside Dead."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group = bench.name("g")
    assert await refused(client, DeleteGroup(group)) == Code.GROUP_ID_NOT_FOUND
    assert (await ask(client, DescribeGroup(group))).state == "Dead"
    membership = await join(client, group, "w1")
    await ask(client, OffsetCommit(membership, {p: Committed(3, "")}))
    assert await refused(client, DeleteGroup(group)) == Code.NON_EMPTY_GROUP
    await ask(client, LeaveGroup(group, "", "w1"))
    await ask(client, DeleteGroup(group))
    assert await ask(client, OffsetFetch(group, None)) == {}
    assert (await ask(client, DescribeGroup(group))).state == "Dead"


@on_both
async def test_what_cannot_join(bench: Bench) -> None:
    """Sessions outside of the broker's bounds; members without an instance come back with the id they are given."""
    client = await bench.client("a")
    group = bench.name("g")
    assert await refused(client, joining(group, "w1", session_ms=50)) == Code.INVALID_SESSION_TIMEOUT
    assert await refused(client, joining(group, "w1", session_ms=10**8)) == Code.INVALID_SESSION_TIMEOUT
    assert await refused(client, joining("", "w1")) == Code.INVALID_GROUP_ID
    with pytest.raises(Refused) as caught:
        await ask(client, joining(group, ""))
    _, _, member = caught.value.args
    assert caught.value.code == Code.MEMBER_ID_REQUIRED
    joined = await ask(client, JoinGroup(group, member, "", 10_000, 10_000, b"w1"))
    assert joined.member == joined.leader == member
