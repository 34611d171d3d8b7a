"""What a broker drops by itself: old records, and what compaction leaves out."""

import asyncio

from streamproc.kafka.requests import (
    Code,
    ListOffsets,
)
from streamproc.log import Partition
from tests.simulation.asking import (
    NO_PRODUCER,
    ask,
    begin,
    create,
    end,
    fetch,
    produce,
    read,
    rows,
    settled,
)
from tests.simulation.bench import SimulatedBench, on_simulated

DAY_MS = 86_400_000


async def write(bench: SimulatedBench, p: Partition, values: list[str], keys: list[str | None] | None = None) -> None:
    client = bench.cluster.client("writer")
    answer = await produce(client, None, NO_PRODUCER, {p: rows(values, at_ms=bench.now_ms, keys=keys)}, sequence=-1)
    assert answer[p].code == Code.NONE


@on_simulated
async def test_old_records_are_dropped_by_their_timestamps(bench: SimulatedBench) -> None:
    """Records of last year are gone within minutes, unless the topic keeps them; younger ones when their time comes."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "week")
    [kept] = await create(bench, client, "kept", retention_ms="-1")
    old = rows(["old"], at_ms=bench.now_ms - 400 * DAY_MS)
    for partition in (p, kept):
        await produce(client, None, NO_PRODUCER, {partition: old}, sequence=-1)
        await write(bench, partition, ["young"])
    assert await read(client, p) == [b"old", b"young"]
    await asyncio.sleep(400)
    assert (await fetch(client, p, 0)).code == Code.OFFSET_OUT_OF_RANGE
    assert await ask(client, ListOffsets([p], "first")) == {p: 1}
    assert await read(client, p, 1) == [b"young"]
    await asyncio.sleep(8 * 86_400)
    assert await ask(client, ListOffsets([p], "first")) == {p: 2}
    assert await ask(client, ListOffsets([p], "high")) == {p: 2}
    assert await read(client, kept) == [b"old", b"young"]


@on_simulated
async def test_compaction_leaves_the_last_of_each_key(bench: SimulatedBench) -> None:
    """At its offset; never what is not decided, nor the last batch; aborted records go. Reading goes over the gaps."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "changelog", cleanup_policy="compact")
    await write(bench, p, ["1", "2"], ["a", "b"])
    producer = await begin(client, "x")
    await produce(client, "x", producer, {p: rows(["aborted"], at_ms=bench.now_ms, keys=["b"])})
    await end(client, "x", producer, commit=False)
    await settled(client, p)
    await write(bench, p, ["3"], ["a"])
    opened = await begin(client, "y")
    await produce(client, "y", opened, {p: rows(["open", "open"], at_ms=bench.now_ms, keys=["a", "b"])})
    await write(bench, p, ["4"], ["a"])
    bench.cluster.clean()
    piece = await fetch(client, p, 0)
    assert (list(piece.offsets), piece.columns.values, piece.next_offset) == ([1, 4], [b"2", b"3"], 5)
    await end(client, "y", opened)
    await settled(client, p)
    bench.cluster.clean()
    piece = await fetch(client, p, 0)
    assert (list(piece.offsets), piece.columns.values) == ([6, 7], [b"open", b"4"])
    assert piece.next_offset == piece.high_watermark == 9
    assert await read(client, p, 2) == [b"open", b"4"]


@on_simulated
async def test_tombstones_live_for_a_while(bench: SimulatedBench) -> None:
    """KIP-534: delete.retention.ms from the first compaction on; a reader that is further behind never sees it."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "changelog", cleanup_policy="compact", delete_retention_ms="60000")
    await write(bench, p, ["1", "2"], ["a", "b"])
    await write(bench, p, [""], ["a"])
    await write(bench, p, ["3"], ["c"])
    bench.cluster.clean()
    assert await read(client, p) == [b"2", None, b"3"]
    await asyncio.sleep(59)
    bench.cluster.clean()
    assert await read(client, p) == [b"2", None, b"3"]
    await asyncio.sleep(2)
    bench.cluster.clean()
    assert await read(client, p) == [b"2", b"3"]
    assert (await fetch(client, p, 2)).next_offset == 4


@on_simulated
async def test_compaction_comes_by_itself(bench: SimulatedBench) -> None:
    """When more was written than was left by the last one, within the cleaner's back-off."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "changelog", cleanup_policy="compact")
    for number in range(100):
        await write(bench, p, [f"{number}"], [f"{number % 3}"])
        await asyncio.sleep(1)
    values = await read(client, p)
    assert len(values) < 40
    assert values[-1] == b"99"


@on_simulated
async def test_compaction_knows_producers_as_before(bench: SimulatedBench) -> None:
    """A batch that is repeated after its records are gone is still recognised."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "changelog", cleanup_policy="compact")
    producer = await begin(client, "x")
    first = {p: rows(["1"], at_ms=bench.now_ms, keys=["a"])}
    await produce(client, "x", producer, first)
    await produce(client, "x", producer, {p: rows(["2"], at_ms=bench.now_ms, keys=["a"])}, sequence=1)
    bench.cluster.clean()
    assert (await produce(client, "x", producer, first))[p][:2] == (Code.NONE, 0)
    await end(client, "x", producer)
    await settled(client, p)
    await write(bench, p, ["3"], ["a"])
    await write(bench, p, ["4"], ["b"])
    bench.cluster.clean()
    assert await read(client, p) == [b"3", b"4"]
