"""`streamproc status MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

import msgspec
import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.columns import aligned
from streamproc.cli.failing import FAILED, debug_option, target_argument
from streamproc.cli.hints import with_hint
from streamproc.cli.setting_options import place_options
from streamproc.cli.times import shown_time
from streamproc.errors import StreamprocError
from streamproc.log_url import open_log
from streamproc.runner import state_folder
from streamproc.settings import Settings
from streamproc.status import MemberStatus, StageStatus, Status, TaskStatus, status_of
from streamproc.windows.duration import duration_ms, duration_text

_ON_THEIR_WAY: Final = ("opening", "restoring")
"""Tasks in these states are shown without being asked for."""
_FINE: Final = 1_000
"""Below so many ms a time is shown to the millisecond."""


@click.command(epilog="Example: streamproc status shop.streams:app --broker kafka://localhost:9092")
@target_argument
@place_options
@click.option("--tasks", "each_task", is_flag=True, help="A line for each task.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@debug_option
def command(target: str, *, each_task: bool, as_json: bool, **flags: Any) -> None:
    """Show how an app stands: its workers, and for each stage what it has not read yet.

    Nothing is changed; it works beside the workers. LAG is in records; BEHIND is how much later the newest of a
    source's last records is than the last one read, in event time, or `held up` where a transaction is open on a
    source; EVENT TIME is how far the sources have been read. A task is `opening` until its owner has committed for it,
    and `restoring` while its owner reads its state from the changelog, with how many of how many records. A worker that
    was killed is shown, with its tasks, until its session is over (--session-timeout) or it has been started again;
    where it ran on this machine, on this --state-dir, it is said to be gone.

    Exit codes: 0 every task has an owner, none of whom is known to be gone, the group is at rest, and no transaction
    holds a source up; 1 not so; 2 wrong call.
    """
    app = load_app(target)
    settings = app.settings(flags, dict(os.environ))
    if settings.broker.startswith("memory://"):
        raise StreamprocError("memory:// is in the memory of the process that runs the app: nothing is seen of it here")
    with with_hint(settings.broker):
        status = asyncio.run(_look(app, settings))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(status), indent=2).decode())
    else:
        click.echo("\n".join(_text(status, each_task=each_task)))
    if status.problems:
        sys.exit(FAILED)


async def _look(app: App, settings: Settings) -> Status:
    async with AsyncExitStack() as stack:
        log = await open_log(settings, read_only=True)
        stack.push_async_callback(log.close)
        return await status_of(
            app, log, settings.broker, state_folder(app, settings), ahead_ms=duration_ms(settings.ahead)
        )
    raise AssertionError


def _text(status: Status, *, each_task: bool) -> Iterable[str]:
    count = len(status.members)
    workers = f"{count} worker{'' if count == 1 else 's'}" if count else "no worker"
    at_rest = ", the group is sharing out its tasks" if status.changing else ""
    yield f"{click.style(status.app, bold=True)} on {status.broker}: {workers}{at_rest}"
    if status.members:
        yield ""
        yield from aligned(["worker", "host", "slot", "process", "tasks"], map(_member, status.members), right={2, 3})
    yield ""
    heads = ["stage", "tasks", "lag", "behind", "event time"]
    yield from aligned(heads, map(_stage, status.stages), right={1, 2, 3, 4})
    tasks = [task for stage in status.stages for task in stage.tasks if each_task or task.state in _ON_THEIR_WAY]
    if tasks:
        yield ""
        heads = ["task", "state", "lag", "behind", "event time", "worker"]
        yield from aligned(heads, map(_task, tasks), right={2, 3, 4})
    if status.problems:
        yield ""
        yield from (click.style(problem, fg="yellow") for problem in status.problems)


def _member(member: MemberStatus) -> Sequence[str]:
    place = ["-" if value is None else str(value) for value in (member.slot, "gone" if member.gone else member.pid)]
    return [member.name, member.host or "-", *place, _grouped(member.tasks)]


def _stage(stage: StageStatus) -> Sequence[str]:
    return [stage.name, str(len(stage.tasks)), f"{stage.lag:,}", _behind(stage), shown_time(stage.event_time)]


def _task(task: TaskStatus) -> Sequence[str]:
    measures = [f"{task.lag:,}", _behind(task), shown_time(task.event_time)]
    return [f"{task.stage}/{task.number}", _state(task), *measures, task.owner or "-"]


def _state(task: TaskStatus) -> str:
    if not task.to_restore:
        return task.state
    restored = task.restored or 0
    return f"{task.state} {100 * restored // task.to_restore} % ({restored:,} of {task.to_restore:,})"


def _behind(of: StageStatus | TaskStatus) -> str:
    ms = of.behind_ms
    if ms is None:
        return "held up" if of.held_up else "-"
    return duration_text(ms if ms < _FINE else ms // 1_000 * 1_000)


def _grouped(tasks: Iterable[str]) -> str:
    """The numbers of each stage's tasks together: `tweets/0,1,4 trending-key_by/2`."""
    numbers: dict[str, list[str]] = {}
    for task in tasks:
        stage, _, number = task.rpartition("/")
        numbers.setdefault(stage, []).append(number)
    return " ".join(f"{stage}/{','.join(found)}" for stage, found in numbers.items()) or "none"
