"""Offsets of transactions (KIP-447) and who may commit them; the same of the simulated and the real cluster."""

import asyncio

from streamproc.kafka.requests import (
    Code,
    EndTxn,
    Membership,
    OffsetFetch,
    TxnOffsetCommit,
)
from streamproc.log import Committed, Partition
from tests.simulation.asking import (
    NOBODY,
    ask,
    begin,
    commit_offset,
    create,
    end,
    join,
    joining,
    produce,
    read,
    refused,
    rows,
    settled,
    stable_offset,
    sync,
)
from tests.simulation.bench import Bench, on_both


@on_both
async def test_offsets_of_a_transaction_are_unstable_until_it_is_over(bench: Bench) -> None:
    """KIP-447: who asks for stable ones is to ask again; else the old are given. Committed they count, aborted not."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    nobody = NOBODY._replace(group=group)
    assert await ask(client, OffsetFetch(group, [p])) == {}
    producer = await begin(client, name)
    assert await commit_offset(client, name, producer, nobody, p, 5) == Code.NONE
    assert await refused(client, OffsetFetch(group, [p])) == Code.UNSTABLE_OFFSET_COMMIT
    assert await ask(client, OffsetFetch(group, [p], stable=False)) == {}
    assert await ask(client, OffsetFetch(group, None)) == {}
    producer = await end(client, name, producer)
    assert await stable_offset(client, group, p) == 5
    assert await commit_offset(client, name, producer, nobody, p, 7) == Code.NONE
    assert await refused(client, OffsetFetch(group, None)) == Code.UNSTABLE_OFFSET_COMMIT
    assert (await ask(client, OffsetFetch(group, [p], stable=False)))[p] == (5, "token")
    await end(client, name, producer, commit=False)
    assert await stable_offset(client, group, p) == 5


@on_both
async def test_who_fences_a_dead_member_need_not_wait_for_its_transaction(bench: Bench) -> None:
    """InitProducerId aborts what the dead one held: the old offset is stable at once."""
    client, other = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    producer = await begin(client, name, timeout_ms=60_000)
    await commit_offset(client, name, producer, NOBODY._replace(group=group), p, 5)
    assert await refused(other, OffsetFetch(group, [p])) == Code.UNSTABLE_OFFSET_COMMIT
    await begin(other, name)
    async with asyncio.timeout(10):
        assert await stable_offset(other, group, p) is None
    assert await refused(client, EndTxn(name, producer, commit=True)) == Code.PRODUCER_FENCED


@on_both
async def test_the_time_of_a_transaction_frees_the_offsets_it_holds(bench: Bench) -> None:
    """Without anyone who fences, the broker aborts it."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    producer = await begin(client, name, timeout_ms=300)
    await commit_offset(client, name, producer, NOBODY._replace(group=group), p, 5)
    assert await stable_offset(client, group, p) is None


@on_both
async def test_records_and_offsets_are_one(bench: Bench) -> None:
    """A transaction of outputs and offsets: both there, or neither."""
    client = await bench.client("a")
    [source] = await create(bench, client, "in")
    [p] = await create(bench, client, "out")
    group, name = bench.name("g"), bench.name("a")
    nobody = NOBODY._replace(group=group)
    producer = await begin(client, name)
    for number, commit in enumerate((True, False, True), 1):
        await produce(client, name, producer, {p: rows([f"{number}"], at_ms=bench.now_ms)})
        assert await commit_offset(client, name, producer, nobody, source, number) == Code.NONE
        producer = await end(client, name, producer, commit=commit)
    assert await stable_offset(client, group, source) == 3
    await settled(client, p)
    assert await read(client, p) == [b"1", b"3"]


@on_both
async def test_metadata_is_bounded_and_topics_exist(bench: Bench) -> None:
    """4,096 characters beside an offset, no more; no offset of a partition that is not there. The others count."""
    client = await bench.client("a")
    [p, q] = await create(bench, client, "in", 2)
    group, name = bench.name("g"), bench.name("a")
    gone, beyond = Partition(bench.name("gone"), 0), Partition(p.topic, 7)
    offsets = {
        p: Committed(1, "x" * 4_096),
        q: Committed(1, "x" * 4_097),
        gone: Committed(1, ""),
        beyond: Committed(1, ""),
    }
    producer = await begin(client, name)
    answer = await ask(client, TxnOffsetCommit(name, producer, NOBODY._replace(group=group), offsets))
    assert answer == {
        q: Code.OFFSET_METADATA_TOO_LARGE,
        gone: Code.UNKNOWN_TOPIC_OR_PARTITION,
        beyond: Code.UNKNOWN_TOPIC_OR_PARTITION,
    }
    await end(client, name, producer)
    assert await stable_offset(client, group, p) == 1
    assert await stable_offset(client, group, q) is None


# ---------------------------------------------------------------------------------------- fenced by the group


@on_both
async def test_commits_of_a_member_that_was_expelled(bench: Bench) -> None:
    """Its session is over, so it is UNKNOWN_MEMBER_ID; its transactional id may be as good as ever."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    membership = await join(client, group, "w1", session_ms=300)
    producer = await begin(client, name)
    assert await commit_offset(client, name, producer, membership, p, 1) == Code.NONE
    await asyncio.sleep(1)
    assert await commit_offset(client, name, producer, membership, p, 2) == Code.UNKNOWN_MEMBER_ID
    await end(client, name, producer, commit=False)
    assert await stable_offset(client, group, p) is None


@on_both
async def test_commits_under_the_membership_in_which_records_were_read(bench: Bench) -> None:
    """While the group changes the old generation is good; when it has changed, ILLEGAL_GENERATION; the new one is."""
    one, two = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, one, "in")
    group, name = bench.name("g"), bench.name("a")
    before = await join(one, group, "w1")
    producer = await begin(one, name)
    second = asyncio.create_task(join(two, group, "w2"))
    await asyncio.sleep(0.2)
    assert await commit_offset(one, name, producer, before, p, 1) == Code.NONE
    producer = await end(one, name, producer)
    after = await join(one, group, "w1", before.member)
    await second
    assert after.generation == before.generation + 1
    assert await commit_offset(one, name, producer, before, p, 2) == Code.ILLEGAL_GENERATION
    assert await commit_offset(one, name, producer, after, p, 3) == Code.NONE
    await end(one, name, producer)
    assert await stable_offset(one, group, p) == 3


@on_both
async def test_commits_between_join_and_sync_are_those_of_the_new_generation(bench: Bench) -> None:
    """The group coordinator asks for the generation, and not whether anything was assigned in it."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    before = await join(client, group, "w1")
    producer = await begin(client, name)
    joined = await ask(client, joining(group, "w1", before.member))
    assert joined.generation == before.generation + 1
    now = Membership(group, joined.generation, joined.member, "w1")
    assert await commit_offset(client, name, producer, before, p, 1) == Code.ILLEGAL_GENERATION
    assert await commit_offset(client, name, producer, now, p, 2) == Code.NONE
    await sync(client, group, "w1", joined)
    await end(client, name, producer)
    assert await stable_offset(client, group, p) == 2


@on_both
async def test_commits_of_a_static_member_that_was_replaced(bench: Bench) -> None:
    """FENCED_INSTANCE_ID, in the same generation; without the instance id it would be UNKNOWN_MEMBER_ID."""
    old, new = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, old, "in")
    group, name = bench.name("g"), bench.name("a")
    before = await join(old, group, "w1")
    after = await join(new, group, "w1")
    assert (after.generation, after.member != before.member) == (before.generation, True)
    producer = await begin(old, name)
    assert await commit_offset(old, name, producer, before, p, 1) == Code.FENCED_INSTANCE_ID
    assert await commit_offset(old, name, producer, before._replace(instance=""), p, 1) == Code.UNKNOWN_MEMBER_ID
    assert await commit_offset(old, name, producer, after, p, 2) == Code.NONE


@on_both
async def test_commits_of_nobody_are_not_fenced(bench: Bench) -> None:
    """Generation -1 without a member id passes in every state of the group: never let it slip through as a default."""
    client = await bench.client("a")
    [p] = await create(bench, client, "in")
    group, name = bench.name("g"), bench.name("a")
    producer = await begin(client, name)
    await join(client, group, "w1")
    assert await commit_offset(client, name, producer, NOBODY._replace(group=group), p, 1) == Code.NONE
    for generation in (0, 1, 7):
        stranger = Membership(group, generation, "", "")
        assert await commit_offset(client, name, producer, stranger, p, 1) == Code.UNKNOWN_MEMBER_ID
    stranger = Membership(bench.name("no-group"), 3, "m", "")
    assert await commit_offset(client, name, producer, stranger, p, 1) == Code.ILLEGAL_GENERATION
    await end(client, name, producer)
    assert await stable_offset(client, group, p) == 1


@on_both
async def test_a_refused_commit_of_offsets_leaves_the_transaction_as_it_is(bench: Bench) -> None:
    """It can still be committed, without the offsets: it is the client that must not."""
    client = await bench.client("a")
    [source] = await create(bench, client, "in")
    [p] = await create(bench, client, "out")
    group, name = bench.name("g"), bench.name("a")
    membership = await join(client, group, "w1")
    producer = await begin(client, name)
    await produce(client, name, producer, {p: rows(["x"], at_ms=bench.now_ms)})
    old = membership._replace(generation=membership.generation - 1)
    assert await commit_offset(client, name, producer, old, source, 1) == Code.ILLEGAL_GENERATION
    await end(client, name, producer)
    await settled(client, p)
    assert await read(client, p) == [b"x"]
    assert await stable_offset(client, group, source) is None
