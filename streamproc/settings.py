"""Settings: what can be set by `--x`, `STREAMPROC_X` or `App(x=...)`, in that order, and its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from streamproc.errors import SettingsError
from streamproc.windows.duration import Duration, duration_ms

Guarantee = Literal["exactly_once", "at_least_once"]

DEFAULT_BROKER: Final = "local://.streamproc"
ENVIRONMENT_PREFIX: Final = "STREAMPROC_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a worker. Durations are "10s", "5m", "250ms" or timedelta.

    broker           where the records are: memory://, local://DIR
    state_dir        where the stores are; None: DIR/state of a local log, else .streamproc/state
    guarantee        exactly_once: outputs, state and offsets move together
    epoch_interval   an epoch is committed after so long,
    epoch_records    or after so many records read or written
    idle             a partition that is read to its end and silent for so long no longer holds time back; None: never
    ahead            how far a payload timestamp may lie beyond the time at which the log took the record
    drift            how far in event time one partition is read ahead of another that has more to read
    cache_bytes      what the decoded state of a worker may take up
    """

    broker: str = DEFAULT_BROKER
    state_dir: str | None = None
    guarantee: Guarantee = "exactly_once"
    epoch_interval: Duration = "200ms"
    epoch_records: int = 100_000
    idle: Duration | None = "30s"
    ahead: Duration = "1h"
    drift: Duration = "1m"
    cache_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for name in ("epoch_interval", "idle", "ahead", "drift"):
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
        for name in ("epoch_records", "cache_bytes"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                msg = f"setting {name} is {value!r}: it is a whole number, at least 1"
                raise SettingsError(msg)


def load_settings(flags: Mapping[str, Any], environment: Mapping[str, str], app: Mapping[str, Any]) -> Settings:
    """Settings from flags, else the environment, else the app, else the defaults; a flag that is None was not given.

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
    chosen = dict(app)
    for name in names:
        if name in given:
            chosen[name] = given[name]
        if flags.get(name) is not None:
            chosen[name] = flags[name]
    return Settings(**{name: _parsed(name, value) for name, value in chosen.items()})


def _parsed(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in ("epoch_records", "cache_bytes"):
        try:
            return int(value)
        except ValueError:
            msg = f"setting {name} is {value!r}: it is a whole number"
            raise SettingsError(msg) from None
    return None if name == "idle" and value.lower() in ("", "never", "none") else value
