"""What a supervised process reports while it works."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from streamproc.reports import Began, Doing, Ended, Reporter
from streamproc.runner import Progress, Run
from streamproc.watchdog import Watchdog
from streamproc.worker_process import Onlooker, Process

EVERY_S: Final = 1.0


class Reporting(Onlooker):
    """Reports once a second what the worker does, also while no turn ends, and how far it is."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._due = 0.0
        self._progress: Progress | None = None
        self._beating: asyncio.Task[None] | None = None

    async def began(self, process: Process) -> None:
        slot = process.slot
        self._reporter.send(Began(None, "") if slot is None else Began(slot.number, slot.name))
        self._beating = asyncio.create_task(self._beat(process.watchdog))

    async def turned(self, run: Run) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            self._progress = await run.progress()

    def last(self, progress: Progress, *, asked: bool) -> None:
        """How far it came in the end, and whether it was `asked` to stop."""
        self._reporter.send(Ended(progress, asked))

    async def _beat(self, watchdog: Watchdog) -> None:
        said: Doing | None = None
        while True:
            doing = Doing(watchdog.condition, self._progress)
            if doing != said:
                self._reporter.send(doing)
                said = doing
            await asyncio.sleep(EVERY_S)
