"""The rows of a local log, and the view of it that they give.

| key | value |
| --- | --- |
| `h` | head: number and checksum of the last epoch, and how many `m` rows there are |
| `m...` | one a topic, a partition (its bounds) and a committed offset |
| `r` topic NUL partition(4) last offset(8) | a segment: the columns of up to SEGMENT_RECORDS records of an epoch |

Each value begins with a CRC-32 over its key and the rest. Segments go by their last offset, so that the first row at or
behind an offset is the one that holds it.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any, Protocol, TypeVar, cast

import msgspec

from streamproc.log import Columns, Committed, Partition, Topic

SEGMENT_RECORDS = 10_000
"""How many records of an epoch and partition go into one row at most."""

HEAD = b"h"
_META = b"m"
_BEHIND_META = b"n"

_encode = msgspec.msgpack.Encoder().encode
_columns = msgspec.msgpack.Decoder(Columns)

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
    """The first offset kept of a partition and the one behind its last record."""

    topic: str
    number: int
    start: int
    end: int

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


class View:
    """A local log as its rows say it is: topics, bounds and offsets in memory, records on demand.

    Loading checks that the small rows are all there and that each partition ends where its last segment does; the
    other segments are checked as they are read. Raises Damaged.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._decoded: dict[Partition, tuple[int, Columns]] = {}
        self.head = Head()
        self.topics: dict[str, Topic] = {}
        self.bounds: dict[Partition, tuple[int, int]] = {}
        self.offsets: dict[str, dict[Partition, Committed]] = {}
        value = rows.get(HEAD)
        if value is not None:
            self.head = opened(HEAD, value, _head)
        self._load()
        for partition, (start, end) in self.bounds.items():
            if end > start:
                self._check_end(partition, end)

    def read(self, partition: Partition, offset: int, limit: int) -> Columns:
        """Up to `limit` records from an offset within the bounds."""
        end = min(self.bounds[partition][1], offset + limit)
        columns = Columns([], [], [])
        while (at := offset + len(columns)) < end:
            base, segment = self._decoded.get(partition, (0, columns))
            if not base <= at < base + len(segment):
                self._more(partition, columns, at, end)
                continue
            columns.extend(segment.cut(at - base, end - base))
        return columns

    def forget(self, group: str, topics: Collection[str]) -> None:
        """The rows of the group's offsets and of the topics were deleted."""
        self.offsets.pop(group, None)
        for name in topics:
            for number in range(self.topics.pop(name).partitions):
                del self.bounds[Partition(name, number)]
                self._decoded.pop(Partition(name, number), None)

    def _more(self, partition: Partition, columns: Columns, at: int, end: int) -> None:
        """Add the segments from `at` on that lie wholly before `end`; keep the one decoded that does not."""
        rows = self._rows.scan(segment_key(partition, at), segment_key(partition, self.bounds[partition][1]))
        with closing(cast("Any", rows)):
            for key, value in rows:
                segment = opened(key, value, _columns)
                behind = int.from_bytes(key[-8:]) + 1
                base = behind - len(segment)
                if base > at:
                    break
                if base < at or behind > end:
                    self._decoded[partition] = (base, segment)
                    return
                columns.extend(segment)
                at = behind
                if at == end:
                    self._decoded.pop(partition, None)
                    return
        msg = f"records {at} to {end} (not included) of {partition.topic}/{partition.number} are not there"
        raise Damaged(msg)

    def _load(self) -> None:
        count = 0
        for key, value in self._rows.scan(_META, _BEHIND_META):
            count += 1
            match opened(key, value, _meta):
                case TopicRow(name, partitions, config):
                    self.topics[name] = Topic(partitions, config)
                case BoundsRow(topic, number, start, end):
                    self.bounds[Partition(topic, number)] = (start, end)
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
