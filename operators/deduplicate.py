"""deduplicate: the first of those that are the same."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from streamproc.operators.batch import FOREVER, Batch
from streamproc.operators.lateness import on_time
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities
from streamproc.state.schedule import Schedule
from streamproc.state.table import Table


class Deduplicate(Operator):
    """Passes on a record unless one with its key and by(value), at most `within_ms` from it in time, was passed on.

    In order of arrival; `by` None: the value itself. What is passed on cannot be late any more. What `by` gives must
    have the form of a key: a list, dict or unfrozen class instance is an error of the record.

    State is one row for each key and by(value): the ascending times of what was passed on and can still meet a
    record. They lie more than `within_ms` apart, so they are few. The row is due when the first can meet none any
    more.
    """

    keyed = True
    stateful = True
    record_wise = False
    closes_on = (False,)

    def __init__(self, by: Callable[[Any], Any] | None = None, *, within_ms: int, grace_ms: int) -> None:
        self.by = by
        self.within_ms = within_ms
        self.graces = (grace_ms,)
        self.hold = grace_ms
        self.signature = {"verb": "deduplicate", "within_ms": within_ms, "grace_ms": grace_ms}

    def open(self, context: Context) -> None:
        self._context = context
        self._table: Table[list[int]] = context.table()
        self._schedule = Schedule(context.table("due", timed=True))

    def process(self, batch: Batch, side: int = 0) -> Batch:
        batch = on_time(self, batch, side)
        if not len(batch):
            return batch.without_clocks()
        by = batch.values if self.by is None else [self.by(value) for value in batch.values]
        entries = identities(list(zip(batch.keys, by, strict=True)))
        self._alarm(batch)
        rows, passed, within = self._table.rows(entries), [], self.within_ms
        for i, (entry, timestamp) in enumerate(zip(entries, batch.timestamps, strict=True)):
            times = rows.get(entry)
            if times is None:
                rows[entry] = [timestamp]
                self._schedule.set(entry, self._due(timestamp))
            else:
                at = bisect_left(times, timestamp - within)
                if at < len(times) and times[at] <= timestamp + within:
                    continue
                if at == 0:
                    self._schedule.move(entry, self._due(times[0]), self._due(timestamp))
                times.insert(at, timestamp)
            passed.append(i)
        self._table.changed([entries[i] for i in passed])
        return batch.select(passed).without_clocks()

    def _alarm(self, batch: Batch) -> None:
        forgotten_to = self.watermark - self.graces[0]
        if min(batch.timestamps) < forgotten_to:
            count = sum(timestamp < forgotten_to for timestamp in batch.timestamps)
            self._context.alarm(f"what was the same before {forgotten_to} may be forgotten", count)

    def _due(self, timestamp: int) -> int:
        """The last watermark at which a record may come that is within reach of this time."""
        return timestamp + self.within_ms + self.graces[0]

    def close(self, watermark: int) -> Batch:
        """Forgets; the end of the input is no reason to."""
        due = self._schedule.pop_due(watermark - 1) if watermark < FOREVER else []
        entries = [entry for _, entry in due]
        rows = self._table.rows(entries)
        for entry in entries:
            times = rows[entry]
            del times[: bisect_left(times, watermark - self.hold - self.within_ms)]
            if times:
                self._schedule.set(entry, self._due(times[0]))
            else:
                del rows[entry]
        self._table.changed(entries)
        return Batch((), (), ())
