from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import Batch
from streamproc.operators.deduplicate import Deduplicate
from streamproc.state.keys import encode_key
from streamproc.state.registry import CodecError
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, kept, partition, run, run_twice, same
from tests.operators.inputs import YEAR, inputs, made

WITHIN = st.sampled_from((0, 1, 4, 12, 2500, YEAR))
GRACES = st.sampled_from((0, 0, 1, 3, 15))


def by_definition(rows: Sequence[Row], within: int, grace: int) -> Outcome:
    """From the words alone: everything that was passed on is remembered for ever."""
    outcome = Outcome()
    for row in rows:
        assert row.clock is not None
        if row.timestamp + grace < row.clock:
            outcome.late.append(row)
            continue
        same = [p for p in outcome.rows if (encode_key(p.key), p.value) == (encode_key(row.key), row.value)]
        if all(abs(row.timestamp - passed.timestamp) > within for passed in same):
            outcome.rows.append(row._replace(clock=None))
    return outcome


@given(inputs(values=2), STEPS, WITHIN, GRACES)
def test_what_passes_is_what_the_words_say_under_any_schedule(
    rows: list[Row], steps: list[Step], within: int, grace: int
) -> None:
    """What passes and what is late follow from the arrivals: not from batches, pace, restarts or aborts."""
    same(run(Deduplicate(within_ms=within, grace_ms=grace), rows, steps), by_definition(rows, within, grace))


@given(inputs(partitions=1, values=2), WITHIN, GRACES, st.integers(0, 20))
def test_the_end_forgets_nothing(rows: list[Row], within: int, grace: int, ended_at: int) -> None:
    """It closes nothing here: a later run goes on as if there had been no end."""
    ended_at %= len(rows) + 1
    outcome = run_twice(Deduplicate(within_ms=within, grace_ms=grace), rows, ended_at)
    same(outcome, by_definition(rows, within, grace))


def test_both_bounds_are_inclusive_and_only_what_passed_counts() -> None:
    """0 passes, 5 is the same within 5, 6 is not: the 5 between did not pass. 12, out of order, meets 17.

    0 ---- 5 6 ---- 12 ---- 17
    x        x                x
    """
    rows = partition(
        [("a", "v", 0), ("a", "v", 5), ("a", "v", 6), ("a", "v", 17), ("a", "v", 12), ("b", "v", 17), ("a", "w", 17)]
    )
    outcome = run(Deduplicate(within_ms=5, grace_ms=9), rows)
    assert [(row.key, row.value, row.timestamp) for row in outcome.rows] == [
        ("a", "v", 0), ("a", "v", 6), ("a", "v", 17), ("b", "v", 17), ("a", "w", 17),
    ]  # fmt: skip


def test_by_says_what_is_the_same() -> None:
    """Values that `by` maps to one are the same, values it tells apart are not: 1, 1.0 and True are three."""
    rows = partition([("a", {"id": i, "n": n}, n) for n, i in enumerate([7, 7.0, 7, True, 1, "7"])])
    outcome = run(Deduplicate(lambda value: value["id"], within_ms=100, grace_ms=0), rows)
    assert [row.value["n"] for row in outcome.rows] == [0, 1, 3, 4, 5]


def test_what_cannot_be_a_key_is_a_clear_error_before_any_state_is_touched() -> None:
    """A dict as a value, or as what `by` gives, says what to do."""
    driver = Driver(Deduplicate(within_ms=5, grace_ms=0))
    with pytest.raises(CodecError, match="a dict cannot be a key: convert to a tuple"):
        driver.process(partition([("a", 1, 1), ("a", {}, 2)]))
    driver.process(partition([("a", 1, 1)]))
    assert driver.outcome.values() == [1]


def test_a_failing_function_leaves_the_state_as_it_was() -> None:
    """`by` runs before any state is touched."""
    driver = Driver(Deduplicate(lambda value: 1 // value, within_ms=5, grace_ms=0))
    with pytest.raises(ZeroDivisionError):
        driver.process(partition([("a", 1, 1), ("a", 0, 2)]))
    driver.process(partition([("a", 1, 1)]))
    assert driver.outcome.values() == [1]


@given(inputs(values=2), st.sampled_from((0, 4, 2500)))
def test_nothing_stays_of_what_can_meet_no_record(rows: list[Row], within: int) -> None:
    """Behind the last watermark by more than within + grace, the store is empty."""
    assert kept(Deduplicate(within_ms=within, grace_ms=0), rows) == (bool(rows), False)


def test_state_is_what_may_still_meet_a_record() -> None:
    """What was passed on at t is forgotten once W > t + within + grace, not before."""
    driver = Driver(Deduplicate(within_ms=5, grace_ms=2))
    driver.process(partition([("a", 1, 0)]))
    for watermark, rows in ((7, 1), (8, 0)):
        driver.close(watermark)
        assert len(driver.context.table().whole()) == rows


def test_forgetting_the_first_keeps_the_others() -> None:
    """0 can meet no record any more at W = 15; 6, of the same row, still meets one within the grace."""
    driver = Driver(Deduplicate(within_ms=5, grace_ms=9))
    driver.process(partition([("a", 1, 0), ("a", 1, 6)]))
    driver.close(15)
    assert list(driver.context.table().whole().values()) == [[6]]
    driver.process([Row("a", 1, 7, 15, (0, 0, 2))])
    assert [row.timestamp for row in driver.outcome.rows] == [0, 6]


def test_a_record_that_is_not_late_behind_the_watermark_is_an_alarm() -> None:
    """A broken law is loud."""
    driver = Driver(Deduplicate(within_ms=5, grace_ms=3))
    driver.close(10)
    driver.operator.record_wise = True  # what comes of it lies behind the watermark
    driver.process([Row("a", 1, 7, None, (0, 0, 0)), Row("a", 2, 6, None, (0, 0, 1))])
    assert [count for _, count in driver.context.alarms] == [1]


# ------------------------------------------------------------------------------------ planted bugs


class ForgetsWithoutGrace(Deduplicate):
    """What was passed on is forgotten at W > t + within: a record may still come that is the grace behind."""

    def close(self, watermark: int) -> Batch:
        return super().close(watermark + self.graces[0])


class HoldsNothingBack(Deduplicate):
    """A4: what passes has no clock, so the watermark must be held back by the grace."""

    def passes_on(self) -> int:
        return self.watermark


class KeepsTheFirst(Deduplicate):
    """Only the latest that passed is remembered."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        passed = super().process(batch, side)
        for times in self._table.whole().values():
            del times[:-1]
        return passed


class ForgetsToMove(Deduplicate):
    """The first of the times becomes an earlier one, its due time does not move."""

    def open(self, context: Any) -> None:
        super().open(context)
        self._schedule.move = lambda entry, before_ms, due_ms: None  # type: ignore[method-assign]

    def close(self, watermark: int) -> Batch:
        super().close(watermark)
        due = [t for times in self._table.whole().values() for t in times if self._due(t) < watermark]
        assert not due, f"not forgotten: {due}"
        return Batch((), (), ())


@pytest.mark.parametrize("planted", [ForgetsWithoutGrace, HoldsNothingBack, KeepsTheFirst, ForgetsToMove])
def test_planted_bugs_are_caught(planted: type[Deduplicate]) -> None:
    """The law, or the size of the state, shows each of them."""
    with pytest.raises(AssertionError):
        for rows, steps in [made(seed, values=3) for seed in range(20)]:
            same(run(planted(within_ms=4, grace_ms=5), rows, steps), by_definition(rows, 4, 5))
