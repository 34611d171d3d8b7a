"""Records on their way to their partitions' leaders: numbered, repeated until acknowledged, in order, once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from streamproc.kafka.calls import LATER_S, PASSING, Deadline, pause_s, together
from streamproc.kafka.requests import Batch, Cluster, Code, NoAnswer, Produce, Produced, Producer, Refused, Stamped
from streamproc.log import Columns, Partition

REQUEST_BYTES: Final = 8 << 20
"""How much is sent in one request: a leader takes up to `socket.request.max.bytes`, by default 100 MiB."""

_TOO_LARGE: Final = (Code.MESSAGE_TOO_LARGE, Code.RECORD_LIST_TOO_LARGE)
_PASSING: Final = PASSING | {Code.UNKNOWN_TOPIC_OR_PARTITION}
"""A new topic is not known everywhere at once."""


class _Queue:
    """The records of one partition; what is packed begins behind those that are acknowledged."""

    def __init__(self) -> None:
        self.columns = Columns([], [], [])
        self.acknowledged = 0
        self.batches: deque[Batch] = deque()

    def pack(self, cluster: Cluster, most: int | None) -> None:
        """What is not acknowledged, as batches of `most` records."""
        count = len(self.columns)
        step = most or count
        self.batches.clear()
        for start in range(self.acknowledged, count, step):
            self.batches.extend(cluster.pack(self.columns.cut(start, min(start + step, count))))


class Outbox:
    """The records of one epoch, by partition, and the producer that sends them. One request a leader at a time."""

    def __init__(self, cluster: Cluster, transactional_id: str | None, answer_s: float) -> None:
        self._cluster = cluster
        self._transactional_id = transactional_id
        self._answer_s = answer_s
        self._queues: dict[Partition, _Queue] = {}
        self._sequences: dict[Partition, int] = {}
        self._most: dict[Partition, int] = {}
        """How many records a batch may have, where larger ones were refused."""

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, partition: Partition, columns: Columns) -> None:
        """Queue records; the columns stay the caller's."""
        if len(columns):
            self._queues.setdefault(partition, _Queue()).columns.extend(columns)

    def clear(self) -> None:
        """Drop what waits."""
        self._queues.clear()

    def number_anew(self) -> None:
        """Number the next records from 0: the producer's epoch is another."""
        self._sequences.clear()

    async def flush(self, producer: Producer, deadline: Deadline) -> Mapping[Partition, int]:
        """All that waits is acknowledged; returns the offset behind the last record of each partition.

        Raises Refused and NoAnswer when nothing is under way any more; some records may have been written.
        """
        ends: dict[Partition, int] = {}
        for partition, queue in self._queues.items():
            queue.pack(self._cluster, self._most.get(partition))
        while self._queues:
            groups = self._cluster.led_together(sorted(self._queues))
            for answers in await together(self._send(group, producer, deadline) for group in groups):
                ends.update(answers)
        return ends

    async def _send(
        self, partitions: Sequence[Partition], producer: Producer, deadline: Deadline
    ) -> Mapping[Partition, int]:
        """One request: the next batch of each of these partitions, as many as fit into it."""
        batches, size = {}, 0
        for partition in partitions:
            batch = self._queues[partition].batches[0]
            if size and size + batch.size > REQUEST_BYTES:
                break
            size += batch.size
            batches[partition] = Stamped(batch, producer, self._sequences.get(partition, 0))
        request = Produce(self._transactional_id, batches)
        try:
            answers = await self._cluster.send(request, deadline.at_most(self._answer_s))
        except NoAnswer:  # it may have arrived: by their numbers the broker knows records that come again
            if deadline.over:
                raise
            await asyncio.sleep(LATER_S)
            return {}
        except Refused as error:
            answers = dict.fromkeys(batches, Produced(error.code, -1, error.detail))
        ends, pause = {}, 0.0
        for partition, answer in answers.items():
            if answer.code == Code.NONE:
                ends[partition] = self._acknowledged(partition, answer)
            else:
                pause = max(pause, self._refused(partition, answer, deadline))
        await asyncio.sleep(pause)
        return ends

    def _acknowledged(self, partition: Partition, answer: Produced) -> int:
        queue = self._queues[partition]
        count = queue.batches.popleft().count
        queue.acknowledged += count
        if not queue.batches:
            del self._queues[partition]
        self._sequences[partition] = self._sequences.get(partition, 0) + count
        return answer.offset + count

    def _refused(self, partition: Partition, answer: Produced, deadline: Deadline) -> float:
        """How long to wait before records are sent again; raises where that would be of no use."""
        queue, name = self._queues[partition], f"{partition.topic}/{partition.number}"
        what = f"records for {name}"
        if answer.code in _TOO_LARGE:
            count, size = queue.batches[0].count, queue.batches[0].size
            if count > 1:
                self._most[partition] = count // 2
                queue.pack(self._cluster, count // 2)
                return 0.0
            what = f"a record for {name}, of {size:,} bytes"
        if answer.code not in _PASSING or deadline.over:
            raise Refused(answer.code, what, answer.detail)
        return pause_s(answer.code)
