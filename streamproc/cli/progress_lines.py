"""Progress as log lines, for pipes and service managers."""

from __future__ import annotations

import logging
import time
from typing import Final

from streamproc.runner import Progress, Run
from streamproc.watchdog import Watchdog
from streamproc.worker_process import Onlooker, Process

logger = logging.getLogger("streamproc")

EVERY_S: Final = 10.0


class ProgressLines(Onlooker):
    """A line when it has its tasks or has others, and one every ten seconds in which something was read."""

    def __init__(self) -> None:
        self._due = time.monotonic() + EVERY_S
        self._read = -1
        self._watchdog: Watchdog | None = None
        self._doing = ""

    async def began(self, process: Process) -> None:
        self._watchdog = process.watchdog
        if process.slot is not None:
            app, slot = process.app.name, process.slot
            logger.info("%s: slot %d, called %s", app, slot.number, slot.name, extra={"app": app, "member": slot.name})

    async def turned(self, run: Run) -> None:
        if self._watchdog is not None and self._watchdog.condition.ready:
            doing = self._watchdog.condition.reason
            if doing != self._doing:
                self._doing = doing
                logger.info("%s: %s", run.app.name, doing, extra={"app": run.app.name})
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            self.tell(run.app.name, await run.progress())

    def tell(self, app: str, progress: Progress) -> None:
        """A line, if anything was read since the last one."""
        read = sum(stage.records for stage in progress.stages)
        if read != self._read:
            self._read = read
            fields = {"app": app, "count": read, "seconds": round(progress.seconds, 1)}
            logger.info("%s: %s", app, progress if progress.stages else "nothing read yet", extra=fields)
