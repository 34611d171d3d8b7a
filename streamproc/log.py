"""The Log protocol: where records come from and go to. Kafka, `memory://` and `local://` implement it.

A worker sees a log through three small doors: `Source` (its membership of a group and what it may read), `Sink` (the
epoch it writes: outputs, changelog and offsets in one transaction) and `Log` itself (topics and plain reads).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeAlias

import msgspec

WireHeaders: TypeAlias = Sequence[tuple[str, bytes]]


class Partition(NamedTuple):
    """A partition of a topic."""

    topic: str
    number: int


class Columns(msgspec.Struct):
    """Records of one partition as parallel columns, as they are on the wire.

    `timestamps` in ms since the epoch; `headers` is None when no record has any.

    >>> columns = Columns([None], [b"a"], [5])
    >>> columns.extend(Columns([b"k"], [b"b"], [6], [[("h", b"1")]]))
    >>> columns.headers
    [None, [('h', b'1')]]
    >>> columns.cut(0, 1)
    Columns(keys=[None], values=[b'a'], timestamps=[5], headers=None)
    """

    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    headers: list[WireHeaders | None] | None = None

    def __len__(self) -> int:
        return len(self.timestamps)

    def cut(self, start: int, stop: int) -> Columns:
        """The records start <= i < stop, as lists of their own."""
        headers = None if self.headers is None else self.headers[start:stop]
        return Columns(
            self.keys[start:stop],
            self.values[start:stop],
            self.timestamps[start:stop],
            headers if headers is not None and any(headers) else None,
        )

    @property
    def size_bytes(self) -> int:
        """What keys and values take up; of many records an estimate."""
        return size_bytes(self.keys) + size_bytes(self.values)

    def pick(self, rows: Sequence[int]) -> Columns:
        """The records at these places."""
        headers = None if self.headers is None else [self.headers[row] for row in rows]
        return Columns(
            [self.keys[row] for row in rows],
            [self.values[row] for row in rows],
            [self.timestamps[row] for row in rows],
            headers if headers is not None and any(headers) else None,
        )

    def extend(self, more: Columns) -> None:
        """Add the records of `more` at the end."""
        if more.headers is not None:
            if self.headers is None:
                self.headers = [None] * len(self)
            self.headers.extend(more.headers)
        elif self.headers is not None:
            self.headers.extend([None] * len(more))
        self.keys.extend(more.keys)
        self.values.extend(more.values)
        self.timestamps.extend(more.timestamps)


_WEIGHED: Final = 256
"""So many entries of a column are measured at least, where there are as many."""


def size_bytes(column: Sequence[bytes | None]) -> int:
    """What the entries take up; of a long column an estimate, by every so many-th.

    >>> size_bytes([b"abc", None, b"d"])
    4
    """
    step = max(1, len(column) // _WEIGHED)
    return step * sum(map(len, filter(None, column[::step])))


class Chunk(msgspec.Struct):
    """Consecutive records read from a partition, committed ones only.

    offsets      ascending, one a record; gaps are normal (compaction, transaction markers)
    next_offset  where reading goes on: behind the last record and any gap seen after it; a gap may be all there is
    """

    partition: Partition
    offsets: Sequence[int]
    next_offset: int
    columns: Columns

    def cut(self, start: int, stop: int) -> Chunk:
        """The records start <= i < stop, and the gap behind them."""
        after = self.next_offset if stop >= len(self.offsets) else self.offsets[stop]
        return Chunk(self.partition, self.offsets[start:stop], after, self.columns.cut(start, stop))


class Committed(NamedTuple):
    """A group's committed position in a partition, with what the worker stored beside it."""

    offset: int
    metadata: str


class Assigned(NamedTuple):
    """The tasks this worker now has: all of them, kept ones too. Commits go under this membership from here on.

    shared   what the group has agreed on: what the first member that had anything to share brought
    """

    tasks: frozenset[tuple[str, int]]
    shared: bytes = b""


class Revoked(NamedTuple):
    """The group changes: commit what was read, then call `Source.release`; `Assigned` follows."""


Event: TypeAlias = Chunk | Assigned | Revoked


class Topic(NamedTuple):
    """What a log knows of a topic."""

    partitions: int
    config: Mapping[str, str]


class MemberView(NamedTuple):
    """A member of a group, seen from outside of it."""

    name: str
    host: str
    tasks: frozenset[tuple[str, int]]


class GroupView(NamedTuple):
    """A group, seen from outside: whether it is sharing out its tasks anew, and who has which."""

    changing: bool
    members: Sequence[MemberView]


class Source(Protocol):
    """A worker's membership of a group: the tasks it owns and the partitions it reads.

    A worker is first told `Assigned`. When the group changes it is told `Revoked`, may still commit, and must
    `release`; nothing is read until the next `Assigned`. A membership can also end without being asked (the worker was
    taken for dead): then the next `poll` or `commit` raises Fenced, once from `poll`; the poll after it joins again.
    After every Fenced but Replaced an `Assigned` follows, as at the start.
    """

    async def poll(self, partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
        """What happened: a membership event alone, or a chunk for each of `partitions` (all owned) that has one.

        Returns as soon as there is anything, else after `timeout_ms` with nothing. Membership comes before data.
        A partition that stays assigned is read on from where it was; one that is new, and every one after Fenced,
        begins at the group's committed position, else at its first record, if `seek` says nothing else.
        Raises Fenced (drop the open epoch and poll again; Replaced: end), OffsetOutOfRange, and GroupFailed once a
        member has said `fail`.
        """

    def seek(self, partition: Partition, offset: int) -> None:
        """The next chunk of the partition begins at the offset."""

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        """The group's stable committed positions; partitions without one are left out."""

    async def note(self, offsets: Mapping[Partition, Committed | None]) -> None:
        """Offsets of partitions that the group does not read, for whoever looks on from outside; None: there is none.

        Tried once, beside the epochs, under the membership that the last `Assigned` gave. Raises Rejected where it
        would be refused again, else LogError where it may not have been done; the membership is what it was.
        """

    def at_end(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """Those that had nothing more to read behind what was polled when the log was last asked; never a guess."""

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The first offsets kept."""

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Behind the last committed record (the last stable offset)."""

    async def release(self) -> None:
        """Answer a `Revoked`: nothing that was read is uncommitted any more. Without one to answer, nothing happens."""

    async def leave(self) -> None:
        """Leave the group; its tasks go to others at once."""

    async def fail(self, reason: str) -> None:
        """Stop the whole group: every member's next poll raises GroupFailed with the reason. Then leave."""


class Sink(Protocol):
    """The one open epoch of a worker. Nothing in it is visible to readers before `commit` returns."""

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records to the epoch; their order within a partition is kept."""

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        """Make the epoch's records and the group's offsets visible together.

        Returns, for each partition written, the offset behind the epoch's last record there.
        It is accepted under the membership that the last `Assigned` gave, also between `Revoked` and `release`.
        With no records and no offsets it does nothing.
        Raises Fenced (that membership is over, or the epoch was begun under an earlier one), Aborted (nothing of the
        epoch is visible), Rejected (the same, and trying again is of no use) or Unknown (it may be visible or not: when
        `abort` has returned that is settled, and `Source.committed` tells). Then the epoch is empty.
        """

    async def abort(self) -> None:
        """Drop the open epoch; when this returns, what was committed is committed, and nothing else ever will be."""

    async def close(self) -> None:
        """Drop the open epoch and give the sink back."""


class Log(Protocol):
    """Topics, plain reads, and the doors for workers."""

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        """All topics by name; their configuration is known of those to be described at least."""

    async def create(self, name: str, *, partitions: int, config: Mapping[str, str]) -> None:
        """A topic of this name exists; one that is there is left as it is."""

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` committed records from an offset, at once; possibly none. Without a group.

        Raises OffsetOutOfRange when the offset is before the first record kept or behind the end.
        """

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The high watermark: behind the last record, committed or not."""

    async def source(
        self, group: str, member: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b""
    ) -> Source:
        """Join a group; `poll` gives `Assigned` first, as soon as the others have given up what they had.

        A member of the same name is replaced at once and gives up nothing: its tasks pass to the new one.
        Where members come with different `plan`s, those of the plan that fewer have get no tasks. `shared` is what the
        member would have the group agree on: see `Assigned`.
        """

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> Sink:
        """Begin writing; with a source, offsets are committed under its membership.

        Another sink of the same member is fenced, and what it had open is dropped. Without `exactly_once` what is sent
        may be visible before `commit` returns, and stay so when it does not: offsets move last.
        """

    async def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What a group has committed, and what its members have noted, seen from outside of it."""

    async def group(self, group: str) -> GroupView:
        """Who is in a group; nobody is in one that does not exist."""

    async def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets may be deleted."""

    async def forget(self, group: str, topics: Collection[str]) -> None:
        """The group, which has no members, has committed nothing and has none of these topics: it begins anew."""

    async def close(self) -> None:
        """Give the log back."""


class TaskInput(NamedTuple):
    """A task that the group shares out, and what whoever owns it reads."""

    stage: str
    number: int
    partitions: tuple[Partition, ...]


class LogError(Exception):
    """What a log could not do; its message says what happened and the way out."""


class Fenced(LogError):
    """This worker's membership is over: nothing of its open epoch is or becomes visible."""

    def __init__(self, reason: str = "the worker's membership of its group is over") -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.args[0]}; its epoch was dropped: take the next assignment and read from the committed offsets"


class Replaced(Fenced):
    """Another worker has joined under this worker's name: this one is to end."""

    def __init__(self, member: str = "this worker") -> None:
        super().__init__(member)

    def __str__(self) -> str:
        return (
            f"another worker joined as {self.args[0]!r} and took its tasks; the open epoch was dropped: end this "
            "worker, and give each worker of a group a name of its own"
        )


class Aborted(LogError):
    """The epoch was not committed and nothing of it is visible; the membership goes on."""

    def __init__(self, reason: str = "the transaction was aborted") -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.args[0]}; nothing of the epoch is visible: read again from the committed offsets"


class Unknown(LogError):
    """The epoch may be visible or not."""

    def __init__(self, reason: str = "the answer to the commit was lost") -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.args[0]}; the epoch may be visible or not: compare the group's committed offsets and metadata"


class Rejected(LogError):
    """What was to be written is refused and would be again: its message says what, why and the way out."""


class GroupFailed(LogError):
    """A member of the group met an error that it must not go on from, so that none does."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)

    def __str__(self) -> str:
        return f"another worker of the group has failed, so all of them stop. It said: {self.args[0]}"


class OffsetOutOfRange(LogError):
    """The offset is before the first record kept or behind the end."""

    def __init__(self, partition: Partition, offset: int, start: int, end: int) -> None:
        super().__init__(partition, offset, start, end)
        self.partition = partition
        self.offset = offset
        self.start = start
        self.end = end

    def __str__(self) -> str:
        return (
            f"offset {self.offset} of {self.partition.topic}/{self.partition.number} is out of range: the log keeps "
            f"{self.start} to {self.end} (end not included); its records were deleted or the topic was made anew. "
            "Begin at an offset within the range, or reset the group"
        )


class UnknownTopic(LogError):
    """The log has no topic of this name, or the topic no partition of this number."""

    def __init__(self, topic: str, known: Mapping[str, Topic], number: int | None = None) -> None:
        super().__init__(topic, known, number)
        self.topic = topic
        self.number = number

    def __str__(self) -> str:
        topic, known, number = self.args
        if topic in known:
            return f"topic {topic!r} has partitions 0 to {known[topic].partitions - 1}, not {number}"
        names = sorted(known)
        close = difflib.get_close_matches(topic, names, n=3)
        guess = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
        there = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "") if names else "none"
        return f"there is no topic {topic!r}{guess} Topics: {there}. Create it first, or check the spelling"


class LogLocked(LogError):
    """The log is open elsewhere, in this process or another."""

    def __init__(self, path: str) -> None:
        super().__init__(path)

    def __str__(self) -> str:
        return (
            f"the log in {self.args[0]} is already open, in this process or another; a local log has one writer: stop "
            "that one, use another directory, or open it for reading only"
        )


class LogCorrupt(LogError):
    """The log's files do not hold what was acknowledged."""

    def __init__(self, path: str, found: str) -> None:
        super().__init__(path, found)

    def __str__(self) -> str:
        path, found = self.args
        return f"the log in {path} is damaged: {found}. Restore the directory from a copy"


class LogFull(LogError):
    """There is no space left; the epoch is not acknowledged and, after the log is opened again, whole or absent."""

    def __init__(self, path: str) -> None:
        super().__init__(path)

    def __str__(self) -> str:
        return f"no space left for the log in {self.args[0]}: free some and start again from the committed offsets"
