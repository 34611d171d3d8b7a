"""in_order: records of any order of arrival, in the order of their time."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

from streamproc.operators.batch import EMPTY, Batch, Headers, Origin
from streamproc.operators.lateness import on_time
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities, sorted_by_bytes
from streamproc.state.table import Table

_Row: TypeAlias = tuple[int, Origin, Any, Any, Headers | None]
"""Timestamp, origin, key, value, headers."""

BUCKET_MS = 1_000
"""Rows are held by second, so that a watermark reads what it releases."""


class InOrder(Operator):
    """Each record, held until timestamp + grace < watermark, sorted by (timestamp, origin).

    A record is late iff timestamp + grace < its clock. What it passes on cannot be late any more: it carries no clock.
    """

    stateful = True
    sorts = True
    record_wise = False
    closes_on = (True,)

    def __init__(self, *, grace_ms: int) -> None:
        self.graces = (grace_ms,)
        self.hold = grace_ms
        self.signature = {"verb": "in_order", "grace_ms": grace_ms}

    def open(self, context: Context) -> None:
        self._context = context
        self._held: Table[_Row] = context.table(timed=True)

    def process(self, batch: Batch, side: int = 0) -> Batch:
        batch = on_time(self, batch)
        if len(batch):
            self._alarm_if_released(batch)
            self._hold(batch)
        return EMPTY

    def close(self, watermark: int) -> Batch:
        released: list[_Row] = []
        limit = watermark - self.hold
        for second in self._held.due((limit - 1) // BUCKET_MS + 1):
            rows = self._held.whole(second)
            if (second + 1) * BUCKET_MS <= limit:
                released += [rows[place] for place in sorted_by_bytes(rows)]
                self._held.drop(second)
            else:
                due = sorted_by_bytes(place for place, row in rows.items() if row[0] < limit)
                released += [rows.pop(place) for place in due]
                self._held.changed(due, second)
        if not released:
            return EMPTY
        timestamps, origins, keys, values, headers = zip(*released, strict=True)
        return Batch(keys, values, timestamps, None, origins, headers if any(headers) else None)

    def _hold(self, batch: Batch) -> None:
        origins = batch.origins or ()
        headers = batch.headers or [None] * len(batch)
        rows = list(zip(batch.timestamps, origins, batch.keys, batch.values, headers, strict=True))
        # The bytes of (timestamp, origin) sort as the pairs do, and are compared in C.
        places = identities(list(zip(batch.timestamps, origins, strict=True)))
        by_second: dict[int, list[int]] = defaultdict(list)
        for i, timestamp in enumerate(batch.timestamps):
            by_second[timestamp // BUCKET_MS].append(i)
        for second, members in by_second.items():
            mine = [places[i] for i in members]
            held = self._held.rows(mine, second)
            before = len(held)
            held.update(zip(mine, [rows[i] for i in members], strict=True))
            if len(held) != before + len(mine):
                msg = "in_order: two rows of one timestamp and origin, so one would be lost; a verb before made them"
                raise ValueError(msg)
            self._held.changed(mine, second)

    def _alarm_if_released(self, batch: Batch) -> None:
        edge = self.watermark - self.hold
        if min(batch.timestamps) < edge:
            early = sum(timestamp < edge for timestamp in batch.timestamps)
            self._context.alarm("records of their time had been released", early)
