"""Counting windows: every so many records of a key."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities, key_of
from streamproc.state.table import Table
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.results import WindowResult


class Counting(Operator):
    """The aggregate of a key's last `n` records, in order of arrival: at the n-th, then at each `every`-th after it.

    With `every` None or n each record is in one window; with more, the records between two windows are in none.
    The row is the window's last record with a `WindowResult` for its value: time, clock and origin are that record's.
    start and end are the timestamps of the first and the last record to arrive: both are in the window, and
    start > end where they came out of order. A window that is not full has no row, at the end of the input neither.

    State, a row a key: (count, start, accumulator) of the window being filled, count < 0 for the records still to be
    left out; where windows overlap, the last records, at most n, added anew for each row (n steps a row).
    """

    keyed = True
    stateful = True
    closes_on = (False,)

    def __init__(self, n: int, every: int | None, aggregate: Aggregate[Any, Any]) -> None:
        self.n = n
        self.every = n if every is None else every
        self.aggregate = aggregate.running()
        self.signature = {"verb": "counting", "n": n, "every": self.every, "aggregate": repr(aggregate)}

    def open(self, context: Context) -> None:
        self._table: Table[Any] = context.table()

    def process(self, batch: Batch, side: int = 0) -> Batch:
        items = self.aggregate.column(batch.values)
        keys = identities(batch.keys)
        rows = self._table.rows(keys)
        take = self._take_overlapping if self.every < self.n else self._take
        full: list[int] = []
        results: list[WindowResult[Any, Any]] = []
        for i, (key, timestamp, item) in enumerate(zip(keys, batch.timestamps, items, strict=True)):
            window = take(rows, key, timestamp, item)
            if window is not None:
                full.append(i)
                results.append(WindowResult(key_of(key), window[0], timestamp, window[1]))
        self._table.changed(keys)
        return batch.select(full).with_values(results)

    def _take(self, rows: dict[Hashable, Any], key: Hashable, timestamp: int, item: Any) -> tuple[int, Any] | None:
        """(start, value) of the window that the record fills."""
        aggregate = self.aggregate
        count, start, accumulator = rows.get(key) or (0, timestamp, None)
        if count < 0:
            rows[key] = (count + 1, timestamp, None)
            return None
        start, accumulator = (start, accumulator) if count else (timestamp, aggregate.initial())
        accumulator = aggregate.add(accumulator, item)
        if count + 1 < self.n:
            rows[key] = (count + 1, start, accumulator)
            return None
        value = aggregate.result(accumulator)
        rows[key] = (self.n - self.every, timestamp, None)
        return start, value

    def _take_overlapping(
        self, rows: dict[Hashable, Any], key: Hashable, timestamp: int, item: Any
    ) -> tuple[int, Any] | None:
        """As `_take`; the row has the records of the next window: [(timestamp, item), ...]."""
        records = rows.setdefault(key, [])
        records.append((timestamp, item))
        if len(records) < self.n:
            return None
        aggregate = self.aggregate
        accumulator = aggregate.initial()
        for _, record in records:
            accumulator = aggregate.add(accumulator, record)
        start, value = records[0][0], aggregate.result(accumulator)
        del records[: self.every]
        return start, value
