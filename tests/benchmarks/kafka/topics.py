"""Topics of the benchmark on a broker: made, read back, deleted."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.benchmarks.inputs import PARTITIONS

KEEP = {"retention.ms": "-1"}
"""Event times lie in the past: a broker that keeps records for a week would delete them at once."""


class Record(NamedTuple):
    """A record as it is on the wire."""

    key: bytes | None
    value: bytes | None
    timestamp: int


@asynccontextmanager
async def administering(broker: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client that is closed afterwards."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def create(broker: str, topics: Mapping[str, int]) -> None:
    """The topics are there, with so many partitions. Raises RuntimeError where one cannot be made, or was there."""
    async with administering(broker) as admin:
        made = [NewTopic(name, partitions, 1, topic_configs=KEEP) for name, partitions in topics.items()]
        answer = await admin.create_topics(made)
        for topic, code, message in answer.topic_errors:
            if code:
                raise RuntimeError(f"topic {topic} could not be made: {message}")


async def delete_all(broker: str, begin: str) -> None:
    """The topics whose names begin so are gone."""
    async with administering(broker) as admin:
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(begin)])


async def read(broker: str, topic: str) -> list[list[Record]]:
    """The committed records of a topic, by partition."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    found: list[list[Record]] = [[] for _ in partitions]
    async with AIOKafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed") as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                found[partition.partition] += [Record(r.key, r.value, r.timestamp) for r in records]
    return found
