"""The compaction of a partition of a local log, in slices: each goes into the write of some epoch.

First all segments are read, to learn where each key was written last; then, from the lowest offset on, they are
replaced by segments of the records that remain. After any slice the partition is whole, only not as small as it will
be: what a tombstone deletes lies before it and so goes first. A process that dies in between begins again, with less
to do.
"""

from __future__ import annotations

from contextlib import closing

from streamproc.compaction import Compacted, Survey
from streamproc.local_rows import SEGMENT_RECORDS, Rows, Segment, sealed, segment_key, segments
from streamproc.log import Partition

SEGMENT_WORK = 4
"""What a segment costs beside its records, in records."""


class LocalCompaction:
    """A compaction under way. In memory are the keys of the partition and the records of a slice."""

    def __init__(self, rows: Rows, partition: Partition, bounds: tuple[int, int], *, retention_ms: int) -> None:
        self.partition = partition
        self._rows = rows
        self._start, self._end = bounds
        self._at = self._start
        self._survey = Survey(self._end, retention_ms=retention_ms)
        self._surveyed = False
        self._left = 0

    @property
    def done(self) -> Compacted | None:
        """What to note of the partition once everything is written; None before."""
        return Compacted(self._end, self._left) if self._surveyed and self._at == self._end else None

    def step(self, work: int) -> dict[bytes, bytes | None]:
        """Go over about `work` records, at least a segment; returns the rows to change. Raises Damaged."""
        if not self._surveyed:
            work = self._see(work)
        return self._replace(work) if self._surveyed and work > 0 else {}

    def _see(self, work: int) -> int:
        with closing(segments(self._rows, self.partition, self._at, self._end)) as found:
            for _, segment in found:
                self._survey.see(segment.places(), segment)
                self._at = segment.behind
                work -= len(segment) + SEGMENT_WORK
                if work <= 0:
                    break
        if self._at == self._end:
            self._surveyed, self._at = True, self._start
        return work

    def _replace(self, work: int) -> dict[bytes, bytes | None]:
        changes: dict[bytes, bytes | None] = {}
        left = 0
        merged = Segment([], [], [], offsets=[], first=self._at, behind=self._at)
        with closing(segments(self._rows, self.partition, self._at, self._end)) as found:
            for key, segment in found:
                changes[key] = None
                offsets = segment.places()
                rows = self._survey.kept(offsets, segment)
                if len(merged) + len(rows) > SEGMENT_RECORDS:
                    self._put(changes, merged)
                    merged = Segment([], [], [], offsets=[], first=merged.behind, behind=merged.behind)
                merged.take(segment.pick(rows), [offsets[row] for row in rows], segment.behind)
                left += len(rows)
                work -= len(segment) + SEGMENT_WORK
                if work <= 0:
                    break
        self._put(changes, merged)
        self._at = merged.behind
        self._left += left
        return changes

    def _put(self, changes: dict[bytes, bytes | None], segment: Segment) -> None:
        key = segment_key(self.partition, segment.behind - 1)
        changes[key] = sealed(key, segment)
