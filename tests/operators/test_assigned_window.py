from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.assigned_window import AssignedWindow
from streamproc.operators.batch import Batch
from streamproc.operators.window import Window
from streamproc.state.keys import encode_key
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.kinds import hopping
from tests.operators.bags import Bag, InOrder, Picky, rows_of_windows
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, kept, partition, run, run_twice, same
from tests.operators.inputs import inputs, made

GRACES = st.sampled_from((0, 0, 1, 3, 15))
AGGREGATES = st.sampled_from((Bag(), InOrder()))


@dataclass(frozen=True)
class Shifts:
    """Windows of three lengths, several with one end, none for every seventh instant."""

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        if timestamp % 7 == 0:
            return ()
        day = timestamp - timestamp % 24
        half = timestamp - timestamp % 12
        return [(half, half + 12), (day, day + 24), (day - 24, day + 24), (day, day + 24)]


@dataclass(frozen=True)
class Hops:
    """The windows of hopping(size, every)."""

    size: int
    every: int

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        kind = hopping(f"{self.size}ms", every=f"{self.every}ms")
        return [(end - self.size, end) for end in kind.ends_of_slice(kind.slice_of(timestamp))]


@dataclass(frozen=True)
class Gives:
    """Always the same, right or wrong."""

    found: tuple[tuple[int, int], ...]

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        return self.found


def by_definition(rows: Sequence[Row], aggregate: Aggregate[Any, Any], grace: int) -> Outcome:
    """From the words alone: the whole input at once, no watermark."""
    windows: dict[tuple[int, int, bytes], list[Row]] = defaultdict(list)
    outcome = Outcome()
    for row in rows:
        assert row.clock is not None
        found = set(Shifts().windows(row.timestamp))
        late = {window for window in found if window[1] + grace <= row.clock}
        for start, end in found - late:
            windows[end, start, encode_key(row.key)].append(row)
        if late:
            outcome.late.append(row)
    outcome.rows = rows_of_windows(windows, aggregate)
    return outcome


@given(inputs(), STEPS, AGGREGATES, GRACES)
def test_windows_are_what_the_words_say_under_any_schedule(
    rows: list[Row], steps: list[Step], aggregate: Aggregate[Any, Any], grace: int
) -> None:
    """Rows, their order and the late records follow from the input: not from batches, pace, restarts or aborts."""
    same(run(AssignedWindow(Shifts(), aggregate, grace_ms=grace), rows, steps), by_definition(rows, aggregate, grace))


@given(inputs(), STEPS, GRACES)
def test_an_assigner_of_hopping_windows_gives_what_hopping_windows_give(
    rows: list[Row], steps: list[Step], grace: int
) -> None:
    """Two implementations of one meaning: by slices, and window by window."""
    assigned = run(AssignedWindow(Hops(25, 10), InOrder(), grace_ms=grace), rows, steps)
    same(assigned, run(Window(hopping("25ms", every="10ms"), InOrder(), grace_ms=grace), rows))


@given(inputs(partitions=1), GRACES, st.integers(0, 20))
def test_what_the_end_closed_stays_closed(rows: list[Row], grace: int, ended_at: int) -> None:
    """A later run's record is late for the windows that the end has closed: none has a second row."""
    ended_at %= len(rows) + 1
    found = run_twice(AssignedWindow(Shifts(), Bag(), grace_ms=grace), rows, ended_at).rows
    origins = [row.origin for row in found]
    assert len(origins) == len(set(origins))
    first = by_definition(rows[:ended_at], Bag(), grace).rows
    assert found[: len(first)] == first
    assert all(row.timestamp > first[-1].timestamp for row in found[len(first) :] if first)


@pytest.mark.parametrize("window", [(0, 5), (6, 10), (5, 5), (9, 5)])
def test_a_window_without_its_record_is_an_error_of_the_assigner(window: tuple[int, int]) -> None:
    """Before any state is touched: a window that does not hold its record would break the law of time."""
    driver = Driver(AssignedWindow(Gives(((0, 10), window)), Bag(), grace_ms=0))
    with pytest.raises(ValueError, match="for 5, which is not in it"):
        driver.process(partition([("a", 1, 5)]))
    driver.end()
    assert driver.outcome.rows == []


def test_a_failing_result_names_its_window_and_spares_the_others() -> None:
    """A CloseError is undone and its window and key skipped; the others have their rows, once."""
    rows = partition([("a", 1, 5), ("a", 13, 15), ("b", 2, 16), ("a", 3, 25), ("a", 4, 40)])
    for after in ("", "seal", "settle", "trim", "restart"):
        steps = [Step(2, closes=False), Step(2, closes=False, after=after)]
        outcome = run(AssignedWindow(Hops(10, 10), Picky(at_result=13), grace_ms=0), rows, steps)
        assert [(row.key, row.value.start, row.value.value) for row in outcome.rows] == [
            ("a", 0, [1]), ("b", 10, [2]), ("a", 20, [3]), ("a", 40, [4]),
        ]  # fmt: skip


def test_a_failing_function_leaves_the_state_as_it_was() -> None:
    """The user's functions run before any state is touched."""
    driver = Driver(AssignedWindow(Hops(10, 5), Picky(at_column=2), grace_ms=0))
    with pytest.raises(ValueError, match="2"):
        driver.process(partition([("a", 1, 1), ("a", 2, 2)]))
    driver.end()
    assert driver.outcome.rows == []


def test_a_record_for_a_closed_window_is_an_alarm() -> None:
    """A broken law is loud; the windows still open get the record, none gets a second row."""
    driver = Driver(AssignedWindow(Hops(20, 10), Bag(), grace_ms=0))
    driver.process([Row("a", 1, 15, None, (0, 0, 0))])
    driver.close(20)
    driver.process([Row("a", 2, 3, None, (0, 0, 1)), Row("a", 3, 12, None, (0, 0, 2))])
    driver.end()
    assert [(row.value.start, row.value.value) for row in driver.outcome.rows] == [(0, [1]), (10, [1, 3])]
    assert sum(count for _, count in driver.context.alarms) == 3


def test_nothing_stays_of_closed_windows() -> None:
    """When all is closed, the store is empty."""
    rows = partition([("a", 1, 11), ("b", 2, 35), ("a", 3, 12)])
    assert kept(AssignedWindow(Shifts(), Bag(), grace_ms=0), rows) == (True, False)


# ------------------------------------------------------------------------------------ planted bugs


class DropsPartlyLate(AssignedWindow):
    """A3: a record late for one of its windows is dropped for all."""

    def _windows_at(self, timestamp: int) -> Sequence[tuple[int, int]]:
        return super()._windows_at(timestamp)[-1:]


class Unsorted(AssignedWindow):
    """A13: sorted by start, then key."""

    def close(self, watermark: int) -> Batch:
        rows = super().close(watermark)
        return rows.select(sorted(range(len(rows)), key=lambda i: (rows.values[i].start, rows.keys[i])))


class ClosesEarly(AssignedWindow):
    """A window closed before end + grace."""

    def close(self, watermark: int) -> Batch:
        return super().close(watermark + 1)


class ClosesLate(AssignedWindow):
    """A window closed behind end + grace: its row lies behind the watermark passed on."""

    def close(self, watermark: int) -> Batch:
        return super().close(watermark - 1)


@pytest.mark.parametrize("planted", [DropsPartlyLate, Unsorted, ClosesEarly, ClosesLate])
def test_planted_bugs_are_caught(planted: type[AssignedWindow]) -> None:
    """The law sees each of them."""
    with pytest.raises(AssertionError):
        for rows, steps in map(made, range(20)):
            same(run(planted(Shifts(), Bag(), grace_ms=4), rows, steps), by_definition(rows, Bag(), 4))
