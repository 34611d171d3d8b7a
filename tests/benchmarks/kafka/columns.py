"""aiokafka's fetches as columns, and columns as its record batches: what `getmany` and `send` cost is saved.

Uses private parts of aiokafka 0.14 and replaces one of its classes: for the process of a benchmark.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import aiokafka.consumer.fetcher
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException

from streamproc.murmur2 import partition_of
from tests.benchmarks.inputs import PARTITIONS


class Columns(NamedTuple):
    """The records of a record batch."""

    keys: list[bytes]
    values: list[bytes]
    timestamps: list[int]


class ColumnRecords(PartitionRecords):  # type: ignore[misc]  # aiokafka is not typed
    """What `getmany` gives of a partition: one Columns a record batch, where the original gives its records."""

    def _unpack_records(self) -> Iterator[Columns]:
        committed = self._isolation_level == READ_COMMITTED
        while self._records.has_next():
            batch = self._records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if (committed and self._aborted(batch)) or batch.is_control_batch:
                self.next_fetch_offset = batch.next_offset
                continue
            begin = self.next_fetch_offset
            records = list(batch)
            if batch.base_offset < begin:  # a fetch begins with the batch that its position is in
                records = [record for record in records if record.offset >= begin]
            self.next_fetch_offset = batch.next_offset
            yield Columns([r.key for r in records], [r.value for r in records], [r.timestamp for r in records])

    def _aborted(self, batch: Any) -> bool:
        if batch.producer_id is None:
            return False
        self._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and self._contains_abort_marker(batch):
            self._aborted_producers.discard(batch.producer_id)
        return batch.is_transactional and batch.producer_id in self._aborted_producers


def fetch_columns() -> None:
    """From now on, every consumer of this process gives columns."""
    aiokafka.consumer.fetcher.PartitionRecords = ColumnRecords


class TopicWriter:
    """A topic that takes columns: one open record batch a partition, and a partition computed once a key."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._numbers: dict[bytes, int] = {}
        self._open: list[Any] = [producer.create_batch() for _ in range(PARTITIONS)]
        self._append = [batch._builder.append for batch in self._open]
        self._counts = [0] * PARTITIONS
        self._full: list[tuple[int, Any]] = []
        self._sent: list[asyncio.Future[object]] = []

    def add(self, keys: Sequence[bytes], values: Sequence[bytes | None], timestamps: Sequence[int]) -> None:
        """Append records, each to the partition of its key."""
        numbers = self._numbers
        for key in set(keys) - numbers.keys():
            numbers[key] = partition_of(key, PARTITIONS)
        self.add_to(list(map(numbers.__getitem__, keys)), keys, values, timestamps)

    def add_to(
        self,
        partitions: Sequence[int],
        keys: Sequence[bytes],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
    ) -> None:
        """Append records to these partitions."""
        append, counts = self._append, self._counts
        no_headers: list[tuple[str, bytes]] = []
        for number, key, value, timestamp in zip(partitions, keys, values, timestamps, strict=True):
            if append[number](counts[number], timestamp, key, value, no_headers) is None:
                self._close(number)
                append[number](0, timestamp, key, value, no_headers)
            counts[number] += 1

    async def send(self) -> None:
        """What is full is on its way."""
        full, self._full = self._full, []
        for number, batch in full:
            self._sent.append(await self._producer.send_batch(batch, self._topic, partition=number))

    async def flush(self) -> None:
        """All that was added is on the broker."""
        for number, count in enumerate(self._counts):
            if count:
                self._close(number)
        await self.send()
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)

    def _close(self, number: int) -> None:
        batch = self._open[number]
        batch._relative_offset = self._counts[number]  # which its own `append` counts
        batch.close()
        self._full.append((number, batch))
        self._open[number] = batch = self._producer.create_batch()
        self._append[number], self._counts[number] = batch._builder.append, 0
