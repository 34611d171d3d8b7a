"""One answer: whatever the batches, pace, workers, crashes and disks, a plan gives what its definition says."""

from __future__ import annotations

import random

import pytest

from tests.law.check import answer_of, check, check_plan, crashes_everywhere, given
from tests.law.directed import (
    CHAINED_SESSIONS,
    EVERY_PLAN,
    POISONED,
    THREE_STAGES,
    TWO_BRANCHES,
    node,
    rekeyed,
    session,
    straight,
    window,
)
from tests.law.inputs import random_inputs
from tests.law.plans import Spec
from tests.law.values import AGGREGATES, RUNNING
from tests.law.world import Schedule

PLANS = 48
"""So many random plans, in parts that can fail by themselves: `python -m tests.law` tries more."""


@pytest.mark.parametrize("part", range(8))
def test_random_plans_have_one_answer(part: int) -> None:
    """Any plan, under any schedule, gives the oracle's rows, order of rows, late records and tables."""
    for seed in range(part * PLANS // 8, (part + 1) * PLANS // 8):
        assert check(seed, schedules=6) == ""


@pytest.mark.parametrize("name", EVERY_PLAN)
def test_plans_for_one_thing_each_have_one_answer(name: str) -> None:
    """As random plans, on the plans that planted bugs need."""
    assert check_plan(EVERY_PLAN[name], range(2), schedules=6) == ""


@pytest.mark.parametrize("agg", AGGREGATES)
def test_each_aggregate_in_each_window(agg: str) -> None:
    """Hopping windows and sessions behind a re-key give each aggregate by its definition."""
    spec = rekeyed(window(2, agg, size=15, every=5, grace=3), session(2, agg), node("late", 3, topic=False))
    assert check_plan(spec, range(2), schedules=4) == ""


@pytest.mark.parametrize("agg", RUNNING)
def test_each_running_aggregate_and_counting_window(agg: str) -> None:
    """Straight from a source and, behind a re-key, in order."""
    own = [] if agg == "fragile" else [node("counting", 0, n=3, every=1, agg=agg)]
    assert check_plan(straight(node("running", 0, agg=agg), *own), range(2), schedules=4) == ""
    assert check_plan(rekeyed(node("in_order", 2, grace=3), node("running", 3, agg=agg)), range(2), schedules=4) == ""


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1_000])
def test_batches_change_nothing(chunk: int) -> None:
    """One worker, batches of one size: the same answer whatever the size."""
    for name, spec in EVERY_PLAN.items():
        inputs = random_inputs(spec, random.Random(name))
        schedule = Schedule(chunks=(chunk,), epoch=0.3)
        assert given(spec, inputs, answer_of(spec, inputs), schedule, random.Random(1)) == "", name


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("drift", ["1ms", "1m"])
def test_workers_and_pace_change_nothing(workers: int, drift: str) -> None:
    """Any number of workers, partitions read at their own pace, aligned or not."""
    for name, spec in EVERY_PLAN.items():
        inputs = random_inputs(spec, random.Random(name))
        schedule = Schedule(workers=workers, chunks=(0, 1, 2, 9), epoch=0.3, settings={"drift": drift})
        assert given(spec, inputs, answer_of(spec, inputs), schedule, random.Random(2)) == "", name


@pytest.mark.parametrize("wipe", [False, True], ids=["disk kept", "disk lost"])
@pytest.mark.parametrize("spec", [THREE_STAGES, TWO_BRANCHES, POISONED, CHAINED_SESSIONS])
def test_a_crash_at_any_door_call_changes_nothing(spec: Spec, wipe: bool) -> None:
    """Before and behind every call of log and disk: the worker dies, another goes on, and the answer is the same."""
    assert crashes_everywhere(spec, wipe=wipe) == ""
