"""Settings: what can be set by `--x`, `STREAMPROC_X` or `App(x=...)`, in that order, and its default."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from streamproc.errors import SettingsError
from streamproc.windows.duration import Duration, duration_ms

Guarantee = Literal["exactly_once", "at_least_once"]

DEFAULT_BROKER: Final = "local://.streamproc"
ENVIRONMENT_PREFIX: Final = "STREAMPROC_"
NEAR: Final = 0.75
"""How like a setting's name (`difflib`, 1 is the same) another one must be to be taken for it, misspelt."""


_DURATIONS: Final = (
    "epoch_interval",
    "idle",
    "ahead",
    "drift",
    "session_timeout",
    "heartbeat",
    "rebalance_timeout",
    "transaction_timeout",
    "request_timeout",
)
_COUNTS: Final = ("epoch_records", "epoch_bytes", "cache_bytes", "fetch_bytes")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a worker. Durations are "10s", "5m", "250ms" or timedelta.

    broker           where the records are: kafka://HOST:PORT,..., local://DIR, memory://
    state_dir        where the stores are; None: DIR/state of a local log, else .streamproc/kafka/state
    guarantee        exactly_once: outputs, state and offsets move together
    epoch_interval   an epoch is committed after so long,
    epoch_records    or after so many records read or written,
    epoch_bytes      or so many bytes of them
    idle             a partition that is read to its end and that others have been ahead of for so long no longer holds
                     time back; None: never
    ahead            how far a payload timestamp may lie beyond the time at which the log took the record
    drift            how far in event time one partition is read ahead of another that has more to read
    cache_bytes      what the decoded state of a worker may take up

    Of Kafka alone:

    fetch_bytes          how much of a partition is read at once
    session_timeout      a worker that is not heard of for so long is taken for dead
    heartbeat            how often a worker is heard of, and hears that the group changes
    rebalance_timeout    how long a worker may take to give up its tasks
    transaction_timeout  an epoch that is open for so long is aborted by the broker
    request_timeout      how long an answer is waited for
    kafka                settings of the client: security_protocol, sasl_mechanism, ssl_cafile, ...
    """

    broker: str = DEFAULT_BROKER
    state_dir: str | None = None
    guarantee: Guarantee = "exactly_once"
    epoch_interval: Duration = "200ms"
    epoch_records: int = 100_000
    epoch_bytes: int = 64 << 20
    idle: Duration | None = "30s"
    ahead: Duration = "1h"
    drift: Duration = "1m"
    cache_bytes: int = 64 << 20
    fetch_bytes: int = 1 << 20
    session_timeout: Duration = "45s"
    heartbeat: Duration = "300ms"
    rebalance_timeout: Duration = "60s"
    transaction_timeout: Duration = "15s"
    request_timeout: Duration = "8s"
    kafka: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            value = getattr(self, name)
            if value is not None or name != "idle":
                try:
                    duration_ms(value)
                except (ValueError, TypeError) as error:
                    msg = f"setting {name}: {error}"
                    raise SettingsError(msg) from error
        if self.guarantee not in get_args(Guarantee):
            msg = f"setting guarantee is {self.guarantee!r}: it is one of {', '.join(get_args(Guarantee))}"
            raise SettingsError(msg)
        for name in _COUNTS:
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                msg = f"setting {name} is {value!r}: it is a whole number, at least 1"
                raise SettingsError(msg)


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str], app: Mapping[str, Any]) -> Settings:
    """Settings from flags, else the environment, else the app, else the defaults; a flag that is None was not given.

    Raises SettingsError. Of the environment, names that are like no setting's are left alone: it is not this program's
    alone (Kubernetes, for one, adds STREAMPROC_SERVICE_HOST and more for a service `streamproc`).

    >>> load_settings({"broker": None}, {"STREAMPROC_BROKER": "memory://"}, {}).broker
    'memory://'
    """
    names = Settings.__struct_fields__
    unknown = sorted(set(app) - set(names))
    if unknown:
        msg = f"there is no setting {unknown[0]!r}: settings are {', '.join(names)}"
        raise SettingsError(msg)
    given = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): text
        for name, text in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    _refuse_misspelt(given)
    chosen = dict(app)
    for name in names:
        if name == "kafka":
            continue
        if name in given:
            chosen[name] = given[name]
        if flags.get(name) is not None:
            chosen[name] = flags[name]
    chosen["kafka"] = {**app.get("kafka", {}), **_client_settings(given), **_named_values(flags.get("kafka") or ())}
    return Settings(**{name: _parsed(name, value) for name, value in chosen.items()})


def _refuse_misspelt(given: Iterable[str]) -> None:
    settings = [name for name in Settings.__struct_fields__ if name != "kafka"]
    for name in sorted(given):
        close = difflib.get_close_matches(name, settings, n=1, cutoff=NEAR)
        if name not in settings and not name.startswith("kafka_") and close:
            wrong, right = (f"{ENVIRONMENT_PREFIX}{one.upper()}" for one in (name, close[0]))
            msg = f"there is no setting {wrong} (it is in the environment): did you mean {right}?"
            raise SettingsError(msg)


def _client_settings(given: Mapping[str, str]) -> dict[str, str]:
    """STREAMPROC_KAFKA_SASL_MECHANISM is client setting sasl_mechanism."""
    return {name.removeprefix("kafka_"): text for name, text in given.items() if name.startswith("kafka_")}


def _named_values(texts: Iterable[str]) -> dict[str, str]:
    """The values of --kafka NAME=VALUE."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            msg = f"setting kafka is {text!r}: write NAME=VALUE, such as security_protocol=SASL_SSL"
            raise SettingsError(msg)
        found[name] = value
    return found


def _parsed(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in _COUNTS:
        try:
            return int(value)
        except ValueError:
            msg = f"setting {name} is {value!r}: it is a whole number"
            raise SettingsError(msg) from None
    return None if name == "idle" and value.lower() in ("", "never", "none") else value
