"""Windows that a user's assigner gives to each instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

from streamproc.operators.batch import EMPTY, NEVER, Batch
from streamproc.operators.contributions import items_of
from streamproc.operators.final_rows import Closed, final_rows
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities, key_of
from streamproc.state.table import Table
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.kinds import Assigner

_Windows: TypeAlias = Sequence[tuple[int, int]]


class AssignedWindow(Operator):
    """The aggregate of each key and window [start, end) of an assigner, once, when the watermark reaches end + grace.

    Rows come sorted by (end, start, key bytes), at end - 1. A record is late for a window iff end + grace <= its
    clock; it may be late for one of its windows and on time for the next. One that the assigner gives no window is
    in none.

    State is one row a window and key, grouped by end: closing reads what closes. Every record is added to each of its
    windows: where they overlap a lot, hopping windows, kept by slices, are cheaper.
    """

    keyed = True
    stateful = True
    record_wise = False
    closes_on = (True,)

    def __init__(self, assigner: Assigner, aggregate: Aggregate[Any, Any], *, grace_ms: int) -> None:
        self.assigner = assigner
        self.aggregate = aggregate
        self.graces = (grace_ms,)
        self.hold = grace_ms
        self.sorts = aggregate.ordered
        self.signature = {
            "verb": "window",
            "windows": repr(assigner),
            "aggregate": repr(aggregate),
            "grace_ms": grace_ms,
        }

    def open(self, context: Context) -> None:
        self._context = context
        self._table: Table[Any] = context.table(timed=True)

    def process(self, batch: Batch, side: int = 0) -> Batch:
        assigned = {timestamp: self._windows_at(timestamp) for timestamp in set(batch.timestamps)}
        clocks = batch.clocks or [None] * len(batch)
        late: list[int] = []
        rows: list[int] = []
        taking: list[_Windows] = []
        for i, (timestamp, clock) in enumerate(zip(batch.timestamps, clocks, strict=True)):
            windows = assigned[timestamp]
            closed_to = max(self.ended_to + 1, NEVER if clock is None else clock - self.hold)
            still_open = [window for window in windows if window[1] > closed_to]
            if len(still_open) < len(windows):
                late.append(i)
            if still_open:
                rows.append(i)
                taking.append(still_open)
        self._add(batch.select(rows), taking)
        if late:
            self.late = batch.select(late)
        return EMPTY

    def _windows_at(self, timestamp: int) -> _Windows:
        windows = sorted(set(self.assigner.windows(timestamp)))
        for start, end in windows:
            if not start <= timestamp < end:
                msg = f"the window assigner gave [{start}, {end}) for {timestamp}, which is not in it"
                raise ValueError(msg)
        return windows

    def _add(self, batch: Batch, taking: Sequence[_Windows]) -> None:
        items: dict[int, list[Any]] = defaultdict(list)
        labels: dict[int, list[tuple[int, Any]]] = defaultdict(list)
        for key, windows, item in zip(batch.keys, taking, items_of(self.aggregate, batch), strict=True):
            for start, end in windows:
                labels[end].append((start, key))
                items[end].append(item)
        for end, inners in {end: identities(some) for end, some in labels.items()}.items():
            if end + self.hold <= self.watermark:
                self._context.alarm(f"window ending at {end} had closed", len(inners))
                continue
            self.aggregate.add_rows(self._table.rows(inners, end), inners, items[end])
            self._table.changed(inners, end)
            self.reach = max(self.reach, end - 1)

    def close(self, watermark: int) -> Batch:
        closed: list[Closed] = []
        for end in self._table.due(watermark - self.hold + 1):
            for label, accumulator in self._table.whole(end).items():
                start, key = key_of(label)
                closed.append(Closed(end, start, identities([key])[0], accumulator))
            self._table.drop(end)
        return final_rows(self, self._context, self.aggregate, closed, before_end_ms=1)
