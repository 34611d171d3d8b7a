"""InOrder: the records that are not late, by (timestamp, origin), whatever the order of arrival."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import FOREVER, Batch
from streamproc.operators.in_order import InOrder
from tests.operators.harness import STEPS, Driver, Row, Step, interleaved, partition, run
from tests.operators.harness import rows_of as rows_in

RECORDS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9), st.integers(-3_000, 3_000)), max_size=25
)
INPUT = st.tuples(st.lists(RECORDS, min_size=1, max_size=3), st.lists(st.integers(0, 5), max_size=60))
GRACES = st.sampled_from([0, 1, 700, 2_500])


def rows_of(given_input: tuple[list[list[tuple[Any, Any, int]]], list[int]]) -> list[Row]:
    records, order = given_input
    return interleaved([partition(some, number) for number, some in enumerate(records)], order)


def by_definition(rows: list[Row], grace_ms: int) -> tuple[list[Row], list[Row]]:
    """All rows at once: those that are on time, sorted; those that are late."""
    late = [row for row in rows if row.clock is not None and row.timestamp + grace_ms < row.clock]
    on_time = [row._replace(clock=None) for row in rows if row not in late]
    return sorted(on_time, key=lambda row: (row.timestamp, row.origin)), late


@given(INPUT, GRACES, STEPS)
def test_records_come_in_time_order_however_they_arrive(
    given_input: tuple[list[list[tuple[Any, Any, int]]], list[int]], grace_ms: int, steps: list[Step]
) -> None:
    """Same rows, same sequence, same late records: for any batches, lagging watermarks, aborts and restarts."""
    rows = rows_of(given_input)
    outcome = run(InOrder(grace_ms=grace_ms), rows, steps)
    expected, late = by_definition(rows, grace_ms)
    assert outcome.rows == expected
    assert [row[:3] for row in outcome.late] == [row[:3] for row in late]
    assert not outcome.alarms


@given(INPUT, GRACES, STEPS)
def test_what_the_end_released_is_late_in_the_next_run(
    given_input: tuple[list[list[tuple[Any, Any, int]]], list[int]], grace_ms: int, steps: list[Step]
) -> None:
    """A second run passes on what lies behind the first's last record, and only that."""
    rows = rows_of(given_input)
    driver = Driver(InOrder(grace_ms=grace_ms))
    driver.process(rows)
    driver.end()
    released_to = max((row.timestamp for row in driver.outcome.rows), default=None)
    driver.restart()
    count = len(driver.outcome.rows)
    again = [row._replace(origin=(0, 9, i), clock=row.timestamp) for i, row in enumerate(rows)]
    if again:
        driver.process(again)
    driver.end()
    second = driver.outcome.rows[count:]
    assert [r.timestamp for r in second] == sorted(
        row.timestamp for row in again if released_to is None or row.timestamp > released_to
    )


def test_a_record_waits_until_its_time_and_grace_are_behind_the_watermark() -> None:
    """Strictly behind: one that is as old as the watermark allows may still come, and comes in its place."""
    driver = Driver(InOrder(grace_ms=10))
    driver.process(partition([("a", "first", 100), ("a", "second", 105)]))
    driver.close(110)
    assert driver.outcome.values() == []
    driver.process([Row("b", "as late as can be", 100, 110, (0, 1, 0))])
    driver.close(111)
    assert driver.outcome.values() == ["first", "as late as can be"]
    assert driver.operator.passes_on() == 101


def test_equal_times_come_in_the_order_of_the_source() -> None:
    """Not of arrival: which partition's rows a task sees first is a matter of pace."""
    rows = interleaved([partition([("a", "zero", 5)], 0), partition([("a", "one", 5)], 1)], [1, 0])
    assert [row.value for row in rows] == ["one", "zero"]
    assert run(InOrder(grace_ms=0), rows).values() == ["zero", "one"]


def test_lateness_is_by_the_record_s_own_clock() -> None:
    """Not by the watermark of the task, nor by what else has come."""
    driver = Driver(InOrder(grace_ms=5))
    driver.process([Row("a", 1, 100, 100, (0, 0, 0)), Row("a", 2, 0, 0, (0, 1, 0)), Row("a", 3, 94, 100, (0, 0, 1))])
    driver.end()
    assert driver.outcome.values() == [2, 1]
    assert [row.value for row in driver.outcome.late] == [3]


def test_a_row_that_meets_a_watermark_it_cannot_meet_is_an_alarm_and_not_lost() -> None:
    """It is passed on, out of order, and said loudly."""
    driver = Driver(InOrder(grace_ms=0))
    driver.process([Row("a", "x", 50, None, (0, 0, 0))])
    driver.close(100)
    driver.process([Row("a", "early", 60, None, (0, 0, 1))])
    assert driver.operator.close(FOREVER).values == ("early",)
    assert driver.context.alarms == [("records of their time had been released", 1)]


def test_headers_and_keys_are_held_with_the_value() -> None:
    """The whole record comes out, after a restart too."""
    driver = Driver(InOrder(grace_ms=0))
    batch = Batch([("k", 1), None], [[1], {"v": 2}], [2, 1], None, [(0, 0, 0), (0, 0, 1)], [{"h": b"1"}, None])
    driver.operator.process(batch)
    driver.restart()
    given_rows = driver.operator.close(FOREVER)
    assert (given_rows.keys, given_rows.values) == ((None, ("k", 1)), ({"v": 2}, [1]))
    assert (given_rows.headers, given_rows.clocks) == ((None, {"h": b"1"}), None)


def test_rows_of_equal_time_and_origin_are_refused() -> None:
    """One of them would be lost, so it is an error, also when the first is on disk only."""
    driver = Driver(InOrder(grace_ms=0))
    driver.process([Row("a", 1, 5, None, (0, 0, 0))])
    driver.settle(limit_bytes=0)
    with pytest.raises(ValueError, match="in_order"):
        driver.process([Row("b", 2, 5, None, (0, 0, 0))])


def late_by_the_batch(operator: InOrder, batch: Batch, side: int = 0) -> Batch:
    """Planted: the largest timestamp that comes this way is taken for the clock."""
    clock = max(batch.timestamps)
    return batch.select([i for i, timestamp in enumerate(batch.timestamps) if timestamp + operator.hold >= clock])


@pytest.mark.parametrize(("name", "bug"), [("on_time", late_by_the_batch), ("sorted_by_bytes", list), ("hold", None)])
def test_planted_bugs_are_caught(name: str, bug: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lateness by what is seen, order of arrival, release before the grace is over: the definition tells each."""
    rows = interleaved([partition([("a", n, at) for at in range(40)], n) for n in (0, 1)], [0] * 10 + [1, 0] * 40)
    rows = [row._replace(timestamp=row.timestamp - row.timestamp % 3) for row in rows]
    operator, steps = InOrder(grace_ms=3), [Step(7)] * 20
    assert run(operator, rows, steps).rows == by_definition(rows, 3)[0]
    if bug is None:
        monkeypatch.setattr(operator, "hold", -3)
    else:
        monkeypatch.setattr(f"streamproc.operators.in_order.{name}", bug)
    take = "tests.operators.harness.Driver._take"  # whose own checks would stop the bug first
    monkeypatch.setattr(take, lambda driver, batch: driver.outcome.rows.extend(rows_in(batch)))
    assert run(operator, rows, steps).rows != by_definition(rows, 3)[0]
