from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import Batch
from streamproc.operators.window import Window
from streamproc.state.keys import encode_key
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.kinds import FixedWindows, hopping, tumbling
from tests.operators.bags import Bag, InOrder, Picky, rows_of_windows
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, kept, partition, run, same
from tests.operators.inputs import YEAR, inputs, made

KINDS = st.builds(
    FixedWindows, st.sampled_from((1, 4, 10, 25, 30)), st.sampled_from((1, 3, 5, 10, 15)), st.sampled_from((0, 0, 1, 7))
)
GRACES = st.sampled_from((0, 0, 1, 3, 15))
AGGREGATES = st.sampled_from((Bag(), Bag(invertible=True), InOrder()))


def by_definition(rows: Sequence[Row], kind: FixedWindows, aggregate: Aggregate[Any, Any], grace: int) -> Outcome:
    """From the words alone: every instant is tried as a start; the whole input at once, no watermark, no slices."""
    windows: dict[tuple[int, int, bytes], list[Row]] = defaultdict(list)
    outcome = Outcome()
    for row in rows:
        assert row.clock is not None
        starts = range(row.timestamp - kind.size_ms + 1, row.timestamp + 1)
        found = [start for start in starts if (start - kind.offset_ms) % kind.every_ms == 0]
        late = [start for start in found if start + kind.size_ms + grace <= row.clock]
        for start in found:
            if start not in late:
                windows[start + kind.size_ms, start, encode_key(row.key)].append(row)
        if late:
            outcome.late.append(row)
    outcome.rows = rows_of_windows(windows, aggregate)
    return outcome


@given(inputs(), STEPS, KINDS, AGGREGATES, GRACES)
def test_windows_are_what_the_words_say_under_any_schedule(
    rows: list[Row], steps: list[Step], kind: FixedWindows, aggregate: Aggregate[Any, Any], grace: int
) -> None:
    """Rows, their order and the late records follow from the input: not from batches, pace, restarts or slices."""
    same(run(Window(kind, aggregate, grace_ms=grace), rows, steps), by_definition(rows, kind, aggregate, grace))


@given(inputs(partitions=1), KINDS, AGGREGATES, GRACES, st.integers(0, 20))
def test_what_the_end_closed_stays_closed(
    rows: list[Row],
    kind: FixedWindows,
    aggregate: Aggregate[Any, Any],
    grace: int,
    ended_at: int,
) -> None:
    """A later run's record is late for the windows that the end has closed, and no window has two rows."""
    ended_at %= len(rows) + 1
    window = Window(kind, aggregate, grace_ms=grace)
    driver = Driver(window)
    driver.process(rows[:ended_at])
    driver.end()
    driver.restart()
    for row in rows[ended_at:]:
        driver.process([row])
        assert row.clock is not None
        driver.close(row.clock)
    driver.end()
    first = by_definition(rows[:ended_at], kind, aggregate, grace)
    closed = [row.value.end for row in first.rows]
    seen = [(row.value.start, row.origin) for row in driver.outcome.rows]
    assert len(seen) == len(set(seen))
    assert driver.outcome.rows[: len(first.rows)] == first.rows
    assert all(row.value.end > max(closed, default=row.value.end - 1) for row in driver.outcome.rows[len(first.rows) :])


def test_a_partly_late_record_counts_where_it_is_on_time() -> None:
    """The record at 12 comes at clock 35: late for [0, 30), on time for [10, 40), whatever the watermark is.

    [0 ----------- 30)
          [10 ----------- 40)
    """
    rows = partition([("a", 1, 11), ("a", 2, 35), ("a", 3, 12), ("a", 4, 41)])
    for steps in ([], [Step(2), Step(1)], [Step(2, closes=False), Step(1)], [Step(1)] * 4):
        for aggregate in (Bag(), Bag(invertible=True)):
            outcome = run(Window(hopping("30ms", every="10ms"), aggregate, grace_ms=0), rows, steps)
            found = {(row.value.start, row.value.end): row.value.value for row in outcome.rows}
            assert found == {
                (-10, 20): [1],
                (0, 30): [1],
                (10, 40): [1, 2, 3],
                (20, 50): [2, 4],
                (30, 60): [2, 4],
                (40, 70): [4],
            }
            assert [row.value for row in outcome.late] == [3]


def test_a_size_that_is_no_multiple_of_the_hop() -> None:
    """Windows of 25 every 10 are cut into slices of 5, and each holds its own five."""
    rows = partition([("a", t, t) for t in range(0, 60, 5)])
    outcome = run(Window(hopping("25ms", every="10ms"), Bag(), grace_ms=0), rows, [Step(1)] * 12)
    for row in outcome.rows:
        assert row.value.value == [t for t in range(0, 60, 5) if row.value.start <= t < row.value.end]
        assert row.value.start % 10 == 0


def test_times_before_the_epoch() -> None:
    """Negative times fall into aligned windows too: -1 into [-10, 0)."""
    outcome = run(
        Window(tumbling("10ms"), Bag(), grace_ms=0),
        partition([("a", 1, -11), ("a", 2, -10), ("a", 3, -1), ("a", 4, 0)]),
    )
    assert [(row.value.start, row.value.value) for row in outcome.rows] == [(-20, [1]), (-10, [2, 3]), (0, [4])]


def test_empty_years_cost_nothing() -> None:
    """Three records a thousand years apart: three windows are looked at, not those between."""

    class Watched(Window):
        looked = 0

        def _rows(self, end: int, starts: list[int]) -> dict[Hashable, Any]:
            Watched.looked += 1
            return super()._rows(end, starts)

    rows = partition([("a", i, i * 1000 * YEAR) for i in range(3)])
    for invertible in (False, True):
        Watched.looked = 0
        outcome = run(Watched(hopping("3ms", every="1ms"), Bag(invertible=invertible), grace_ms=0), rows)
        assert (
            outcome.values()
            == run(Window(hopping("3ms", every="1ms"), Bag(), grace_ms=0), rows, [Step(1)] * 3).values()
        )
        assert Watched.looked == 9


def test_gaps_between_windows_hold_nothing() -> None:
    """With hops longer than windows, records in no window leave no trace: no row, no late record, no state."""
    driver = Driver(Window(hopping("4ms", every="10ms"), Bag(), grace_ms=0))
    driver.process(partition([("a", 1, 5), ("a", 2, 9)]))
    driver.settle()
    assert list(driver.store.scan(b"", b"\xff")) == []
    driver.end()
    assert driver.outcome == Outcome()


def test_nothing_stays_of_closed_windows() -> None:
    """When all is closed the store is empty, of partly late records too."""
    rows = partition([("a", 1, 11), ("b", 2, 35), ("a", 3, 12)])
    assert kept(Window(hopping("30ms", every="10ms"), Bag(), grace_ms=0), rows) == (True, False)


def test_running_totals_are_those_of_a_merge() -> None:
    """Where a total slides, it is what merging the slices gives, over restarts and keys that come and go."""
    records = [("ab"[t % 3 == 0], t, t * 7 % 101 + t) for t in range(200)]
    rows = partition(records)
    expected = by_definition(rows, hopping("40ms", every="5ms"), Bag(), 3)
    for step in (Step(1), Step(7, after="restart"), Step(13, after="trim"), Step(50, closes=False)):
        same(run(Window(hopping("40ms", every="5ms"), Bag(invertible=True), grace_ms=3), rows, [step] * 200), expected)


def test_a_failing_result_names_its_window_and_spares_the_others() -> None:
    """A CloseError is undone, its window and key skipped; those closed before and after it have their rows, once."""
    rows = partition([("a", 1, 5), ("a", 13, 15), ("b", 2, 16), ("a", 3, 25), ("a", 4, 40)])
    for after in ("", "seal", "settle", "trim", "restart"):
        steps = [Step(2, closes=False), Step(2, closes=False, after=after)]
        outcome = run(Window(tumbling("10ms"), Picky(at_result=13), grace_ms=0), rows, steps)
        assert [(row.key, row.value.start, row.value.value) for row in outcome.rows] == [
            ("a", 0, [1]), ("b", 10, [2]), ("a", 20, [3]), ("a", 40, [4]),
        ]  # fmt: skip


def test_a_failing_merge_names_its_window() -> None:
    """A user's merge function that raises at closing time is the error of one window and key."""

    class Unmerged(Bag):
        def merge(self, parts: Any) -> dict[Any, int]:
            merged = super().merge(parts)
            if {1, 2} <= set(merged):
                raise ZeroDivisionError
            return merged

    rows = partition([("a", 1, 5), ("b", 7, 5), ("a", 2, 15), ("b", 8, 15)])
    outcome = run(Window(hopping("20ms", every="10ms"), Unmerged(), grace_ms=0), rows)
    assert [(row.key, row.value.value) for row in outcome.rows] == [
        ("a", [1]),
        ("b", [7]),
        ("b", [7, 8]),
        ("a", [2]),
        ("b", [8]),
    ]


def test_a_failing_function_leaves_the_state_as_it_was() -> None:
    """The user's function runs before any state is touched."""
    driver = Driver(Window(tumbling("10ms"), Picky(at_column=2), grace_ms=0))
    with pytest.raises(ValueError, match="2"):
        driver.process(partition([("a", 1, 1), ("a", 2, 2)]))
    driver.end()
    assert driver.outcome.rows == []


@pytest.mark.parametrize("aggregate", [Bag(), Bag(invertible=True), InOrder()], ids=["bag", "totals", "ordered"])
def test_a_record_for_a_closed_window_is_an_alarm_and_changes_no_other_window(aggregate: Aggregate[Any, Any]) -> None:
    """A broken law is loud; open windows get the record, none gets a second row or a record not its own."""
    driver = Driver(Window(hopping("20ms", every="10ms"), aggregate, grace_ms=0))
    driver.process([Row("a", 1, 15, None, (0, 0, 0))])
    driver.close(20)
    driver.process([Row("a", 2, 3, None, (0, 0, 1)), Row("a", 3, 12, None, (0, 0, 2))])
    driver.end()
    assert [(row.value.start, sorted(row.value.value)) for row in driver.outcome.rows] == [(0, [1]), (10, [1, 3])]
    assert sum(count for _, count in driver.context.alarms) == 2


# ------------------------------------------------------------------------------------ planted bugs


class SharedSlice(Window):
    """A3: the partly late record goes into the slice that all windows read."""

    def _add_partly(self, start: int, takes: int, key: Any, item: Any) -> None:
        super()._add_partly(start, self.windows.ends_of_slice(start)[0], key, item)


class JudgedByWatermark(Window):
    """A2: lateness is recomputed from what the operator has seen."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        clocks = [self.watermark] * len(batch)
        return super().process(Batch(batch.keys, batch.values, batch.timestamps, clocks, batch.origins), side)


class Unsorted(Window):
    """A13: rows in the order of arrival."""

    def close(self, watermark: int) -> Batch:
        rows = super().close(watermark)
        return rows.select(sorted(range(len(rows)), key=lambda i: str(rows.values[i].value)))


class HoldsNothingBack(Window):
    """A4: the watermark passed on is not held back by the grace."""

    def passes_on(self) -> int:
        return self.watermark


class DropsNoTotals(Window):
    """A3: a running total that keeps what its window has left."""

    def _drop(self, start: int) -> None:
        self._slices.drop(start)
        self._partly.drop(start)


@pytest.mark.parametrize("planted", [SharedSlice, JudgedByWatermark, Unsorted, HoldsNothingBack, DropsNoTotals])
def test_planted_bugs_are_caught(planted: type[Window]) -> None:
    """The law over random inputs sees each of them."""
    kind = hopping("30ms", every="10ms")
    with pytest.raises(AssertionError):
        for rows, steps in map(made, range(20)):
            expected = by_definition(rows, kind, Bag(), 4)
            same(run(planted(kind, Bag(invertible=True), grace_ms=4), rows, steps), expected)
