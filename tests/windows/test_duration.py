from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.windows.duration import duration_ms, duration_text, instant_ms, time_zone


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("10s", 10_000),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("250ms", 250),
        ("1d", 86_400_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("1.5s", 1_500),
        ("0.5h", 1_800_000),
        (timedelta(minutes=2), 120_000),
        (timedelta(microseconds=3_000), 3),
    ],
)
def test_durations_are_read(written: str | timedelta, ms: int) -> None:
    """A duration in any of its spellings is its milliseconds."""
    assert duration_ms(written) == ms


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "'' is no duration"),
        ("10", "'10' is no duration"),
        ("s", "'s' is no duration"),
        ("10 s", "'10 s' is no duration"),
        ("30m1h", "'30m1h' is no duration"),
        ("1s1s", "'1s1s' is no duration"),
        ("ten minutes", "'ten minutes' is no duration"),
        ("-5m", "'-5m' is negative"),
        ("0s", "'0s' is nothing"),
        ("1.5ms", "'1.5ms' is finer than a millisecond"),
        ("9999999999d", "is longer than"),
        (timedelta(seconds=-1), "-1 day, 23:59:59 is negative"),
        (timedelta(0), "is nothing"),
        (timedelta(microseconds=1_500), "is finer than a millisecond"),
        (10, "10 has no unit"),
        (1.5, "1.5 has no unit"),
        (None, "None is no duration"),
    ],
)
def test_what_is_no_duration_is_named(written: Any, says: str) -> None:
    """The error names the value and shows how durations are written."""
    with pytest.raises(ValueError, match=r'write "10s", "5m", "1h30m"') as raised:
        duration_ms(written)
    assert says in str(raised.value)


@pytest.mark.parametrize("written", ["0s", "0ms", timedelta(0)])
def test_zero_where_it_is_allowed(written: str | timedelta) -> None:
    """A grace may be zero."""
    assert duration_ms(written, zero=True) == 0


@given(st.integers(0, 10**12))
def test_durations_are_written_as_they_are_read(ms: int) -> None:
    """duration_ms reads what duration_text writes."""
    assert duration_ms(duration_text(ms), zero=True) == ms


@given(st.datetimes(timezones=st.timezones()))
def test_instants_are_floored_exactly(instant: datetime) -> None:
    """An instant is the last whole millisecond at or before it, by integer arithmetic, before 1970 too."""
    microseconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert instant_ms(instant) == microseconds // 1_000


@pytest.mark.parametrize(
    ("instant", "ms"),
    [
        (-7, -7),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 0),
        ("1970-01-01T00:00:00.001999Z", 1),
        ("1970-01-01T02:00:00+02:00", 0),
    ],
)
def test_instants_are_read(instant: datetime | int | str, ms: int) -> None:
    """An instant in any of its forms is its milliseconds since the epoch."""
    assert instant_ms(instant) == ms
    assert instant_ms(instant, tz="Europe/Rome") == ms, "a zone is for naive ones alone"


@pytest.mark.parametrize("instant", [datetime.fromisoformat("2022-07-01T12:00"), "2022-07-01T12:00:00"])
@pytest.mark.parametrize("tz", ["Europe/Rome", ZoneInfo("Europe/Rome")])
def test_a_naive_instant_is_taken_in_a_zone(instant: datetime | str, tz: str | ZoneInfo) -> None:
    """`tz` is where a naive instant is taken to be, summer time included."""
    assert instant_ms(instant, tz=tz) == instant_ms(datetime(2022, 7, 1, 10, tzinfo=UTC))


def test_fold_tells_the_repeated_hour() -> None:
    """Of the hour that comes twice, fold=1 is the second."""
    twice = datetime.fromisoformat("2022-10-30T02:30")
    assert instant_ms(twice.replace(fold=1), tz="Europe/Rome") - instant_ms(twice, tz="Europe/Rome") == 3_600_000


@pytest.mark.parametrize("instant", [datetime.fromisoformat("2022-07-01"), "2022-07-01"])
def test_a_naive_instant_without_a_zone_is_an_error(instant: datetime | str) -> None:
    """Nobody guesses a time zone."""
    with pytest.raises(ValueError, match="2022-07-01T00:00:00 has no time zone: pass tz="):
        instant_ms(instant)


@pytest.mark.parametrize("value", [True, 1.5, None, date(2022, 1, 1), timedelta(1), b"x", "yesterday"])
def test_what_is_no_instant_is_named(value: Any) -> None:
    """The error names the value."""
    with pytest.raises(ValueError, match="is no instant") as raised:
        instant_ms(value)
    assert repr(value) in str(raised.value)


def test_an_unknown_zone_is_named() -> None:
    """A zone that does not exist is an error that says so."""
    with pytest.raises(ValueError, match="'Europe/Atlantis' is no time zone"):
        time_zone("Europe/Atlantis")
    with pytest.raises(ValueError, match="'Europe/Atlantis' is no time zone"):
        instant_ms("2022-07-01", tz="Europe/Atlantis")
