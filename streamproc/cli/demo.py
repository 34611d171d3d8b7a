"""`streamproc demo`."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import rich_click as click
from rich.console import Console, RenderableType
from rich.table import Table

from streamproc import match_day
from streamproc.apps.trending import app
from streamproc.cli.failing import debug_option
from streamproc.cli.live import EVERY_S, Live
from streamproc.cli.times import shown_time
from streamproc.errors import StreamprocError
from streamproc.local_log import LocalLog
from streamproc.log import Chunk, Columns, Log, Partition
from streamproc.runner import Progress, Run, open_disk, run
from streamproc.stop import Stop
from streamproc.windows.duration import instant_ms

LASTS_S: Final = 8.0
"""How long the match day takes on a terminal; a pipe gets it as fast as it goes."""
BAR: Final = 24
AFTER_MS: Final = 120_000
"""A moment of the match is talked about for about so long."""

Row = Mapping[str, Any]


@click.command(epilog="Example: streamproc demo --keep match")
@click.option(
    "--keep", metavar="DIR", type=click.Path(path_type=Path), help="Keep the log there, to look at it afterwards."
)
@debug_option
def command(keep: Path | None) -> None:
    """Trending hashtags on a made match day; ends by itself.

    24,000 made tweets of a football match go into a log in a folder, and streamproc.apps.trending finds the ten most
    used hashtags of each five minutes. Nothing else is needed, and nothing is left behind but what --keep names.
    """
    if keep is not None and (keep / "log").exists():
        raise StreamprocError(f"there is a log in {keep} already: name another folder, or delete it")
    with _place(keep) as place, Stop() as stop:
        asyncio.run(_demo(place, stop))
    click.echo(_next(keep))


@contextmanager
def _place(keep: Path | None) -> Iterator[Path]:
    """The folder of the demo: the one to keep, or one that is gone afterwards."""
    if keep is not None:
        yield keep
    else:
        with TemporaryDirectory(prefix="streamproc-demo-") as folder:
            yield Path(folder)


async def _demo(place: Path, stop: Stop) -> None:
    console = Console()
    async with AsyncExitStack() as stack:
        settings = app.settings({"broker": f"local://{place}"}, {})
        log = _PacedLog(place / "log") if console.is_terminal else LocalLog(place / "log")
        stack.push_async_callback(log.close)
        console.print("Writing the tweets of a made match day to the topic [green]tweets[/] ...")
        await _write_match_day(log)
        with Live(app.name, "the embedded log", console) as live:
            show = _Show(live)
            progress = await run(
                app, log, open_disk(app, settings), settings, stop=stop, until_end=True, watch=show.watch
            )
            await show.last(log, progress)
        if not stop.requested:
            console.print(await _moments(log))


async def _write_match_day(log: Log) -> None:
    lines: list[bytes | None] = list(match_day.json_lines())
    times = [instant_ms(tweet.created_at) for tweet in match_day.tweets()]
    await log.create("tweets", partitions=1, config={})
    sink = await log.sink(None, "demo")
    sink.send(Partition("tweets", 0), Columns([None] * len(lines), lines, times))
    await sink.commit({})


class _PacedLog(LocalLog):
    """A log that gives the tweets as their time comes, the match day in `LASTS_S`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        times = [instant_ms(tweet.created_at) for tweet in match_day.tweets()]
        self._times = list(accumulate(times, max))
        self._began: float | None = None

    def chunk(self, partition: Partition, offset: int, limit: int | None = None) -> Chunk:
        """As ever, but no tweet before its time."""
        if partition.topic == "tweets" and limit is None:
            now = time.monotonic()
            self._began = now if self._began is None else self._began
            start, end = instant_ms(match_day.START), instant_ms(match_day.END)
            limit = bisect(self._times, start + (end - start) * (now - self._began) / LASTS_S) - offset
        return super().chunk(partition, offset, limit)


class _Show:
    """The latest top ten and the progress, at the pace of the eye."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._due = 0.0
        self._top: Row | None = None
        self._offset = 0

    async def watch(self, run: Run) -> None:
        """Called after each turn."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + EVERY_S
            await self._look(run.log)
            self._live.show(await run.progress(), self._table())

    async def last(self, log: Log, progress: Progress) -> None:
        """The end, which comes between two looks."""
        await self._look(log)
        self._live.show(progress, self._table())

    async def _look(self, log: Log) -> None:
        """Take the last window that has been written."""
        partition = Partition("trends", 0)
        end = (await log.ends([partition]))[partition]
        if end > self._offset:
            self._offset = end
            chunk = await log.read(partition, end - 1, 1)
            self._top = msgspec.json.decode(chunk.columns.values[0] or b"{}")

    def _table(self) -> RenderableType:
        if self._top is None:
            return ""
        start, end = (shown_time(self._top[name])[11:16] for name in ("start", "end"))
        title = f"#hashtags from {start} to {end}  {_moment(self._top['end'])}"
        table = Table(
            title=title, title_justify="left", title_style="bold", header_style="dim", box=None, show_header=False
        )
        most = max(item["value"] for item in self._top["top"])
        for item in self._top["top"]:
            bar = "█" * max(1, round(BAR * item["value"] / most))
            table.add_row(f"#{item['key']}", f"{item['value']:>5,}", bar)
        table.columns[0].style, table.columns[0].min_width = "cyan", 20
        table.columns[2].style, table.columns[2].min_width = "magenta", BAR
        return table


async def _moments(log: Log) -> RenderableType:
    """The match as the hashtags tell it: the top two of the window that ends two minutes after each moment."""
    partition = Partition("trends", 0)
    values = (await log.read(partition, 0, (await log.ends([partition]))[partition])).columns.values
    by_end = {row["end"]: row["top"] for row in map(msgspec.json.decode, filter(None, values))}
    table = Table(title="The match, by hashtags", title_justify="left", title_style="bold", box=None, show_header=False)
    for moment in match_day.MOMENTS:
        top = by_end.get(instant_ms(moment.at) + AFTER_MS, [])[:2]
        tags = "  ".join(f"[cyan]#{item['key']}[/] {item['value']}" for item in top)
        table.add_row(f"{moment.at:%H:%M}", moment.phrases[0], tags)
    return table


def _moment(at_ms: int) -> str:
    """What has just happened in the match."""
    recent = [moment for moment in match_day.MOMENTS if 0 <= at_ms - instant_ms(moment.at) < AFTER_MS]
    return recent[-1].phrases[0] if recent else ""


def _next(keep: Path | None) -> str:
    place = keep or Path("match")
    lines = [
        *(() if keep else ((f"streamproc demo --keep {place}", "the same, and the log stays"),)),
        (f"streamproc tail trends --broker local://{place} --from -1", "the last window, as it is in the topic"),
        ("streamproc explain streamproc.apps.trending:app", "what the app does"),
        *(((f"streamproc tail tweets --broker local://{place} --limit 5", "what it read"),) if keep else ()),
    ]
    width = max(len(command) for command, _ in lines)
    return "\n".join(
        ["", "To try next:", *(f"  {command:<{width}}  {click.style(what, dim=True)}" for command, what in lines)]
    )
