"""Schedules by hand, for what a random one meets seldom; each gives '' or what differed from the oracle's answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from streamproc.launch import end_of_input
from streamproc.log import Chunk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.law.check import answer_of, given
from tests.law.directed import COUNTED, TIMERS, rekeyed, window
from tests.law.doors import Crash
from tests.law.inputs import Inputs, random_inputs
from tests.law.plans import Spec
from tests.law.seen import differs
from tests.law.world import Member, Schedule, World, heard

STEPWISE = Schedule(chunks=(2,))
ONE_PARTITION = rekeyed(window(2, "count", grace=3), partitions=1)


def played(script: Callable[[World, Inputs], None], *, spec: Spec = COUNTED, seed: int = 3) -> str:
    """A world of counted windows behind a re-key, in which a script is played before it goes on to the end."""
    inputs = random_inputs(spec, random.Random(seed))
    inputs = Inputs(inputs.records, inputs.runs[-1:])
    answer = answer_of(spec, inputs)
    world = World(spec, inputs, STEPWISE, random.Random(seed))
    try:
        with heard(world.alarms):
            script(world, inputs)
            world.drive()
        return differs(world.seen(), answer)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return f"{type(error).__name__}: {error}"
    finally:
        world.end_all()


def _joined(world: World) -> Member:
    member = world.join()
    assert member is not None
    return member


def _turns(world: World, member: Member, count: int, *, commit: bool) -> None:
    for _ in range(count):
        world.turn(member)
        if commit:
            world.pass_time(1_000)


def owned_elsewhere_meanwhile() -> str:
    """A worker releases its tasks, another has them for some epochs and leaves; only then is the first told again."""

    def script(world: World, inputs: Inputs) -> None:
        world.plain = False
        world.begin(inputs.runs[0])
        first = _joined(world)
        _turns(world, first, 6, commit=True)
        second = _joined(world)
        _turns(world, first, 1, commit=False)  # told to give up what it has
        _turns(world, second, 8, commit=True)
        world.leave(second)

    return played(script)


def stopped_before_its_commit() -> str:
    """A worker is stopped before it commits and taken for dead; another goes on; then it goes on too."""

    def script(world: World, inputs: Inputs) -> None:
        world.plain = False
        world.begin(inputs.runs[0])
        first = _joined(world)
        _turns(world, first, 4, commit=True)
        _turns(world, first, 1, commit=False)
        first.doors.before["sink.commit"] = lambda: world.stall(first)
        world.pass_time(1_000)

    return played(script, seed=4)


class _DiesUndecided(random.Random):
    """Of a commit: its worker dies before it is decided, and it will be committed."""

    def random(self) -> float:
        return 0.0

    def choice(self, seq: Any) -> Any:
        return "undecided, and it dies" if "undecided, and it dies" in seq else seq[-1]


def dead_before_it_was_decided() -> str:
    """A worker dies as its epoch is prepared and not decided yet: whoever reads its stable offsets decides it."""

    def script(world: World, inputs: Inputs) -> None:
        world.plain = False
        world.begin(inputs.runs[0])
        first = _joined(world)
        _turns(world, first, 8, commit=True)
        world.doubts.rate, world.doubts._rng = 1.0, _DiesUndecided()
        world.pass_time(1_000)
        with pytest.raises(Crash):
            run_now(first.worker.turn(0))
        world._buried(first, again=False)
        world.doubts.rate = 0.0
        _joined(world)

    return played(script)


def lost_disk_with_an_ended_upstream() -> str:
    """Everything is read and all has ended; the worker downstream dies with its disk and comes back under its name.

    Its upstream, which is not told of it, has nothing new to say.
    """

    def script(world: World, inputs: Inputs) -> None:
        world.plain = False
        world.begin(inputs.runs[0])
        members = [_joined(world), _joined(world)]
        for _ in range(60):
            for member in members:
                _turns(world, member, 1, commit=True)
        below = next(m for m in members if any(task_id.stage == "f0-n1" for task_id in m.worker.tasks))
        assert {task_id.stage for task_id in below.worker.tasks} == {"f0-n1"}, (
            "the worker has the stage downstream alone"
        )
        below.disk.crash()
        for name in list(below.disk._images):
            below.disk.wipe(name)
        world.members.remove(below)
        world.join(below.name, below.disk, fresh=True)

    return played(script, spec=ONE_PARTITION, seed=4)


def two_workers_and_a_source_that_grows() -> str:
    """The sources grow between the starts of two workers, who each see another end: the first's is the run's."""
    inputs = random_inputs(COUNTED, random.Random(3))
    whole = inputs.runs[-1]
    half = {n: [count // 2 for count in counts] for n, counts in whole.items()}
    answer = answer_of(COUNTED, Inputs(inputs.records, [half, whole]))
    world = World(COUNTED, inputs, STEPWISE, random.Random(3))
    try:
        with heard(world.alarms):
            world.begin(half)
            _joined(world)
            world.append(whole)
            world.end = run_now(end_of_input(world.launch, world.log))
            _joined(world)
            world.drive()
            world.begin(whole)
            _joined(world)
            world.drive()
        return differs(world.seen(), answer)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return f"{type(error).__name__}: {error}"
    finally:
        world.end_all()


def overlapped_epochs(step: int = 3) -> str:
    """The next epoch is stepped while one commits; a crash at any moment behind that changes nothing."""

    async def commit(self: Worker) -> bool:
        sealed = {task_id: task.seal() for task_id, task in self._tasks.items()}
        self._writer.send(self._sink, sealed, now_ms=0)
        for event in await self._source.poll(self._readable(), 0):
            assert isinstance(event, Chunk), "one worker: nobody comes or goes"
            await self._step(self._tasks.reading(event.partition), event)
        offsets = self._writer.offsets(sealed)
        ends = await self._sink.commit(offsets)
        self._tasks.known.update(offsets)
        for task_id, task in self._tasks.items():
            task.settle(sealed[task_id], ends.get(self._writer.changelog(task_id)), cache_bytes=1, now_ms=0)
            self._tally.take(task)
        return True

    spec = ONE_PARTITION
    inputs = random_inputs(spec, random.Random(4))
    inputs = Inputs(inputs.records, inputs.runs[-1:])
    answer = answer_of(spec, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "_commit", commit)
        calls = World(spec, inputs, STEPWISE, random.Random(0)).go().calls
        for moment in range(0, 2 * len(calls), step):
            if what := given(spec, inputs, answer, STEPWISE, random.Random(0), crash_at=moment):
                return f"moment {moment}: {what}"
    return ""


def timers_in_fine_and_coarse_batches() -> str:
    """Each record by itself, and all at once."""
    for seed in range(6):
        inputs = random_inputs(TIMERS, random.Random(seed))
        answer = answer_of(TIMERS, inputs)
        for chunk in (1, 1_000):
            if what := given(TIMERS, inputs, answer, Schedule(chunks=(chunk,)), random.Random(seed)):
                return f"batches of {chunk}: {what}"
    return ""
