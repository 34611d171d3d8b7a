"""A log that notes what passes the door between a worker and it: what the worker waits for, has, and commits.

So whoever watches a worker needs nothing from inside it: all that a worker can hang on is a call of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, runtime_checkable

from streamproc.log import (
    Assigned,
    Chunk,
    Committed,
    Event,
    Fenced,
    GroupView,
    Log,
    LogError,
    Partition,
    Revoked,
    Sink,
    Source,
    TaskInput,
    Topic,
)


@runtime_checkable
class Remote(Protocol):
    """A source whose log is elsewhere, and may not answer."""

    @property
    def unanswered_s(self) -> float:
        """For how long it has not answered though it was asked."""

    @property
    def held_up(self) -> Mapping[Partition, int]:
        """The partitions that a transaction which is open holds up, and from which offset on."""

    @property
    def outvoted(self) -> bool:
        """Whether it has no tasks because most workers of the group run another plan."""


class Call(NamedTuple):
    """A call of the log under way, and since when, on the event loop's clock."""

    name: str
    since: float


class Traffic:
    """What has passed the door. Of the event loop's thread alone."""

    def __init__(self) -> None:
        self.assigned: frozenset[tuple[str, int]] | None = None
        """The tasks it was told last; None: it is not in the group, or the group changes."""
        self.was_assigned = False
        """Whether it was told any tasks, or none, before."""
        self.leaving = False
        """Whether it leaves, or has left, the group."""
        self.offered: frozenset[tuple[str, int]] = frozenset()
        """The tasks of the worker's plan."""
        self.commits = 0
        self.commit_error: LogError | None = None
        """Why the last commit failed; None: it did not."""
        self.source: Source | None = None
        self._calls: dict[object, Call] = {}

    @property
    def calls(self) -> list[Call]:
        """The calls under way, the oldest first."""
        return sorted(self._calls.values(), key=lambda call: call.since)

    @property
    def unanswered_s(self) -> float:
        """For how long the log has not answered though it was asked for records."""
        return self.source.unanswered_s if isinstance(self.source, Remote) else 0.0

    @property
    def held_up(self) -> Mapping[Partition, int]:
        """The partitions that are read and held up by a transaction which is open, and from which offset on."""
        return self.source.held_up if isinstance(self.source, Remote) else {}

    @property
    def outvoted(self) -> bool:
        """Whether it has no tasks because most workers of the group run another plan."""
        return isinstance(self.source, Remote) and self.source.outvoted

    @contextmanager
    def under_way(self, name: str) -> Iterator[None]:
        """A call is under way within it."""
        token = object()
        self._calls[token] = Call(name, asyncio.get_running_loop().time())
        try:
            yield
        finally:
            del self._calls[token]

    def told(self, events: Sequence[Event]) -> None:
        """The worker was told something by its group."""
        for event in events:
            if isinstance(event, Assigned):
                self.assigned, self.was_assigned = event.tasks, True
                self.commit_error = None
            elif isinstance(event, Revoked):
                self.assigned = None


class WatchedLog:
    """A log, and in `traffic` what passes its door."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.traffic = Traffic()

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        with self.traffic.under_way("topics"):
            return await self.log.topics(describe)

    async def create(self, name: str, *, partitions: int, config: Mapping[str, str]) -> None:
        with self.traffic.under_way(f"create {name}"):
            await self.log.create(name, partitions=partitions, config=config)

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        with self.traffic.under_way(f"read {partition.topic}/{partition.number}"):
            return await self.log.read(partition, offset, limit)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        with self.traffic.under_way("end offsets"):
            return await self.log.ends(partitions)

    async def source(
        self, group: str, member: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b""
    ) -> Source:
        with self.traffic.under_way("join the group"):
            source = await self.log.source(group, member, tasks, plan=plan, shared=shared)
        self.traffic.source = source
        self.traffic.offered = frozenset((task.stage, task.number) for task in tasks)
        return _WatchedSource(source, self.traffic)

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> Sink:
        inner = source.source if isinstance(source, _WatchedSource) else source
        with self.traffic.under_way("take the transactional id"):
            sink = await self.log.sink(inner, member, exactly_once=exactly_once)
        return _WatchedSink(sink, self.traffic)

    async def committed(self, group: str) -> Mapping[Partition, Committed]:
        with self.traffic.under_way("committed offsets"):
            return await self.log.committed(group)

    async def group(self, group: str) -> GroupView:
        with self.traffic.under_way("look at the group"):
            return await self.log.group(group)

    async def purge(self, before: Mapping[Partition, int]) -> None:
        with self.traffic.under_way("purge"):
            await self.log.purge(before)

    async def forget(self, group: str, topics: Collection[str]) -> None:
        with self.traffic.under_way("forget the group"):
            await self.log.forget(group, topics)

    async def close(self) -> None:
        with self.traffic.under_way("close"):
            await self.log.close()


class _WatchedSource:
    def __init__(self, source: Source, traffic: Traffic) -> None:
        self.source = source
        self._traffic = traffic
        self.seek = source.seek
        self.at_end = source.at_end

    async def poll(self, partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
        try:
            with self._traffic.under_way("poll"):
                events = await self.source.poll(partitions, timeout_ms)
        except Fenced:
            self._traffic.assigned = None
            raise
        self._traffic.told(events)
        return events

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        with self._traffic.under_way("committed offsets"):
            return await self.source.committed(partitions)

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        with self._traffic.under_way("first offsets"):
            return await self.source.first_offsets(partitions)

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        with self._traffic.under_way("end offsets"):
            return await self.source.end_offsets(partitions)

    async def note(self, offsets: Mapping[Partition, Committed | None]) -> None:
        await self.source.note(offsets)  # nobody waits for it

    async def release(self) -> None:
        with self._traffic.under_way("give up tasks"):
            await self.source.release()

    async def leave(self) -> None:
        self._traffic.assigned, self._traffic.leaving = None, True
        with self._traffic.under_way("leave the group"):
            await self.source.leave()

    async def fail(self, reason: str) -> None:
        with self._traffic.under_way("tell the group to stop"):
            await self.source.fail(reason)


class _WatchedSink:
    def __init__(self, sink: Sink, traffic: Traffic) -> None:
        self._sink = sink
        self._traffic = traffic
        self.send = sink.send

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        traffic = self._traffic
        try:
            with traffic.under_way("commit"):
                ends = await self._sink.commit(offsets)
        except LogError as error:
            traffic.commit_error = error
            if isinstance(error, Fenced):
                traffic.assigned = None
            raise
        traffic.commits += 1
        traffic.commit_error = None
        return ends

    async def abort(self) -> None:
        with self._traffic.under_way("abort"):
            await self._sink.abort()

    async def close(self) -> None:
        with self._traffic.under_way("close"):
            await self._sink.close()
