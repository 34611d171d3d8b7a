"""Runs a plan on the real engine under a schedule that a seed draws: batches, pace, epochs, workers, crashes, lost disks.

Tasks, workers, serdes, the codec, the log and the stores are the real ones; the doors between them are in here, so that each
call can be a worker's last. Nothing waits and there is no clock but the one that the schedule moves: one seed, one run.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from streamproc import App
from streamproc.clock import ManualClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Partition
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.operators.running import Running
from streamproc.state.errors import StoreLocked
from streamproc.state.keys import key_of
from streamproc.state.memory import MemoryDisk
from streamproc.state.table import Table
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.law.doors import Crash, DoorDisk, DoorLog, Doors
from tests.law.inputs import Inputs, columns_of
from tests.law.oracle import Answer
from tests.law.plans import Spec, build

TURNS = 3_000
"""A run that has not ended by then hangs: few take more than 300."""
FAULTY_TURNS = 300
"""Faults happen in so many turns of a run at most, so that it ends."""


class Schedule(NamedTuple):
    """What is drawn for a whole run.

    workers     how many there are at first
    chunks      sizes of batches to draw from
    epoch       chance that time passes, so that an epoch is due, after a turn
    settings    of the app
    faults      chance of a fault in a turn: a crash at one of the next door calls, an expulsion, a worker that comes or goes
    one_disk    all workers are on one machine
    """

    workers: int = 1
    chunks: Sequence[int] = (1_000,)
    epoch: float = 1.0
    settings: Mapping[str, Any] = {}
    faults: float = 0.0
    one_disk: bool = False


def random_schedule(rng: random.Random, *, faults: bool) -> Schedule:
    """Any."""
    settings: dict[str, Any] = {"drift": rng.choice(("1ms", "5ms", "1m")), "cache_bytes": rng.choice((1, 64 << 20))}
    if rng.random() < 0.5:
        settings["epoch_records"] = rng.choice((1, 5, 40))
    return Schedule(
        workers=rng.choice((1, 2, 3)),
        chunks=rng.choice(((1, 2, 3), (0, 1, 3, 10, 50), (1_000,))),
        epoch=rng.choice((0.05, 0.3, 1)),
        settings=settings,
        faults=rng.choice((0.01, 0.05, 0.15)) if faults else 0.0,
        one_disk=rng.random() < 0.5,
    )


class Hangs(Exception):
    """A run does not end."""


class _Member:
    """A worker process."""

    def __init__(self, name: str, worker: Worker, doors: Doors, disk: MemoryDisk) -> None:
        self.name = name
        self.worker = worker
        self.doors = doors
        self.disk = disk


class World:
    """One log, some disks, and workers that come and go.

    plain   whether nothing happened but work, so that what workers counted is all there was
    """

    def __init__(self, spec: Spec, inputs: Inputs, schedule: Schedule, rng: random.Random) -> None:
        self.spec = spec
        self.inputs = inputs
        self.schedule = schedule
        self.rng = rng
        self.app = build(spec, **schedule.settings)
        self.log = MemoryLog(chunk_records=lambda: rng.choice(schedule.chunks))
        self.late: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.alarms: list[str] = []
        self.plain = True
        self.calls: list[str] = []
        self.moments = 0
        self._sent: dict[int, list[int]] = defaultdict(list)
        self._clock = ManualClock()
        self._members: list[_Member] = []
        self._disks: list[MemoryDisk] = [MemoryDisk(undo_writes=5)]
        self._names = 0

    # ------------------------------------------------------------------------------------ runs

    def go(self, *, crash_at: int | None = None, wipe: bool = False) -> World:
        """All runs until the end. `crash_at`: the first worker of the first run dies there, and another goes on."""
        with _alarms(self.alarms):
            for n in self.spec.of_kind("source"):
                partitions = self.spec.nodes[n].args["partitions"]
                run_now(self.log.create(f"source-{n}", partitions=partitions, config={}))
            for number, limits in enumerate(self.inputs.runs):
                self._append(limits)
                self._run(crash_at if number == 0 else None, wipe=wipe)
        return self

    def _append(self, limits: Mapping[int, Sequence[int]]) -> None:
        sink = run_now(self.log.sink(None, "input"))
        for n, counts in limits.items():
            sent = self._sent[n] or [0] * len(counts)
            for number, (before, after) in enumerate(zip(sent, counts, strict=True)):
                sink.send(Partition(f"source-{n}", number), columns_of(self.app, n, self.inputs.records[n][number][before:after]))
            self._sent[n] = list(counts)
        run_now(sink.commit({}))

    def _run(self, crash_at: int | None, *, wipe: bool) -> None:
        """One run: a snapshot of the ends, workers, and turns until every task has ended and all of it is committed."""
        self._launch = run_now(prepare(self.app, self.log))
        self._end = run_now(end_of_input(self._launch, self.log))
        self._codec, self._joined = self.app.codec(), False
        for _ in range(self.schedule.workers):
            self._join(crash_at)
            crash_at = None
        self._joined = True  # who comes later has seen no class of the values before
        for turn in range(TURNS):
            member = self.rng.choice(self._members)
            if turn < FAULTY_TURNS and self.rng.random() < self.schedule.faults:
                self._fault(member)
                continue
            self._turn(member, wipe=wipe)
            if self.rng.random() < self.schedule.epoch:
                self._clock.advance(1_000)
            if turn % 8 == 0 and self._ended():
                break
        else:
            open_tasks = [f"{m.name}: {t}" for m in self._members for t, k in m.worker.tasks.items() if not k.ended_run]
            raise Hangs(f"not ended: {open_tasks}")
        while self._members:
            self._leave(self._members[0])

    def _ended(self) -> bool:
        owned = {task for member in self._members for task in member.worker.tasks}
        tasks = sum(self._launch.topology.tasks.values())
        return len(owned) == tasks and all(member.worker.done for member in self._members)

    def _turn(self, member: _Member, *, wipe: bool = False) -> None:
        try:
            run_now(member.worker.turn(0))
        except (Crash, StoreLocked):
            self._buried(member, wipe=wipe)

    # ------------------------------------------------------------------------------------ workers

    def _join(self, crash_at: int | None = None, name: str = "", disk: MemoryDisk | None = None) -> None:
        if not name:
            self._names += 1
            name = f"worker-{self._names}"
        if disk is None:
            free = [d for d in self._disks if all(m.disk is not d for m in self._members)]
            if self.schedule.one_disk or not free:
                disk = self._disks[0].beside() if self.schedule.one_disk else MemoryDisk(undo_writes=5)
                self._disks.append(disk)
            else:
                disk = self.rng.choice(free)
        doors = Doors(crash_at=crash_at)
        worker = Worker(
            self._launch.plan,
            self._launch.topology,
            DoorLog(self.log, doors),  # type: ignore[arg-type] # its sources and sinks are proxies too
            DoorDisk(disk, doors),
            self._codec if not self._joined else self.app.codec(),
            settings=self.app.settings({}, {}),
            clock=self._clock,
            member=name,
            partitions_of=self._launch.partitions_of,
            end=self._end,
        )
        member = _Member(name, worker, doors, disk)
        self._members.append(member)
        try:
            run_now(worker.start())
        except Crash:
            self._buried(member)

    def _leave(self, member: _Member) -> None:
        try:
            run_now(member.worker.stop())
        except Crash:
            self._buried(member, again=False)
            return
        self._forget(member)

    def _forget(self, member: _Member) -> None:
        self._members.remove(member)
        self.late.update(member.worker.late)
        self.skipped.update(member.worker.skipped)
        self.calls += member.doors.calls

    def _buried(self, member: _Member, *, wipe: bool = False, again: bool = True) -> None:
        """What was in its memory is gone; its disk may be older, or gone too; another one may come under its name."""
        self.plain = False
        self._forget(member)
        member.doors.dead = True
        member.disk.crash(lost_writes=self.rng.choice((0, 0, 1, 3)))
        if wipe or (self.schedule.faults and self.rng.random() < 0.2):
            self._wipe(member.disk)
        name = member.name if again and self.rng.random() < 0.5 else ""
        if not name and member.name in self.log._groups[self.app.name].members:
            self.log.expel(self.app.name, member.name)
        if again and (name or not self._members or self.rng.random() < 0.7):
            self._join(name=name, disk=member.disk)

    def _wipe(self, disk: MemoryDisk) -> None:
        for name, image in list(disk._images.items()):
            if image.holder is None:
                disk.wipe(name)

    def _fault(self, member: _Member) -> None:
        self.plain = False
        kind = self.rng.random()
        if kind < 0.5:
            at = 2 * len(member.doors.calls) + self.rng.randint(0, self.rng.choice((3, 20, 100)))
            member.doors.crash_at = at
        elif kind < 0.65:
            if member.name in self.log._groups[self.app.name].members:
                self.log.expel(self.app.name, member.name)
        elif kind < 0.85 and len(self._members) < 4:
            self._join()
        elif len(self._members) > 1:
            self._leave(member)

    # ------------------------------------------------------------------------------------ the answer

    def rows(self, n: int) -> dict[tuple[int, bytes | None], list[tuple[bytes | None, int]]]:
        """What an output topic received: by partition and key, (value, timestamp) in order."""
        found: dict[tuple[int, bytes | None], list[tuple[bytes | None, int]]] = defaultdict(list)
        for number in range(run_now(self.log.topics())[f"out-{n}"].partitions):
            columns = run_now(self.log.read(Partition(f"out-{n}", number), 0, FOREVER)).columns
            for key, value, ts in zip(columns.keys, columns.values, columns.timestamps, strict=True):
                found[number, key].append((value, ts))
        return dict(found)

    def table(self, n: int) -> dict[Any, Any]:
        """The rows of a running aggregate by (task, key), from the changelog alone."""
        node = next(node for node in self.app.plan.nodes if node.step == f"n{n}")
        assert isinstance(node.kind, Running)
        stage = self._launch.plan.stage_of[node.id]
        found = {}
        for task in range(self._launch.topology.tasks[stage.name]):
            store = MemoryDisk().open("table")
            changelog = Partition(self._launch.plan.changelog_of(stage), task)
            columns = run_now(self.log.read(changelog, 0, FOREVER)).columns
            for key, value in zip(columns.keys, columns.values, strict=True):
                store.write({key or b"": value}, 0)
            rows = Table[Any](store, node.name, self.app.codec()).whole()
            found.update({(task, key_of(key)): node.kind.aggregate.result(held) for key, held in rows.items()})
        return found


def differs(spec: Spec, world: World, answer: Answer) -> str:
    """'' where the world gave the answer, else what differed first."""
    if world.alarms:
        return f"alarm: {world.alarms[0]}"
    for n, expected in answer.rows.items():
        what = _differs(spec, n, expected, world.rows(n))
        if what:
            return what
    for n, table in answer.tables.items():
        if spec.ordered(n) and world.table(n) != table:
            return f"table of {_name(spec, n)}: {world.table(n)} is not {table}"
    if world.plain:
        for what, of_nodes, got in (("late", answer.late, world.late), ("skipped", answer.skipped, world.skipped)):
            expected = {_step(spec, n): count for n, count in of_nodes.items()}
            if expected != dict(got):
                return f"{what} records: {dict(got)} are not {expected}"
    return ""


def _differs(spec: Spec, n: int, expected: Mapping[Any, Any], got: Mapping[Any, Any]) -> str:
    name = _name(spec, n)
    if expected.keys() != got.keys():
        return f"keys of {name}: {sorted(map(str, got))} are not {sorted(map(str, expected))}"
    for place, rows in expected.items():
        wanted = [(value, ts) for _, value, ts in rows]
        if Counter(wanted) != Counter(got[place]):
            more, fewer = Counter(got[place]) - Counter(wanted), Counter(wanted) - Counter(got[place])
            return f"rows of {name} at {place}: too many {dict(more)}, missing {dict(fewer)}"
        if spec.ordered(n) and len({task for task, _, _ in rows}) == 1 and wanted != got[place]:
            return f"order of {name} at {place}: {got[place]} is not {wanted}"
    return ""


def _name(spec: Spec, n: int) -> str:
    return f"{spec.nodes[n].kind} n{n}"


def _step(spec: Spec, n: int) -> str:
    step = f"n{n + 2}-partial" if spec.nodes[n].kind == "partial" else f"n{n}"
    return f"f{spec.nodes[n].function}.{step}"


class _Listener(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(record.getMessage())


@contextmanager
def _alarms(into: list[str]) -> Iterator[None]:
    logger = logging.getLogger("streamproc")
    listener = _Listener(into)
    logger.addHandler(listener)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
