"""Every setting as an option of a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import rich_click as click

from streamproc.settings import ENVIRONMENT_PREFIX, Settings

F = TypeVar("F", bound=Callable[..., Any])

HELP: Final = {
    "broker": ("URL", "Where the records are: kafka://HOST:PORT,..., local://DIR or memory://."),
    "state_dir": ("DIR", "Where the state is kept; default: DIR/state of a local log, else .streamproc/kafka/state."),
    "guarantee": ("NAME", "exactly_once: outputs, state and positions move together."),
    "epoch_interval": ("TIME", "Commit after so long: 200ms, 1s, 1m ..."),
    "epoch_records": ("N", "Commit after so many records read or written."),
    "idle": (
        "TIME",
        "A silent partition that others are ahead of for so long no longer holds time back; never: it does.",
    ),
    "ahead": ("TIME", "How far a record's time may lie beyond the time at which the log took it."),
    "drift": ("TIME", "How far in event time one partition is read ahead of another."),
    "cache_bytes": ("BYTES", "What decoded state may take up in memory."),
    "epoch_bytes": ("BYTES", "Commit after so many bytes read or written."),
    "fetch_bytes": ("BYTES", "How much of a partition is read from Kafka at once."),
    "session_timeout": ("TIME", "A worker that Kafka does not hear of for so long is taken for dead."),
    "heartbeat": ("TIME", "How often a worker tells Kafka that it lives, and hears that its group changes."),
    "rebalance_timeout": ("TIME", "How long a worker may take to give up its tasks."),
    "transaction_timeout": ("TIME", "Kafka aborts what a worker has not committed for so long."),
    "request_timeout": ("TIME", "How long an answer of Kafka is waited for."),
}
"""By setting: what its value is called, and what it means."""


_KAFKA: Final = "A setting of the Kafka client, such as security_protocol=SASL_SSL; may be given more than once."


def setting_options(command: F) -> F:
    """Give a command an option for each setting; one that is not given is None."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    for name, (metavar, text) in reversed(HELP.items()):
        default = defaults[name]
        shown = text if default is None else f"{text} [default: {default}]"
        command = click.option(f"--{name.replace('_', '-')}", name, metavar=metavar, help=shown)(command)
    return click.option("--kafka", multiple=True, metavar="NAME=VALUE", help=_KAFKA)(command)


SETTINGS_EPILOG: Final = (
    f"Each setting is looked for in this order: the option, the environment ({ENVIRONMENT_PREFIX}BROKER, "
    f"{ENVIRONMENT_PREFIX}EPOCH_INTERVAL, ...), App(broker=, epoch_interval=, ...), the default."
)


def broker_option(command: F) -> F:
    """Give a command that only needs to reach the broker the options --broker and --kafka."""
    metavar, text = HELP["broker"]
    command = click.option("--kafka", multiple=True, metavar="NAME=VALUE", help=_KAFKA)(command)
    return click.option("--broker", metavar=metavar, help=text)(command)


def place_options(command: F) -> F:
    """Give a command that looks at an app, or at what is kept of it, the options that say where that is."""
    metavar, text = HELP["state_dir"]
    return broker_option(click.option("--state-dir", metavar=metavar, help=text)(command))
