"""Compaction: of the records of a key the last is kept, at its own offset; the others go, and so do old tombstones.

What a compacted partition, replayed from some offset over the state of that offset, promises:

- from the first record: the same state as all records ever written;
- from any offset behind the last tombstone that was dropped: the same;
- from one before it: keys that such a tombstone deletes stay. A store must not be as far behind as a tombstone lives.

Between, the state is one that never was: a key may have its later value already.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import eq
from typing import NamedTuple

from streamproc.log import Columns, Topic

COMPACT_RECORDS = 50_000
"""A partition with fewer records since its last compaction is left as it is."""

_DELETE_RETENTION_MS = 86_400_000


class Compacted(NamedTuple):
    """The last compaction of a partition: the offset up to which it went, and how many records it left."""

    behind: int = 0
    left: int = 0

    def is_due(self, start: int, end: int, floor: int) -> bool:
        """Whether more was written since than was left, and than `floor`: so a record is gone over a few times only."""
        return end - max(start, self.behind) > max(floor, self.left)


def tombstones_ms(topic: Topic) -> int | None:
    """How long the topic keeps tombstones, in ms; None when it is not compacted."""
    if "compact" not in topic.config.get("cleanup.policy", "").split(","):
        return None
    return int(topic.config.get("delete.retention.ms", _DELETE_RETENTION_MS))


class Survey:
    """Which records of a partition up to `end` remain: all are seen first, in the order of their offsets.

    A tombstone goes when its timestamp is more than `retention_ms` before the newest one seen: the records say how old
    they are, not the time of the compaction. The last record stays whatever it is, and so do records without a key.

    >>> offsets, columns = [0, 1, 2, 3], Columns([b"a", b"b", b"a", b"c"], [b"1", b"2", None, b"3"], [5, 6, 7, 9])
    >>> survey = Survey(4, retention_ms=2)
    >>> survey.see(offsets, columns)
    >>> survey.kept(offsets, columns)
    [1, 2, 3]
    """

    def __init__(self, end: int, *, retention_ms: int) -> None:
        self._end = end
        self._retention_ms = retention_ms
        self._last: dict[bytes | None, int] = {}
        self._newest: int | None = None

    def see(self, offsets: Sequence[int], columns: Columns) -> None:
        """Note the next records."""
        if len(columns):
            self._last.update(zip(columns.keys, offsets, strict=True))
            self._last.pop(None, None)
            newest = max(columns.timestamps)
            self._newest = newest if self._newest is None else max(self._newest, newest)

    def kept(self, offsets: Sequence[int], columns: Columns) -> list[int]:
        """The places of those of the records that remain."""
        # A record without a key is not in there, and so is its own last one.
        last = map(self._last.get, columns.keys, offsets)
        rows = compress(range(len(columns)), map(eq, last, offsets))
        horizon = (self._newest or 0) - self._retention_ms
        values, timestamps, keys, end = columns.values, columns.timestamps, columns.keys, self._end - 1
        return [
            row
            for row in rows
            if values[row] is not None or timestamps[row] >= horizon or keys[row] is None or offsets[row] == end
        ]
