"""`streamproc run MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from typing import Any

import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.failing import debug_option
from streamproc.cli.hints import with_hint
from streamproc.cli.log_lines import log_lines
from streamproc.cli.setting_options import SETTINGS_EPILOG, setting_options
from streamproc.log import Log
from streamproc.log_url import open_log
from streamproc.runner import Progress, Stop, Watch, open_disk, run
from streamproc.settings import Settings

_UNTIL_END = "End by itself when everything that is in the topics now has been read; what is open then is closed."


@click.command(epilog=f"{SETTINGS_EPILOG}\n\nExample: streamproc run streamproc.apps.trending:app --until-end")
@click.argument("target", metavar="MODULE:APP")
@setting_options
@click.option("--until-end", is_flag=True, help=_UNTIL_END)
@debug_option
def command(target: str, *, until_end: bool, **flags: Any) -> None:
    """Run an app: read its topics, keep its state, write its results.

    MODULE:APP is a module and the App in it, found from the current directory on, or FILE.py:APP; without :APP, the
    only App there. A first SIGINT (Ctrl-C) or SIGTERM commits what was read and leaves; a second one stops at once.
    Nothing is lost or doubled either way, kill -9 included.
    """
    run_and_tell(load_app(target), until_end=until_end, flags=flags)


def command_of(app: App) -> click.Command:
    """The same for an app that is at hand."""

    @click.command(epilog=SETTINGS_EPILOG, help=f"Run app {app.name!r}, as `streamproc run` does.")
    @setting_options
    @click.option("--until-end", is_flag=True, help=_UNTIL_END)
    @debug_option
    def run_this(*, until_end: bool, **flags: Any) -> None:
        run_and_tell(app, until_end=until_end, flags=flags)

    return run_this


def run_and_tell(app: App, *, until_end: bool, flags: dict[str, Any]) -> None:
    """Run the app and say how it goes: live on a terminal, else in log lines; at the end a summary. All on stderr."""
    with Stop() as stop:
        app.plan  # noqa: B018 - a wrong app is told before anything is opened
        settings = app.settings(flags, dict(os.environ))
        live = sys.stderr.isatty()
        progress = (_run_live if live else _run_plainly)(app, settings, stop, until_end=until_end)
        ended = "stopped" if stop.requested else "read to the end"
        click.echo(f"{app.name}: {ended}" + ("" if live else f": {progress}"), err=True)


def _run_live(app: App, settings: Settings, stop: Stop, *, until_end: bool) -> Progress:
    from streamproc.cli.live import Live  # noqa: PLC0415 - rich takes 0.1 s to load, which a service need not

    with Live(app.name, settings.broker) as live, log_lines("WARNING", dated=False):
        progress = asyncio.run(_run(app, settings, stop, until_end=until_end, watch=live.watch))
        live.show(progress)
        return progress


def _run_plainly(app: App, settings: Settings, stop: Stop, *, until_end: bool) -> Progress:
    from streamproc.cli.progress_lines import ProgressLines  # noqa: PLC0415 - as above, the other way round

    with log_lines("INFO", dated=True):
        return asyncio.run(_run(app, settings, stop, until_end=until_end, watch=ProgressLines().watch))


async def _run(app: App, settings: Settings, stop: Stop, *, until_end: bool, watch: Watch) -> Progress:
    async with AsyncExitStack() as stack:
        log = open_log(settings.broker)
        stack.push_async_callback(log.close)
        if settings.broker.startswith("memory://"):
            await _warn_of_memory(app, log)
        with with_hint(settings.broker):
            return await run(app, log, open_disk(app, settings), settings, stop=stop, until_end=until_end, watch=watch)
    raise AssertionError


async def _warn_of_memory(app: App, log: Log) -> None:
    click.echo(
        "memory:// is empty at the start and forgotten at the end, and no other process sees it: this run has nothing "
        "to read. Use local://DIR; to try an app on given records there is streamproc.testing.replay",
        err=True,
    )
    for topic in app.plan.sources:
        await log.create(topic.name, partitions=1, config={})
