"""Every setting as an option of a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import rich_click as click

from streamproc.settings import ENVIRONMENT_PREFIX, Settings

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {
    "broker": ("URL", "Where the records are: local://DIR or memory://."),
    "state_dir": ("DIR", "Where the state is kept; default: DIR/state of a local log, else .streamproc/state."),
    "guarantee": ("NAME", "exactly_once: outputs, state and positions move together."),
    "epoch_interval": ("TIME", "Commit after so long: 200ms, 1s, 1m ..."),
    "epoch_records": ("N", "Commit after so many records read or written."),
    "idle": ("TIME", "A partition silent for so long no longer holds time back; never: it always does."),
    "ahead": ("TIME", "How far a record's time may lie beyond the time at which the log took it."),
    "drift": ("TIME", "How far in event time one partition is read ahead of another."),
    "cache_bytes": ("BYTES", "What decoded state may take up in memory."),
}
"""By setting: what its value is called, and what it means."""


def setting_options(command: F) -> F:
    """Give a command an option for each setting; one that is not given is None."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    for name, (metavar, text) in reversed(HELP.items()):
        default = defaults[name]
        shown = text if default is None else f"{text} [default: {default}]"
        command = click.option(f"--{name.replace('_', '-')}", name, metavar=metavar, help=shown)(command)
    return command


SETTINGS_EPILOG: Final = (
    f"Each setting is looked for in this order: the option, the environment ({ENVIRONMENT_PREFIX}BROKER, "
    f"{ENVIRONMENT_PREFIX}EPOCH_INTERVAL, ...), App(broker=, epoch_interval=, ...), the default."
)


def broker_option(command: F) -> F:
    """Give a command that needs no app the option --broker."""
    metavar, text = HELP["broker"]
    return click.option("--broker", metavar=metavar, help=text)(command)
