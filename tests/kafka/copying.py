"""The smallest worker that keeps every promise: it copies records from `in` to `out`, exactly once.

It treats events and errors as the engine does, so that what comes out of a scenario is what an app would see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.requests import NoAnswer, Refused
from streamproc.kafka.timing import Timing
from streamproc.log import (
    Aborted,
    Assigned,
    Chunk,
    Columns,
    Committed,
    Event,
    Fenced,
    LogError,
    Partition,
    Replaced,
    Revoked,
    Sink,
    Source,
    TaskInput,
    Unknown,
)

TIMING = Timing(session=6_000, heartbeat=100, rebalance=6_000, transaction=5_000, request=500)
"""What waits for an answer in vain does so for half a second."""


def rows(*values: str, at_ms: int = 1_700_000_000_000) -> Columns:
    return Columns([None] * len(values), [value.encode() for value in values], [at_ms] * len(values))


class Copier:
    """A worker of a group, one task for each partition; partition n of a topic goes to partition n of the other.

    events   what happened to it, as words
    ended    what ended it for good
    leaving  it was asked to
    """

    def __init__(self, log: KafkaLog, group: str, member: str, topics: tuple[str, str], partitions: int) -> None:
        self.member = member
        self.events: list[str] = []
        self.ended: Exception | None = None
        self.leaving = False
        self._log = log
        self._group = group
        self._from, self._to = topics
        self._inputs = [TaskInput("copy", n, (Partition(self._from, n),)) for n in range(partitions)]
        self._mine: list[Partition] = []
        self._moved: dict[Partition, int] = {}
        """The open epoch: up to where records were read."""
        self._epochs = 0
        self._settled = True
        self._source: Source
        self._sink: Sink

    async def run(self) -> None:
        """Until it is asked to leave, cancelled, replaced or fails; then it leaves what it has."""
        leaves: list[Callable[[], Awaitable[None]]] = []
        try:
            self._source = await self._log.source(self._group, self.member, self._inputs)
            leaves.append(self._source.leave)
            self._sink = await self._log.sink(self._source, self.member)
            leaves.append(self._sink.close)
            while not self.leaving:
                await self._turn(50)
        except Exception as error:  # noqa: BLE001 - whatever it is, a test looks at it
            self.ended = error
        finally:
            for leave in reversed(leaves):
                with suppress(LogError):
                    await leave()

    async def _turn(self, timeout_ms: int) -> None:
        """One round: what there is, copied and committed."""
        try:
            if not self._settled:
                await self._settle()
            for event in await self._source.poll(self._mine, timeout_ms):
                await self._heed(event)
            await self._commit()
        except Replaced:
            raise
        except Fenced as error:
            self._fail(error)
            self._mine = []
        except (Aborted, Unknown) as error:
            self._fail(error)
        except (NoAnswer, Refused) as error:
            if self._settled:
                raise
            self._fail(error)

    async def _heed(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self._sink.send(Partition(self._to, event.partition.number), event.columns)
            self._moved[event.partition] = event.next_offset
        elif isinstance(event, Revoked):
            self.events.append("revoked")
            await self._commit()
            self._mine = []
            await self._source.release()
        elif isinstance(event, Assigned):
            self._mine = [Partition(self._from, number) for _, number in sorted(event.tasks)]
            self.events.append(f"assigned {[number for _, number in self._mine]}")

    async def _commit(self) -> None:
        if self._moved:
            self._epochs += 1
            offsets = {p: Committed(offset, f"{self.member}-{self._epochs}") for p, offset in self._moved.items()}
            await self._sink.commit(offsets)
            self._moved.clear()

    async def _settle(self) -> None:
        """Nothing of the last epoch is in doubt; back to what is committed."""
        await self._sink.abort()
        committed = await self._source.committed(self._mine)
        first = await self._source.first_offsets([p for p in self._mine if p not in committed])
        for partition in self._mine:
            self._source.seek(partition, committed[partition].offset if partition in committed else first[partition])
        self._settled = True

    def _fail(self, error: LogError) -> None:
        self.events.append(f"{type(error).__name__}: {error.args[0]}")
        self._moved.clear()
        self._settled = False


async def write(log: KafkaLog, records: Mapping[Partition, Sequence[str]], member: str = "writer") -> None:
    """Another program writes records; when this returns, the marker behind them is there too."""
    sink = await log.sink(None, member)
    for partition, values in records.items():
        sink.send(partition, rows(*values))
    await sink.commit({})
    await sink.close()
    await settled(log, *records)


async def settled(log: KafkaLog, *partitions: Partition) -> Mapping[Partition, int]:
    """Nothing is open in these partitions; where they end then."""
    async with asyncio.timeout(60):
        while True:
            stable, ends = await log.bounds("stable", partitions), await log.ends(partitions)
            if stable == ends:
                return ends
            await asyncio.sleep(0.01)


async def content(log: KafkaLog, partition: Partition) -> list[str]:
    """All committed records of a partition, when nothing is open in it."""
    position, values = (await log.bounds("first", [partition]))[partition], []
    end = (await settled(log, partition))[partition]
    while position < end:
        chunk = await log.read(partition, position, 100_000)
        values += [(value or b"").decode() for value in chunk.columns.values]
        assert chunk.next_offset > position
        position = chunk.next_offset
    return values
