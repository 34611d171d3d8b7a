"""`streamproc worker MODULE:APP`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final

import rich_click as click

from streamproc.cli.app_import import load_app
from streamproc.cli.failing import FAILED, WRONG_CALL, debug_option, debugging, message, target_argument
from streamproc.cli.hints import with_hint
from streamproc.cli.log_lines import JSON, log_lines, logging_to
from streamproc.cli.progress_lines import ProgressLines
from streamproc.cli.reporting import Reporting
from streamproc.cli.setting_options import SETTINGS_EPILOG, setting_options
from streamproc.errors import RecordError, SettingsError
from streamproc.health import parsed_address
from streamproc.log import UnknownTopic
from streamproc.reports import Failed, ReportedLog, Reporter, is_final
from streamproc.runner import Progress
from streamproc.stop import Stop
from streamproc.windows.duration import duration_ms
from streamproc.worker_process import Health, Onlooker, work

logger = logging.getLogger("streamproc")

_UNTIL_END: Final = "End by itself when all that is in the topics now has been read; what is open then is closed."
_SLOT: Final = "The worker's place on this machine, which gives it its name in the group. [default: the first free one]"
_HEALTH: Final = "Answer GET /live and /ready there, with 200 or 503 and the reason as JSON; :PORT for all addresses."
_LIVE: Final = "/live is 503 when a function has held the event loop for so long. [default: 60s]"
_EXIT: Final = (
    "Exit codes: 0 it was asked to stop, or read to the end; 1 it failed, or a topic that it reads is not there yet: "
    "the last line says why; 2 it was called wrongly, or failed by an error that would come again (a wrong setting, a "
    "changed plan, a record that fails): starting it again as it is is of no use."
)


@click.command(
    epilog=f"{_EXIT}\n\n{SETTINGS_EPILOG}\n\nExample: streamproc worker shop.streams:app --health 127.0.0.1:8080"
)
@target_argument
@setting_options
@click.option("--until-end", is_flag=True, help=_UNTIL_END)
@click.option("--slot", metavar="N", type=click.IntRange(min=0), help=_SLOT)
@click.option("--health", metavar="HOST:PORT", help=_HEALTH)
@click.option("--live-within", metavar="TIME", default="60s", help=_LIVE)
@click.option("--supervised", metavar="FD", type=int, hidden=True, help="The socket to the supervisor that started it.")
@debug_option
def command(
    target: str,
    *,
    until_end: bool,
    slot: int | None,
    health: str | None,
    live_within: str,
    supervised: int | None,
    **flags: Any,
) -> None:
    """Run an app as one process, for service managers: log lines are JSON, on stderr.

    It does what `streamproc run` does. SIGTERM or SIGINT commits what was read and leaves, within ten seconds whatever
    hangs; a second one stops at once. A line has time, level and message, and task, topic, partition, offset, count and
    seconds where there are any. Started again it takes its slot, and with it its tasks, at once. A Kafka that cannot be
    reached is waited for.
    """

    def run(stop: Stop, onlooker: Onlooker) -> Progress:
        app = load_app(target)
        settings = app.settings(flags, dict(os.environ))
        with with_hint(settings.broker):
            told = None if health is None else Health(parsed_address(health), _seconds(live_within))
            progress = asyncio.run(
                work(
                    app,
                    settings,
                    stop=stop,
                    until_end=until_end,
                    onlooker=onlooker,
                    slot=slot,
                    health=told,
                    patient=supervised is None,
                )
            )
        logger.info("%s: %s: %s", app.name, "stopped" if stop.requested else "read to the end", progress)
        return progress

    if supervised is None:
        _run_alone(run)
    else:
        _run_supervised(run, Reporter(supervised))


def _seconds(text: str) -> float:
    try:
        return duration_ms(text) / 1000
    except ValueError as error:
        raise SettingsError(f"--live-within: {error}") from error


def _run_alone(run: Callable[[Stop, Onlooker], Progress]) -> None:
    with log_lines("INFO", JSON), Stop() as stop:
        try:
            run(stop, ProgressLines())
        except Exception as error:
            logger.log(logging.ERROR, message(error), extra=_fields(error), exc_info=error if debugging() else None)
            awaited = isinstance(error.__cause__, UnknownTopic)  # somebody may make it yet
            sys.exit(WRONG_CALL if is_final(error) and not awaited else FAILED)


def _run_supervised(run: Callable[[Stop, Onlooker], Progress], reporter: Reporter) -> None:
    with logging_to(ReportedLog(reporter), "INFO"), Stop(supervised=True) as stop:
        reporter.stop_with_supervisor(stop)
        try:
            progress = run(stop, reporting := Reporting(reporter))
            reporting.last(progress, asked=stop.requested)
        except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor tells it
            reporter.send(Failed.by(error, message(error), debug=debugging()))
            sys.exit(WRONG_CALL if is_final(error) else FAILED)


def _fields(error: Exception) -> dict[str, Any]:
    """Where an error is, as fields of its log line."""
    if not isinstance(error, RecordError):
        return {}
    where = error.where
    named = {"step": where.operator, "topic": where.topic, "partition": where.partition, "offset": where.offset}
    return {name: value for name, value in named.items() if value is not None}
