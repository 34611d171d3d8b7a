"""Two topics, a group between them, and its workers, each behind a door at which a test may meddle."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.kafka_sink import KafkaSink
from streamproc.kafka.kafka_source import KafkaSource
from streamproc.kafka.timing import Timing
from streamproc.log import Assigned, Chunk, Committed, Event, LogError, Partition, Revoked, TaskInput
from tests.kafka.copying import TIMING, content, rows, write
from tests.kafka.meddling import Meddled
from tests.simulation.bench import Bench

E = TypeVar("E", bound=Event)

PATIENCE_S = 30.0
FOREVER = {"retention.ms": "-1"}


class Worker:
    """A member of the stage's group: source and sink, and the door that they go through."""

    def __init__(self, stage: Stage, name: str, cluster: Meddled, timing: Timing) -> None:
        self.stage = stage
        self.name = name
        self.cluster = cluster
        self.log = KafkaLog(cluster, timing)
        self.sink: KafkaSink
        self._source: KafkaSource | None = None

    @property
    def source(self) -> KafkaSource:
        assert self._source is not None, "it has not joined"
        return self._source

    async def join(self, *, exactly_once: bool = True) -> Worker:
        await self.join_without_sink()
        self.sink = await self.log.sink(self.source, self.name, exactly_once=exactly_once)
        return self

    async def join_without_sink(self, tasks: Sequence[TaskInput] | None = None) -> Worker:
        self._source = await self.log.source(self.stage.group, self.name, tasks or self.stage.tasks)
        return self

    async def leave(self) -> None:
        """It is not in the group, and its log is closed."""
        if self._source is not None:
            with suppress(LogError):
                await self._source.leave()
        await self.log.close()

    async def told(self, kind: type[E]) -> E:
        """The next event, which is of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            while not (events := await self.source.poll([], 1_000)):
                pass
        (event,) = events
        assert isinstance(event, kind), event
        return event

    async def assigned(self) -> set[int]:
        return {number for _, number in (await self.told(Assigned)).tasks}

    async def revoked(self) -> None:
        await self.told(Revoked)

    async def chunk(self, number: int = 0) -> Chunk:
        """The next records of a partition of `in`."""
        async with asyncio.timeout(PATIENCE_S):
            while not (events := await self.source.poll([self.stage.inputs[number]], 1_000)):
                pass
        (event,) = events
        assert isinstance(event, Chunk), event
        return event

    def send(self, *values: str, to: int = 0) -> None:
        self.sink.send(self.stage.outputs[to], rows(*values, at_ms=self.stage.bench.now_ms))

    async def commit(self, *values: str, at: int, of: int = 0, to: int = 0) -> int | None:
        """One epoch: these records, and an offset. The offset behind the records."""
        if values:
            self.send(*values, to=to)
        ends = await self.sink.commit({self.stage.inputs[of]: Committed(at, f"{self.name}-{at}")})
        return ends.get(self.stage.outputs[to])


class Stage:
    """Topics `in` and `out` of so many partitions."""

    def __init__(self, bench: Bench, outside: KafkaLog, partitions: int) -> None:
        self.bench = bench
        self.outside = outside
        self.group = bench.name("group")
        self.inputs = [Partition(bench.name("in"), number) for number in range(partitions)]
        self.outputs = [Partition(bench.name("out"), number) for number in range(partitions)]
        self.tasks = [TaskInput("copy", number, (partition,)) for number, partition in enumerate(self.inputs)]
        self.workers: list[Worker] = []

    @classmethod
    async def set_up(cls, bench: Bench, partitions: int = 2, **config: str) -> Stage:
        """The topics are there; `config`, with dots as underscores, is that of `out`."""
        stage = cls(bench, KafkaLog(await bench.client("outside"), TIMING), partitions)
        await stage.outside.create(stage.inputs[0].topic, partitions=partitions, config=FOREVER)
        settings = {name.replace("_", "."): value for name, value in config.items()}
        await stage.outside.create(stage.outputs[0].topic, partitions=partitions, config=FOREVER | settings)
        return stage

    async def worker(self, name: str = "a", timing: Timing = TIMING) -> Worker:
        """One that has not joined."""
        worker = Worker(self, name, Meddled(await self.bench.client(name)), timing)
        self.workers.append(worker)
        return worker

    async def alone(self, name: str = "a", timing: Timing = TIMING) -> Worker:
        """One that has all tasks."""
        worker = await (await self.worker(name, timing)).join()
        assert await worker.assigned() == set(range(len(self.inputs)))
        return worker

    async def feed(self, *values: str, to: int = 0) -> None:
        await write(self.outside, {self.inputs[to]: values}, self.bench.name("feed"))

    async def out(self, number: int = 0) -> list[str]:
        """What a reader of committed records sees, when nothing is open any more."""
        return await content(self.outside, self.outputs[number])

    async def committed(self, number: int = 0) -> int | None:
        """The stable offset of the group in a partition of `in`."""
        worker = self.workers[0] if self.workers else await self.worker()
        partition = self.inputs[number]
        found = await worker.log._offsets.stable(self.group, [partition])
        return found[partition].offset if partition in found else None

    async def close(self) -> None:
        """Nobody is left in the group."""
        for worker in self.workers:
            await worker.leave()
        await self.outside.close()
