"""`streamproc reset MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import shutil
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.failing import debug_option
from streamproc.cli.setting_options import HELP, broker_option
from streamproc.log_url import open_log
from streamproc.ownership import internal_topics
from streamproc.runner import state_folder


@click.command(epilog="Example: streamproc reset shop.streams:app")
@click.argument("target", metavar="MODULE:APP")
@broker_option
@click.option("--state-dir", metavar="DIR", help=HELP["state_dir"][1])
@click.option("--yes", is_flag=True, help="Do not ask.")
@debug_option
def command(target: str, *, yes: bool, **flags: Any) -> None:
    """Forget an app's state and positions, so that it begins anew.

    Its stores, its positions in the topics it reads, and its internal topics are deleted. The topics that it reads and
    writes stay as they are: what it wrote is still there, and is written again by the next run.
    """
    app = load_app(target)
    settings = app.settings(flags, dict(os.environ))
    asyncio.run(_reset(app, settings.broker, state_folder(app, settings), yes=yes))


async def _reset(app: App, broker: str, stores: Path, *, yes: bool) -> None:
    async with AsyncExitStack() as stack:
        log = open_log(broker)
        stack.push_async_callback(log.close)
        topics = await internal_topics(app.name, log)
        positions = len(await log.committed(app.name))
        if not _asked(app, broker, stores, topics, positions, yes=yes):
            return
        # The stores first: without them everything is still in the log, while stores without a log would be wrong.
        _delete(stores)
        await log.forget(app.name, topics)
    click.echo(f"{app.name} begins anew with its next run")


def _delete(stores: Path) -> None:
    if stores.exists():
        shutil.rmtree(stores)


def _asked(app: App, broker: str, stores: Path, topics: list[str], positions: int, *, yes: bool) -> bool:
    """Whether there is anything to forget, and whoever asked has seen what and wants it. Raises click.Abort."""
    found = [f"  positions in {positions} partitions"] if positions else []
    found += [f"  topic {topic}" for topic in topics]
    found += [f"  state in {stores}"] if stores.exists() else []
    if not found:
        click.echo(f"there is nothing to forget of {app.name} on {broker}")
        return False
    click.echo("\n".join([f"Of {app.name} on {broker} is forgotten:", *found]))
    if not yes:
        click.confirm("Forget it", abort=True)
    return True
