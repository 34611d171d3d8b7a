"""`streamproc reset MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.failing import debug_option, target_argument
from streamproc.cli.setting_options import place_options
from streamproc.cli.times import shown_time
from streamproc.clock import SystemClock
from streamproc.clock_repair import check_nobody, clocks_beyond, set_clocks_back
from streamproc.counted import counted
from streamproc.errors import StreamprocError
from streamproc.log_url import open_log
from streamproc.ownership import internal_topics
from streamproc.restore_lag import positions
from streamproc.runner import state_folder
from streamproc.settings import Settings
from streamproc.slot import all_slots
from streamproc.windows.duration import instant_ms

_CLOCK = "Forget nothing, but set clocks that are beyond this instant back to it: 2026-06-11T12:00Z, or ms since 1970."


@click.command(epilog="Example: streamproc reset shop.streams:app")
@target_argument
@place_options
@click.option("--clock", metavar="INSTANT", help=_CLOCK)
@click.option("--yes", is_flag=True, help="Do not ask.")
@debug_option
def command(target: str, *, clock: str | None, yes: bool, **flags: Any) -> None:
    """Forget an app's state and positions, so that it begins anew; or set its clocks back.

    Its stores, its positions in the topics it reads, and its internal topics are deleted. The topics that it reads and
    writes stay as they are: what it wrote is still there, and is written again by the next run.

    --clock is for a record with a wrong time, from the future, that has made all that come after it late. INSTANT is
    how far time has really gone: the newest time that a record may rightly have had. What had been closed by then stays
    closed; a window that is open at INSTANT begins anew, and is written a second time.

    No worker may run meanwhile.
    """
    app = load_app(target)
    settings = app.settings(flags, dict(os.environ))
    if settings.broker.startswith("memory://"):
        raise StreamprocError("memory:// keeps nothing between two runs: there is nothing to reset")
    if clock is None:
        asyncio.run(_reset(app, settings, yes=yes))
    else:
        asyncio.run(_set_back(app, settings, _instant(clock), yes=yes))


def _instant(text: str) -> int:
    if text.lstrip("-").isdecimal():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise click.UsageError(
            f"--clock {text!r} is no instant: write 2026-06-11T12:00Z (ISO 8601), or milliseconds since 1970"
        ) from None
    if instant.tzinfo is None:
        written = instant.isoformat()
        raise click.UsageError(f"--clock {text!r} has no time zone: write {written}Z (UTC), or {written}+02:00")
    return instant_ms(instant)


async def _reset(app: App, settings: Settings, *, yes: bool) -> None:
    stores = state_folder(app, settings)
    async with AsyncExitStack() as stack:
        log = await open_log(settings)
        stack.push_async_callback(log.close)
        await check_nobody(app.name, log)
        stack.enter_context(all_slots(stores))
        topics = await internal_topics(app.name, log)
        partitions = len(positions(await log.committed(app.name)))
        if not _asked(app, settings.broker, stores, topics, partitions, yes=yes):
            return
        # The stores first: without them everything is still in the log, while stores without a log would be wrong.
        _delete(stores)
        await log.forget(app.name, topics)
    click.echo(f"{app.name} begins anew with its next run")


def _delete(stores: Path) -> None:
    if stores.exists():
        shutil.rmtree(stores)


def _asked(app: App, broker: str, stores: Path, topics: list[str], partitions: int, *, yes: bool) -> bool:
    """Whether there is anything to forget, and whoever asked has seen what and wants it. Raises click.Abort."""
    found = [f"  positions in {counted(partitions, 'partition')}"] if partitions else []
    found += [f"  topic {topic}" for topic in topics]
    found += [f"  state in {stores}"] if stores.exists() else []
    if not found:
        click.echo(f"there is nothing to forget of {app.name} on {broker}")
        return False
    click.echo("\n".join([f"Of {app.name} on {broker} is forgotten:", *found]))
    if not yes:
        click.confirm("Forget it", abort=True)
    return True


async def _set_back(app: App, settings: Settings, to_ms: int, *, yes: bool) -> None:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        log = await open_log(settings)
        stack.push_async_callback(log.close)
        await check_nobody(app.name, log)
        stack.enter_context(all_slots(state_folder(app, settings)))
        beyond = await clocks_beyond(app, log, settings, clock, at_ms=to_ms)
        instant = shown_time(to_ms)
        if not beyond:
            click.echo(f"no clock of {app.name} on {settings.broker} is beyond {instant}")
            return
        click.echo(f"Of {app.name} on {settings.broker} is set back to {instant}:")
        click.echo("\n".join(f"  {what}, which is {shown_time(at_ms)}" for what, at_ms in beyond))
        if not yes:
            click.confirm("Set back", abort=True)
        member = f"reset-{secrets.token_hex(6)}"
        await set_clocks_back(app, log, settings, clock, to_ms=to_ms, member=member)
    click.echo(f"{app.name} goes on from {instant} with its next run")
