from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.windows.duration import instant_ms
from streamproc.windows.kinds import Assigner, FixedWindows, counting, hopping, session, tumbling

fixed = st.builds(FixedWindows, st.integers(1, 40), st.integers(1, 40), st.integers(0, 60))
timestamps = st.integers(-200, 200)


def containing(windows: FixedWindows, timestamp: int) -> list[tuple[int, int]]:
    """By definition: of all windows [offset + i * every, + size), those that contain the timestamp."""
    starts = (windows.offset_ms + i * windows.every_ms for i in range(-500, 500))
    return [(start, start + windows.size_ms) for start in starts if start <= timestamp < start + windows.size_ms]


@given(fixed, timestamps)
def test_slices_cover_exactly_the_windows(windows: FixedWindows, timestamp: int) -> None:
    """The windows of a record's slice are the windows that contain the record, by definition."""
    ends = windows.ends_of_slice(windows.slice_of(timestamp))
    assert [(windows.start_of(end), end) for end in ends] == containing(windows, timestamp)


@given(fixed, timestamps)
def test_a_slice_contains_its_record(windows: FixedWindows, timestamp: int) -> None:
    """A timestamp is in [slice, slice + slice_ms), and all of that interval is in that slice."""
    start = windows.slice_of(timestamp)
    assert start <= timestamp < start + windows.slice_ms
    assert {windows.slice_of(t) for t in range(start, start + windows.slice_ms)} == {start}


@given(fixed, timestamps)
def test_the_last_end_and_start(windows: FixedWindows, at: int) -> None:
    """last_end and last_start are the latest at or before an instant."""
    starts = [windows.offset_ms + i * windows.every_ms for i in range(-500, 500)]
    assert windows.last_start(at) == max(start for start in starts if start <= at)
    assert windows.last_end(at) == max(s + windows.size_ms for s in starts if s + windows.size_ms <= at)


@pytest.mark.parametrize(
    ("windows", "timestamp", "expected"),
    [
        # -10         0          10
        #  |----------|----------|
        (tumbling("10ms"), 0, [(0, 10)]),
        (tumbling("10ms"), 9, [(0, 10)]),
        (tumbling("10ms"), 10, [(10, 20)]),
        (tumbling("10ms"), -1, [(-10, 0)]),
        #    -7          3          13
        (tumbling("10ms", offset="3ms"), 2, [(-7, 3)]),
        (tumbling("10ms", offset="3ms"), 3, [(3, 13)]),
        (tumbling("10ms", offset="13ms"), 3, [(3, 13)]),
        #  0    10   20   30   40
        #  |--------------|
        #       |--------------|
        #            |--------------|
        (hopping("30ms", every="10ms"), 20, [(0, 30), (10, 40), (20, 50)]),
        (hopping("30ms", every="10ms"), -1, [(-30, 0), (-20, 10), (-10, 20)]),
        #  0    10   20   30   40
        #  |-----------|           [0, 25)
        #       |-----------|      [10, 35)
        #            |-----------| [20, 45)
        (hopping("25ms", every="10ms"), 24, [(0, 25), (10, 35), (20, 45)]),
        (hopping("25ms", every="10ms"), 25, [(10, 35), (20, 45)]),
        #  0    10   20
        #  |--|      |--|          a gap
        (hopping("5ms", every="20ms"), 4, [(0, 5)]),
        (hopping("5ms", every="20ms"), 5, []),
    ],
)
def test_windows_are_half_open_and_aligned(
    windows: FixedWindows, timestamp: int, expected: list[tuple[int, int]]
) -> None:
    """Windows are [start, end), aligned to the epoch and offset."""
    ends = windows.ends_of_slice(windows.slice_of(timestamp))
    assert [(windows.start_of(end), end) for end in ends] == expected


@pytest.mark.parametrize(
    ("size", "every", "slice_ms"),
    [("5m", "10s", 10_000), ("10s", "10s", 10_000), ("25s", "10s", 5_000), ("5s", "20s", 5_000)],
)
def test_slices_are_as_long_as_possible(size: str, every: str, slice_ms: int) -> None:
    """A slice is the greatest common divisor of size and every."""
    assert hopping(size, every=every).slice_ms == slice_ms


def test_kinds_are_values() -> None:
    """Equal settings are equal kinds, however they were written; a repr is what was written."""
    assert tumbling("1m") == tumbling("60s") == hopping("1m", every="1m") == tumbling(timedelta(minutes=1))
    assert len({session("90s"), session("1m30s"), counting(3), counting(3, every=3)}) == 2
    kinds: list[Any] = [
        tumbling("1m", offset="1s"),
        hopping("5m", every="10s", offset="1s"),
        session("1m30s"),
        counting(3, every=2),
    ]
    assert list(map(repr, kinds)) == [
        "tumbling('1m', offset='1s')",
        "hopping('5m', every='10s', offset='1s')",
        "session('1m30s')",
        "counting(3, every=2)",
    ]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tumbling("0s"), "size='0s'"),
        (lambda: tumbling(10), "size=10: 10 has no unit"),  # type: ignore[arg-type]
        (lambda: tumbling("1m", offset="-1s"), "offset='-1s'"),
        (lambda: hopping("1m", every="x"), "every='x'"),
        (lambda: session("0s"), "gap='0s'"),
        (lambda: counting(0), "n=0"),
        (lambda: counting(True), "n=True"),
        (lambda: counting(2, every=-1), "every=-1"),
    ],
)
def test_wrong_settings_name_the_argument(make: Any, says: str) -> None:
    """The error names the argument, its value and what would do."""
    with pytest.raises(ValueError, match="10") as raised:
        make()
    assert says in str(raised.value)


@dataclass(frozen=True)
class Days:
    """Calendar days of a time zone: 23 or 25 hours long when clocks change."""

    tz: str

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        day = datetime.fromtimestamp(timestamp // 1_000, UTC).astimezone(ZoneInfo(self.tz)).date()
        start, end = (instant_ms(d.isoformat(), tz=self.tz) for d in (day, day + timedelta(days=1)))
        return [(start, end)]


def test_an_own_assigner_is_a_class_with_one_method() -> None:
    """Calendar days can be written in a few lines, and are right when clocks change."""
    days: Assigner = Days("Europe/Rome")
    assert isinstance(days, Assigner)
    assert not isinstance(tumbling("1d"), Assigner)
    ((start, end),) = days.windows(instant_ms("2022-10-30T12:00Z"))
    assert (start, end - start) == (instant_ms("2022-10-29T22:00Z"), 25 * 3_600_000)
    ((start, end),) = days.windows(end)
    assert end - start == 24 * 3_600_000
