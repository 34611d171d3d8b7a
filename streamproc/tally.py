"""Tally: what was left out, counted by step and said now and then, not once a record."""

from __future__ import annotations

import logging
from typing import Final

from streamproc.clock import Clock
from streamproc.counted import counted
from streamproc.task import Task

logger = logging.getLogger("streamproc")

SAID_EVERY_MS: Final = 10_000
"""Of the late records of a step no more is said than a line in this time."""


class Tally:
    """Records so far, by step: `late` ones, and those that the error policy `skipped`."""

    def __init__(self, clock: Clock) -> None:
        self.late: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self._clock = clock
        self._said: dict[str, tuple[int, int]] = {}
        """When late records of a step were said last, and how many there had been."""

    def take(self, task: Task) -> None:
        """What a task has left out in the open epoch, and where the law of time was broken in it: that is an alarm."""
        for name, count in task.flow.late.items():
            self.late[name] = self.late.get(name, 0) + count
        task.flow.late.clear()
        for name, count in task.skipped.items():
            self.skipped[name] = self.skipped.get(name, 0) + count
        task.skipped.clear()
        for what, count in task.take_alarms():
            records, were = counted(count, "record"), "was" if count == 1 else "were"
            logger.error("%s: %s that %s not late came too late; please report this", what, records, were)

    def tell(self, *, last: bool = False) -> None:
        """Say which steps had late records since they were said; not so soon again, unless it is the `last` time."""
        now_ms = self._clock.now_ms()
        for name, count in self.late.items():
            said_ms, before = self._said.get(name, (now_ms - SAID_EVERY_MS, 0))
            if count > before and (last or now_ms - said_ms >= SAID_EVERY_MS):
                self._said[name] = now_ms, count
                more = count - before
                what = "1 record was late" if more == 1 else f"{more:,} records were late"
                logger.warning("%s: %s (%s so far)", name, what, f"{count:,}", extra={"step": name, "count": more})
