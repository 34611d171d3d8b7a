"""Progress as a live table on a terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from streamproc.cli.times import shown_time
from streamproc.runner import Progress, Run
from streamproc.watchdog import Watchdog
from streamproc.worker_process import Onlooker, Process

EVERY_S: Final = 0.25


class Live(Onlooker):
    """A table of stages, redrawn a few times a second; printed lines scroll above it. `extra` is drawn above it.

    Below it stands what the worker waits for, while it is not ready.
    """

    def __init__(self, app: str, broker: str, console: Console | None = None) -> None:
        self._title = f"{app} on {broker}"
        self._due = 0.0
        self._progress = Progress((), {}, {}, 0.0)
        self._watchdog: Watchdog | None = None
        self._drawing: asyncio.Task[None] | None = None
        self._live = RichLive(
            console=console or Console(stderr=True), auto_refresh=False, redirect_stdout=sys.stdout.isatty()
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    async def began(self, process: Process) -> None:
        self._watchdog = process.watchdog
        self._drawing = asyncio.create_task(self._draw_waiting(process.watchdog))

    async def turned(self, run: Run) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            self.show(await run.progress())

    def show(self, progress: Progress, extra: RenderableType = "") -> None:
        """Draw."""
        self._progress = progress
        parts = [*([extra] if extra else []), stage_table(self._title, progress), left_out(progress)]
        if self._watchdog is not None and not self._watchdog.condition.ready:
            parts.append(Text(self._watchdog.condition.reason, style="yellow"))
        self._live.update(Group(*parts), refresh=True)

    def last(self, progress: Progress) -> None:
        """Draw what it came to."""
        self._watchdog = None
        self.show(progress)

    async def _draw_waiting(self, watchdog: Watchdog) -> None:
        """Also while no turn ends."""
        while True:
            if not watchdog.condition.ready:
                self.show(self._progress)
            await asyncio.sleep(EVERY_S)


def stage_table(title: str, progress: Progress) -> Table:
    """A line for each stage."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    table.add_column("stage", style="cyan")
    for name in ("records", "a second", "lag", "event time"):
        table.add_column(name, justify="right")
    for stage in progress.stages:
        table.add_row(
            stage.name,
            f"{stage.records:,}",
            f"{stage.records / max(progress.seconds, EVERY_S):,.0f}",
            f"{stage.lag:,}" if stage.lag else "-",
            shown_time(stage.event_time),
        )
    return table


def left_out(progress: Progress) -> Text:
    """What was late or skipped, and what is not counted."""
    late, skipped = sum(progress.late.values()), sum(progress.skipped.values())
    text = Text("")
    for name, count, steps in (("late", late, progress.late), ("skipped", skipped, progress.skipped)):
        if count:
            text.append(f"{count:,} {name} ", style="yellow")
            text.append(f"({', '.join(steps)})  ", style="dim")
    if progress.cut_short:
        text.append(progress.not_counted, style="dim")
    return text
