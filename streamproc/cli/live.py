"""Progress as a live table on a terminal."""

from __future__ import annotations

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

EVERY_S: Final = 0.25


class Live:
    """A table of stages, redrawn a few times a second; printed lines scroll above it. `extra` is drawn below it."""

    def __init__(self, app: str, broker: str, console: Console | None = None) -> None:
        self._title = f"{app} on {broker}"
        self._due = 0.0
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

    async def watch(self, run: Run) -> None:
        """Called after each turn."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            self.show(await run.progress())

    def show(self, progress: Progress, extra: RenderableType = "") -> None:
        """Draw."""
        self._live.update(Group(*([extra] if extra else []), self._table(progress), _left_out(progress)), refresh=True)

    def _table(self, progress: Progress) -> Table:
        table = Table(title=self._title, title_justify="left", title_style="bold", header_style="dim", box=None)
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


def _left_out(progress: Progress) -> Text:
    late, skipped = sum(progress.late.values()), sum(progress.skipped.values())
    text = Text("")
    for name, count, steps in (("late", late, progress.late), ("skipped", skipped, progress.skipped)):
        if count:
            text.append(f"{count:,} {name} ", style="yellow")
            text.append(f"({', '.join(steps)})  ", style="dim")
    return text
