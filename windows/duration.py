"""Durations and instants as users write them, in the integer milliseconds that everything inside counts in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from fractions import Fraction
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Duration: TypeAlias = str | timedelta
"""A length of time: "10s", "5m", "1h30m", "250ms", "1d", "1.5h" or a timedelta."""
Instant: TypeAlias = datetime | int | str
"""A point in time: an aware datetime, int milliseconds since the epoch, or an ISO 8601 string."""

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_TEXT = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit in ("d", "h", "m", "s", "ms")))
_UNITS_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_MILLISECOND = timedelta(milliseconds=1)
_LONGEST_MS = timedelta.max // _MILLISECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def duration_ms(value: Duration, *, zero: bool = False) -> int:
    """A duration in milliseconds; units from large to small, `zero` where it may be nothing.

    >>> duration_ms("1h30m"), duration_ms("1.5s"), duration_ms(timedelta(days=1)), duration_ms("0s", zero=True)
    (5400000, 1500, 86400000, 0)
    """
    if isinstance(value, timedelta):
        length = Fraction(value // timedelta(microseconds=1), 1_000)
    elif isinstance(value, str):
        length = _text_ms(value)
    elif isinstance(value, int | float):
        raise _wrong(value, "has no unit")
    else:
        raise _wrong(value, "is no duration")
    if length < 0:
        raise _wrong(value, "is negative")
    if not length and not zero:
        raise _wrong(value, "is nothing: it must be longer than zero")
    if length.denominator != 1:
        raise _wrong(value, "is finer than a millisecond")
    if length > _LONGEST_MS:
        raise _wrong(value, f"is longer than {timedelta.max.days} days")
    return int(length)


def duration_text(ms: int) -> str:
    """A duration of so many milliseconds, as `duration_ms` reads it.

    >>> duration_text(5_400_000), duration_text(250), duration_text(0)
    ('1h30m', '250ms', '0s')
    """
    parts = []
    for unit, unit_ms in _UNITS_MS.items():
        count, ms = divmod(ms, unit_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def instant_ms(value: Instant, *, tz: tzinfo | str | None = None) -> int:
    """An instant in milliseconds since the epoch, rounded down; `tz` (or its name) is where naive ones are taken to be.

    Exact: no floats on the way. Of a naive time that comes twice, as clocks are put back, `fold` says which it is.

    >>> instant_ms(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), instant_ms("1969-12-31T23:59:59.9995Z"), instant_ms(5)
    (1000, -1, 5)
    >>> instant_ms("2022-11-20T19:00", tz="Asia/Qatar") == instant_ms("2022-11-20T16:00Z")
    True
    """
    if type(value) is int:
        return value
    try:
        # Most are aware datetimes; what is none is looked at closely.
        return (value - _EPOCH if tz is None else _aware(value, tz) - _EPOCH) // _MILLISECOND  # type: ignore[operator]
    except TypeError:
        return (_aware(value, tz) - _EPOCH) // _MILLISECOND


def time_zone(tz: tzinfo | str) -> tzinfo:
    """The time zone of a name; ValueError where there is none. Looked up once, it makes `instant_ms` faster.

    >>> time_zone("Europe/Rome")
    zoneinfo.ZoneInfo(key='Europe/Rome')
    """
    if isinstance(tz, tzinfo):
        return tz
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f'{tz!r} is no time zone: pass tz="UTC", tz="Europe/Rome", ... or a tzinfo') from None


def _aware(value: Any, tz: tzinfo | str | None) -> datetime:
    if isinstance(value, str):
        value = _read(value)
    if not isinstance(value, datetime):
        what = "an aware datetime, int milliseconds or an ISO 8601 string"
        raise ValueError(f"{value!r} is no instant: it takes {what}")  # noqa: TRY004 - as all that is wrong with an instant
    if value.utcoffset() is not None:
        return value
    if tz is None:
        raise ValueError(f'{value.isoformat()} has no time zone: pass tz="UTC", tz="Europe/Rome", ... or a tzinfo')
    return value.replace(tzinfo=time_zone(tz))


def _text_ms(text: str) -> Fraction:
    match = _TEXT.fullmatch(text.removeprefix("-")) if text not in ("", "-") else None
    if match is None:
        raise _wrong(text, "is no duration")
    units = zip(match.groups(), _UNITS_MS.values(), strict=True)
    length = sum((Fraction(number) * unit_ms for number, unit_ms in units if number), Fraction(0))
    return -length if text.startswith("-") else length


def _wrong(value: Any, what: str) -> ValueError:
    shown = value if isinstance(value, timedelta) else repr(value)
    return ValueError(f'{shown} {what}: write "10s", "5m", "1h30m", "250ms", "1d" or a timedelta')


def _read(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'{text!r} is no instant: write "2022-11-20T16:00:00Z" (ISO 8601)') from None
