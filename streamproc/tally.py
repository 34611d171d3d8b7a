"""Tally: what was left out, counted by step and said once an epoch, not once a record."""

from __future__ import annotations

import logging

from streamproc.task import Task

logger = logging.getLogger("streamproc")


class Tally:
    """Records so far, by step: `late` ones, and those that the error policy `skipped`."""

    def __init__(self) -> None:
        self.late: dict[str, int] = {}
        self.skipped: dict[str, int] = {}

    def take(self, task: Task) -> None:
        """What a task has left out in the open epoch, and where the law of time was broken in it: that is an alarm."""
        for name, count in task.flow.late.items():
            self.late[name] = self.late.get(name, 0) + count
            logger.warning("%s: %s records were late (%s so far)", name, count, self.late[name])
        task.flow.late.clear()
        for name, count in task.skipped.items():
            self.skipped[name] = self.skipped.get(name, 0) + count
        task.skipped.clear()
        for what, count in task.take_alarms():
            logger.error("%s: %s records that were not late came too late; please report this", what, count)
