"""What a broker does in its own time: markers, transactions out of time, the last epochs, restarts."""

import asyncio

import pytest

from streamproc.kafka.requests import (
    Code,
    DescribeGroup,
    EndTxn,
    Heartbeat,
    InitProducerId,
    ListOffsets,
    NoAnswer,
    OffsetFetch,
    Produce,
    Producer,
    Refused,
    Stamped,
    SyncGroup,
)
from streamproc.testing.simulation.faults import CALM, Faults
from streamproc.testing.simulation.transactions import EXHAUSTED, State
from tests.simulation.asking import (
    NOBODY,
    ask,
    begin,
    commit_offset,
    create,
    end,
    join,
    join_two,
    joining,
    produce,
    read,
    refused,
    rows,
    settled,
    stable_offset,
    sync,
)
from tests.simulation.bench import SimulatedBench, on_simulated

# ---------------------------------------------------------------------------------------- markers


@on_simulated
async def test_markers_come_one_by_one(bench: SimulatedBench) -> None:
    """EndTxn is answered before any: the new offset may be there before the records of a partition, or behind them."""
    client = bench.cluster.client("a")
    [source] = await create(bench, client, "in")
    partitions = await create(bench, client, "changelog", 3)
    bench.cluster.faults = Faults(way_ms=(0, 0), marker_ms=(10, 1_000))
    seen = set()
    producer = await begin(client, "x")
    for number in range(1, 20):
        await produce(client, "x", producer, {p: rows([f"{number}"], at_ms=bench.now_ms) for p in partitions})
        assert await commit_offset(client, "x", producer, NOBODY._replace(group="g"), source, number) == Code.NONE
        before = (await ask(client, OffsetFetch("g", [source], stable=False))).get(source)
        producer = await end(client, "x", producer)
        for _ in range(300):
            now = (await ask(client, OffsetFetch("g", [source], stable=False))).get(source)
            ends = [(await ask(client, ListOffsets([p], end)))[p] for p in partitions for end in ("stable", "high")]
            seen.add((now != before, *(ends[at] == ends[at + 1] for at in (0, 2, 4))))
            await asyncio.sleep(0.01)
    # The new offset and an old changelog, the old offset and a new changelog: both occur, and all between.
    assert (True, False, False, False) in seen
    assert (False, True, True, True) in seen
    assert len(seen) == 16


@on_simulated
async def test_the_next_transaction_waits_for_the_markers(bench: SimulatedBench) -> None:
    """The leader asks for a tenth of a second before it says CONCURRENT_TRANSACTIONS; the others are told at once."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    [source] = await create(bench, client, "in")
    producer = await begin(client, "x")
    batch = client.pack(rows(["x"], at_ms=bench.now_ms))[0]
    bench.cluster.faults = Faults(way_ms=(0, 0), marker_ms=(30, 30))
    await client.send(Produce("x", {p: Stamped(batch, producer, 0)}), 5)
    producer = await client.send(EndTxn("x", producer, commit=True), 5)
    answer = await client.send(Produce("x", {p: Stamped(batch, producer, 0)}), 5)
    assert answer[p].code == Code.NONE  # marker and end came meanwhile
    bench.cluster.faults = Faults(way_ms=(0, 0), marker_ms=(5_000, 5_000))
    producer = await client.send(EndTxn("x", producer, commit=True), 5)
    answer = await client.send(Produce("x", {p: Stamped(batch, producer, 0)}), 5)
    assert answer[p].code == Code.CONCURRENT_TRANSACTIONS
    for request in (InitProducerId("x", 15_000, producer), EndTxn("x", producer, commit=True)):
        with pytest.raises(Refused) as caught:
            await client.send(request, 5)
        assert caught.value.code == Code.CONCURRENT_TRANSACTIONS
    assert bench.cluster.broker.transactions.state("x") is State.PREPARE_COMMIT
    assert await commit_offset(client, "x", producer, NOBODY._replace(group="g"), source, 1) == Code.NONE
    assert asyncio.get_running_loop().time() > 10


@on_simulated
async def test_the_last_epochs_of_a_producer_id(bench: SimulatedBench) -> None:
    """KIP-890: behind epoch 32,766 comes another producer id, with EndTxn or InitProducerId; repeated, the same one."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    producer = await begin(client, "x")
    bench.cluster.broker.transactions._ids["x"].producer = producer = producer._replace(epoch=EXHAUSTED - 1)
    await produce(client, "x", producer, {p: rows(["1"], at_ms=bench.now_ms)})
    last = await end(client, "x", producer)
    assert last == Producer(producer.id, EXHAUSTED)
    await settled(client, p)
    assert await refused(client, InitProducerId("x", 15_000, producer)) == -1  # UNKNOWN_SERVER_ERROR, as Kafka 4.3
    await produce(client, "x", last, {p: rows(["2"], at_ms=bench.now_ms)})
    first = await end(client, "x", last)
    assert first == Producer(first.id, 0)
    assert first.id != last.id
    assert await end(client, "x", last) == first
    await produce(client, "x", first, {p: rows(["3"], at_ms=bench.now_ms)})
    assert await refused(client, EndTxn("x", last, commit=False)) == Code.INVALID_PRODUCER_ID_MAPPING
    await end(client, "x", first)
    await settled(client, p)
    assert await read(client, p) == [b"1", b"2", b"3"]
    assert await refused(client, InitProducerId("x", 15_000, last)) == Code.PRODUCER_FENCED

    other = await begin(client, "y")
    bench.cluster.broker.transactions._ids["y"].producer = other = other._replace(epoch=EXHAUSTED)
    rotated = await begin(client, "y", other)
    assert (rotated.id != other.id, rotated.epoch) == (True, 0)
    assert await begin(client, "y", other) == rotated


@on_simulated
async def test_the_broker_looks_for_old_transactions_now_and_then(bench: SimulatedBench) -> None:
    """A transaction is aborted at the first look behind its time, not at its time."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    await asyncio.sleep(0.1)
    producer = await begin(client, "x", timeout_ms=700)
    await produce(client, "x", producer, {p: rows(["x"], at_ms=bench.now_ms)})
    await asyncio.sleep(0.85)
    assert bench.cluster.broker.transactions.state("x") is State.ONGOING
    await asyncio.sleep(0.15)
    assert bench.cluster.broker.transactions.state("x") is not State.ONGOING


# ---------------------------------------------------------------------------------------- restarts


@on_simulated
async def test_a_restart_leaves_a_group_as_it_was_written_down(bench: SimulatedBench) -> None:
    """The stable generation is; one that was still being formed never was. Sessions begin anew."""
    one, two, three = (bench.cluster.client(name) for name in "abc")
    first, second = await join_two(one, two, "g")
    third = asyncio.create_task(three.send(joining("g", "w3"), 60))
    await asyncio.sleep(0.2)
    assert (await ask(one, DescribeGroup("g"))).state == "PreparingRebalance"
    bench.cluster.restart(8)
    with pytest.raises(NoAnswer):
        await third
    await asyncio.sleep(9)
    state = await ask(one, DescribeGroup("g"))
    assert (state.state, [m.instance for m in state.members]) == ("Stable", ["w1", "w2"])
    await ask(one, Heartbeat(*first))
    assert await ask(two, SyncGroup(*second, {})) == b"w2"
    await asyncio.sleep(11)
    assert await refused(two, Heartbeat(*second)) == Code.UNKNOWN_MEMBER_ID


@on_simulated
async def test_a_restart_between_join_and_sync_takes_the_generation_back(bench: SimulatedBench) -> None:
    """Who joined it is told ILLEGAL_GENERATION, and joins again."""
    client = bench.cluster.client("a")
    before = await join(client, "g", "w1")
    joined = await ask(client, joining("g", "w1", before.member))
    bench.cluster.restart(1)
    await asyncio.sleep(3)
    assert await refused(client, SyncGroup("g", joined.generation, joined.member, "w1", {})) == Code.ILLEGAL_GENERATION
    await ask(client, Heartbeat(*before))
    again = await ask(client, joining("g", "w1", before.member))
    assert again.generation == joined.generation
    await sync(client, "g", "w1", again)


@on_simulated
async def test_a_restart_before_the_markers(bench: SimulatedBench) -> None:
    """What was decided comes true, when the broker is back."""
    client = bench.cluster.client("a")
    [p, q] = await create(bench, client, "out", 2)
    [source] = await create(bench, client, "in")
    producer = await begin(client, "x")
    await produce(client, "x", producer, {p: rows(["x"], at_ms=bench.now_ms), q: rows(["y"], at_ms=bench.now_ms)})
    await commit_offset(client, "x", producer, NOBODY._replace(group="g"), source, 7)
    bench.cluster.faults = Faults(marker_ms=(500, 1_500))
    after = await end(client, "x", producer)
    await asyncio.sleep(1)
    bench.cluster.restart(3)
    bench.cluster.faults = CALM
    await asyncio.sleep(5)
    assert await stable_offset(client, "g", source) == 7
    await settled(client, p, q)
    assert (await read(client, p), await read(client, q)) == ([b"x"], [b"y"])
    assert await end(client, "x", producer) == after


@on_simulated
async def test_a_transaction_can_be_out_of_time_when_the_broker_is_back(bench: SimulatedBench) -> None:
    """Its time goes on while the broker is gone; nothing is decided before it is back."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    producer = await begin(client, "x", timeout_ms=1_000)
    await produce(client, "x", producer, {p: rows(["x"], at_ms=bench.now_ms)})
    bench.cluster.restart(5)
    await asyncio.sleep(4.9)
    assert bench.cluster.broker.transactions.state("x") is State.ONGOING
    await asyncio.sleep(2)
    assert bench.cluster.broker.transactions.state("x") is State.COMPLETE_ABORT
    assert await read(client, p) == []
