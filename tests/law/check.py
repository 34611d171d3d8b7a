"""A plan's answer by the oracle, and what worlds of several schedules gave."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.law.inputs import Inputs, random_inputs
from tests.law.oracle import Answer, Oracle
from tests.law.plans import Spec, build, random_spec
from tests.law.world import Schedule, World, differs, random_schedule


def answer_of(spec: Spec, inputs: Inputs) -> Answer:
    """What every run of the plan on these inputs must give."""
    oracle = Oracle(spec, build(spec), inputs.records)
    for limits in inputs.runs:
        oracle.run(limits)
    return oracle.answer()


def check(seed: int, schedules: int) -> str:
    """'' where every schedule of the plan of a seed gave the answer, else what differed first."""
    rng = random.Random(seed)
    spec = random_spec(rng)
    return check_inputs(spec, random_inputs(spec, rng), seed, schedules)


def check_plan(spec: Spec, seeds: Iterable[int], schedules: int) -> str:
    """'' where this plan gave the answer, on the inputs and under the schedules of each seed, else what differed first."""
    for seed in seeds:
        if what := check_inputs(spec, random_inputs(spec, random.Random(seed)), seed, schedules):
            return what
    return ""


def check_inputs(spec: Spec, inputs: Inputs, seed: int, schedules: int) -> str:
    """'' where every schedule gave the answer; every other one has faults."""
    answer = answer_of(spec, inputs)
    for number in range(schedules):
        rng = random.Random(f"{seed}/{number}")
        if what := given(spec, inputs, answer, random_schedule(rng, faults=number % 2 == 1), rng):
            return f"seed {seed}, schedule {number}: {what}"
    return ""


def given(
    spec: Spec,
    inputs: Inputs,
    answer: Answer,
    schedule: Schedule,
    rng: random.Random,
    *,
    crash_at: int | None = None,
    wipe: bool = False,
) -> str:
    """'' where a world of this schedule gave the answer."""
    world = World(spec, inputs, schedule, rng)
    try:
        return differs(world.go(crash_at=crash_at, wipe=wipe), answer)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return f"{type(error).__name__}: {error}"
