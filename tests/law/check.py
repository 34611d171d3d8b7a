"""A plan's answer by the oracle, and what worlds of several schedules gave."""

from __future__ import annotations

import random
from collections.abc import Iterable

from tests.law.inputs import Inputs, random_inputs
from tests.law.oracle import Answer, Oracle
from tests.law.plans import Spec, build, random_spec
from tests.law.seen import differs
from tests.law.world import Schedule, World, random_schedule


def answer_of(spec: Spec, inputs: Inputs) -> Answer:
    """What every run of the plan on these inputs must give."""
    oracle = Oracle(spec, build(spec), inputs.records)
    for limits in inputs.runs:
        oracle.run(limits)
    return oracle.answer()


def check(seed: int, schedules: int) -> str:
    """'' where every schedule of a seed's plan gave the answer, else what differed first."""
    rng = random.Random(seed)
    spec = random_spec(rng)
    return check_inputs(spec, random_inputs(spec, rng), seed, schedules)


def check_plan(spec: Spec, seeds: Iterable[int], schedules: int) -> str:
    """'' where the plan gave the answer, on inputs and under schedules of each seed, else what differed first."""
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
        return differs(world.go(crash_at=crash_at, wipe=wipe).seen(), answer)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return f"{type(error).__name__}: {error}"
    finally:
        world.end_all()


def crashes_everywhere(spec: Spec, *, wipe: bool) -> str:
    """'' where a crash at any moment of the first worker's life changes nothing, else what differed first."""
    inputs = _few(random_inputs(spec, random.Random(5)))
    answer, schedule = answer_of(spec, inputs), Schedule(chunks=(4,), epoch=0.5)
    calls = World(spec, inputs, schedule, random.Random(0)).go().calls
    for moment in range(0, 2 * len(calls), 1 if not wipe else 3):
        what = given(spec, inputs, answer, schedule, random.Random(0), crash_at=moment, wipe=wipe)
        if what:
            return f"crash at moment {moment}, {calls[moment // 2]}: {what}"
    return ""


def _few(inputs: Inputs) -> Inputs:
    """Six records of each partition, in one run."""
    records = {n: [some[:6] for some in partitions] for n, partitions in inputs.records.items()}
    return Inputs(records, [{n: [len(some) for some in partitions] for n, partitions in records.items()}])
