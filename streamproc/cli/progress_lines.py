"""Progress as log lines, for pipes and service managers."""

from __future__ import annotations

import logging
import time
from typing import Final

from streamproc.runner import Run

logger = logging.getLogger("streamproc")

EVERY_S: Final = 10.0


class ProgressLines:
    """A line at the start, and one every ten seconds in which something was read."""

    def __init__(self) -> None:
        self._due = 0.0
        self._said = -1

    async def watch(self, run: Run) -> None:
        """Called after each turn."""
        now = time.monotonic()
        if self._due == 0.0:
            logger.info("%s: running, %d tasks", run.app.name, len(run.worker.tasks))
            self._due = now + EVERY_S
        elif now >= self._due:
            self._due = now + EVERY_S
            progress = await run.progress()
            read = sum(stage.records for stage in progress.stages)
            if read != self._said:
                self._said = read
                logger.info("%s: %s", run.app.name, progress)
