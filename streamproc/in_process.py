"""A log within one process: topics, groups and epochs over a `Records`, which says where the records are kept.

`memory://` and `local://` are this with different `Records`. All of it runs in one event loop and nothing but `poll`
ever waits, so that with `timeout_ms=0` every coroutine here runs to its end when it is first sent None.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

from streamproc.group import Group, Member
from streamproc.log import (
    Assigned,
    Chunk,
    Columns,
    Committed,
    Event,
    Fenced,
    GroupFailed,
    GroupView,
    LogError,
    MemberView,
    OffsetOutOfRange,
    Partition,
    Replaced,
    Source,
    TaskInput,
    Topic,
    UnknownTopic,
)

CHUNK_RECORDS = 10_000
"""How many records of a partition one poll gives at most, by default."""

_TOPIC_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Records(Protocol):
    """The topics, records and committed offsets of a log. One owner, one thread; calls never overlap.

    Partitions given exist and offsets are within `bounds`: the caller has looked.
    """

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""

    def create(self, name: str, topic: Topic) -> None:
        """Add a topic that is not there."""

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record."""

    def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` records, one at least, from an offset before the end, in lists of the caller's own."""

    def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What the group has committed."""

    def write(
        self, records: Mapping[Partition, Columns], group: str, offsets: Mapping[Partition, Committed | None]
    ) -> None:
        """Append the records and move the group's offsets (None: there is none any more), all or nothing."""

    def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are gone."""

    def forget(self, group: str, topics: Collection[str]) -> None:
        """What the group has committed is gone, and so are these topics, which exist; all or nothing."""

    def close(self) -> None:
        """Give everything back; a second call does nothing."""


def with_offsets(
    committed: Mapping[Partition, Committed], offsets: Mapping[Partition, Committed | None]
) -> dict[Partition, Committed]:
    """What a group has committed once these offsets are.

    >>> p, q = Partition("tweets", 0), Partition("tweets", 1)
    >>> with_offsets({p: Committed(1, "")}, {p: None, q: Committed(2, "")})
    {Partition(topic='tweets', number=1): Committed(offset=2, metadata='')}
    """
    return {partition: at for partition, at in {**committed, **offsets}.items() if at is not None}


class InProcessLog:
    """The Log protocol over a `Records`; an open epoch lives in its sink, so `ends` are the stable ends too.

    `chunk_records` is how many records of a partition one poll gives at most, or a function asked for each partition
    and poll (0: nothing of the partition this time), with which a simulation draws the batches.
    """

    def __init__(self, records: Records, *, chunk_records: int | Callable[[], int] = CHUNK_RECORDS) -> None:
        self._records = records
        self._chunk_records = chunk_records if callable(chunk_records) else lambda: chunk_records
        self._groups: dict[str, Group] = {}
        self._sinks: WeakValueDictionary[tuple[str, str], InProcessSink] = WeakValueDictionary()
        """The last sink of each member of a group, of those that somebody still has."""
        self._waiting: set[asyncio.Event] = set()
        self._closed = False

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        """All topics by name, with their configuration."""
        return dict(self.records().topics())

    async def create(self, name: str, *, partitions: int, config: Mapping[str, str]) -> None:
        """A topic of this name exists; one that is there is left as it is. Names are those that Kafka allows."""
        if name in self.records().topics():
            return
        if not _TOPIC_NAME.fullmatch(name) or name in (".", ".."):
            msg = f"{name!r} is no name for a topic: use 1 to 249 letters, digits, '.', '_' and '-'"
            raise LogError(msg)
        if partitions < 1:
            msg = f"topic {name!r} needs at least one partition, not {partitions}"
            raise LogError(msg)
        self._records.create(name, Topic(partitions, dict(config)))

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` committed records from an offset; possibly none. Raises OffsetOutOfRange."""
        self.check(partition)
        return self.chunk(partition, offset, limit)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offset behind the last record of each partition."""
        return {partition: self.bounds(partition)[1] for partition in partitions}

    async def source(
        self, group: str, member: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b""
    ) -> InProcessSource:
        """Join a group; a member of the same name is replaced and its tasks pass over."""
        for task in tasks:
            for partition in task.partitions:
                self.check(partition)
        coordinator = self._groups.setdefault(group, Group(group))
        source = InProcessSource(self, coordinator, partial(coordinator.join, member, tasks, plan=plan, shared=shared))
        self.wake()
        return source

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> InProcessSink:
        """Begin writing; with a source, which must be of this log, offsets are committed under its membership.

        An epoch is one write, so that without `exactly_once` nothing is different.
        """
        self.records()
        if source is not None and not (isinstance(source, InProcessSource) and source.log is self):
            msg = f"the source given for the sink of {member!r} is of another log: use the log that gave the source"
            raise LogError(msg)
        sink = InProcessSink(self, source, member)
        before = self._sinks.get(sink.name)
        if before is not None:
            before.fence()
        self._sinks[sink.name] = sink
        return sink

    async def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What a group has committed, without joining it."""
        return dict(self.records().committed(group))

    async def group(self, group: str) -> GroupView:
        """Who is in a group, in this process: a log that is open for reading only sees nobody."""
        self.records()
        coordinator = self._groups.get(group)
        if coordinator is None:
            return GroupView(changing=False, members=())
        members = [MemberView(member.name, "", member.tasks) for member in coordinator.members.values()]
        return GroupView(coordinator.changing, members)

    async def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are gone; an offset behind the end means all there are."""
        trimmed = {}
        for partition, offset in before.items():
            start, end = self.bounds(partition)
            if offset > start:
                trimmed[partition] = min(offset, end)
        if trimmed:
            self._records.purge(trimmed)

    async def forget(self, group: str, topics: Collection[str]) -> None:
        """What the group has committed is gone, and so are these topics. Raises LogError while it has members."""
        known = self.records().topics()
        coordinator = self._groups.get(group)
        if coordinator is not None and coordinator.members:
            msg = f"group {group!r} has members, {', '.join(sorted(coordinator.members))}: stop them first"
            raise LogError(msg)
        self._records.forget(group, [name for name in topics if name in known])

    def expel(self, group: str, member: str) -> None:
        """The member counts as dead: it is fenced and its tasks go to others, as after a session time-out."""
        self._groups[group].remove(member)
        self.wake()

    async def close(self) -> None:
        """Give the log back; what still polls it is told."""
        if not self._closed:
            self._closed = True
            self.wake()
            self._records.close()

    # For the sources and sinks of this log.

    def records(self) -> Records:
        """The records of a log that is open."""
        if self._closed:
            msg = "the log is closed: open it again to go on"
            raise LogError(msg)
        return self._records

    def check(self, partition: Partition) -> None:
        """Raise UnknownTopic unless there is such a partition."""
        topics = self.records().topics()
        topic = topics.get(partition.topic)
        if topic is None or not 0 <= partition.number < topic.partitions:
            raise UnknownTopic(partition.topic, topics, partition.number)

    def chunk(self, partition: Partition, offset: int, limit: int | None = None) -> Chunk:
        """The next chunk of a partition that exists; without a limit, as large as a poll gives it."""
        start, end = self._records.bounds(partition)
        if not start <= offset <= end:
            raise OffsetOutOfRange(partition, offset, start, end)
        limit = self._chunk_records() if limit is None else limit
        if offset == end or limit < 1:
            return Chunk(partition, range(offset, offset), offset, Columns([], [], []))
        return self._records.read(partition, offset, limit)

    def start(self, group: str, partition: Partition) -> int:
        """Where a group begins to read: its committed position, else the first record."""
        committed = self._records.committed(group).get(partition)
        return self._records.bounds(partition)[0] if committed is None else committed.offset

    async def changed(self) -> None:
        """Wait until something was committed or a membership changed."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        for event in self._waiting:
            event.set()

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record. Raises UnknownTopic."""
        self.check(partition)
        return self._records.bounds(partition)


class InProcessSource:
    """A worker's membership of a group of an `InProcessLog`."""

    def __init__(self, log: InProcessLog, group: Group, join: Callable[[], Member]) -> None:
        self.log = log
        self._group = group
        self._join = join
        self._member = join()
        self._positions: dict[Partition, int] = {}
        self._lost = False
        self._left = False

    async def poll(self, partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
        """A membership event alone, or the chunks of the partitions that have one; waits only when there is nothing."""
        events = self._take(partitions)
        if events or timeout_ms <= 0:
            return events
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not events:
                    await self.log.changed()
                    events = self._take(partitions)
        except TimeoutError:
            return []
        return events

    def seek(self, partition: Partition, offset: int) -> None:
        """The next chunk of the partition begins at the offset."""
        self.log.check(partition)
        self._positions[partition] = offset

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        """The group's committed positions; partitions without one are left out."""
        committed = self.log.records().committed(self._group.name)
        return {partition: committed[partition] for partition in partitions if partition in committed}

    async def note(self, offsets: Mapping[Partition, Committed | None]) -> None:
        """Offsets for whoever looks on; raises Fenced where the membership is over, which the next poll tells."""
        if self._left or not self._group.has(self._member) or not self._member.holds:
            reason = f"{self._member.name!r} has no tasks of group {self.group!r} now"
            raise Fenced(reason)
        for partition in offsets:
            self.log.check(partition)
        self.log.records().write({}, self.group, offsets)

    def at_end(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """Those that have nothing more to read now."""
        return [p for p in partitions if self._position(p) >= self.log.bounds(p)[1]]

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The first offsets kept."""
        return {partition: self.log.bounds(partition)[0] for partition in partitions}

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Behind the last committed record."""
        return await self.log.ends(partitions)

    async def release(self) -> None:
        """Answer a `Revoked`; without one to answer, nothing happens."""
        self._group.release(self._member)
        self.log.wake()

    async def leave(self) -> None:
        """Leave the group; its tasks go to others at once."""
        if not self._left and self._group.has(self._member):
            self._group.remove(self._member.name)
            self.log.wake()
        self._left = True

    async def fail(self, reason: str) -> None:
        """Every member's next poll raises GroupFailed; a membership that is over has nothing to say to the group."""
        if not self._left and self._group.has(self._member):
            self._group.fail(reason)
            self.log.wake()

    # For the sink that commits under this membership.

    @property
    def group(self) -> str:
        """The group's name."""
        return self._group.name

    @property
    def generation(self) -> int:
        """The generation of the last `Assigned` the worker was told."""
        return self._member.generation

    def admit(self, begun: int | None) -> None:
        """Raise Fenced unless the worker may commit what it has read since the generation `begun` (None: any)."""
        if self._left:
            reason = f"{self._member.name!r} has left group {self.group!r}"
            raise Fenced(reason)
        if not self._group.has(self._member):
            self._lose()
        now = self._member.generation
        if self._member.holds and begun in (None, now):
            return
        self._positions.clear()
        self._group.tell_again(self._member)
        if self._member.holds:
            reason = f"the epoch was begun under membership {begun} of group {self.group!r}, which is {now} now"
        else:
            reason = f"{self._member.name!r} has released its tasks and was not assigned any yet"
        raise Fenced(reason)

    def _lose(self) -> None:
        if self._member.replaced:
            raise Replaced(self._member.name)
        self._lost = True
        self._positions.clear()
        reason = f"{self._member.name!r} was taken for dead and expelled from group {self.group!r}"
        raise Fenced(reason)

    def _take(self, partitions: Sequence[Partition]) -> list[Event]:
        self.log.records()
        if self._left:
            msg = f"{self._member.name!r} has left group {self.group!r}: join it again with Log.source"
            raise LogError(msg)
        if not self._group.has(self._member):
            if not self._lost:
                self._lose()
            self._lost = False
            self._member = self._join()
            self.log.wake()
        if self._group.failure is not None:
            raise GroupFailed(self._group.failure)
        event = self._group.event(self._member)
        if event is not None:
            if isinstance(event, Assigned):
                self._keep(event)
            return [event]
        return self._chunks(partitions) if self._member.holds else []

    def _keep(self, assigned: Assigned) -> None:
        mine = {p for task in assigned.tasks for p in self._member.offers[task]}
        self._positions = {p: offset for p, offset in self._positions.items() if p in mine}

    def _chunks(self, partitions: Sequence[Partition]) -> list[Event]:
        chunks = [self.log.chunk(partition, self._position(partition)) for partition in partitions]
        # Only now: had one of them raised, nothing of the others may be lost.
        self._positions.update((chunk.partition, chunk.next_offset) for chunk in chunks)
        return [chunk for chunk in chunks if chunk.offsets]

    def _position(self, partition: Partition) -> int:
        position = self._positions.get(partition)
        if position is not None:
            return position
        self.log.check(partition)
        return self.log.start(self.group, partition)


class InProcessSink:
    """The open epoch of a worker, in memory until it is committed."""

    def __init__(self, log: InProcessLog, source: InProcessSource | None, member: str) -> None:
        self.member = member
        self._log = log
        self._source = source
        self._epoch: dict[Partition, Columns] = {}
        self._begun: int | None = None
        self._closed = False
        self._fenced = False

    @property
    def name(self) -> tuple[str, str]:
        """Of the group and the member: of these, one may write."""
        return ("" if self._source is None else self._source.group, self.member)

    def fence(self) -> None:
        """There is another sink of the member: nothing of this one becomes visible any more."""
        self._fenced = True

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records to the epoch; the columns stay the caller's."""
        self._open()
        if {len(columns), len(columns.keys), len(columns.values), len(columns.headers or columns.keys)} != {
            len(columns)
        }:
            msg = f"the columns sent to {partition.topic}/{partition.number} differ in length: give one entry a record"
            raise LogError(msg)
        if self._begun is None and self._source is not None:
            self._begun = self._source.generation
        epoch = self._epoch.get(partition)
        if epoch is not None:
            epoch.extend(columns)
        elif len(columns):
            self._log.check(partition)
            self._epoch[partition] = columns.cut(0, len(columns))

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        """Make the epoch's records and the offsets visible together. Raises Fenced; after it the epoch is empty."""
        self._open()
        epoch, begun = self._epoch, self._begun
        self._epoch, self._begun = {}, None
        records = self._log.records()
        group = ""
        if self._fenced:
            raise Replaced(self.member)
        if self._source is not None:
            group = self._source.group
            self._source.admit(begun)
        elif offsets:
            msg = f"{self.member!r} writes without a group and cannot commit offsets: make its sink with a source"
            raise LogError(msg)
        if epoch or offsets:
            records.write(epoch, group, offsets)
            self._log.wake()
        return {partition: records.bounds(partition)[1] for partition in epoch}

    async def abort(self) -> None:
        """Drop the open epoch."""
        self._epoch, self._begun = {}, None

    async def close(self) -> None:
        """Drop the open epoch and give the sink back."""
        await self.abort()
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            msg = f"the sink of {self.member!r} is closed: make another one with Log.sink"
            raise LogError(msg)
