"""What a partition promises to those who write to it and read it; the same of the simulated and the real cluster."""

import asyncio

from streamproc.kafka.requests import (
    Cluster,
    Code,
    DeleteRecords,
    Fetch,
    InitProducerId,
    ListOffsets,
)
from streamproc.log import Partition
from tests.simulation.asking import NO_PRODUCER, ask, begin, create, end, fetch, produce, read, refused, rows, settled
from tests.simulation.bench import Bench, on_both


async def ends(client: Cluster, partition: Partition) -> tuple[int, int, int]:
    """First, last stable, high watermark."""
    return tuple([(await ask(client, ListOffsets([partition], end)))[partition] for end in ("first", "stable", "high")])  # type: ignore[return-value]


@on_both
async def test_what_is_open_is_invisible_and_a_marker_takes_an_offset(bench: Bench) -> None:
    """Records of an open transaction are behind the last stable offset; its marker is a record that nobody is given."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    producer = await begin(client, name)
    answer = await produce(client, name, producer, {p: rows(["x", "y"], at_ms=bench.now_ms)})
    assert answer[p][:2] == (Code.NONE, 0)
    assert await ends(client, p) == (0, 0, 2)
    assert await read(client, p) == []
    assert await read(client, p, committed=False) == [b"x", b"y"]
    await end(client, name, producer)
    await settled(client, p)
    assert await ends(client, p) == (0, 3, 3)
    piece = await fetch(client, p, 0)
    assert (list(piece.offsets), piece.columns.values, piece.next_offset) == ([0, 1], [b"x", b"y"], 3)
    assert (piece.high_watermark, piece.last_stable, piece.start) == (3, 3, 0)


@on_both
async def test_what_was_aborted_is_passed_over(bench: Bench) -> None:
    """Behind an aborted transaction the next one is read, and nothing of the first."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    producer = await begin(client, name)
    await produce(client, name, producer, {p: rows(["dropped"], at_ms=bench.now_ms)})
    producer = await end(client, name, producer, commit=False)
    await produce(client, name, producer, {p: rows(["kept"], at_ms=bench.now_ms)})
    await end(client, name, producer)
    await settled(client, p)
    assert await read(client, p) == [b"kept"]
    assert await read(client, p, committed=False) == [b"dropped", b"kept"]
    assert await ends(client, p) == (0, 4, 4)


@on_both
async def test_the_last_stable_offset_is_that_of_the_oldest_open_transaction(bench: Bench) -> None:
    """What was committed behind an open transaction is read when that one is over."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    slow, quick = bench.name("slow"), bench.name("quick")
    first, second = await begin(client, slow), await begin(client, quick)
    await produce(client, slow, first, {p: rows(["slow"], at_ms=bench.now_ms)})
    await produce(client, quick, second, {p: rows(["quick"], at_ms=bench.now_ms)})
    await end(client, quick, second)
    await asyncio.sleep(0.2)
    assert await ends(client, p) == (0, 0, 3)
    assert await read(client, p) == []
    await end(client, slow, first)
    await settled(client, p)
    assert await read(client, p) == [b"slow", b"quick"]


@on_both
async def test_a_repeated_batch_is_answered_and_not_appended(bench: Bench) -> None:
    """KIP-98: the same sequence numbers again, the answer of which was lost, have the offset that they have."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    producer = await begin(client, name)
    batch = {p: rows(["x", "y"], at_ms=bench.now_ms)}
    later = {p: rows(["z"], at_ms=bench.now_ms)}
    assert (await produce(client, name, producer, batch))[p].offset == 0
    assert (await produce(client, name, producer, later, sequence=2))[p].offset == 2
    assert (await produce(client, name, producer, batch))[p][:2] == (Code.NONE, 0)
    assert (await produce(client, name, producer, later, sequence=2))[p][:2] == (Code.NONE, 2)
    await end(client, name, producer)
    await settled(client, p)
    assert await read(client, p) == [b"x", b"y", b"z"]


@on_both
async def test_a_gap_in_the_sequence_is_refused(bench: Bench) -> None:
    """KIP-98: a batch before which another one is missing is not appended; a transaction begins at 0 (KIP-890)."""
    client = await bench.client("a")
    [p, other] = await create(bench, client, "out", 2)
    name = bench.name("a")
    producer = await begin(client, name)
    one = {p: rows(["x"], at_ms=bench.now_ms)}
    assert (await produce(client, name, producer, one, sequence=1))[p].code == Code.OUT_OF_ORDER_SEQUENCE
    assert (await produce(client, name, producer, one))[p].code == Code.NONE
    assert (await produce(client, name, producer, one, sequence=2))[p].code == Code.OUT_OF_ORDER_SEQUENCE
    assert (await produce(client, name, producer, {other: one[p]}, sequence=1))[
        other
    ].code == Code.OUT_OF_ORDER_SEQUENCE
    assert (await produce(client, name, producer, one, sequence=1))[p].code == Code.NONE
    assert await ends(client, p) == (0, 0, 2)


@on_both
async def test_sequences_go_on_for_an_idempotent_producer_without_transactions(bench: Bench) -> None:
    """What it writes is visible at once."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    producer = await ask(client, InitProducerId(None, 60_000))
    one = {p: rows(["x"], at_ms=bench.now_ms)}
    assert (await produce(client, None, producer, one))[p].offset == 0
    assert (await produce(client, None, producer, one, sequence=1))[p].offset == 1
    assert (await produce(client, None, producer, one, sequence=3))[p].code == Code.OUT_OF_ORDER_SEQUENCE
    assert await ends(client, p) == (0, 2, 2)


@on_both
async def test_a_batch_that_is_too_large_leaves_the_others_of_the_message(bench: Bench) -> None:
    """One partition refuses its batch (MESSAGE_TOO_LARGE), the other takes its own: the producer is to look."""
    client = await bench.client("a")
    [small] = await create(bench, client, "small", max_message_bytes="200")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    producer = await begin(client, name)
    large = rows(["x" * 500], at_ms=bench.now_ms)
    answer = await produce(client, name, producer, {small: large, p: large})
    assert (answer[small].code, answer[p].code) == (Code.MESSAGE_TOO_LARGE, Code.NONE)
    producer = await end(client, name, producer, commit=False)
    fits = rows(["x"], at_ms=bench.now_ms)
    answer = await produce(client, name, producer, {small: fits, p: fits})
    assert (answer[small].code, answer[p].code) == (Code.NONE, Code.NONE)
    await end(client, name, producer)
    await settled(client, small, p)
    assert (await read(client, small), await read(client, p)) == ([b"x"], [b"x"])


@on_both
async def test_a_timestamp_far_ahead_is_refused(bench: Bench) -> None:
    """KIP-1030: more than an hour ahead of the broker's clock, unless the topic takes it."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    [lenient] = await create(bench, client, "lenient", message_timestamp_after_max_ms=str(2**63 - 1))
    name = bench.name("a")
    producer = await begin(client, name)
    ahead = rows(["x"], at_ms=bench.now_ms + 2 * 3_600_000)
    answer = await produce(client, name, producer, {p: ahead, lenient: ahead})
    assert (answer[p].code, answer[lenient].code) == (Code.INVALID_TIMESTAMP, Code.NONE)


@on_both
async def test_a_compacted_topic_takes_no_record_without_a_key(bench: Bench) -> None:
    """INVALID_RECORD: nobody could say which record it replaces."""
    client = await bench.client("a")
    [p] = await create(bench, client, "changelog", cleanup_policy="compact")
    answer = await produce(client, None, NO_PRODUCER, {p: rows(["x"], at_ms=bench.now_ms)}, sequence=-1)
    assert answer[p].code == Code.INVALID_RECORD


@on_both
async def test_a_partition_that_is_not_there(bench: Bench) -> None:
    """UNKNOWN_TOPIC_OR_PARTITION: of a topic that is not there, and of a number beyond the topic's."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    for gone in (Partition(bench.name("gone"), 0), Partition(p.topic, 1)):
        assert client.led_together([gone]) == [[gone]]
        assert (await fetch(client, gone, 0)).code == Code.UNKNOWN_TOPIC_OR_PARTITION
        assert await refused(client, ListOffsets([gone], "high")) == Code.UNKNOWN_TOPIC_OR_PARTITION
        answer = await produce(client, None, NO_PRODUCER, {gone: rows(["x"], at_ms=bench.now_ms)}, sequence=-1)
        assert answer[gone].code == Code.UNKNOWN_TOPIC_OR_PARTITION
        assert client.led_together([p, gone]) == [[p], [gone]]


@on_both
async def test_a_fetch_waits_for_records(bench: Bench) -> None:
    """It is answered when there is something to read, with what is; else at the end of its wait, with nothing."""
    client, other = await bench.client("a"), await bench.client("b")
    [p, q] = await create(bench, client, "out", 2)
    await ask(other, ListOffsets([p], "high"))
    nothing = await ask(client, Fetch({p: 0, q: 0}, 50, 1_000))
    assert [(piece.code, piece.next_offset, len(piece.offsets)) for piece in nothing.values()] == [(0, 0, 0)] * 2
    waits = asyncio.create_task(ask(client, Fetch({p: 0, q: 0}, 20_000, 1_000)))
    await asyncio.sleep(0.2)
    assert not waits.done()
    await produce(other, None, NO_PRODUCER, {q: rows(["x"], at_ms=bench.now_ms)}, sequence=-1)
    async with asyncio.timeout(10):
        found = await waits
    assert (found[p].columns.values, found[q].columns.values) == ([], [b"x"])


@on_both
async def test_a_fetch_of_committed_records_waits_for_the_marker(bench: Bench) -> None:
    """An open transaction's records do not answer it; the marker does, be the transaction aborted."""
    client, other = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, client, "out")
    await ask(other, ListOffsets([p], "high"))
    name = bench.name("a")
    producer = await begin(client, name)
    waits = asyncio.create_task(ask(other, Fetch({p: 0}, 20_000, 1_000)))
    await produce(client, name, producer, {p: rows(["x"], at_ms=bench.now_ms)})
    await asyncio.sleep(0.2)
    assert not waits.done()
    await end(client, name, producer, commit=False)
    async with asyncio.timeout(10):
        found = (await waits)[p]
    assert (found.code, found.columns.values, found.next_offset) == (0, [], 2)


@on_both
async def test_a_fetch_gives_whole_batches_within_its_bytes_but_one_at_least(bench: Bench) -> None:
    """A batch larger than the limit is given alone; from within a batch, its end."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    for number in range(3):
        batch = rows([f"{number}" + "x" * 1_000] * 3, at_ms=bench.now_ms)
        await produce(client, None, NO_PRODUCER, {p: batch}, sequence=-1)
    piece = (await ask(client, Fetch({p: 0}, 0, 100)))[p]
    assert (list(piece.offsets), piece.next_offset) == ([0, 1, 2], 3)
    piece = (await ask(client, Fetch({p: 1}, 0, 100)))[p]
    assert (list(piece.offsets), piece.next_offset) == ([1, 2], 3)
    piece = (await ask(client, Fetch({p: 1}, 0, 7_000)))[p]
    assert (list(piece.offsets), piece.next_offset) == ([1, 2, 3, 4, 5], 6)
    piece = (await ask(client, Fetch({p: 0}, 0, 1 << 20)))[p]
    assert (list(piece.offsets), piece.next_offset) == (list(range(9)), 9)


@on_both
async def test_a_fetch_ends_with_its_segment(bench: Bench) -> None:
    """It may give less than there is, and than it may: behind years a segment ends, and a marker is of today."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out", retention_ms="-1")
    name = bench.name("a")
    producer = await begin(client, name)
    await produce(client, name, producer, {p: rows(["old"], at_ms=1_600_000_000_000)})
    producer = await end(client, name, producer)
    await produce(client, name, producer, {p: rows(["old, too"], at_ms=1_600_000_000_000)})
    await end(client, name, producer)
    await settled(client, p)
    piece = await fetch(client, p, 0)
    assert (piece.columns.values, piece.next_offset, piece.last_stable) == ([b"old"], 1, 4)
    piece = await fetch(client, p, 1)
    assert (piece.columns.values, piece.next_offset, piece.last_stable) == ([b"old, too"], 4, 4)


@on_both
async def test_deleted_records_are_gone(bench: Bench) -> None:
    """KIP-107: the partition begins at the offset, within a batch too; before it and behind the end is out of range."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    await produce(client, None, NO_PRODUCER, {p: rows(["a", "b", "c"], at_ms=bench.now_ms)}, sequence=-1)
    await ask(client, DeleteRecords({p: 2}))
    assert await ends(client, p) == (2, 3, 3)
    assert await read(client, p, 2) == [b"c"]
    assert (await fetch(client, p, 1)).code == Code.OFFSET_OUT_OF_RANGE
    assert (await fetch(client, p, 4)).code == Code.OFFSET_OUT_OF_RANGE
    assert (await fetch(client, p, 3)).code == Code.NONE
    await ask(client, DeleteRecords({p: 1}))
    assert await ends(client, p) == (2, 3, 3)
    assert await refused(client, DeleteRecords({p: 4})) == Code.OFFSET_OUT_OF_RANGE
    [compacted] = await create(bench, client, "changelog", cleanup_policy="compact")
    assert await refused(client, DeleteRecords({compacted: 0})) == 44  # POLICY_VIOLATION


@on_both
async def test_columns_come_back_as_they_were_sent(bench: Bench) -> None:
    """Keys, values, timestamps and headers, none and empty ones too."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    columns = rows(["a", "b", "c"], at_ms=bench.now_ms, keys=["k", None, "l"])
    columns.values[1] = None
    columns.headers = [[("h", b"1"), ("h", b"2")], None, []]
    columns.timestamps[:] = [bench.now_ms, 5, 0]
    await produce(client, None, NO_PRODUCER, {p: columns}, sequence=-1)
    found = (await fetch(client, p, 0)).columns
    assert (found.keys, found.values, found.timestamps) == (columns.keys, columns.values, columns.timestamps)
    assert [list(headers or ()) for headers in found.headers or ()] == [[("h", b"1"), ("h", b"2")], [], []]
