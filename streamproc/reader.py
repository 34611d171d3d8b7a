"""Readers: what a task knows of each partition it reads: its rows, its watermark, whether it is idle or has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

import msgspec

from streamproc.internal_topic import ENDED, IDLE, INTERNAL_HEADERS, Mark, read_rows
from streamproc.log import Chunk, Columns, Committed, Partition
from streamproc.operators.batch import EMPTY, FOREVER, NEVER, Batch
from streamproc.operators.lateness import behind
from streamproc.row_decoder import RowDecoder
from streamproc.topic import BadRecord, Topic

NEIGHBOURS = 32
"""How many rows are compared with the clock together."""


class Reader(Protocol):
    """One partition of a task's input.

    position   the next offset to read; committed with the epoch
    clock      the largest event time read (for aligned reading)
    records    how many it has read, marks left out
    """

    partition: Partition
    position: int
    clock: int
    records: int

    def read(self, chunk: Chunk) -> Batch:
        """The rows of a chunk; moves position, clock and watermark."""

    def watermark(self) -> int:
        """No row that comes from here on is older, late ones apart; FOREVER while it is left out as idle."""

    def last_watermark(self) -> int:
        """How far time has gone when the input has ended: to its newest record; NEVER where it had none."""

    def metadata(self) -> dict[str, Any]:
        """What is committed beside the position, and `restore` takes."""

    def restore(self, committed: Committed) -> None:
        """Go on from a committed position."""

    def reset(self, first: int) -> None:
        """Begin at the first record, which is at this offset."""

    def set_back(self, to_ms: int) -> None:
        """Nothing that it knows of time is beyond the instant."""


BadRecords = Callable[[Chunk, int, Exception], None]
"""Called for each record that cannot be decoded, with its place in the chunk; raises where the policy is to fail."""


class SourceReader:
    """A partition of a source topic. Its clock is the largest timestamp of its good records, before any operator."""

    def __init__(
        self,
        partition: Partition,
        topic: Topic[Any, Any],
        node: int,
        *,
        floor: int,
        keeps_origins: bool,
        ahead_ms: int,
        on_bad: BadRecords,
    ) -> None:
        self.partition = partition
        self.position = 0
        self.clock = NEVER
        self.records = 0
        self.idle = False
        self._topic = topic
        self._node = node
        self._floor = floor
        self._keeps_origins = keeps_origins
        self._ahead_ms = ahead_ms
        self._on_bad = on_bad

    def read(self, chunk: Chunk) -> Batch:
        """The rows of a chunk, with the clock of those that may be late and, where kept, their origins."""
        rows, keys, values, timestamps = self._decode(chunk)
        self.position = chunk.next_offset
        self.records += len(chunk.offsets)
        if not timestamps:
            return EMPTY
        clocks = self._clocks(timestamps)
        origins = None
        if self._keeps_origins:
            offsets = chunk.offsets if rows is None else [chunk.offsets[i] for i in rows]
            origins = [(self._node, self.partition.number, offset) for offset in offsets]
        return Batch(keys, values, timestamps, clocks, origins, _user_headers(chunk.columns, rows))

    def watermark(self) -> int:
        return FOREVER if self.idle else self.clock

    def last_watermark(self) -> int:
        return self.clock

    def leave_behind(self, watermark: int) -> None:
        """Left out as idle, the partition has not held back what was closed up to here: that stays closed."""
        self.clock = max(self.clock, watermark)

    def wake(self, watermark: int) -> None:
        """A record comes after the partition was left out as idle."""
        self.idle = False
        self.leave_behind(watermark)

    def metadata(self) -> dict[str, Any]:
        return {"clock": self.clock, "idle": self.idle}

    def restore(self, committed: Committed) -> None:
        stored = msgspec.json.decode(committed.metadata)
        self.position, self.clock, self.idle = committed.offset, stored["clock"], stored["idle"]

    def reset(self, first: int) -> None:
        self.position, self.clock, self.idle = first, NEVER, False

    def set_back(self, to_ms: int) -> None:
        self.clock = min(self.clock, to_ms)

    def _clocks(self, timestamps: Sequence[int]) -> list[int | None] | None:
        before = self.clock
        self.clock = max(before, max(timestamps))  # noqa: PLW3301 - one call would make a tuple of the column
        if self._floor == FOREVER or not _may_be_behind(timestamps, before, self._floor):
            return None
        return behind(list(accumulate(timestamps, max, initial=before))[1:], timestamps, self._floor)

    def _decode(self, chunk: Chunk) -> tuple[list[int] | None, Sequence[Any], Sequence[Any], Sequence[int]]:
        """The good records: their places (None: all), keys, values and timestamps."""
        try:
            decoded = self._topic.decode_columns(chunk.columns, ahead_ms=self._ahead_ms)
        except BadRecord:
            decoded = self._decode_one_by_one(chunk)
        return decoded

    def _decode_one_by_one(self, chunk: Chunk) -> tuple[list[int], list[Any], list[Any], list[int]]:
        rows: list[int] = []
        keys: list[Any] = []
        values: list[Any] = []
        timestamps: list[int] = []
        for i in range(len(chunk.offsets)):
            try:
                found = self._topic.decode_columns(chunk.columns.cut(i, i + 1), ahead_ms=self._ahead_ms)
            except BadRecord as bad:
                self._on_bad(chunk, i, bad)
                continue
            if len(found[3]):
                rows.append(i)
                keys += found[1]
                values += found[2]
                timestamps += found[3]
        return rows, keys, values, timestamps


class InternalReader:
    """A partition of a repartition topic, fed by tasks that say how far they are. W never goes back, but flags do."""

    def __init__(
        self,
        partition: Partition,
        edges: Iterable[tuple[str, int]],
        decoder: RowDecoder,
        *,
        grace_ms: int,
        keeps_origins: bool,
        on_bad: BadRecords,
    ) -> None:
        self.partition = partition
        self.position = 0
        self.clock = NEVER
        self.records = 0
        self.closed_to = NEVER
        """What W reached, and closed, while an edge was left out as idle: a row before it is late by whatever clock."""
        self._edges = {edge: Mark(*edge, NEVER, 0, 0) for edge in edges}
        self._grace_ms = grace_ms
        self._decoder = decoder
        self._on_bad = on_bad
        self._keeps_origins = keeps_origins

    def read(self, chunk: Chunk) -> Batch:
        """The rows of a chunk; its marks move the watermark behind them."""
        closed_to = self.closed_to
        batch, marks = read_rows(
            chunk.columns,
            self._decoder,
            lambda place, error: self._on_bad(chunk, place, error),
            keeps_origins=self._keeps_origins,
        )
        self.records += len(batch)
        for mark in marks:
            self._take(mark)
        if any(mark.flag == IDLE for mark in self._edges.values()) and self.watermark() < FOREVER:
            self.closed_to = max(self.closed_to, self.watermark())
        if len(batch):
            self.clock = max(self.clock, max(batch.timestamps))  # noqa: PLW3301 - as above
            if min(batch.timestamps) < closed_to:
                rows = zip(batch.timestamps, batch.clocks or [None] * len(batch), strict=True)
                batch.clocks = [
                    clock if at >= closed_to else max(closed_to, closed_to if clock is None else clock)
                    for at, clock in rows
                ]
        self.position = chunk.next_offset
        return batch

    def watermark(self) -> int:
        return min((m.watermark for m in self._edges.values() if m.flag != IDLE), default=FOREVER)

    def last_watermark(self) -> int:
        return max((mark.last for mark in self._edges.values() if mark.flag == ENDED), default=NEVER)

    def ended(self, run: int) -> bool:
        """Whether every feeding task has ended in this run."""
        return all(mark.flag == ENDED and mark.run == run for mark in self._edges.values())

    def vector(self) -> list[list[Any]]:
        """What the feeding tasks have said last; state of the task."""
        return [list(mark) for mark in self._edges.values()]

    def set_vector(self, vector: Sequence[Sequence[Any]], *, closed_to: int) -> None:
        """Go on from a stored vector, whatever was read since; empty: the task has committed nothing.

        An edge that is not in it is of a partition that its source has gained: as one that was left out as idle.
        """
        self.closed_to = closed_to
        self._edges = {edge: Mark(*edge, NEVER, 0, 0) for edge in self._edges}
        for mark in (Mark(*row) for row in vector):
            self._take(mark)
        if 0 < len(vector) < len(self._edges):
            known = [mark.watermark for mark in (Mark(*row) for row in vector) if mark.flag != IDLE]
            self.closed_to = max(closed_to, min(known, default=NEVER))

    def metadata(self) -> dict[str, Any]:
        return {"grace": self._grace_ms, "origins": self._keeps_origins}

    def restore(self, committed: Committed) -> None:
        self.position = committed.offset

    def may_lack(self, committed: Committed) -> bool:
        """Whether rows written up to this commit may lack a clock or an origin that the plan needs now."""
        stored = msgspec.json.decode(committed.metadata)
        return self._grace_ms < stored["grace"] or (self._keeps_origins and not stored["origins"])

    def reset(self, first: int) -> None:
        self.position = first

    def set_back(self, to_ms: int) -> None:
        self.clock, self.closed_to = min(self.clock, to_ms), min(self.closed_to, to_ms)
        self._edges = {edge: mark.up_to(to_ms) for edge, mark in self._edges.items()}

    def _take(self, mark: Mark) -> None:
        known = self._edges.get((mark.stage, mark.task))
        if known is None:
            msg = f"{self.partition.topic} has a mark of {mark.stage}/{mark.task}, which does not feed it in this plan"
            raise ValueError(msg)
        self._edges[mark.stage, mark.task] = mark._replace(watermark=max(known.watermark, mark.watermark))


def _may_be_behind(timestamps: Sequence[int], clock: int, floor: int) -> bool:
    """Whether a row could be behind its clock by more than the floor: by neighbours, so too often, never too seldom."""
    for at in range(0, len(timestamps), NEIGHBOURS):
        some = timestamps[at : at + NEIGHBOURS]
        clock = max(clock, max(some))  # noqa: PLW3301 - as above
        if clock - min(some) > floor:
            return True
    return False


def _user_headers(columns: Columns, rows: Sequence[int] | None) -> list[Mapping[str, bytes] | None] | None:
    if columns.headers is None:
        return None
    chosen = columns.headers if rows is None else [columns.headers[i] for i in rows]
    named = [{name: data for name, data in headers or () if name not in INTERNAL_HEADERS} for headers in chosen]
    return [headers or None for headers in named] if any(named) else None
