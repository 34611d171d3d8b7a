"""One plan of a seed: its answer by the oracle, and what worlds of several schedules gave."""

from __future__ import annotations

import random

from tests.law.inputs import Inputs, random_inputs
from tests.law.oracle import Answer, Oracle
from tests.law.plans import Spec, build, random_spec
from tests.law.world import World, differs, random_schedule


def answer_of(spec: Spec, inputs: Inputs) -> Answer:
    """What every run of the plan on these inputs must give."""
    oracle = Oracle(spec, build(spec), inputs.records)
    for limits in inputs.runs:
        oracle.run(limits)
    return oracle.answer()


def drawn(seed: int) -> tuple[Spec, Inputs]:
    """The plan and inputs of a seed."""
    rng = random.Random(seed)
    spec = random_spec(rng)
    return spec, random_inputs(spec, rng)


def check(seed: int, schedules: int) -> str:
    """'' where every schedule gave the answer, else what differed first."""
    spec, inputs = drawn(seed)
    answer = answer_of(spec, inputs)
    for number in range(schedules):
        if what := run(spec, inputs, answer, seed, number):
            return f"seed {seed}, schedule {number}: {what}"
    return ""


def run(spec: Spec, inputs: Inputs, answer: Answer, seed: int, number: int) -> str:
    """'' where the schedule of this number gave the answer."""
    rng = random.Random(f"{seed}/{number}")
    world = World(spec, inputs, random_schedule(rng, faults=number % 2 == 1), rng)
    try:
        return differs(spec, world.go(), answer)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return f"{type(error).__name__}: {error}"
