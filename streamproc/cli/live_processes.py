"""The progress of several processes as one live table on a terminal."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.table import Table
from rich.text import Text

from streamproc.cli.live import left_out, stage_table
from streamproc.runner import Progress
from streamproc.supervisor import Place, Supervisor

EVERY_S: Final = 0.25


class LiveProcesses:
    """A table of stages and one of processes, redrawn a few times a second; printed lines scroll above them."""

    def __init__(self, app: str, broker: str) -> None:
        self._title = f"{app} on {broker}"
        self._live = RichLive(console=Console(stderr=True), auto_refresh=False, redirect_stdout=sys.stdout.isatty())

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def print_line(self, text: str, error: bool) -> None:  # noqa: FBT001 - as the supervisor calls it
        """A line that a process printed, above the tables."""
        print(text, file=sys.stderr if error else sys.stdout)

    async def show_while(self, supervisor: Supervisor) -> Progress:
        """Draw until the supervisor is done, and once more then."""
        drawing = asyncio.create_task(self._draw(supervisor))
        try:
            return await supervisor.run()
        finally:
            drawing.cancel()
            self._show(supervisor)

    async def _draw(self, supervisor: Supervisor) -> None:
        while True:
            self._show(supervisor)
            await asyncio.sleep(EVERY_S)

    def _show(self, supervisor: Supervisor) -> None:
        progress = supervisor.progress()
        parts: list[RenderableType] = [stage_table(self._title, progress), Text(""), _processes(supervisor.places)]
        self._live.update(Group(*parts, left_out(progress)), refresh=True)


def _processes(places: list[Place]) -> Table:
    table = Table(header_style="dim", box=None)
    table.add_column("slot", style="cyan", justify="right")
    table.add_column("process", justify="right")
    table.add_column("tasks", justify="right")
    table.add_column("records", justify="right")
    table.add_column("")
    for place in sorted(places, key=lambda place: (place.slot is None, place.slot, place.number)):
        condition, progress = place.condition, place.progress
        records = "-" if progress is None else f"{sum(stage.records for stage in progress.stages):,}"
        table.add_row(
            "-" if place.slot is None else str(place.slot),
            "-" if place.pid is None else str(place.pid),
            str(len(condition.tasks)) if condition is not None else "-",
            records,
            _doing(place),
        )
    return table


def _doing(place: Place) -> Text:
    text = Text(place.state if place.condition is None else place.condition.reason)
    text.stylize("yellow" if place.condition is not None and not place.condition.ready else "")
    if place.state in ("given up", "failed"):
        text.stylize("red")
    if place.starts > 1:
        text.append(f"  started {place.starts} times", style="dim")
    return text
