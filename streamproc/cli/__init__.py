"""The command line, `streamproc COMMAND ...`: a command's module, and what it needs, is loaded when the command runs.

Exit codes: 0 it did what it says, 1 it failed, 2 it was called wrongly; 130 or 143 a second signal stopped it at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import rich_click as click

from streamproc.cli.failing import debug_option, failing_clearly

if TYPE_CHECKING:
    from streamproc.app import App

SUMMARIES: Final = {
    "demo": "Trending hashtags on a made match day; ends by itself.",
    "run": "Run an app: read its topics, keep its state, write its results.",
    "worker": "Run an app as one process, for service managers: log lines are JSON, on stderr.",
    "explain": "Show what an app does: stages, topics, stores, and what holds under any pace and crash.",
    "send": "Put the lines of a file into a topic: JSON lines, CSV or raw lines.",
    "tail": "Show the records of a topic.",
    "status": "Show how an app stands: its workers, and for each stage what it has not read yet.",
    "check": "Say whether an app, as it is now, can go on from what is stored of it: before it is deployed.",
    "reset": "Forget an app's state and positions, so that it begins anew; or set its clocks back.",
}
"""The commands in the order in which they are shown. Each is `command` in the module of its name."""


class Commands(click.RichGroup):
    """The commands by name, unloaded until one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """What is enough to be listed."""
        summary = SUMMARIES.get(cmd_name)
        return None if summary is None else click.RichCommand(name=cmd_name, help=summary)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command itself."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in SUMMARIES:
            command = import_module(f"streamproc.cli.{name}").command
        return name, command, rest


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="To begin with: streamproc demo",
)
@click.version_option(package_name="streamproc", message="%(prog)s %(version)s")
@debug_option
def streamproc() -> None:
    """Stream processing in plain Python: exact, restartable dataflows over topics."""


def main(argv: list[str] | None = None) -> None:
    """The program `streamproc`."""
    failing_clearly(streamproc, argv, "streamproc")


def run_app(app: App, argv: list[str]) -> None:
    """`streamproc run` for an app that is at hand: what `app.main()` calls."""
    command: Any = import_module("streamproc.cli.run")
    failing_clearly(command.command_of(app), argv, None)
