"""What the tables say follows from what was measured."""

import pytest

from tests.benchmarks.kafka.check import Found
from tests.benchmarks.kafka.compared import Measured, Rounds
from tests.benchmarks.kafka.goals import Goals
from tests.benchmarks.kafka.measure import Cost


def rounds_of(**cpu_s: list[tuple[float, float]]) -> Rounds:
    """CPU seconds at 200,000 and at 1,000,000 records, by program."""
    rounds = Rounds([1_000_000, 200_000])
    for program, taken in cpu_s.items():
        for small, large in taken:
            rounds.runs[program, 200_000].append(Measured(Cost(small, 1.0, 1.0), None))
            rounds.runs[program, 1_000_000].append(Measured(Cost(large, 1.0, 1.0), Found(7, 0, 0)))
    return rounds


def test_start_up_is_told_apart() -> None:
    """A program that takes half a second to start and two for a million records has a slope of two, whatever noise."""
    rounds = rounds_of(engine=[(0.9, 2.5), (0.9, 2.5), (3.0, 9.0)])
    assert rounds.cpu_s("engine") == 2.5
    assert rounds.slope_s("engine") == pytest.approx(2.0)


def test_ratios_are_of_the_same_round() -> None:
    """A round in which the machine was slow makes both slow."""
    rounds = rounds_of(fast=[(1, 2), (1, 4), (1, 2)], engine=[(1, 3), (1, 6), (1, 9)])
    assert rounds.ratio("engine", "fast") == 1.5
    assert rounds.ratio("engine", "simple") is None, "it was not measured"


def test_rows_of_all_sizes_count() -> None:
    """What was compared is found again."""
    assert rounds_of(engine=[(1, 2), (1, 2)]).found("engine") == [Found(7, 0, 0)] * 2


def test_a_goal_that_is_missed_is_named() -> None:
    """The limit itself is within the goal."""
    goals = Goals()
    assert goals.at_most("join: 0.5 s", 0.5, 0.5) == "<= 0.5"
    assert str(goals) == "all 1 goals are met"
    goals.at_least("restore: 399,999 rows", 399_999, 400_000)
    goals.note("pass: rows", met=False)
    assert str(goals) == "2 of 3 goals are missed: restore: 399,999 rows, pass: rows"
