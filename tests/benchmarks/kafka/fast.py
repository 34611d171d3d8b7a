"""The jobs as fast as pure Python on aiokafka goes: columns in, comprehensions, record batches out.

python -m tests.benchmarks.kafka.fast JOB. At least once (`trend-eos`: exactly once) with durable state: every second
the changes of state go to a changelog, what was written is flushed, the positions are committed, and RocksDB takes the
changes. There is no restore, no rebalance and no error policy.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from streamproc.collection import collection_paused
from tests.benchmarks.by_hand import GRACE_MS, MINUTE_MS, Row, Slices, Sliding
from tests.benchmarks.inputs import PARTITIONS
from tests.benchmarks.jobs import HASHTAG, English, Tag, Tally, Tweet
from tests.benchmarks.kafka.columns import Columns, TopicWriter, fetch_columns
from tests.benchmarks.kafka.names import Names
from tests.benchmarks.kafka.state import Counts, Store, Windows

COMMIT_SECONDS = 1.0
BATCH_BYTES = 900_000

_tweet = msgspec.json.Decoder(Tweet).decode
_tag = msgspec.json.Decoder(Tag).decode
_encode = msgspec.json.Encoder().encode


class Pass:
    """English tweets, projected."""

    tasks: Mapping[int, Counts | Windows] = {}

    def __init__(self, results: TopicWriter) -> None:
        self._results = results

    def take(self, number: int, columns: Columns) -> None:
        """A record batch of a partition."""
        rows = zip(columns.keys, map(_tweet, columns.values), columns.timestamps, strict=True)
        kept = [row for row in rows if row[1].lang == "en"]
        values = [_encode(English(tweet.user, tweet.text, len(tweet.text))) for _, tweet, _ in kept]
        self._results.add([key for key, _, _ in kept], values, [timestamp for _, _, timestamp in kept])


class Count:
    """A running count by key, every update sent."""

    def __init__(self, results: TopicWriter) -> None:
        self._results = results
        self.tasks: dict[int, Counts] = {}

    def take(self, number: int, columns: Columns) -> None:
        """A record batch of a partition."""
        names = [row.tag for row in map(_tag, columns.values)]
        counts = self.tasks.setdefault(number, Counts()).add(names)
        values = [_encode(Tally(name, count)) for name, count in zip(names, counts, strict=True)]
        self._results.add(columns.keys, values, columns.timestamps)


class Tags:
    """Counts by key in windows of event time, final."""

    def __init__(self, results: TopicWriter, slices: Callable[[], Slices]) -> None:
        self._results, self._slices = results, slices
        self.tasks: dict[int, Windows] = {}

    def take(self, number: int, columns: Columns) -> None:
        """A record batch of a partition, whose time is the largest seen."""
        self.count(number, [row.tag for row in map(_tag, columns.values)], columns.timestamps)

    def count(self, number: int, names: Sequence[str], timestamps: Sequence[int]) -> None:
        """Count them, and give out the windows that are over."""
        task = self.tasks.setdefault(number, Windows(self._slices()))
        task.add(names, timestamps)
        task.clocks[0] = max(task.clocks.get(0, 0), *timestamps)
        self.close(task)

    def close(self, task: Windows) -> None:
        """Give out the windows that are over."""
        for start, end, counts in task.close(min(task.clocks.values()) - GRACE_MS):
            values = [_encode(Row(key, start, end, count)) for key, count in counts]
            self._results.add([key.encode() for key, _ in counts], values, [end - 1] * len(counts))


class Trend(Tags):
    """Counts of the hashtags in tweets; rows behind the repartition topic say which partition they come from.

    Those of each partition are in order there. So a window is over when the rows of all partitions are behind it.
    """

    def __init__(self, results: TopicWriter, repartition: TopicWriter) -> None:
        super().__init__(results, lambda: Slices(MINUTE_MS))
        self._repartition = repartition

    def route(self, number: int, columns: Columns) -> None:
        """A record batch of tweets."""
        keys: list[bytes] = []
        timestamps: list[int] = []
        for tweet in map(_tweet, columns.values):
            for tag in HASHTAG.findall(tweet.text.lower()):
                keys.append(tag.encode())
                timestamps.append(tweet.ts)
        self._repartition.add(keys, [bytes((number,))] * len(keys), timestamps)

    def take(self, number: int, columns: Columns) -> None:
        """A record batch of hashtags."""
        task = self.tasks.setdefault(number, Windows(self._slices()))
        task.add(list(map(bytes.decode, columns.keys)), columns.timestamps)
        clocks = task.clocks
        for origin, timestamp in zip(columns.values, columns.timestamps, strict=True):
            if timestamp > clocks.get(origin[0], 0):
                clocks[origin[0]] = timestamp
        if len(clocks) == PARTITIONS:
            self.close(task)


async def run(names: Names, folder: Path) -> None:
    """A run of a job, until the process is killed."""
    once = names.job == "trend-eos"
    consumer = AIOKafkaConsumer(
        *((names.source, names.repartition) if names.job.startswith("trend") else (names.source,)),
        bootstrap_servers=names.broker,
        group_id=names.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed" if once else "read_uncommitted",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=names.broker,
        max_batch_size=BATCH_BYTES,
        transactional_id=names.group if once else None,
        enable_idempotence=True,
    )
    async with consumer, producer:
        if once:
            await producer.begin_transaction()
        await Program(names, consumer, producer, folder, once=once).loop()


class Program:
    """Reads, writes and commits."""

    def __init__(
        self, names: Names, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, folder: Path, *, once: bool
    ) -> None:
        self._names, self._consumer, self._producer, self._once = names, consumer, producer, once
        results, repartition, changelog = (
            TopicWriter(producer, name) for name in (names.results, names.repartition, names.changelog)
        )
        self._writers = (results, repartition, changelog)
        self._job = self._job_of(results, repartition)
        self._store = Store(folder, changelog)

    def _job_of(self, results: TopicWriter, repartition: TopicWriter) -> Pass | Count | Tags | Trend:
        match self._names.job:
            case "pass":
                return Pass(results)
            case "count":
                return Count(results)
            case "tumble":
                return Tags(results, lambda: Slices(MINUTE_MS))
            case "hop":
                return Tags(results, lambda: Sliding(10_000, 5 * MINUTE_MS))
            case _:
                return Trend(results, repartition)

    async def loop(self) -> None:
        """Until the process is killed."""
        due, dirty = time.monotonic() + COMMIT_SECONDS, False
        takes = {self._names.source: self._job.take, self._names.repartition: self._job.take}
        if isinstance(self._job, Trend):
            takes[self._names.source] = self._job.route
        while True:
            for partition, batches in (await self._consumer.getmany(timeout_ms=200)).items():
                dirty = True
                take = takes[partition.topic]
                with collection_paused():
                    for columns in batches:
                        take(partition.partition, columns)
                for writer in self._writers:
                    await writer.send()
            if dirty and time.monotonic() >= due:
                await self._commit()
                due, dirty = time.monotonic() + COMMIT_SECONDS, False

    async def _commit(self) -> None:
        for number, task in self._job.tasks.items():
            self._store.put(number, task.changes())
        for writer in self._writers:
            await writer.flush()
        if self._once:
            positions = {
                partition: await self._consumer.position(partition) for partition in self._consumer.assignment()
            }
            await self._producer.send_offsets_to_transaction(positions, self._names.group)
            await self._producer.commit_transaction()
            await self._producer.begin_transaction()
        else:
            await self._consumer.commit()
        self._store.write()


if __name__ == "__main__":
    fetch_columns()
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(run(Names.told(sys.argv[1]), Path(place) / "state"))
