import random
from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streamproc.kafka.batches import COMPRESSIONS, PackedBatch, packed
from streamproc.kafka.columns import fetched
from streamproc.kafka.requests import Code, Produce, Produced, Producer, Stamped
from streamproc.log import Columns, WireHeaders
from tests.kafka import stock
from tests.kafka.opened import fresh, new_partition, new_producer, opened, produced

PRODUCER = Producer(7, 3)


def columns_of(count: int, *, size: int = 20, headers: bool = False, seed: int = 1) -> Columns:
    """Keys and values of any length, or none."""
    chance = random.Random(seed)
    keys = [None if chance.random() < 0.2 else b"key %d" % number for number in range(count)]
    values = [None if chance.random() < 0.2 else chance.randbytes(chance.randrange(size)) for _ in range(count)]
    rows: list[WireHeaders | None] | None = None
    if headers:
        rows = [(("é", b"1"), ("n", b"%d" % number)) if number % 3 == 0 else None for number in range(count)]
    return Columns(keys, values, [1_700_000_000_000 + chance.randrange(-9_999, 9_999) for _ in range(count)], rows)


def stamped(batches: Sequence[PackedBatch], *, transactional: bool = True, sequence: int = 0) -> list[bytes]:
    found = []
    for batch in batches:
        found.append(bytes(batch.stamped(Stamped(batch, PRODUCER, sequence), transactional=transactional)))
        sequence += batch.count
    return found


@pytest.mark.parametrize("compression", stock.COMPRESSIONS)
@pytest.mark.parametrize("headers", [False, True])
def test_there_and_back(compression: str, headers: bool) -> None:
    """What is packed is what is read: records, their order and times."""
    columns = columns_of(500, headers=headers)
    batches = packed(columns, compression=COMPRESSIONS[compression], batch_bytes=2_000)
    assert len(batches) > 5
    read = Columns([], [], [])
    for raw in stamped(batches):
        read.extend(fetched(raw, 0).columns)
    if headers:
        assert columns.headers is not None
        columns.headers = [None if row is None else list(row) for row in columns.headers]
    assert read == columns


def test_no_records() -> None:
    """Nothing is packed of nothing."""
    assert packed(Columns([], [], [])) == []


def test_sizes() -> None:
    """No batch is larger than the limit, but one whose only record is; its count and size are those on the wire."""
    columns = Columns([None] * 5, [b"a" * 300, b"b" * 300, b"c" * 2_000, b"d" * 300, b"e" * 900], [1] * 5)
    batches = packed(columns, batch_bytes=1_000)
    assert [batch.count for batch in batches] == [2, 1, 1, 1]
    assert [batch.size for batch in batches] == [len(raw) for raw in stamped(batches)]
    assert [batch.size > 1_000 for batch in batches] == [False, True, False, False]


def test_fits_into_a_topic_with_usual_settings() -> None:
    """Many records fill batches below the broker's default for max.message.bytes, and not much below."""
    batches = packed(Columns([None] * 30_000, [b"v" * 100] * 30_000, [1] * 30_000))
    assert all(850_000 < batch.size <= 900_000 for batch in batches[:-1])
    assert len(batches) > 2


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("compression", stock.COMPRESSIONS)
def test_the_stamp(compression: str, transactional: bool) -> None:
    """A batch is what aiokafka's builder would have made, given producer, sequence and transaction from the start."""
    columns = columns_of(50)
    (batch,) = packed(columns, compression=COMPRESSIONS[compression])
    builder = DefaultRecordBatchBuilder(2, COMPRESSIONS[compression], int(transactional), 7, 3, 11, 1 << 20)
    for place, (timestamp, key, value) in enumerate(zip(columns.timestamps, columns.keys, columns.values, strict=True)):
        builder.append(place, timestamp, key, value, [])
    assert stamped([batch], transactional=transactional, sequence=11) == [bytes(builder.build())]


def test_sent_again() -> None:
    """The same stamp gives the same bytes; another one, even after it was sent, what that stamp would have given."""
    for compression in (0, 1):
        (batch,) = packed(columns_of(50), compression=compression)
        (fresh_one,) = packed(columns_of(50), compression=compression)
        first = stamped([batch])
        assert stamped([batch]) == first
        anew = batch.stamped(Stamped(batch, Producer(9, 0), 5), transactional=False)
        assert anew == fresh_one.stamped(Stamped(fresh_one, Producer(9, 0), 5), transactional=False)
        assert stamped([batch]) == first


@pytest.mark.parametrize("compression", stock.COMPRESSIONS)
@pytest.mark.parametrize("transactional", [False, True])
async def test_aiokafka_s_consumer_reads_it(kafka: str, transactional: bool, compression: str) -> None:
    """Batches of which each was sent twice are what aiokafka's consumer finds, once."""
    columns = columns_of(400, headers=True)
    async with opened(kafka, compression_type=compression) as cluster:
        partition = await new_partition(cluster)
        name = fresh("id") if transactional else None
        producer = await new_producer(cluster, name)
        for start in range(0, 400, 100):
            (batch,) = cluster.pack(columns.cut(start, start + 100))
            request = Produce(name, {partition: Stamped(batch, producer, start)})
            for _ in range(2):
                assert await produced(cluster, request) == {partition: Produced(Code.NONE, start)}
        rows, _ = await stock.stock_rows(kafka, partition, 0, committed=False)
    assert [key for _, key, *_ in rows] == columns.keys
    assert [value for _, _, value, *_ in rows] == columns.values
    assert [timestamp for *_, timestamp, _ in rows] == columns.timestamps
    assert [headers or None for *_, headers in rows] == columns.headers
