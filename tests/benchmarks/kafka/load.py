"""The inputs, `bench-tweets` and `bench-tags`, on a broker: python -m tests.benchmarks.kafka.load BROKER [RECORDS]."""

import asyncio
import sys
from collections.abc import Iterable

from aiokafka import AIOKafkaProducer

from streamproc.log import Columns
from tests.benchmarks.inputs import PARTITIONS, Input, tweets_and_tags
from tests.benchmarks.kafka.names import source_name
from tests.benchmarks.kafka.topics import administering, create

BATCH_BYTES = 900_000


async def load(broker: str, records: int) -> None:
    """Both topics are there, with so many records each; those of an earlier load are left as they are."""
    names = [source_name(kind, records) for kind in ("tweets", "tags")]
    async with administering(broker) as admin:
        if set(names) <= set(await admin.list_topics()):
            return
    await create(broker, dict.fromkeys(names, PARTITIONS))
    async with AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=BATCH_BYTES) as producer:
        for name, topic in zip(names, tweets_and_tags(records), strict=True):
            await _send(producer, name, topic)


async def _send(producer: AIOKafkaProducer, name: str, topic: Input) -> None:
    sent: list[asyncio.Future[object]] = []
    for number, columns in enumerate(topic):
        batch = producer.create_batch()
        for row in _rows(columns):
            if batch.append(timestamp=row[2], key=row[0], value=row[1]) is None:
                sent.append(await producer.send_batch(batch, name, partition=number))
                batch = producer.create_batch()
                batch.append(timestamp=row[2], key=row[0], value=row[1])
        sent.append(await producer.send_batch(batch, name, partition=number))
    await asyncio.gather(*sent)


def _rows(columns: Columns) -> Iterable[tuple[bytes | None, bytes | None, int]]:
    return zip(columns.keys, columns.values, columns.timestamps, strict=True)


if __name__ == "__main__":
    asyncio.run(load(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000))
