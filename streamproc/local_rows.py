"""The rows of a local log, and the view of it that they give.

| key | value |
| --- | --- |
| `h` | head: number and checksum of the last epoch, and how many `m` rows there are |
| `m...` | one a topic, a partition (its bounds) and a committed offset |
| `r` topic NUL partition(4) last offset(8) | a segment: the columns of up to SEGMENT_RECORDS records of an epoch, |
| | or what compaction left of several segments |

Each value begins with a CRC-32 over its key and the rest. Segments go by the last offset that they cover, so that the
first row at or behind an offset is the one that covers it. Each begins where the one before ends: that none is missing
shows also where compaction left gaps.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol, TypeVar, cast

import msgspec

from streamproc.compaction import Compacted
from streamproc.log import Chunk, Columns, Committed, Partition, Topic

SEGMENT_RECORDS = 10_000
"""How many records of an epoch and partition go into one row at most."""

HEAD = b"h"
_META = b"m"
_BEHIND_META = b"n"

_encode = msgspec.msgpack.Encoder().encode

R = TypeVar("R")


class Damaged(Exception):
    """What the rows lack or contradict, in words."""


class Head(msgspec.Struct, array_like=True):
    """The last epoch written."""

    sequence: int = 0
    chain: int = 0
    rows: int = 0


class TopicRow(msgspec.Struct, array_like=True, tag="t"):
    """A topic."""

    name: str
    partitions: int
    config: dict[str, str]

    def key(self) -> bytes:
        """Where the row is."""
        return _META + b"t" + self.name.encode()


class BoundsRow(msgspec.Struct, array_like=True, tag="b"):
    """The first offset kept of a partition and the one behind its last record, and its last compaction."""

    topic: str
    number: int
    start: int
    end: int
    compacted: Compacted = Compacted()

    def key(self) -> bytes:
        """Where the row is."""
        return _META + b"b" + _place(Partition(self.topic, self.number))


class OffsetRow(msgspec.Struct, array_like=True, tag="o"):
    """What a group has committed in a partition."""

    group: str
    topic: str
    number: int
    offset: int
    metadata: str

    def key(self) -> bytes:
        """Where the row is."""
        return _META + b"o" + _encode(self.group) + _place(Partition(self.topic, self.number))


_head = msgspec.msgpack.Decoder(Head)
_meta = msgspec.msgpack.Decoder(TopicRow | BoundsRow | OffsetRow)


class Rows(Protocol):
    """What is read of a store."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows with start <= key < end, in byte order."""


def sealed(key: bytes, row: Any) -> bytes:
    """The value of a row: its checksum and its MessagePack."""
    body = _encode(row)
    return zlib.crc32(body, zlib.crc32(key)).to_bytes(4) + body


def opened(key: bytes, value: bytes, decoder: msgspec.msgpack.Decoder[R]) -> R:
    """What `sealed` was given. Raises Damaged."""
    body = memoryview(value)[4:]
    if zlib.crc32(body, zlib.crc32(key)).to_bytes(4) != value[:4]:
        msg = f"the checksum of row {key!r} is wrong"
        raise Damaged(msg)
    return decoder.decode(body)


def segment_key(partition: Partition, last: int) -> bytes:
    """Where the segment is whose last record has this offset."""
    return b"r" + _place(partition) + last.to_bytes(8)


class Segment(Columns):
    """The records of a row; it covers the offsets first <= o < behind.

    `offsets` is None when there is a record at each. Such a segment is written as its Columns alone.
    """

    offsets: list[int] | None = None
    first: int = 0
    behind: int = 0

    def places(self) -> Sequence[int]:
        """The offset of each record."""
        return range(self.first, self.behind) if self.offsets is None else self.offsets

    def take(self, columns: Columns, offsets: Sequence[int], behind: int) -> None:
        """Cover up to `behind`, with these records more; only for one with offsets."""
        assert self.offsets is not None
        self.extend(columns)
        self.offsets += offsets
        self.behind = behind


_segment = msgspec.msgpack.Decoder(Segment)


def segments(rows: Rows, partition: Partition, offset: int, end: int) -> Generator[tuple[bytes, Segment], None, None]:
    """The segments that cover offset <= o < end, whole, with their keys. Raises Damaged where one is missing."""
    at = offset
    scan = rows.scan(segment_key(partition, offset), segment_key(partition, end))
    with closing(cast("Any", scan)):
        for key, value in scan:
            segment = opened(key, value, _segment)
            behind = int.from_bytes(key[-8:]) + 1
            if segment.offsets is None:
                segment.first, segment.behind = behind - len(segment), behind
            if segment.first > at or segment.behind != behind:
                break
            yield key, segment
            at = behind
    if at < end:
        msg = f"records {at} to {end} (not included) of {partition.topic}/{partition.number} are not there"
        raise Damaged(msg)


class _Reading:
    """A chunk under way: up to `limit` records of the segments given."""

    def __init__(self, partition: Partition, offset: int, limit: int) -> None:
        self.at = offset
        self._partition = partition
        self._begin = offset
        self._limit = limit
        self._columns = Columns([], [], [])
        self._offsets: list[int] | None = None

    @property
    def full(self) -> bool:
        return len(self._columns) >= self._limit

    def add(self, segment: Segment) -> None:
        """Take what there is room for of a segment that covers `at`."""
        places = segment.places()
        start = bisect_left(places, self.at)
        stop = min(start + self._limit - len(self._columns), len(places))
        if segment.offsets is not None and self._offsets is None:
            self._offsets = list(range(self._begin, self.at))
        if self._offsets is not None:
            self._offsets += places[start:stop]
        self._columns.extend(segment if stop - start == len(places) else segment.cut(start, stop))
        self.at = segment.behind if stop == len(places) else places[stop - 1] + 1

    def chunk(self) -> Chunk:
        offsets = range(self._begin, self.at) if self._offsets is None else self._offsets
        return Chunk(self._partition, offsets, self.at, self._columns)


class View:
    """A local log as its rows say it is: topics, bounds and offsets in memory, records on demand.

    Loading checks that the small rows are all there and that each partition ends where its last segment does; the
    other segments are checked as they are read. Raises Damaged.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._decoded: dict[Partition, Segment] = {}
        self.head = Head()
        self.topics: dict[str, Topic] = {}
        self.bounds: dict[Partition, tuple[int, int]] = {}
        self.compacted: dict[Partition, Compacted] = {}
        self.offsets: dict[str, dict[Partition, Committed]] = {}
        value = rows.get(HEAD)
        if value is not None:
            self.head = opened(HEAD, value, _head)
        self._load()
        for partition, (start, end) in self.bounds.items():
            if end > start:
                self._check_end(partition, end)

    def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` records, one at least, from an offset before the end."""
        reading = _Reading(partition, offset, limit)
        with closing(self._from(partition, offset)) as found:
            for segment in found:
                reading.add(segment)
                if reading.full:
                    break
        if segment.behind > reading.at:
            self._decoded[partition] = segment
        else:
            self._decoded.pop(partition, None)
        return reading.chunk()

    def row(self, partition: Partition, bounds: tuple[int, int], compacted: Compacted | None = None) -> BoundsRow:
        """The row of a partition's new bounds; its last compaction is this one, else as it was."""
        return BoundsRow(*partition, *bounds, compacted or self.compacted.get(partition, Compacted()))

    def replaced(self, partition: Partition) -> None:
        """The rows of the partition's segments were changed."""
        self._decoded.pop(partition, None)

    def forget(self, group: str, topics: Collection[str]) -> None:
        """The rows of the group's offsets and of the topics were deleted."""
        self.offsets.pop(group, None)
        for name in topics:
            for number in range(self.topics.pop(name).partitions):
                del self.bounds[Partition(name, number)]
                self.compacted.pop(Partition(name, number), None)
                self._decoded.pop(Partition(name, number), None)

    def _from(self, partition: Partition, offset: int) -> Generator[Segment, None, None]:
        """The segments from the one that covers the offset on; the one decoded last is not read again."""
        decoded = self._decoded.get(partition)
        if decoded is not None and decoded.first <= offset < decoded.behind:
            yield decoded
            offset = decoded.behind
        with closing(segments(self._rows, partition, offset, self.bounds[partition][1])) as found:
            for _, segment in found:
                yield segment

    def _load(self) -> None:
        count = 0
        for key, value in self._rows.scan(_META, _BEHIND_META):
            count += 1
            match opened(key, value, _meta):
                case TopicRow(name, partitions, config):
                    self.topics[name] = Topic(partitions, config)
                case BoundsRow(topic, number, start, end, compacted):
                    self.bounds[Partition(topic, number)] = (start, end)
                    self.compacted[Partition(topic, number)] = compacted
                case OffsetRow(group, topic, number, offset, metadata):
                    self.offsets.setdefault(group, {})[Partition(topic, number)] = Committed(offset, metadata)
        if count != self.head.rows:
            msg = f"of {self.head.rows} rows about topics and offsets there are {count}"
            raise Damaged(msg)

    def _check_end(self, partition: Partition, end: int) -> None:
        last = segment_key(partition, end - 1)
        rows = self._rows.scan(last, segment_key(partition, (1 << 64) - 1))
        found = [key for key, value in rows if _is_whole(key, value)]
        if found != [last]:
            msg = f"{partition.topic}/{partition.number} does not end at {end}, where the last epoch left it"
            raise Damaged(msg)


def _is_whole(key: bytes, value: bytes) -> bool:
    return zlib.crc32(memoryview(value)[4:], zlib.crc32(key)).to_bytes(4) == value[:4]


def _place(partition: Partition) -> bytes:
    return partition.topic.encode() + b"\0" + partition.number.to_bytes(4)
