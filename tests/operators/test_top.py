"""Top: the largest results of each window, found in every task and then in one."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import FOREVER
from streamproc.operators.operator import CloseError
from streamproc.operators.top import SPARE, Top
from streamproc.state.keys import encode_key
from streamproc.windows.results import Item, WindowResult
from streamproc.windows.results import Top as TopResult
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, interleaved, run

KEYS = st.sampled_from(["a", "b", "c", 1, 2, -1, 1.0, True, (1, "a")])
VALUES = st.sampled_from([0, 1, 2, 3, -5, 2.5])
WINDOWS = st.lists(st.dictionaries(KEYS, VALUES, max_size=6), max_size=6)
TASKS = st.lists(WINDOWS, min_size=1, max_size=3)


def parity(result: WindowResult[Any, Any]) -> bool:
    return bool(result.value % 2 == 0)


def rows_of(windows: list[dict[Any, Any]], task: int, before_end_ms: int = 1) -> list[Row]:
    """Final rows of a window operator: sorted by end; the row's clock here is the watermark that came with it."""
    rows: list[Row] = []
    for number, results in enumerate(windows):
        end = 10 * (number + 1)
        for key in sorted(results, key=encode_key):
            result = WindowResult(key, end - 10, end, results[key])
            rows.append(Row(key, result, end - before_end_ms, end - before_end_ms, (task, task, len(rows))))
    return rows


def by_definition(tasks: list[list[dict[Any, Any]]], n: int, by: Any, per: Any) -> list[Any]:
    """All results at once."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for windows in tasks:
        for row in rows_of(windows, 0):
            result = row.value
            found[result.end, encode_key(per(result) if per else None)].append(result)
    tops = []
    for (end, group), results in sorted(found.items()):
        results.sort(key=lambda result: encode_key(result.key))
        results.sort(key=lambda result: -(by(result.value) if by else result.value))
        tops.append((end, group, [(type(r.key), r.key, r.value) for r in results[:n]]))
    return tops


def shown(outcome: Outcome) -> list[Any]:
    return [
        (row.value.end, encode_key(row.key), [(type(item.key), item.key, item.value) for item in row.value.value])
        for row in outcome.rows
    ]


def both_levels(tasks: list[list[Row]], order: list[int], steps: list[Step], **settings: Any) -> Outcome:
    partials = []
    for number, rows in enumerate(tasks):
        given_rows = run(Top(final=False, **settings), rows, steps, floor=FOREVER).rows
        ends = [(row.value[1], row.value[0]) for row in given_rows]
        assert ends == sorted(ends)
        partials.append([row._replace(clock=row.timestamp, origin=(0, number, i)) for i, row in enumerate(given_rows)])
    return run(Top(final=True, **settings), interleaved(partials, order), steps, floor=FOREVER)


def apart(tasks: list[list[dict[Any, Any]]]) -> list[list[dict[Any, Any]]]:
    """A key is in one task alone."""
    return [
        [{key: value for key, value in results.items() if len(repr(key)) % len(tasks) == task} for results in windows]
        for task, windows in enumerate(tasks)
    ]


@given(TASKS, st.integers(1, 4), st.booleans(), st.booleans(), st.lists(st.integers(0, 5), max_size=20), STEPS)
def test_two_levels_find_the_largest_of_all(
    tasks: list[list[dict[Any, Any]]], n: int, by_square: bool, per_parity: bool, order: list[int], steps: list[Step]
) -> None:
    """Same rows, same sequence, ties by key: for any division into tasks and batches, aborts and restarts."""
    tasks = apart(tasks)
    by = (lambda value: value * value) if by_square else None
    per = parity if per_parity else None
    outcome = both_levels([rows_of(w, i) for i, w in enumerate(tasks)], order, steps, n=n, by=by, per=per)
    assert shown(outcome) == by_definition(tasks, n, by, per)
    assert not outcome.alarms
    assert [row.timestamp for row in outcome.rows] == [row.value.end - 1 for row in outcome.rows]


def test_the_row_is_a_top() -> None:
    """Of no key, at end - 1, with the values as they were."""
    rows = rows_of([{"a": [1], "b": [3, 0], "c": [2]}], 0)
    outcome = both_levels([rows], [], [], n=2)
    assert outcome.rows[0][:3] == (None, TopResult(0, 10, [Item("b", [3, 0]), Item("c", [2])]), 9)


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    """Not before; a session when it is passed, and its row is at its end."""
    row = Row("k", WindowResult("k", 0, 10, 1), 9, None, (0, 0, 0))
    for sessions, at in ((False, 10), (True, 11)):
        driver = Driver(Top(3, sessions=sessions, final=True))
        driver.described = Top(3, sessions=sessions, final=False)
        driver.start()
        driver.process([row._replace(timestamp=at - 1)])
        driver.close(at - 1)
        assert not driver.outcome.rows
        driver.close(at)
        assert [given_row.timestamp for given_row in driver.outcome.rows] == [at - 1]


def test_a_result_that_comes_behind_the_end_of_an_earlier_run_is_late() -> None:
    """Its window was closed by the end, and is not given twice."""
    driver = Driver(Top(3, final=False))
    driver.process([Row("k", WindowResult("k", 0, 10, 1), 9, None, (0, 0, 0))])
    driver.end()
    driver.restart()
    driver.process([Row("l", WindowResult("l", 0, 10, 1), 9, None, (0, 0, 1))])
    driver.process([Row("l", WindowResult("l", 10, 20, 1), 19, None, (0, 0, 2))])
    driver.end()
    assert [row.value[1] for row in driver.outcome.rows] == [10, 20]
    assert [row.value.end for row in driver.outcome.late] == [10]


def test_a_result_that_meets_its_closed_window_is_an_alarm() -> None:
    """It cannot be, so it is said loudly."""
    driver = Driver(Top(3, final=False))
    driver.process([Row("k", WindowResult("k", 0, 10, 1), 9, None, (0, 0, 0))])
    driver.close(10)
    driver.process([Row("l", WindowResult("l", 0, 10, 1), 9, None, (0, 0, 1))])
    assert driver.context.alarms == [("window ending at 10 had closed", 1)]


@pytest.mark.parametrize("nan", [float("nan"), Decimal("NaN")])
def test_nan_has_no_place_in_an_order(nan: Any) -> None:
    """It would make the order depend on the sequence of arrival; the error says what to do."""
    driver = Driver(Top(3, final=False))
    with pytest.raises(ValueError, match="NaN of key 'k' .* filter it out|nan of key 'k' .* filter it out"):
        driver.process([Row("k", WindowResult("k", 0, 10, nan), 9, None, (0, 0, 0))])


def test_values_that_do_not_compare_are_that_window_s_error() -> None:
    """The others are given all the same."""
    driver = Driver(Top(1, final=False))
    rows = [("a", 10, 1), ("b", 10, "text"), ("a", 20, 1), ("b", 20, 2)]
    results = [WindowResult(key, end - 10, end, value) for key, end, value in rows]
    driver.process([Row(r.key, r, r.end - 1, None, (0, 0, i)) for i, r in enumerate(results)])
    driver.savepoint()
    with pytest.raises(CloseError) as caught:
        driver.operator.close(20)
    assert (caught.value.timestamp, type(caught.value.__cause__)) == (9, TypeError)
    driver.undo(driver.remembered())
    driver.close(20)
    assert [row.value[1] for row in driver.outcome.rows] == [20]


def test_state_is_bounded_however_many_keys_a_window_has() -> None:
    """A window and group keep no more than n and some to spare."""
    driver = Driver(Top(2, final=False))
    for at in range(0, 1_000, 50):
        results = [WindowResult(n, 0, 10, n % 97) for n in range(at, at + 50)]
        driver.process([Row(r.key, r, 9, None, (0, 0, r.key)) for r in results])
        [(_, candidates)] = driver.operator._open.whole(10).items()  # type: ignore[attr-defined]
        assert len(candidates) <= 2 + SPARE
    driver.close(10)
    assert [candidate[1] for candidate in driver.outcome.rows[0].value[2]] == [96, 193]


def test_n_is_at_least_one() -> None:
    """Nothing would ever come."""
    with pytest.raises(ValueError, match=r"top\(0\)"):
        Top(0, final=True)


@pytest.mark.parametrize("planted", ["ties by arrival", "cut before the ties"])
def test_planted_bugs_are_caught(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that is not total shows in which of equal results are given."""
    tasks: list[list[dict[Any, Any]]] = [[{"b": 1, "d": 1}], [{"a": 1, "c": 1}]]
    expected = by_definition(tasks, 3, None, None)
    rows = [rows_of(windows, number) for number, windows in enumerate(tasks)]
    assert shown(both_levels(rows, [0, 0], [], n=3)) == expected
    if planted == "ties by arrival":
        monkeypatch.setattr("streamproc.operators.top.encode_keys", lambda keys: [b""] * len(keys))
    else:
        monkeypatch.setattr(Top, "_largest", lambda self, candidates: candidates[: self.n])
    assert shown(both_levels(rows, [0, 0], [], n=3)) != expected
