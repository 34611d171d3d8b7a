"""Lateness: a record is judged by its own source partition's clock, as it was when the record was read.

So whether a record is late is a function of the input alone, not of the pace at which tasks run.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import sub

from streamproc.operators.batch import FOREVER, NEVER, Batch
from streamproc.operators.operator import Operator


def behind(clocks: Sequence[int], timestamps: Sequence[int], floor: int) -> list[int | None] | None:
    """The clocks of the rows more than `floor` ms behind their clock, None for the others; None if there is none."""
    if floor == FOREVER or max(map(sub, clocks, timestamps), default=NEVER) <= floor:
        return None
    return [clock if clock - timestamp > floor else None for clock, timestamp in zip(clocks, timestamps, strict=True)]


def on_time(operator: Operator, batch: Batch, side: int = 0) -> Batch:
    """The rows that are not late for an operator without fixed windows; the late ones become `operator.late`.

    Late iff timestamp + grace < clock, or at or below what the end of an earlier input has closed.
    """
    closes = operator.closes_on[side]
    ended_to = operator.ended_to if closes else NEVER
    if batch.clocks is not None or min(batch.timestamps) <= ended_to:
        grace = operator.graces[side]
        clocks = batch.clocks or [None] * len(batch)
        late = [
            i
            for i, (timestamp, clock) in enumerate(zip(batch.timestamps, clocks, strict=True))
            if timestamp <= ended_to or (clock is not None and timestamp + grace < clock)
        ]
        if late:
            operator.late = _of_side(operator, batch.select(late), side)
            gone = set(late)
            batch = batch.select([i for i in range(len(batch)) if i not in gone])
    if closes and len(batch):
        operator.reach = max(operator.reach, *batch.timestamps)
    return batch


def _of_side(operator: Operator, late: Batch, side: int) -> Batch:
    """The late stream of two inputs is a merge: the side shows in the origin."""
    if len(operator.graces) < 2 or late.origins is None:
        return late
    origins = [(*origin, side) for origin in late.origins]
    return Batch(late.keys, late.values, late.timestamps, late.clocks, origins, late.headers)
