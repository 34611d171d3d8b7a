"""The jobs by aiokafka's public API, record by record, as a user first writes them.

python -m tests.benchmarks.kafka.simple JOB. At least once (`trend-eos`: exactly once): every second what was sent is
flushed and the positions are committed. State is in memory, and a restart has lost it. What is late, and when a window
is over, goes by the largest time read from its partition: also behind the repartition topic of `trend`, where rows are
as far out of order as the partitions of the source are read apart.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from msgspec import json

from tests.benchmarks.by_hand import GRACE_MS, MINUTE_MS
from tests.benchmarks.jobs import HASHTAG
from tests.benchmarks.kafka.names import Names

COMMIT_SECONDS = 1.0
SIZES = {"tumble": (MINUTE_MS, MINUTE_MS), "hop": (5 * MINUTE_MS, 10_000), "trend": (MINUTE_MS, MINUTE_MS)}
"""The windows of a job: their length, and the time between two of them."""


class Windows:
    """The windows of one partition."""

    def __init__(self, size_ms: int, every_ms: int) -> None:
        self.size_ms, self.every_ms = size_ms, every_ms
        self.clock = 0
        self.late = 0
        self.open: dict[int, dict[str, int]] = {}

    def add(self, key: str, timestamp: int) -> None:
        self.clock = max(self.clock, timestamp)
        last = timestamp - timestamp % self.every_ms
        for start in range(last, last - self.size_ms, -self.every_ms):
            if start + self.size_ms + GRACE_MS <= self.clock:
                self.late += 1
                continue
            window = self.open.setdefault(start, {})
            window[key] = window.get(key, 0) + 1

    def closed(self) -> Iterator[dict[str, Any]]:
        for start in sorted(self.open):
            end = start + self.size_ms
            if end + GRACE_MS > self.clock:
                break
            for key, count in sorted(self.open.pop(start).items()):
                yield {"key": key, "start": start, "end": end, "value": count}


class Program:
    def __init__(self, names: Names) -> None:
        self.names, self.job = names, names.job.removesuffix("-eos")
        self.once = names.job.endswith("-eos")
        self.counts: dict[str, int] = {}
        self.windows: dict[int, Windows] = {}

    async def run(self) -> None:
        names = self.names
        topics = [names.source, names.repartition] if self.job == "trend" else [names.source]
        self.consumer = AIOKafkaConsumer(
            *topics,
            bootstrap_servers=names.broker,
            group_id=names.group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed" if self.once else "read_uncommitted",
        )
        options = {"transactional_id": names.group} if self.once else {"enable_idempotence": True}
        self.producer = AIOKafkaProducer(bootstrap_servers=names.broker, linger_ms=20, **options)
        async with self.consumer, self.producer:
            await self.loop()

    async def loop(self) -> None:
        due, dirty = time.monotonic() + COMMIT_SECONDS, False
        if self.once:
            await self.producer.begin_transaction()
        while True:
            for partition, records in (await self.consumer.getmany(timeout_ms=200)).items():
                dirty = True
                await self.take(partition.topic, partition.partition, records)
            if dirty and time.monotonic() >= due:
                await self.commit()
                due, dirty = time.monotonic() + COMMIT_SECONDS, False

    async def commit(self) -> None:
        if not self.once:
            await self.producer.flush()
            await self.consumer.commit()
            return
        offsets = {partition: await self.consumer.position(partition) for partition in self.consumer.assignment()}
        await self.producer.send_offsets_to_transaction(offsets, self.names.group)
        await self.producer.commit_transaction()
        await self.producer.begin_transaction()

    async def take(self, topic: str, partition: int, records: list[ConsumerRecord]) -> None:
        if self.job == "pass":
            await self.take_tweets(records)
        elif self.job == "count":
            await self.take_tags(records)
        elif self.job == "trend" and topic == self.names.source:
            await self.route(records)
        else:
            windows = self.windows.setdefault(partition, Windows(*SIZES[self.job]))
            for record in records:
                windows.add(json.decode(record.value)["tag"], record.timestamp)
            for row in windows.closed():
                await self.send(self.names.results, row["key"].encode(), row, row["end"] - 1)

    async def take_tweets(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            tweet = json.decode(record.value)
            if tweet["lang"] == "en":
                row = {"user": tweet["user"], "text": tweet["text"], "n": len(tweet["text"])}
                await self.send(self.names.results, record.key, row, record.timestamp)

    async def take_tags(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            tag = json.decode(record.value)["tag"]
            self.counts[tag] = count = self.counts.get(tag, 0) + 1
            await self.send(self.names.results, record.key, {"tag": tag, "count": count}, record.timestamp)

    async def route(self, records: list[ConsumerRecord]) -> None:
        for record in records:
            tweet = json.decode(record.value)
            for tag in HASHTAG.findall(tweet["text"].lower()):
                await self.send(self.names.repartition, tag.encode(), {"tag": tag}, tweet["ts"])

    async def send(self, topic: str, key: bytes, row: dict[str, Any], timestamp: int) -> None:
        await self.producer.send(topic, json.encode(row), key=key, timestamp_ms=timestamp)


if __name__ == "__main__":
    asyncio.run(Program(Names.told(sys.argv[1])).run())
