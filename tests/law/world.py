"""Runs a plan on the real engine under a schedule that a seed draws: batches, pace, epochs, workers, crashes, disks.

Tasks, workers, serdes, the codec, the log and the stores are the real ones; the doors between them are in here, so that
each call can be a worker's last. Nothing waits, and the schedule moves the only clock: one seed, one run.
"""

from __future__ import annotations

import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from streamproc.clock import ManualClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Partition
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.law.doors import Crash, DoorDisk, DoorJobs, DoorLog, Doors
from tests.law.doubts import Doubts
from tests.law.inputs import Inputs, columns_of
from tests.law.plans import Spec, build
from tests.law.seen import Seen

TURNS = 3_000
"""A run that has not ended by then hangs: few take more than 300."""
FAULTY_TURNS = 300
"""Faults happen in so many turns of a run at most, so that it ends."""


class Hangs(Exception):
    """A run does not end."""


class Schedule(NamedTuple):
    """What is drawn for a whole run.

    workers     how many there are at first
    chunks      sizes of batches to draw from
    epoch       chance that time passes, so that an epoch is due, after a turn
    settings    of the app
    faults      chance, in each turn, that a worker crashes or stalls at one of its next door calls, is taken for dead,
                comes or goes
    one_disk    all workers are on one machine
    doubts      chance that the log does not simply do what a commit asks for
    """

    workers: int = 1
    chunks: Sequence[int] = (1_000,)
    epoch: float = 1.0
    settings: Mapping[str, Any] = {}
    faults: float = 0.0
    one_disk: bool = False
    doubts: float = 0.0


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
        doubts=rng.choice((0.0, 0.05, 0.2)) if faults else 0.0,
    )


class Member:
    """A worker process, its doors and its disk."""

    def __init__(self, name: str, worker: Worker, doors: Doors, jobs: DoorJobs, disk: MemoryDisk) -> None:
        self.name = name
        self.worker = worker
        self.doors = doors
        self.jobs = jobs
        self.disk = disk


class World:
    """One log, some disks, and workers that come and go.

    members   the workers that live
    alarms    what the engine said of a broken law
    plain     nothing happened but work, so that what workers counted is all there was
    calls     the door calls of the workers that are gone
    """

    def __init__(self, spec: Spec, inputs: Inputs, schedule: Schedule, rng: random.Random) -> None:
        self.spec = spec
        self.inputs = inputs
        self.schedule = schedule
        self.rng = rng
        self.app = build(spec, **schedule.settings)
        self.log = MemoryLog(chunk_records=lambda: rng.choice(schedule.chunks))
        seed = repr(rng.getstate())
        self.doubts = Doubts(random.Random(f"doubts {seed}"), schedule.doubts)
        self._jobs_rng = random.Random(f"jobs {seed}")
        self.members: list[Member] = []
        self.late: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.alarms: list[str] = []
        self.plain = True
        self.calls: list[str] = []
        self._sent: dict[int, list[int]] = defaultdict(list)
        self._clock = ManualClock()
        self._disks: list[MemoryDisk] = [MemoryDisk(undo_writes=5)]
        self._names = 0
        self._stalled: set[str] = set()

    # ------------------------------------------------------------------------------------ runs

    def go(self, *, crash_at: int | None = None, wipe: bool = False) -> World:
        """All runs until the end. `crash_at`: the first worker of the first run dies at this moment."""
        with heard(self.alarms):
            for number, limits in enumerate(self.inputs.runs):
                self.begin(limits)
                for worker in range(self.schedule.workers):
                    member = self.join()
                    if member is not None and crash_at is not None and number == worker == 0:
                        member.doors.happens[crash_at] = member.doors.crash
                self.drive(wipe=wipe)
        return self

    def begin(self, limits: Mapping[int, Sequence[int]]) -> None:
        """The sources grow; the end of the input is where they end now."""
        for n in self.spec.of_kind("source"):
            run_now(self.log.create(f"source-{n}", partitions=self.spec.nodes[n].args["partitions"], config={}))
        self.append(limits)
        self.launch = run_now(prepare(self.app, self.log))
        self.end = run_now(end_of_input(self.launch, self.log))
        self._codec = self.app.codec()

    def append(self, limits: Mapping[int, Sequence[int]]) -> None:
        """The sources grow."""
        sink = run_now(self.log.sink(None, "input"))
        for n, counts in limits.items():
            sent = self._sent[n] or [0] * len(counts)
            for number, (before, after) in enumerate(zip(sent, counts, strict=True)):
                more = self.inputs.records[n][number][before:after]
                sink.send(Partition(f"source-{n}", number), columns_of(self.app, n, more))
            self._sent[n] = list(counts)
        run_now(sink.commit({}))

    def drive(self, *, wipe: bool = False) -> None:
        """Turns, until every task has ended and all is committed; then all leave. `wipe`: a crash takes the disk."""
        for turn in range(TURNS):
            if not self.members:  # one left while the other died
                self.join(fresh=True)
            member = self.rng.choice(self.members)
            self.doubts.rate = self.schedule.doubts if turn < FAULTY_TURNS else 0.0
            if turn < FAULTY_TURNS and self.rng.random() < self.schedule.faults:
                self._fault(member)
                continue
            self.turn(member, wipe=wipe)
            if self.rng.random() < self.schedule.epoch:
                self.pass_time(1_000)
            if turn % 8 == 0 and self._ended():
                break
        else:
            left = [
                f"{m.name}: {task_id}"
                for m in self.members
                for task_id, task in m.worker.tasks.items()
                if not task.ended_run
            ]
            raise Hangs(f"not ended: {left}")
        while self.members:
            self.leave(self.members[0])

    def _ended(self) -> bool:
        return all(member.worker.done for member in self.members)

    def end_all(self) -> None:
        """Whoever lives dies: nothing of the world goes on."""
        for member in self.members:
            member.doors.dead = True
            member.jobs.die()

    def pass_time(self, ms: int) -> None:
        """An epoch may be due."""
        self._clock.advance(ms)

    # ------------------------------------------------------------------------------------ workers

    def join(self, name: str = "", disk: MemoryDisk | None = None, *, fresh: bool = False) -> Member | None:
        """Another worker; None where it crashed at once. `fresh`: it has seen no class of the values before."""
        if not name:
            self._names += 1
            name = f"worker-{self._names}"
        doors, jobs, disk = Doors(), DoorJobs(self._jobs_rng), disk or self._free_disk()
        worker = Worker(
            self.launch.plan,
            self.launch.topology,
            DoorLog(self.log, doors, self.doubts),  # type: ignore[arg-type] # its sources and sinks are proxies too
            DoorDisk(disk, doors),
            self.app.codec() if fresh else self._codec,
            settings=self.app.settings({}, {}),
            clock=self._clock,
            member=name,
            partitions_of=self.launch.partitions_of,
            end=self.end,
            jobs=jobs,
        )
        member = Member(name, worker, doors, jobs, disk)
        self.members.append(member)
        run_now(worker.start())
        return member

    def _free_disk(self) -> MemoryDisk:
        if self.schedule.one_disk:
            return self._disks[0].beside()
        free = [disk for disk in self._disks if all(member.disk is not disk for member in self.members)]
        if free:
            return self.rng.choice(free)
        self._disks.append(MemoryDisk(undo_writes=5))
        return self._disks[-1]

    def turn(self, member: Member, *, wipe: bool = False) -> None:
        """One turn of a worker, unless it is stopped."""
        if member.name in self._stalled:
            return
        try:
            run_now(member.worker.turn(0))
        except Crash:
            self._buried(member, wipe=wipe)

    def leave(self, member: Member) -> None:
        """A worker stops as it should."""
        try:
            run_now(member.worker.stop())
        except Crash:
            self._buried(member, again=False)
        else:
            self._forget(member)

    def expel(self, name: str) -> None:
        """The group takes a worker for dead."""
        if name in self.log._groups[self.app.name].members:
            self.log.expel(self.app.name, name)

    def stall(self, member: Member) -> None:
        """A worker is stopped where it is and taken for dead; the others go on; then it goes on too."""
        if member.name in self._stalled:
            return
        self._stalled.add(member.name)
        self.expel(member.name)
        for _ in range(self.rng.choice((1, 4, 20))):
            if all(other.name in self._stalled for other in self.members):
                self.join(fresh=True)
            self.turn(self.rng.choice([other for other in self.members if other.name not in self._stalled]))
            self.pass_time(1_000)
        self._stalled.discard(member.name)

    def _forget(self, member: Member) -> None:
        self.members.remove(member)
        self.late.update(member.worker.late)
        self.skipped.update(member.worker.skipped)
        self.calls += member.doors.calls

    def _buried(self, member: Member, *, wipe: bool = False, again: bool = True) -> None:
        """What was in its memory is gone; its disk may be older, or gone too; another one may come under its name."""
        self.plain = False
        self._forget(member)
        member.doors.dead = True
        member.jobs.die()
        member.disk.crash(lost_writes=self.rng.choice((0, 0, 1, 3)))
        if wipe or (self.schedule.faults and self.rng.random() < 0.2):
            for name, image in list(member.disk._images.items()):
                if image.holder is None:
                    member.disk.wipe(name)
        name = member.name if again and self.rng.random() < 0.5 else ""
        if not name:
            self.expel(member.name)
        if again and (name or not self.members or self.rng.random() < 0.7):
            self.join(name, member.disk, fresh=True)

    def _fault(self, member: Member) -> None:
        self.plain = False
        kind = self.rng.random()
        moment = member.doors.now + self.rng.randint(0, self.rng.choice((3, 20, 100)))
        if kind < 0.5:
            member.doors.happens[moment] = member.doors.crash
        elif kind < 0.6:
            member.doors.happens[moment] = lambda: self.stall(member)
        elif kind < 0.7:
            self.expel(member.name)
        elif kind < 0.85 and len(self.members) < 4:
            self.join(fresh=True)
        elif len(self.members) > 1:
            self.leave(member)

    # ------------------------------------------------------------------------------------ what came of it

    def seen(self) -> Seen:
        """The topics now."""
        counts = (self.late, self.skipped) if self.plain and not self.doubts.happened else None
        return Seen(
            self.spec,
            self.app,
            self.launch,
            lambda partition: run_now(self.log.read(partition, 0, FOREVER)).columns,
            alarms=self.alarms,
            counts=counts,
        )


class _Listener(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._into = into

    def emit(self, record: logging.LogRecord) -> None:
        self._into.append(record.getMessage())


@contextmanager
def heard(into: list[str]) -> Iterator[None]:
    """What the engine says loudly; it says nothing else."""
    logger = logging.getLogger("streamproc")
    listener, level, propagate = _Listener(into), logger.level, logger.propagate
    logger.addHandler(listener)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)
        logger.propagate = propagate
