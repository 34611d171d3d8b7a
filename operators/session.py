"""Session windows: bursts of a key's records, told apart by silence."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable
from operator import itemgetter
from typing import Any

from streamproc.operators.batch import EMPTY, Batch
from streamproc.operators.contributions import items_of
from streamproc.operators.final_rows import Closed, final_rows
from streamproc.operators.lateness import on_time
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities
from streamproc.state.schedule import Schedule
from streamproc.state.table import Table
from streamproc.windows.aggregate import Aggregate

_END = itemgetter(1)


class Session(Operator):
    """The aggregate of each session of a key, once, when the watermark has passed its end + gap + grace.

    Records of a key no more than `gap_ms` apart are of one session; its start and end are the times of its first and
    last record. Rows come sorted by (end, start, key bytes), at their end. A record is late iff timestamp + grace <
    its clock, whatever session it would fall into.

    State is one row a key, (due, sessions), where a session is [start, end, accumulator], in order of time; none is
    within the gap of the next. `due` is when the key is looked at again: never after its first session may close, but
    it stays where it is when that session grows, so a record seldom moves it. A key is looked at as often as it has
    records, at most.
    """

    keyed = True
    stateful = True
    record_wise = False
    closes_on = (True,)

    def __init__(self, gap_ms: int, aggregate: Aggregate[Any, Any], *, grace_ms: int) -> None:
        self.gap_ms = gap_ms
        self.aggregate = aggregate
        self.graces = (grace_ms,)
        self.hold = gap_ms + grace_ms
        self.sorts = aggregate.ordered
        self.signature = {"verb": "session", "gap_ms": gap_ms, "aggregate": repr(aggregate), "grace_ms": grace_ms}

    def open(self, context: Context) -> None:
        self._context = context
        self._table: Table[Any] = context.table()
        self._schedule = Schedule(context.table("due", timed=True))

    def process(self, batch: Batch, side: int = 0) -> Batch:
        batch = on_time(self, batch, side)
        if len(batch):
            items = items_of(self.aggregate, batch)
            keys = identities(batch.keys)
            self._alarm(batch)
            rows = self._table.rows(keys)
            for key, timestamp, item in zip(keys, batch.timestamps, items, strict=True):
                self._add(rows, key, timestamp, item)
            self._table.changed(keys)
        return EMPTY

    def _alarm(self, batch: Batch) -> None:
        closed_to = self.watermark - self.graces[0]
        if min(batch.timestamps) < closed_to:
            count = sum(timestamp < closed_to for timestamp in batch.timestamps)
            self._context.alarm(f"sessions before {closed_to} may have closed", count)

    def _add(self, rows: dict[Hashable, Any], key: Hashable, timestamp: int, item: Any) -> None:
        found: tuple[int | None, list[list[Any]]] = rows.get(key) or (None, [])
        due, sessions = found
        gap, aggregate = self.gap_ms, self.aggregate
        at = stop = bisect_left(sessions, timestamp - gap, key=_END)
        while stop < len(sessions) and sessions[stop][0] <= timestamp + gap:
            stop += 1
        if at == stop:
            start = end = timestamp
            accumulator = aggregate.initial()
        else:
            start, end = min(timestamp, sessions[at][0]), max(timestamp, sessions[stop - 1][1])
            met = [session[2] for session in sessions[at:stop]]
            accumulator = met[0] if len(met) == 1 else aggregate.merge(met)
        sessions[at:stop] = [[start, end, aggregate.add(accumulator, item)]]
        first_due = sessions[0][1] + self.hold
        if due is None:
            self._schedule.set(key, first_due)
            rows[key] = (first_due, sessions)
        elif first_due < due:
            self._schedule.move(key, due, first_due)
            rows[key] = (first_due, sessions)

    def close(self, watermark: int) -> Batch:
        keys = [key for _, key in self._schedule.pop_due(watermark - 1)]
        if not keys:
            return EMPTY
        rows = self._table.rows(keys)
        closed: list[Closed] = []
        for key in keys:
            sessions = rows.pop(key)[1]
            still_open = bisect_left(sessions, watermark - self.hold, key=_END)
            closed += [Closed(end, start, key, accumulator) for start, end, accumulator in sessions[:still_open]]
            if still_open < len(sessions):
                due = sessions[still_open][1] + self.hold
                self._schedule.set(key, due)
                rows[key] = (due, sessions[still_open:])
        self._table.changed(keys)
        return final_rows(self, self._context, self.aggregate, closed, before_end_ms=0)
