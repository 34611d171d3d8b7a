"""How a command fails: one message on stderr and an exit code; a traceback only with --debug."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import rich_click as click
from click.exceptions import Exit

from streamproc.errors import RecordError, SettingsError, StreamprocError
from streamproc.frames import users_line
from streamproc.log import LogError
from streamproc.state.errors import StoreError

FAILED: Final = 1
WRONG_CALL: Final = 2
_DEBUG: Final = "streamproc.debug"
_TARGETED: Final = "streamproc.targeted"
_PLACEHOLDER: Final = "MODULE:APP"
_PLACES: Final = ("broker", "state_dir")


def _remember(ctx: click.Context, _: click.Parameter, debug: bool) -> None:  # noqa: FBT001 - called by click
    ctx.meta[_DEBUG] = ctx.meta.get(_DEBUG, False) or debug


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember,
    help="Show the whole traceback of an error.",
)
"""Of the group and of each command."""


def remember_target(ctx: click.Context, target: str) -> None:
    """From here on messages of the command that runs name its app, and the place that it was given."""
    ctx.meta[_TARGETED] = ctx, target


def _remember_argument(ctx: click.Context, _: click.Parameter, target: str) -> str:
    remember_target(ctx, target)
    return target


target_argument = click.argument("target", metavar=_PLACEHOLDER, callback=_remember_argument)
"""Of each command for an app."""


def failing_clearly(command: click.Command, argv: Sequence[str] | None, name: str | None) -> None:
    """Run a command and end the process with its exit code."""
    meta: dict[str, Any] = {}
    try:
        with command.make_context(name or Path(sys.argv[0]).name, list(sys.argv[1:] if argv is None else argv)) as ctx:
            meta = ctx.meta
            command.invoke(ctx)
            sys.stdout.flush()
    except Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left in the buffer must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is shown
        if meta.get(_DEBUG):
            traceback.print_exc()
        click.echo(f"{click.style('Error:', fg='red', bold=True)} {_as_called(message(error), meta)}", err=True)
        sys.exit(code_of(error))


def code_of(error: BaseException) -> int:
    """The exit code of a command that ends with this error."""
    return WRONG_CALL if isinstance(error, SettingsError) else FAILED


def debugging() -> bool:
    """Whether --debug was given to the command that runs."""
    ctx = click.get_current_context(silent=True)
    return ctx is not None and bool(ctx.meta.get(_DEBUG))


def as_called(text: str) -> str:
    """A text that names commands for MODULE:APP, with the app and its place as the command that runs was given them."""
    ctx = click.get_current_context(silent=True)
    return text if ctx is None else _as_called(text, ctx.meta)


def _as_called(text: str, meta: dict[str, Any]) -> str:
    if _TARGETED not in meta:
        return text
    targeted, target = meta[_TARGETED]
    places = [f" --{name.replace('_', '-')} {given}" for name in _PLACES if (given := targeted.params.get(name))]
    return text.replace(_PLACEHOLDER, "".join([target, *places]))


def message(error: BaseException) -> str:
    """What is said of an error: its text, where in the user's code it began, and the way out where it does not say."""
    text = as_called(str(error))
    if isinstance(error, RecordError):
        place = users_line(error.__cause__.__traceback__) if error.__cause__ is not None else ""
        return "\n".join([text, *([f"  at {place}"] if place else []), _AFTER_RECORD_ERROR])
    if isinstance(error, (StreamprocError, LogError, StoreError, OSError)):
        return text
    return f"{type(error).__name__}: {text}. This is not meant to happen: --debug shows where, please report it"


_AFTER_RECORD_ERROR: Final = (
    "The record was not consumed and nothing of it was written. Mend the function or the data and run again, or choose "
    'another policy where it failed: on_error="skip" or on_error=dead_letter("a-topic").'
)
