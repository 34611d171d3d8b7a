"""WithPrevious: each window's value beside those of the windows before it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.with_previous import WithPrevious
from streamproc.windows.results import Previous, WindowResult
from tests.operators.harness import STEPS, Driver, Row, Step, run

CELLS = st.sets(st.tuples(st.integers(-8, 12), st.sampled_from(["a", "b", 1, 1.0])), max_size=40)
"""Which windows exist: (number of the window by hops, key)."""


def rows_of(cells: set[tuple[int, Any]], every: int, size: int) -> list[Row]:
    """The final rows of a hopping window, sorted by end; the last of an end comes with the watermark that closed it."""
    rows: list[Row] = []
    for number, key in sorted(cells, key=lambda cell: (-cell[0], repr(cell[1]))):
        start = number * every
        result = WindowResult(key, start, start + size, [number])
        last = not rows or rows[0].value.end != result.end
        rows.insert(0, Row(key, result, result.end - 1, result.end - (not last), (0, 0, len(rows))))
    return rows


def by_definition(rows: list[Row], n: int, fill: Any) -> list[Previous[Any]]:
    values = {(type(row.key), row.key, row.value.end): row.value.value for row in rows}
    found = []
    for row in rows:
        size = row.value.end - row.value.start
        ends = [row.value.start - back * size for back in range(n - 1, -1, -1)]
        found.append(Previous(row.value.value, [values.get((type(row.key), row.key, end), fill) for end in ends]))
    return found


@given(CELLS, st.integers(1, 3), st.sampled_from([(10, 10), (10, 30), (30, 10)]), STEPS)
def test_the_windows_before_are_those_that_end_at_the_start(
    cells: set[tuple[int, Any]], n: int, kind: tuple[int, int], steps: list[Step]
) -> None:
    """One size apart, oldest first, filled where there was none: for any batches, watermarks, aborts and restarts."""
    rows = rows_of(cells, *kind)
    outcome = run(WithPrevious(n, None), rows, steps)
    assert [row.value.value for row in outcome.rows] == by_definition(rows, n, None)
    assert [(row[0], row.value.start, row.value.end, *row[2:3]) for row in outcome.rows] == [
        (row.key, row.value.start, row.value.end, row.timestamp) for row in rows
    ]
    assert not outcome.alarms


def test_what_no_window_can_ask_for_any_more_is_forgotten() -> None:
    """State is the last n windows of each key; the end of the input is no reason to forget."""
    driver = Driver(WithPrevious(2, 0))
    for end in range(10, 110, 10):
        driver.process([Row("k", WindowResult("k", end - 10, end, end), end - 1, None, (0, 0, end))])
        driver.close(end)
        driver.settle()
        assert len(list(driver.store.scan(b"", b"\xff"))) <= 2
    driver.end()
    driver.restart()
    driver.process([Row("k", WindowResult("k", 100, 110, 110), 109, None, (0, 0, 200))])
    assert driver.outcome.values()[-1].value == Previous(110, [90, 100])


def test_a_fill_that_can_be_changed_is_not_shared() -> None:
    """Who changes one row's list does not change another's."""
    outcome = run(WithPrevious(2, []), rows_of({(0, "a"), (0, "b")}, 10, 10))
    fills = [fill for row in outcome.rows for fill in row.value.value.before]
    assert fills == [[]] * 4
    assert len({id(fill) for fill in fills}) == 4


def test_windows_of_unequal_size_are_an_error() -> None:
    """In one batch, in two, and on the other side of a restart."""
    one, other = (Row("k", WindowResult("k", s, e, 1), e - 1, None, (0, 0, e)) for s, e in ((0, 10), (10, 40)))
    with pytest.raises(ValueError, match="windows of 10 ms and of 30 ms"):
        Driver(WithPrevious(1, 0)).process([one, other])
    driver = Driver(WithPrevious(1, 0))
    driver.process([one])
    with pytest.raises(ValueError, match="windows of 10 ms and of 30 ms"):
        driver.process([other])
    driver = Driver(WithPrevious(1, 0))
    driver.process([one])
    driver.restart()
    with pytest.raises(ValueError, match="windows of 10 ms and of 30 ms"):
        driver.process([other])


def test_n_is_at_least_one() -> None:
    """There would be nothing before."""
    with pytest.raises(ValueError, match=r"with_previous\(0\)"):
        WithPrevious(0, fill=0)


@pytest.mark.parametrize("planted", ["newest first", "forgets too early", "one hop apart"])
def test_planted_bugs_are_caught(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition tells each."""
    rows = rows_of({(number, "a") for number in range(8)}, 10, 20)
    expected = by_definition(rows, 2, 0)
    steps = [Step(1)] * len(rows)
    assert [row.value.value for row in run(WithPrevious(2, 0), rows, steps).rows] == expected
    if planted == "newest first":
        monkeypatch.setattr("builtins.reversed", iter)
    elif planted == "forgets too early":
        close = WithPrevious.close
        monkeypatch.setattr(WithPrevious, "close", lambda self, watermark: close(self, watermark + 11))
    else:
        column = WithPrevious._column
        monkeypatch.setattr(WithPrevious, "_column", lambda self, end, keys: column(self, end + 10, keys))
    assert [row.value.value for row in run(WithPrevious(2, 0), rows, steps).rows] != expected
