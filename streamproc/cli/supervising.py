"""`streamproc run MODULE:APP --processes N`."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import streamproc
from streamproc.app import App
from streamproc.cli.failing import debugging
from streamproc.cli.log_lines import DATED, PLAIN, log_lines
from streamproc.cli.progress_lines import EVERY_S, ProgressLines
from streamproc.errors import SettingsError
from streamproc.log_url import open_log
from streamproc.runner import Progress
from streamproc.settings import Settings
from streamproc.stop import Stop
from streamproc.supervisor import Place, Supervisor

logger = logging.getLogger("streamproc")


def supervise(
    app: App,
    target: str,
    settings: Settings,
    stop: Stop,
    *,
    processes: int,
    until_end: bool,
    flags: dict[str, Any],
) -> Progress:
    """Run an app by several processes until they are asked to stop, or have read to the end."""
    if not settings.broker.startswith("kafka://"):
        raise SettingsError(
            f"--processes needs a Kafka broker, and the broker is {settings.broker}, which is one process's alone: "
            "leave --processes out, or name another with --broker kafka://HOST:PORT"
        )
    arguments = ["worker", target, *_as_arguments(flags)]
    arguments += ["--until-end"] if until_end else []
    arguments += ["--debug"] if debugging() else []

    def argv_of(place: Place, descriptor: int) -> Sequence[str]:
        slot = [] if place.slot is None else ["--slot", str(place.slot)]
        return [*_program(), *arguments, *slot, "--supervised", str(descriptor)]

    async def dismiss(name: str) -> None:
        from streamproc.kafka.kafka_log import KafkaLog  # noqa: PLC0415 - loads what a supervisor seldom needs

        log = await open_log(settings)
        assert isinstance(log, KafkaLog)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(log.close)
            await log.dismiss(app.name, name)

    with log_lines("WARNING", PLAIN):
        asyncio.run(_reach(settings))

    def supervisor(print_line: Any) -> Supervisor:
        return Supervisor(argv_of, processes, stop=stop, dismiss=dismiss, print_line=print_line)

    if sys.stderr.isatty():
        from streamproc.cli.live_processes import LiveProcesses  # noqa: PLC0415 - loads rich

        with LiveProcesses(app.name, settings.broker) as live, log_lines("WARNING", PLAIN):
            return asyncio.run(live.show_while(supervisor(live.print_line)))
    with log_lines("INFO", DATED):
        return asyncio.run(_said_plainly(app, supervisor(_print_line)))


async def _reach(settings: Settings) -> None:
    """The cluster answers: one that does not would be told by each of the processes, again and again."""
    log = await open_log(settings)
    await log.close()


async def _said_plainly(app: App, supervisor: Supervisor) -> Progress:
    telling = asyncio.create_task(_tell(app, supervisor))
    try:
        return await supervisor.run()
    finally:
        telling.cancel()


async def _tell(app: App, supervisor: Supervisor) -> None:
    lines = ProgressLines()
    while True:
        await asyncio.sleep(EVERY_S)
        lines.tell(app.name, supervisor.progress())


def _print_line(text: str, error: bool) -> None:  # noqa: FBT001 - as the supervisor calls it
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


def _program() -> list[str]:
    """This interpreter and this package, with the current directory on the path no earlier than here."""
    safe = [] if Path(streamproc.__file__).parents[1] == Path.cwd() else ["-P"]
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined] # noqa: SLF001 - -O, -X dev, ...
    return [sys.executable, *flags, *safe, "-m", "streamproc"]


def _as_arguments(flags: dict[str, Any]) -> list[str]:
    """The options that were given, as a command line."""
    given = []
    for name, value in flags.items():
        for one in value if isinstance(value, tuple) else () if value is None else (value,):
            given += [f"--{name.replace('_', '-')}", str(one)]
    return given
