from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import Batch
from streamproc.operators.session import Session
from streamproc.state.keys import encode_key
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.results import WindowResult
from tests.operators.bags import Bag, InOrder, Picky
from tests.operators.harness import NODE, STEPS, TASK, Driver, Outcome, Row, Step, kept, partition, run, same
from tests.operators.inputs import inputs, made

GAPS = st.sampled_from((1, 2, 5, 9, 1500))
GRACES = st.sampled_from((0, 0, 1, 3, 15))
AGGREGATES = st.sampled_from((Bag(), InOrder()))


def by_definition(rows: Sequence[Row], gap: int, aggregate: Aggregate[Any, Any], grace: int) -> Outcome:
    """From the words alone: records that are not late, in time order, cut where two of a key are too far apart."""
    late = [row for row in rows if row.clock is not None and row.timestamp + grace < row.clock]
    sessions: dict[bytes, list[list[Row]]] = defaultdict(list)
    for row in sorted((row for row in rows if row not in late), key=lambda row: (row.timestamp, row.origin)):
        mine = sessions[encode_key(row.key)]
        if mine and row.timestamp - mine[-1][-1].timestamp <= gap:
            mine[-1].append(row)
        else:
            mine.append([row])
    found = sorted(
        (some[-1].timestamp, some[0].timestamp, key, some) for key, mine in sessions.items() for some in mine
    )
    outcome = Outcome(late=late)
    for end, start, key, some in found:
        values = [row.value for row in some]
        value = WindowResult(some[0].key, start, end, values if aggregate.ordered else sorted(values))
        outcome.rows.append(Row(some[0].key, value, end, None, (NODE, end, start, key, TASK)))
    return outcome


@given(inputs(), STEPS, GAPS, AGGREGATES, GRACES)
def test_sessions_are_what_the_words_say_under_any_schedule(
    rows: list[Row], steps: list[Step], gap: int, aggregate: Aggregate[Any, Any], grace: int
) -> None:
    """Rows, their order and the late records follow from the input: not from batches, pace, restarts or aborts."""
    same(run(Session(gap, aggregate, grace_ms=grace), rows, steps), by_definition(rows, gap, aggregate, grace))


@given(inputs(partitions=1), GAPS, GRACES, st.integers(0, 20))
def test_what_the_end_closed_stays_closed(rows: list[Row], gap: int, grace: int, ended_at: int) -> None:
    """A later run's record at or before the last that was taken is late; the others make sessions of their own."""
    ended_at %= len(rows) + 1
    driver = Driver(Session(gap, Bag(), grace_ms=grace))
    before, after = rows[:ended_at], rows[ended_at:]
    if before:
        driver.process(before)
        assert before[-1].clock is not None
        driver.close(before[-1].clock)
    driver.end()
    driver.restart()
    for row in after:
        driver.process([row])
        assert row.clock is not None
        driver.close(row.clock)
    driver.end()
    first = by_definition(before, gap, Bag(), grace)
    ended_to = max((row.timestamp for row in before if row not in first.late), default=None)
    ended = [row for row in after if ended_to is not None and row.timestamp <= ended_to]
    second = by_definition([row for row in after if row not in ended], gap, Bag(), grace)
    assert driver.outcome.rows == first.rows + second.rows
    assert {row.origin for row in driver.outcome.late} == {row.origin for row in first.late + ended + second.late}


def test_a_record_at_the_last_closed_instant_is_late_after_the_end() -> None:
    """The end of a run closed the session up to 10: a later run's record at 10 is late, one at 11 begins another."""
    driver = Driver(Session(5, Bag(), grace_ms=3))
    rows = partition([("a", 1, 10), ("a", 2, 10), ("a", 3, 9), ("a", 4, 11)])
    driver.process(rows[:1])
    driver.end()
    driver.restart()
    driver.process(rows[1:])
    driver.end()
    assert driver.outcome.values() == [WindowResult("a", 10, 10, [1]), WindowResult("a", 11, 11, [4])]
    assert [row.value for row in driver.outcome.late] == [2, 3]


def test_the_gap_is_inclusive() -> None:
    """With gap 5, records 5 apart are of one session, 6 apart are not; the watermark must pass end + gap, not reach it.

    0    5     11
    x----x     x
    """
    driver = Driver(Session(5, Bag(), grace_ms=0))
    rows = partition([("a", 1, 0), ("a", 2, 5), ("b", 9, 10), ("b", 9, 11), ("a", 3, 11)])
    driver.process(rows[:3])
    driver.close(10)
    assert driver.outcome.rows == []
    driver.process(rows[3:])
    driver.close(11)
    assert driver.outcome.values() == [WindowResult("a", 0, 5, [1, 2])]


def test_a_record_between_two_sessions_joins_them() -> None:
    """Out of order, within the gap of both: their aggregates merge into one row, in time order where order matters."""
    rows = partition([("a", 1, 0), ("a", 2, 2), ("a", 3, 9), ("a", 4, 11), ("a", 5, 6)])
    for aggregate, values in ((Bag(), [1, 2, 3, 4, 5]), (InOrder(), [1, 2, 5, 3, 4])):
        assert run(Session(4, aggregate, grace_ms=9), rows).values() == [WindowResult("a", 0, 11, values)]


def test_a_record_in_order_is_never_late() -> None:
    """At grace 0 every record of an ordered partition is on time, though its clock is itself."""
    outcome = run(Session(1, Bag(), grace_ms=0), partition([("a", i, i) for i in range(9)]), [Step(1)] * 9, floor=-1)
    assert outcome.late == []
    assert outcome.values() == [WindowResult("a", 0, 8, list(range(9)))]


def test_a_record_is_late_by_its_own_time_though_its_session_is_open() -> None:
    """Whatever the gap: the session that it would be of ends at its last record that was not late."""
    rows = partition([("a", 1, 0), ("a", 2, 10), ("a", 3, 6), ("a", 4, 7), ("a", 5, 12)])
    outcome = run(Session(30, Bag(), grace_ms=3), rows)
    assert [row.value for row in outcome.late] == [3]
    assert outcome.values() == [WindowResult("a", 0, 12, [1, 2, 4, 5])]


def test_rows_are_sorted_by_end_start_and_key_bytes() -> None:
    """Not by key or arrival: an earlier end first, then an earlier start, then the key's bytes."""
    rows = partition(
        [("b", 1, 0), ("c", 2, 1), ("a", 3, 2), ("b", 4, 3), ("a", 6, 3), (10, 7, 3), (9, 8, 3), ("d", 9, 2)]
    )
    outcome = run(Session(4, Bag(), grace_ms=3), rows)
    assert [row.key for row in outcome.rows] == ["c", "d", "b", "a", 9, 10]


def test_a_long_session_is_looked_at_no_more_than_it_has_records() -> None:
    """The due time is moved when it comes, not with each record; closing costs what closes."""
    driver = Driver(Session(1000, Bag(), grace_ms=0))
    rows = partition([("a", i, i * 900) for i in range(100)])
    moves = 0
    for row in rows:
        due = (driver.context.table().get("a") or (None,))[0]
        driver.process([row])
        assert row.clock is not None
        driver.close(row.clock)
        moves += due not in (None, driver.context.table().whole()["a"][0])
    assert 0 < moves <= 100
    assert driver.outcome.rows == []
    driver.end()
    assert driver.outcome.values() == [WindowResult("a", 0, 99 * 900, list(range(100)))]


@given(inputs(), STEPS, GAPS)
def test_nothing_stays_of_closed_sessions(rows: list[Row], steps: list[Step], gap: int) -> None:
    """When all is closed, the store is empty: no session, no due time."""
    assert kept(Session(gap, Bag(), grace_ms=0), rows) == (bool(rows), False)


def test_a_failing_result_names_its_session_and_spares_the_others() -> None:
    """A CloseError is undone and its session skipped; the others that close with it have their rows, once."""
    rows = partition([("a", 1, 5), ("a", 13, 25), ("b", 2, 26), ("a", 3, 45), ("b", 4, 90)])
    for after in ("", "seal", "settle", "trim", "restart"):
        steps = [Step(2, closes=False), Step(2, closes=False, after=after)]
        outcome = run(Session(9, Picky(at_result=13), grace_ms=0), rows, steps)
        assert [(row.key, row.value.value) for row in outcome.rows] == [("a", [1]), ("b", [2]), ("a", [3]), ("b", [4])]


def test_a_failing_function_leaves_the_state_as_it_was() -> None:
    """The user's function runs before any state is touched."""
    driver = Driver(Session(5, Picky(at_column=2), grace_ms=0))
    with pytest.raises(ValueError, match="2"):
        driver.process(partition([("a", 1, 1), ("a", 2, 2)]))
    driver.end()
    assert driver.outcome.rows == []


def test_a_record_that_is_not_late_behind_the_watermark_is_an_alarm() -> None:
    """A broken law is loud, and the record is not lost."""
    driver = Driver(Session(5, Bag(), grace_ms=3))
    driver.close(10)
    driver.process([Row("a", 1, 7, None, (0, 0, 0)), Row("a", 2, 6, None, (0, 0, 1))])
    assert [count for _, count in driver.context.alarms] == [1]
    driver.operator.record_wise = True  # what comes of it lies behind the watermark
    driver.end()
    assert driver.outcome.values() == [WindowResult("a", 6, 7, [1, 2])]


# ------------------------------------------------------------------------------------ planted bugs


class HoldsBackGraceOnly(Session):
    """A4: the watermark passed on is held back by the grace, not by gap + grace."""

    def passes_on(self) -> int:
        return self.watermark - self.graces[0]


class JudgedByMergedSession(Session):
    """A4: late is what falls into no session still open, the rule of Kafka Streams."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        clocks: list[int | None] = []
        for key, timestamp, clock in zip(
            batch.keys, batch.timestamps, batch.clocks or [None] * len(batch), strict=True
        ):
            _, sessions = self._table.get(key) or (0, [])
            met = any(start - self.gap_ms <= timestamp <= end + self.gap_ms for start, end, _ in sessions)
            clocks.append(None if met else clock)
        return super().process(Batch(batch.keys, batch.values, batch.timestamps, clocks, batch.origins), side)


class ClosesAtTheGap(Session):
    """The gap is inclusive: a session may still grow when W = end + gap + grace."""

    def close(self, watermark: int) -> Batch:
        return super().close(watermark + 1)


class Unsorted(Session):
    """A13: sorted by start, then key."""

    def close(self, watermark: int) -> Batch:
        rows = super().close(watermark)
        return rows.select(sorted(range(len(rows)), key=lambda i: (rows.values[i].start, rows.keys[i])))


class ForgetsToMove(Session):
    """A session that begins earlier than the others of its key stays due when they are."""

    def open(self, context: Any) -> None:
        super().open(context)
        self._schedule.move = lambda entry, before_ms, due_ms: None  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "planted", [HoldsBackGraceOnly, JudgedByMergedSession, ClosesAtTheGap, Unsorted, ForgetsToMove]
)
def test_planted_bugs_are_caught(planted: type[Session]) -> None:
    """The law sees each of them."""
    with pytest.raises(AssertionError):
        for rows, steps in map(made, range(20)):
            same(run(planted(5, Bag(), grace_ms=5), rows, steps), by_definition(rows, 5, Bag(), 5))
