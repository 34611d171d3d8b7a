"""`streamproc run MODULE:APP`."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Final

import rich_click as click

from streamproc.app import App
from streamproc.cli.app_import import load_app
from streamproc.cli.failing import debug_option, remember_target, target_argument
from streamproc.cli.hints import with_hint
from streamproc.cli.log_lines import DATED, PLAIN, log_lines
from streamproc.cli.setting_options import SETTINGS_EPILOG, setting_options
from streamproc.errors import SettingsError
from streamproc.runner import Progress
from streamproc.settings import Settings
from streamproc.stop import Stop
from streamproc.worker_process import Onlooker, work

SUPERVISED_EXIT_S: Final = 15.0
"""A supervisor gives its processes ten seconds."""
_UNTIL_END: Final = "End by itself when all that is in the topics now has been read; what is open then is closed."
_PROCESSES: Final = "So many processes share the work, and are started again when they die; kafka:// only."


@click.command(epilog=f"{SETTINGS_EPILOG}\n\nExample: streamproc run streamproc.apps.trending:app --until-end")
@target_argument
@setting_options
@click.option("--until-end", is_flag=True, help=_UNTIL_END)
@click.option("--processes", metavar="N", type=click.IntRange(min=1), help=_PROCESSES)
@debug_option
def command(target: str, *, until_end: bool, processes: int | None, **flags: Any) -> None:
    """Run an app: read its topics, keep its state, write its results.

    MODULE:APP is a module and the App in it, found from the current directory on, or FILE.py:APP; without :APP, the
    only App there. A first SIGINT (Ctrl-C) or SIGTERM commits what was read and leaves, within ten seconds; a second
    one stops at once. Nothing is lost or doubled either way, kill -9 included.
    """
    run_and_tell(load_app(target), target, until_end=until_end, processes=processes, flags=flags)


def command_of(app: App) -> click.Command:
    """The same for an app that is at hand."""

    @click.command(epilog=SETTINGS_EPILOG, help=f"Run app {app.name!r}, as `streamproc run` does.")
    @setting_options
    @click.option("--until-end", is_flag=True, help=_UNTIL_END)
    @click.option("--processes", metavar="N", type=click.IntRange(min=1), help=_PROCESSES)
    @debug_option
    @click.pass_context
    def run_this(ctx: click.Context, /, *, until_end: bool, processes: int | None, **flags: Any) -> None:
        target = _target_of(app)
        if target is not None:
            remember_target(ctx, target)
        elif processes is not None:
            raise SettingsError(
                f"--processes: app {app.name!r} is no variable of the program's main module, where other processes "
                "could find it: run it as `streamproc run MODULE:APP --processes N`"
            )
        run_and_tell(app, target or "", until_end=until_end, processes=processes, flags=flags)

    return run_this


def _target_of(app: App) -> str | None:
    """How another process finds the app that the program that runs has at hand; None: it cannot."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    place = spec.name if spec is not None else os.path.relpath(file) if file is not None else None
    name = next((name for name, value in vars(main).items() if value is app), None)
    return None if place is None or name is None else f"{place}:{name}"


def run_and_tell(app: App, target: str, *, until_end: bool, processes: int | None, flags: dict[str, Any]) -> None:
    """Run the app and say how it goes: live on a terminal, else in log lines; at the end a summary. All on stderr."""
    app.plan  # noqa: B018 - a wrong app is told before anything is opened
    settings = app.settings(flags, dict(os.environ))
    live = sys.stderr.isatty()
    if processes is None:
        with Stop() as stop:
            progress = (_run_live if live else _run_plainly)(app, settings, stop, until_end=until_end)
    else:
        from streamproc.cli.supervising import supervise  # noqa: PLC0415 - what one process does not need

        with Stop(exit_s=SUPERVISED_EXIT_S) as stop:
            progress = supervise(app, target, settings, stop, processes=processes, until_end=until_end, flags=flags)
    ended = "stopped" if stop.requested else "read to the end"
    click.echo(f"{app.name}: {ended}" + ("" if live else f": {progress}"), err=True)


def _run_live(app: App, settings: Settings, stop: Stop, *, until_end: bool) -> Progress:
    from streamproc.cli.live import Live  # noqa: PLC0415 - rich takes 0.1 s to load, which a service need not

    with Live(app.name, settings.broker) as live, log_lines("WARNING", PLAIN):
        progress = _run(app, settings, stop, until_end=until_end, onlooker=live)
        live.last(progress)
        return progress


def _run_plainly(app: App, settings: Settings, stop: Stop, *, until_end: bool) -> Progress:
    from streamproc.cli.progress_lines import ProgressLines  # noqa: PLC0415 - as above, the other way round

    with log_lines("INFO", DATED):
        return _run(app, settings, stop, until_end=until_end, onlooker=ProgressLines())


def _run(app: App, settings: Settings, stop: Stop, *, until_end: bool, onlooker: Onlooker) -> Progress:
    with with_hint(settings.broker):
        return asyncio.run(work(app, settings, stop=stop, until_end=until_end, onlooker=onlooker))
