"""`streamproc check MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.failing import FAILED, as_called, debug_option, target_argument
from streamproc.cli.hints import with_hint
from streamproc.cli.setting_options import place_options
from streamproc.clock import SystemClock
from streamproc.compatibility import Compatibility, compatibility
from streamproc.counted import counted
from streamproc.errors import StreamprocError
from streamproc.log_url import open_log
from streamproc.settings import Settings


@click.command(epilog="Example: streamproc check shop.streams:app --broker kafka://localhost:9092")
@target_argument
@place_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@debug_option
def command(target: str, *, as_json: bool, **flags: Any) -> None:
    """Say whether an app, as it is now, can go on from what is stored of it: before it is deployed.

    By the checks that a start makes: the numbers of partitions, the state of each step, what waits between stages.
    Nothing is made or changed, and it works beside the workers. All changelogs are read, so that it takes as long as a
    restore of the whole state.

    Exit codes: 0 it can; 1 a start would be refused, and what the ways out are; 2 wrong call.
    """
    app = load_app(target)
    settings = app.settings(flags, dict(os.environ))
    if settings.broker.startswith("memory://"):
        raise StreamprocError("memory:// keeps nothing between two runs: any plan can begin there")
    with with_hint(settings.broker):
        found = asyncio.run(_check(app, settings))
    found = msgspec.structs.replace(found, refused=tuple(as_called(why) for why in found.refused))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        click.echo("\n".join(_text(app.name, settings.broker, found)))
    if found.refused:
        sys.exit(FAILED)


async def _check(app: App, settings: Settings) -> Compatibility:
    async with AsyncExitStack() as stack:
        log = await open_log(settings, read_only=True)
        stack.push_async_callback(log.close)
        return await compatibility(app, log, settings, SystemClock())
    raise AssertionError


def _text(app: str, broker: str, found: Compatibility) -> Iterator[str]:
    head = f"{click.style(app, bold=True)} on {broker}: "
    if found.refused:
        yield head + click.style("refused", fg="red", bold=True)
        yield from (f"  {why}" for why in found.refused)
        return
    yield head + click.style("compatible", fg="green", bold=True)
    if found.positions:
        tasks = f", with the state of {counted(found.tasks, 'task')}" if found.tasks else ""
        yield f"  it goes on from positions in {counted(found.positions, 'partition')}{tasks}"
    else:
        yield "  nothing is stored of it: it begins at the beginning"
    if found.other:
        yield (
            f"  what is stored is of another plan ({', '.join(found.other)}), which it can follow. Workers of both "
            "share no tasks: those of the plan that fewer have wait"
        )
    if found.makes:
        yield f"  it makes the topics {', '.join(found.makes)}"
