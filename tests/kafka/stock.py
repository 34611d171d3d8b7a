"""aiokafka's own consumer and producer: what streamproc's own reading and writing are compared with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.codec import has_gzip, has_lz4, has_snappy, has_zstd

from streamproc.log import Partition

COMPRESSIONS = [
    "none",
    *(
        name
        for name, there in (("gzip", has_gzip), ("snappy", has_snappy), ("lz4", has_lz4), ("zstd", has_zstd))
        if there()
    ),
]
"""Those whose library is installed."""

Row = tuple[int, bytes | None, bytes | None, int, tuple[tuple[str, bytes], ...]]


@asynccontextmanager
async def stock_producer(bootstrap: str, **options: Any) -> AsyncIterator[Any]:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def stock_rows(bootstrap: str, partition: Partition, offset: int, *, committed: bool) -> tuple[list[Row], int]:
    """Every record from an offset on, and the position behind them."""
    isolation = "read_committed" if committed else "read_uncommitted"
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level=isolation, enable_auto_commit=False, auto_offset_reset="none"
    )
    await consumer.start()
    try:
        at = TopicPartition(*partition)
        consumer.assign([at])
        end = (await consumer.end_offsets([at]))[at]
        consumer.seek(at, offset)
        rows: list[Row] = []
        while await consumer.position(at) < end:
            records = (await consumer.getmany(timeout_ms=50)).get(at, [])
            rows += [(r.offset, r.key, r.value, r.timestamp, tuple(r.headers)) for r in records]
        return rows, await consumer.position(at)
    finally:
        await consumer.stop()
