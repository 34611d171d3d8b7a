from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import Batch
from streamproc.operators.counting import Counting
from streamproc.state.keys import encode_key
from streamproc.windows.results import WindowResult
from tests.operators.bags import Bag, InOrder, Picky
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, partition, run
from tests.operators.inputs import inputs, made


def by_definition(rows: Sequence[Row], n: int, every: int) -> Outcome:
    """From the words alone: after every `every` records of a key its last n, beginning with the first n."""
    arrived: dict[bytes, list[Row]] = defaultdict(list)
    outcome = Outcome()
    for row in rows:
        mine = arrived[encode_key(row.key)]
        mine.append(row)
        if len(mine) >= n and (len(mine) - n) % every == 0:
            last = mine[-n:]
            value = WindowResult(row.key, last[0].timestamp, row.timestamp, [some.value for some in last])
            outcome.rows.append(row._replace(value=value))
    return outcome


@given(inputs(), STEPS, st.integers(1, 5), st.integers(1, 7))
def test_windows_are_what_the_words_say_under_any_schedule(
    rows: list[Row], steps: list[Step], n: int, every: int
) -> None:
    """Rows follow from the arrivals, not from batches, restarts or aborts; each is its last record's."""
    outcome = run(Counting(n, every, InOrder()), rows, steps, floor=-(1 << 62))
    assert outcome == by_definition(rows, n, every)


def test_every_n_records_when_nothing_else_is_said() -> None:
    """Tumbling: each record is in one window; a window that is not full has no row, at the end neither."""
    rows = partition([("a", 1, 10), ("b", 9, 11), ("a", 2, 12), ("a", 3, 8), ("a", 4, 7), ("a", 5, 20)])
    outcome = run(Counting(2, None, InOrder()), rows)
    assert outcome.values() == [WindowResult("a", 10, 12, [1, 2]), WindowResult("a", 8, 7, [3, 4])]
    assert [row.timestamp for row in outcome.rows] == [12, 7]


def test_a_result_does_not_change_with_what_comes_after_it() -> None:
    """Overlapping windows share no accumulator: the rows of a batch are what they were when they were made."""
    rows = partition([("a", i, i) for i in range(5)])
    values = run(Counting(3, 1, InOrder()), rows).values()
    assert [value.value for value in values] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_it_passes_the_watermark_on_and_finds_nothing_late() -> None:
    """Record-wise: W as it is; a record far behind counts like any other, and its row keeps its clock."""
    driver = Driver(Counting(1, None, Bag()), floor=0)
    driver.process(partition([("a", 1, 100), ("a", 2, 5)]))
    driver.close(100)
    assert driver.operator.passes_on() == 100
    assert [(row.timestamp, row.clock) for row in driver.outcome.rows] == [(100, None), (5, 100)]
    assert driver.outcome.late == []


def test_a_failing_function_leaves_the_state_as_it_was() -> None:
    """The user's function runs before any state is touched."""
    for every in (1, 2):
        driver = Driver(Counting(2, every, Picky(at_column=2)))
        with pytest.raises(ValueError, match="2"):
            driver.process(partition([("a", 1, 1), ("a", 2, 2)]))
        driver.process(partition([("a", 3, 3)]))
        assert driver.outcome.rows == []


@pytest.mark.parametrize("every", [1, 2])
def test_a_failing_result_is_its_last_records_error(every: int) -> None:
    """What a task undoes of it, the next record makes up for: the window has n records all the same."""
    driver = Driver(Counting(2, every, Picky(at_result=2)))
    driver.process(partition([("a", 1, 1)]))
    driver.savepoint()
    with pytest.raises(ValueError, match="2"):
        driver.process(partition([("a", 2, 2)]))
    driver.undo(driver.remembered())
    driver.process(partition([("a", 3, 3)]))
    assert driver.outcome.values() == [WindowResult("a", 1, 3, [1, 3])]


# ------------------------------------------------------------------------------------ planted bugs


class CountsBatches(Counting):
    """The count begins anew with each batch."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        for key in list(self._table.whole()):
            self._table.delete(key)
        return super().process(batch, side)


@pytest.mark.parametrize("every", [1, 3, 5])
def test_planted_bugs_are_caught(every: int) -> None:
    """The law sees a count that depends on batches."""
    with pytest.raises(AssertionError):
        for rows, steps in map(made, range(20)):
            outcome = run(CountsBatches(3, every, InOrder()), rows, steps, floor=-(1 << 62))
            assert outcome == by_definition(rows, 3, every)
