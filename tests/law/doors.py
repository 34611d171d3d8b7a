"""Doors of the world, each call of which may be a worker's last: proxies that raise Crash before or behind the call."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from streamproc.jobs import Job
from streamproc.log import Chunk, Columns, Committed, Event, Partition, TaskInput, Topic
from streamproc.memory_log import MemoryLog
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Store
from streamproc.testing.replay import run_now
from streamproc.testing.stepped_jobs import SteppedJobs
from tests.law.doubts import Doubts

T = TypeVar("T")


class Crash(BaseException):
    """The process of a worker ends here."""


class Doors:
    """Counts a worker's calls. Moments are numbered: 2 * call before it, 2 * call + 1 behind it.

    happens   what happens at a moment, once: it may raise Crash
    before    what happens before the next call of a name, once
    """

    def __init__(self, happens: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.happens = dict(happens or {})
        self.before: dict[str, Callable[[], None]] = {}
        self.calls: list[str] = []
        self.dead = False

    @property
    def now(self) -> int:
        """The next moment."""
        return 2 * len(self.calls)

    def crash(self) -> None:
        """The worker ends here."""
        self.dead = True
        raise Crash

    def moment(self, name: str) -> None:
        """Before a call."""
        self.calls.append(name)
        self.before.pop(name, _nothing)()
        self._pass(2 * (len(self.calls) - 1))

    def passed(self) -> None:
        """Behind a call."""
        self._pass(2 * (len(self.calls) - 1) + 1)

    def _pass(self, moment: int) -> None:
        if self.dead:
            raise Crash
        self.happens.pop(moment, _nothing)()
        if self.dead:
            raise Crash

    def call(self, name: str, f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A call that does not wait."""
        self.moment(name)
        result = f(*args, **options)
        self.passed()
        return result

    async def wait(self, name: str, f: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """A call that may."""
        self.moment(name)
        result = await f(*args, **options)
        self.passed()
        return result


def _nothing() -> None:
    """Most moments pass."""


class DoorLog:
    """A worker's view of a log."""

    def __init__(self, log: MemoryLog, doors: Doors, doubts: Doubts) -> None:
        self.log = log
        self.doors = doors
        self.doubts = doubts

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        return await self.doors.wait("log.topics", self.log.topics, describe)  # type: ignore[no-any-return]

    async def create(self, name: str, *, partitions: int, config: Mapping[str, str]) -> None:
        await self.doors.wait("log.create", self.log.create, name, partitions=partitions, config=config)

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        limit = min(limit, self.doubts.most())
        chunk: Chunk = await self.doors.wait("log.read", self.log.read, partition, offset, limit)
        return self.doubts.visible(chunk, offset)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self.doors.wait("log.ends", self.log.ends, partitions)  # type: ignore[no-any-return]

    async def source(
        self, group: str, member: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b""
    ) -> DoorSource:
        real = await self.doors.wait("log.source", self.log.source, group, member, tasks, plan=plan, shared=shared)
        return DoorSource(real, self.doors, self.doubts)

    async def sink(self, source: Any, member: str, *, exactly_once: bool = True) -> DoorSink:
        real = source.source if isinstance(source, DoorSource) else source
        sink = await self.doors.wait("log.sink", self.log.sink, real, member)
        self.doubts.decide(sink.name)
        return DoorSink(sink, self.doors, self.doubts)

    async def committed(self, group: str) -> Mapping[Partition, Committed]:
        return await self.doors.wait("log.committed", self.log.committed, group)  # type: ignore[no-any-return]

    async def purge(self, before: Mapping[Partition, int]) -> None:
        await self.doors.wait("log.purge", self.log.purge, before)

    async def close(self) -> None:
        """The log is not this worker's alone."""


class DoorSource:
    def __init__(self, source: Any, doors: Doors, doubts: Doubts) -> None:
        self.source = source
        self.doors = doors
        self.doubts = doubts

    async def poll(self, partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
        return await self.doors.wait("source.poll", self.source.poll, partitions, timeout_ms)  # type: ignore[no-any-return]

    def seek(self, partition: Partition, offset: int) -> None:
        self.doors.call("source.seek", self.source.seek, partition, offset)

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        self.doubts.stable(partitions)
        return await self.doors.wait("source.committed", self.source.committed, partitions)  # type: ignore[no-any-return]

    async def note(self, offsets: Mapping[Partition, Committed | None]) -> None:
        await self.doors.wait("source.note", self.doubts.note, self.source, offsets)

    def at_end(self, partitions: Collection[Partition]) -> Collection[Partition]:
        return self.source.at_end(partitions)  # type: ignore[no-any-return]

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self.doors.wait("source.first_offsets", self.source.first_offsets, partitions)  # type: ignore[no-any-return]

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self.doors.wait("source.end_offsets", self.source.end_offsets, partitions)  # type: ignore[no-any-return]

    async def release(self) -> None:
        await self.doors.wait("source.release", self.source.release)

    async def leave(self) -> None:
        await self.doors.wait("source.leave", self.source.leave)

    async def fail(self, reason: str) -> None:
        await self.doors.wait("source.fail", self.source.fail, reason)


class DoorSink:
    def __init__(self, sink: Any, doors: Doors, doubts: Doubts) -> None:
        self.sink = sink
        self.doors = doors
        self.doubts = doubts

    def send(self, partition: Partition, columns: Columns) -> None:
        self.doors.call("sink.send", self.sink.send, partition, columns)

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        dies = self.doors.crash
        return await self.doors.wait("sink.commit", self.doubts.commit, self.sink, offsets, dies=dies)  # type: ignore[no-any-return]

    async def abort(self) -> None:
        await self.doors.wait("sink.abort", self.doubts.abort, self.sink)

    async def close(self) -> None:
        await self.doors.wait("sink.close", self.sink.close)


class DoorDisk:
    """A worker's view of a disk."""

    def __init__(self, disk: MemoryDisk, doors: Doors) -> None:
        self.disk = disk
        self.doors = doors

    def open(self, name: str, *, beside: bool = False) -> DoorStore:
        return DoorStore(self.doors.call("disk.open", self.disk.open, name, beside=beside), self.doors)

    def wipe(self, name: str) -> None:
        self.doors.call("disk.wipe", self.disk.wipe, name)


class DoorStore:
    def __init__(self, store: Store, doors: Doors) -> None:
        self.store = store
        self.doors = doors

    @property
    def position(self) -> int | None:
        return self.store.position

    @property
    def size_bytes(self) -> int:
        return self.store.size_bytes

    def get(self, key: bytes) -> bytes | None:
        return self.doors.call("store.get", self.store.get, key)  # type: ignore[no-any-return]

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(self.doors.call("store.scan", lambda: list(self.store.scan(start, end))))

    def write(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        self.doors.call("store.write", self.store.write, changes, position)

    def clear(self) -> None:
        self.doors.call("store.clear", self.store.clear)

    def close(self) -> None:
        self.doors.call("store.close", self.store.close)


class DoorJobs(SteppedJobs):
    """A worker's jobs, which end with it where they are; how far they go on each time is drawn."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(lambda ms: ms == 0 and rng.random() < 0.8)
        self._started: list[Job[Any]] = []

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        job = super().start(work)
        self._started = [before for before in self._started if not before.done()]
        self._started.append(job)
        return job

    def die(self) -> None:
        """The worker is dead: its jobs do nothing any more, and give nothing back."""
        for job in self._started:
            with suppress(Crash):
                run_now(self.end([job]))
