import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiokafka.codec
import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.columns import fetched
from streamproc.kafka.requests import Code, Fetch, Fetched
from streamproc.log import Columns, Partition
from tests.kafka.opened import ANSWER_S, fresh, new_partition, opened
from tests.kafka.server import KafkaServer
from tests.kafka.stock import COMPRESSIONS, Row, stock_producer, stock_rows

TRANSACTIONAL, CONTROL = 0x10, 0x20
ABORT, COMMIT = struct.pack(">hh", 0, 0), struct.pack(">hh", 0, 1)


def batch(
    base: int, values: Sequence[bytes], *, places: Sequence[int] | None = None, attributes: int = 0, producer: int = -1
) -> bytes:
    """A batch as a broker stores it; `places` are its records' offsets behind the first."""
    builder = DefaultRecordBatchBuilder(2, attributes & 7, 0, producer, 0, 0, 1 << 20)
    for place, value in zip(places or range(len(values)), values, strict=True):
        builder.append(place, 1_000 + base + place, None, value, [])
    return signed(builder.build(), base, attributes)


def signed(data: bytearray, base: int, attributes: int) -> bytes:
    struct.pack_into(">q", data, 0, base)
    data[22] |= attributes
    struct.pack_into(">I", data, 17, calc_crc32c(bytes(data[21:])))
    return bytes(data)


def marker(base: int, producer: int, kind: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, producer, 0, -1, 1 << 20)
    builder.append(0, 1_000, kind, b"\0" * 6, [])
    return signed(builder.build(), base, TRANSACTIONAL | CONTROL)


def rows_of(piece: Fetched) -> list[Row]:
    columns = piece.columns
    headers = columns.headers or [None] * len(columns)
    return [
        (offset, key, value, timestamp, tuple(header or ()))
        for offset, key, value, timestamp, header in zip(
            piece.offsets, columns.keys, columns.values, columns.timestamps, headers, strict=True
        )
    ]


# ---------------------------------------------------------------------------------- bytes in, columns out


def test_nothing() -> None:
    """An empty answer leaves the position where it was."""
    assert fetched(b"", 7) == Fetched(Code.NONE, range(7, 7), Columns([], [], []), 7)


def test_offsets_without_gaps_cost_nothing() -> None:
    """Batches that follow one another give one range."""
    piece = fetched(batch(5, [b"a", b"b"]) + batch(7, [b"c"]), 5)
    assert piece.offsets == range(5, 8)
    assert piece.columns == Columns([None] * 3, [b"a", b"b", b"c"], [1005, 1006, 1007])
    assert piece.next_offset == 8


def test_compacted_batches() -> None:
    """Records that compaction took leave gaps within a batch, at its end and between batches: none shifts an offset."""
    raw = batch(0, [b"a", b"b"], places=[0, 3]) + batch(10, [b"c"]) + batch(11, [b"d", b"e"])
    piece = fetched(raw, 0)
    assert (list(piece.offsets), piece.columns.values) == ([0, 3, 10, 11, 12], [b"a", b"b", b"c", b"d", b"e"])
    assert piece.next_offset == 13


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [0, 1, 3]])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_within_a_batch(places: list[int], at: int) -> None:
    """A broker gives the batch that an offset is in from its beginning: what is before the offset is cut off."""
    piece = fetched(batch(0, [b"v%d" % place for place in places], places=places), at)
    assert list(piece.offsets) == [place for place in places if place >= at]
    assert piece.columns.values == [b"v%d" % place for place in places if place >= at]
    assert piece.next_offset == 4


@pytest.mark.parametrize("count", [1, 199, 200, 201, 400, 617])
@pytest.mark.parametrize("gaps", [False, True])
def test_large_batches(count: int, gaps: bool) -> None:
    """However many records a batch has, and wherever it is begun to be read."""
    places = [place * 2 if gaps else place for place in range(count)]
    raw = batch(0, [b"v%d" % place for place in places], places=places) + batch(places[-1] + 1, [b"behind"])
    for at in sorted({0, 1, 199, 200, 201, places[-1]} & set(range(places[-1] + 1))):
        piece = fetched(raw, at)
        expected = [*(place for place in places if place >= at), places[-1] + 1]
        assert list(piece.offsets) == expected
        assert piece.columns.values == [b"v%d" % place for place in expected[:-1]] + [b"behind"]
        assert piece.columns.timestamps == [1_000 + place for place in expected]


def test_all_of_the_rest_was_compacted() -> None:
    """A batch may have no record left at or behind the offset; the position moves on all the same."""
    piece = fetched(signed(bytearray(batch(0, [b"a"])), 0, 0)[:23] + struct.pack(">i", 4) + batch(0, [b"a"])[27:], 2)
    assert piece.code == Code.CORRUPT_MESSAGE, "the batch was changed without its checksum"
    data = bytearray(batch(0, [b"a"]))
    struct.pack_into(">i", data, 23, 4)
    piece = fetched(signed(data, 0, 0), 2)
    assert (piece.code, len(piece.columns), piece.next_offset) == (Code.NONE, 0, 5)


def test_headers() -> None:
    """The column is there where a record has any; a record without is None in it, a header without a value empty."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, 1, b"k", None, [])
    builder.append(1, 2, None, b"", [("a", b"1"), ("b", None)])
    raw = batch(0, [b"v"]) + signed(builder.build(), 1, 0) + batch(3, [b"w"])
    piece = fetched(raw, 0)
    assert piece.columns.keys == [None, b"k", None, None]
    assert piece.columns.values == [b"v", None, b"", b"w"]
    assert piece.columns.headers == [None, None, [("a", b"1"), ("b", b"")], None]
    assert fetched(batch(0, [b"v"]), 0).columns.headers is None


def test_the_broker_s_time() -> None:
    """Where the topic is of LogAppendTime all records of a batch have the time at which the broker took it."""
    raw = signed(bytearray(batch(0, [b"a", b"b", b"c"])), 0, 0x08)
    assert fetched(raw, 0).columns.timestamps == [1002, 1002, 1002]


def test_aborted_transactions() -> None:
    """Transactions of two producers that lie within one another: what was aborted is left out, and every marker.

    offset  0    1    2    3      4    5      6    7
            p1   p2   p1   -p1    p1   -p2    p1   +p1      - aborted, + committed
    """
    raw = b"".join(
        (
            batch(0, [b"no"], producer=1, attributes=TRANSACTIONAL),
            batch(1, [b"no"], producer=2, attributes=TRANSACTIONAL),
            batch(2, [b"no"], producer=1, attributes=TRANSACTIONAL),
            marker(3, 1, ABORT),
            batch(4, [b"yes"], producer=1, attributes=TRANSACTIONAL),
            marker(5, 2, ABORT),
            batch(6, [b"yes"], producer=1, attributes=TRANSACTIONAL),
            marker(7, 1, COMMIT),
        )
    )
    piece = fetched(raw, 0, aborted=[(2, 1), (1, 0)])
    assert (list(piece.offsets), piece.columns.values, piece.next_offset) == ([4, 6], [b"yes", b"yes"], 8)
    piece = fetched(raw, 0)
    assert (list(piece.offsets), piece.next_offset) == ([0, 1, 2, 4, 6], 8)


def test_only_transactional_batches_are_aborted() -> None:
    """A producer id may also write outside of transactions."""
    raw = batch(0, [b"no"], producer=1, attributes=TRANSACTIONAL) + batch(1, [b"yes"], producer=1)
    assert fetched(raw, 0, aborted=[(1, 0)]).columns.values == [b"yes"]


def test_the_last_batch_is_not_there_to_its_end() -> None:
    """Brokers cut an answer at its size, wherever that is: the rest is left to the next fetch."""
    whole, next_one = batch(0, [b"a"]), batch(1, [b"b"])
    for size in range(len(next_one)):
        piece = fetched(whole + next_one[:size], 0)
        assert (piece.code, piece.offsets, piece.next_offset) == (Code.NONE, range(1), 1)


# ---------------------------------------------------------------------------------- damage


def damages() -> list[tuple[str, bytes]]:
    good = batch(1, [b"good", b"good"])
    flips = [
        (f"bit {bit} of byte {at}", good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
        for at in range(len(good))
        if not 0 <= at < 8  # where the batch begins: an offset that is too large looks as if records had been compacted
        and not 12 <= at < 16  # the leader's epoch
        for bit in (0, 7)
    ]
    return [
        *flips,
        ("begins earlier", batch(0, [b"good", b"good"])),
        ("garbage", b"\xff" * 100),
        ("nothing", b"\0" * 100),
        ("compressed by gzip, so it says", signed(bytearray(good), 1, 1)),
    ]


@pytest.mark.parametrize(("damage", "bad"), damages(), ids=[name for name, _ in damages()])
def test_a_damaged_batch_is_never_skipped(damage: str, bad: bytes) -> None:
    """What is before it is given, and the position stays there; read from there, it is an error that stays."""
    behind = batch(3, [b"behind"])
    piece = fetched(batch(0, [b"before"]) + bad + behind, 0)
    assert (piece.code, piece.columns.values, piece.next_offset) == (Code.NONE, [b"before"], 1), damage
    piece = fetched(bad + behind, 1)
    if damage != "begins earlier":  # so does every batch that an offset is within
        assert (piece.code, len(piece.columns), piece.next_offset) == (Code.CORRUPT_MESSAGE, 0, 1)


def test_a_batch_of_which_half_can_be_read() -> None:
    """Nothing of it is given, and the position stays before it, though its checksum is right."""
    good = batch(1, [b"value %d" % number for number in range(500)])
    at = good.index(b"value 300") - 1
    bad = signed(bytearray(good[:at] + b"\x7f" + good[at + 1 :]), 1, 0)
    piece = fetched(batch(0, [b"before"]) + bad, 0)
    assert (piece.code, piece.columns.values, piece.offsets, piece.next_offset) == (Code.NONE, [b"before"], range(1), 1)
    assert piece.columns.headers is None
    assert len(piece.columns.keys) == len(piece.columns.timestamps) == 1
    piece = fetched(bad, 1)
    assert (piece.code, len(piece.columns), piece.next_offset) == (Code.CORRUPT_MESSAGE, 0, 1)


def test_a_damaged_batch_behind_an_aborted_one() -> None:
    """The position stays before the damaged batch also where there was nothing to give."""
    raw = batch(0, [b"no"], producer=1, attributes=TRANSACTIONAL) + b"\xff" * 80
    piece = fetched(raw, 0, aborted=[(1, 0)])
    assert (piece.code, len(piece.columns), piece.next_offset) == (Code.NONE, 0, 1)


def test_a_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is compressed by a codec whose library is not installed is not taken for a damaged one."""
    monkeypatch.setattr(aiokafka.codec, "has_snappy", lambda: False)
    piece = fetched(signed(bytearray(batch(0, [b"a"])), 0, 2), 0)
    assert (piece.code, piece.next_offset) == (Code.UNSUPPORTED_COMPRESSION_TYPE, 0)


def test_records_of_old_clients() -> None:
    """Those stored before Kafka 0.11 are refused as what they are."""
    builder = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    builder.append(0, 1_000, None, b"old")
    assert fetched(bytes(builder.build()), 0).code == Code.UNSUPPORTED_FOR_MESSAGE_FORMAT


# ---------------------------------------------------------------------------------- against aiokafka's consumer


@pytest.fixture
async def cluster(kafka: str) -> AsyncIterator[AiokafkaCluster]:
    async with opened(kafka) as cluster:
        yield cluster


async def read(
    cluster: AiokafkaCluster, partition: Partition, offset: int, *, committed: bool, size: int = 2_000
) -> tuple[list[Row], int]:
    """Every record from an offset on, in pieces."""
    rows: list[Row] = []
    while True:
        request = Fetch({partition: offset}, 0, size, committed=committed)
        piece = (await cluster.send(request, ANSWER_S))[partition]
        assert piece.code == Code.NONE
        if piece.next_offset == offset:
            return rows, offset
        rows += rows_of(piece)
        offset = piece.next_offset


async def agrees(cluster: AiokafkaCluster, kafka: str, partition: Partition, starts: Sequence[int]) -> list[Row]:
    """What is read equals what aiokafka's consumer reads, by both isolation levels, from each of these offsets on."""
    everything: list[Row] = []
    for committed in (True, False):
        for start in starts:
            expected = await stock_rows(kafka, partition, start, committed=committed)
            assert await read(cluster, partition, start, committed=committed) == expected
        everything, _ = await read(cluster, partition, 0, committed=committed)
    return everything


async def test_transactions(cluster: AiokafkaCluster, kafka: str) -> None:
    """Committed and aborted transactions of two producers at the same time: records and positions are aiokafka's."""
    partition = await new_partition(cluster)

    async def write(producer: Any, name: bytes, epoch: int) -> None:
        for number in range(5):
            value = b"%b %d %d" % (name, epoch, number)
            await producer.send_and_wait(partition.topic, value, key=None if number % 2 else name, timestamp_ms=number)

    async with (
        stock_producer(kafka, transactional_id=fresh("one")) as one,
        stock_producer(kafka, transactional_id=fresh("two")) as two,
    ):
        for epoch in range(6):
            await one.begin_transaction()
            await two.begin_transaction()
            await asyncio.gather(write(one, b"one", epoch), write(two, b"two", epoch))
            await (one.abort_transaction() if epoch % 2 else one.commit_transaction())
            await (two.abort_transaction() if epoch % 3 else two.commit_transaction())
    rows = await agrees(cluster, kafka, partition, [0, 1, 3, 7, 12, 30, 55])
    assert len(rows) == 60
    committed, _ = await read(cluster, partition, 0, committed=True)
    assert len(committed) == 25


@pytest.mark.parametrize("compression", COMPRESSIONS)
async def test_compressed(cluster: AiokafkaCluster, kafka: str, compression: str) -> None:
    """Whatever it was compressed by, with keys, values and headers that are there or not."""
    partition = await new_partition(cluster)
    codec = None if compression == "none" else compression
    async with stock_producer(kafka, compression_type=codec) as producer:
        for number in range(300):
            await producer.send(
                partition.topic,
                None if number % 7 == 0 else b"value " * (number % 50),
                key=None if number % 3 == 0 and number % 7 else b"key %d" % number,
                headers=[("n", b"%d" % number), ("é", b"")] if number % 5 == 0 else [],
                timestamp_ms=1_600_000_000_000 + number,
            )
        await producer.flush()
    assert len(await agrees(cluster, kafka, partition, [0, 1, 150, 299, 300])) == 300


async def test_a_batch_larger_than_what_is_asked_for(cluster: AiokafkaCluster, kafka: str) -> None:
    """A broker gives it whole to the first of the partitions asked for, to others not at all: so each comes first."""
    large, *small = [await new_partition(cluster) for _ in range(3)]
    async with stock_producer(kafka) as producer:
        await producer.send_and_wait(large.topic, b"v" * 5_000)
        for partition in small:
            for _ in range(10):
                await producer.send_and_wait(partition.topic, b"v")
    offsets = dict.fromkeys((*small, large), 0)
    for _ in range(3):
        for partition, piece in (await cluster.send(Fetch(dict(offsets), 0, 100), ANSWER_S)).items():
            offsets[partition] = piece.next_offset
    assert offsets[large] == 1
    assert all(0 < offsets[partition] < 10 for partition in small)


async def test_compaction(kafka_that_compacts: KafkaServer) -> None:
    """Gaps that the broker's cleaner left, within batches and between them."""
    kafka = kafka_that_compacts.bootstrap
    config = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "segment.bytes": "1048576"}
    async with opened(kafka) as cluster, stock_producer(kafka) as producer:
        partition = await new_partition(cluster, config)
        for number in range(400):
            await producer.send(partition.topic, b"%d" % number, key=b"key %d" % (number % 37 * (number % 3)))
        await producer.flush()
        while len((await read(cluster, partition, 0, committed=True))[0]) > 300:
            await producer.send_and_wait(partition.topic, b"x" * 700_000, key=b"large")  # only old segments are cleaned
            await asyncio.sleep(0.1)
        rows = await agrees(cluster, kafka, partition, [0, 3, 200, 399])
    offsets = [offset for offset, *_ in rows]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] - offsets[0] > len(offsets)


@pytest.fixture
def kafka_that_compacts(kafka_programs: None) -> Any:
    with KafkaServer(settings={"log.cleaner.backoff.ms": "50", "log.initial.task.delay.ms": "100"}) as server:
        yield server
