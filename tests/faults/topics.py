"""Topics of a scene, written and read by a client that shares nothing with the product."""

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec import json

from tests.faults.oracle import Given, Rows


class Record(NamedTuple):
    """A record as it is on the wire."""

    key: bytes | None
    value: bytes | None
    timestamp: int


async def write(broker: str, topic: str, partitions: Sequence[Sequence[Given]]) -> None:
    """These visits are behind what the partitions have, in batches of 4 KiB: no fetch gives less than a batch."""
    async with AIOKafkaProducer(bootstrap_servers=broker, linger_ms=50, max_batch_size=4096) as producer:
        sent = [
            await producer.send(topic, json.encode(visit), user.encode(), number, visit.at)
            for number, partition in enumerate(partitions)
            for user, visit in partition
        ]
        for one in sent:
            await one


async def read(broker: str, topic: str, partitions: int) -> list[list[Record]]:
    """The committed records of a topic, by partition, up to the last stable offset."""
    places = [TopicPartition(topic, number) for number in range(partitions)]
    found: list[list[Record]] = [[] for _ in places]
    async with AIOKafkaConsumer(bootstrap_servers=broker, isolation_level="read_committed") as consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for place, records in (await consumer.getmany(timeout_ms=200)).items():
                found[place.partition] += [Record(r.key, r.value, r.timestamp) for r in records]
    return found


def rows_of(partitions: Sequence[Sequence[Record]]) -> Rows:
    """By key; a key that is in two partitions is an error."""
    rows: Rows = {}
    for number, records in enumerate(partitions):
        keys = {record.key for record in records}
        elsewhere = {r.key for other, found in enumerate(partitions) if other != number for r in found}
        assert not keys & elsewhere, f"keys in two partitions: {sorted(map(str, keys & elsewhere))}"
        for key, value, timestamp in records:
            rows.setdefault((key or b"").decode(), []).append((json.decode(value or b"null"), timestamp))
    return rows
