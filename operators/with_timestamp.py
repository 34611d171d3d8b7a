"""with_timestamp: another event time for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import sub
from typing import Any

from streamproc.operators.batch import FOREVER, NEVER, Batch
from streamproc.operators.lateness import behind
from streamproc.operators.operator import Context, Operator


class WithTimestamp(Operator):
    """The time of each row becomes f(value), in ms since the epoch.

    From here on the task's clock is the largest new timestamp so far, in partition order, and lateness is judged by it.
    """

    remembers = ("watermark", "reach", "ended_to", "clock")
    stateful = True
    retimes = True
    clock = NEVER

    def __init__(self, f: Callable[[Any], int]) -> None:
        self.f = f
        self.signature = {"verb": "with_timestamp"}
        self._floor = FOREVER
        self._ahead_ms = FOREVER

    def open(self, context: Context) -> None:
        self._floor = context.floor
        self._ahead_ms = context.ahead_ms

    def process(self, batch: Batch, side: int = 0) -> Batch:
        f = self.f
        timestamps = [f(value) for value in batch.values]
        self._check_future(timestamps, batch.timestamps)
        clocks = list(accumulate(timestamps, max, initial=self.clock))[1:]
        self.clock = clocks[-1]
        return Batch(
            batch.keys, batch.values, timestamps, behind(clocks, timestamps, self._floor), batch.origins, batch.headers
        )

    def _check_future(self, timestamps: Sequence[int], own: Sequence[int]) -> None:
        ahead_ms = max(map(sub, timestamps, own))
        if ahead_ms > self._ahead_ms:
            msg = f"the event time is {ahead_ms} ms ahead of the record's own: ahead= allows {self._ahead_ms} ms"
            raise ValueError(msg)

    def advance_clock(self, until_ms: int) -> None:
        self.clock = max(self.clock, until_ms)

    def passes_on(self) -> int:
        return self.clock
