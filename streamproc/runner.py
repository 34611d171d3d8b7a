"""Runner: one process's run of an app, from the preparation of its log to the last commit.

    start ---> turn, turn, turn, ... ---> stop: commit, leave the group
                 |         ^
                 v         |
               watch(worker): whoever looks on

A run that is asked to stop (`streamproc.stop`) commits the open epoch and leaves the group. Where that takes too long,
and where a run ends by an error, the epoch is abandoned: read again by whoever comes next.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from streamproc.app import App
from streamproc.clock import SystemClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Log, LogError, Partition
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.settings import Settings
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Disk
from streamproc.stop import GIVE_BACK_S, Stop, done_within, leaving_in_time
from streamproc.task import Task
from streamproc.worker import Worker

logger = logging.getLogger("streamproc")

ABANDON_S: Final = 5.0
"""For leaving the group after an error."""
ANSWER_S: Final = 1.0
UNASKED_S: Final = 10.0
POLL_MS: Final = 200
"""How long a turn waits for records: the delay, at most, of a first signal to a run that has nothing to do."""


class StageProgress(msgspec.Struct, frozen=True):
    """How far a stage is, over the tasks of this process.

    records     read in this run; those of an epoch that was lost with its tasks count when they are read again too
    lag         offsets still to read: the ends of transactions, and marks, have some too
    event_time  the watermark in ms; None: not known yet
    """

    name: str
    records: int
    lag: int
    event_time: int | None


class Progress(msgspec.Struct, frozen=True):
    """How far a run is; `late` and `skipped` are records by step.

    cut_short   so many processes died before they said what they had read in their last second: it is not counted
    """

    stages: tuple[StageProgress, ...]
    late: Mapping[str, int]
    skipped: Mapping[str, int]
    seconds: float
    cut_short: int = 0

    def __str__(self) -> str:
        short = f"; {self.not_counted}" if self.cut_short else ""
        if not self.stages:
            return f"nothing read in {self.seconds:.1f} s{short}"
        stages = ", ".join(
            f"{stage.name} {stage.records:,} record{'' if stage.records == 1 else 's'}"
            + (f" (lag {stage.lag:,})" if stage.lag else "")
            for stage in self.stages
        )
        late = f"; late: {_counts(self.late)}" if self.late else ""
        skipped = f"; skipped: {_counts(self.skipped)}" if self.skipped else ""
        return f"{stages} in {self.seconds:.1f} s{late}{skipped}{short}"

    @property
    def not_counted(self) -> str:
        """What the counts leave out, in words."""
        deaths = "a process" if self.cut_short == 1 else f"{self.cut_short} processes"
        return f"not counted: what {deaths} read in the last second before death"


class Run:
    """A run under way: the log, and the worker once it has begun."""

    def __init__(self, app: App, log: Log, worker: Worker) -> None:
        self.app = app
        self.log = log
        self.worker = worker
        self._began = time.monotonic()
        self._read: dict[str, int] = {}
        """Records so far, by stage; those of tasks that others have now too."""
        self._counted: dict[Task, int] = {}
        """Of the tasks it has now, the records that are counted."""
        self._ends: dict[Partition, int] = {}
        self._ask_from = 0.0

    async def progress(self) -> Progress:
        """How far it is now. Where the log does not say how far there is to go, as far as it said last."""
        await self._ask_ends([partition for task in self.worker.tasks.values() for partition in task.readers])
        return self.known()

    def known(self) -> Progress:
        """How far it is now, with the ends of the partitions as they were told last."""
        stages = []
        for stage in self.app.plan.stages:
            tasks = [task for task in self.worker.tasks.values() if task.id.stage == stage.name]
            positions = {partition: r.position for task in tasks for partition, r in task.readers.items()}
            known = [mark for task in tasks if NEVER < (mark := task.watermark()) < FOREVER]
            stages.append(
                StageProgress(
                    stage.name,
                    self._read.get(stage.name, 0),
                    sum(max(0, self._ends.get(partition, 0) - position) for partition, position in positions.items()),
                    min(known, default=None),
                )
            )
        seconds = time.monotonic() - self._began
        return Progress(tuple(stages), dict(self.worker.late), dict(self.worker.skipped), seconds)

    async def _ask_ends(self, partitions: Sequence[Partition]) -> None:
        """Whoever looks on must not hold up the worker: a log that does not answer is not asked again for a while."""
        if time.monotonic() < self._ask_from:
            return
        try:
            async with asyncio.timeout(ANSWER_S):
                self._ends.update(await self.log.ends(partitions))
        except (LogError, TimeoutError) as error:
            logger.debug("how far there is to go is not known: %r", error)
            self._ask_from = time.monotonic() + UNASKED_S

    def count(self) -> None:
        """Count what was read since the last time."""
        tasks = self.worker.tasks.values()
        for task in tasks:
            more = task.records - self._counted.get(task, 0)
            self._read[task.id.stage] = self._read.get(task.id.stage, 0) + more
        self._counted = {task: task.records for task in tasks}


Watch = Callable[[Run], Awaitable[None]]
"""Called after each turn, so it does little, and seldom."""


async def unwatched(_: Run) -> None:
    """Nobody looks on."""


async def run(
    app: App,
    log: Log,
    disk: Disk,
    settings: Settings,
    *,
    stop: Stop,
    until_end: bool = False,
    watch: Watch = unwatched,
    member: str | None = None,
) -> Progress:
    """Run an app until it is asked to stop, or to the end of its input as it is now; returns how far it came.

    `member` is the worker's name in the app's group; one is made up if there is none. Raises what ends a run:
    RecordError, LogError, StoreError, PlanChanged. Then nothing of the open epoch is committed.
    """
    worker: Worker | None = None
    under_way: Run | None = None
    latest = Progress((), {}, {}, 0.0)
    try:
        async with leaving_in_time(stop):
            launch = await prepare(app, log)
            joining = Worker(
                launch.plan,
                launch.topology,
                log,
                disk,
                app.codec(),
                settings=settings,
                clock=SystemClock(),
                member=member or f"worker-{os.getpid()}",
                partitions_of=launch.partitions_of,
                end=await end_of_input(launch, log) if until_end else None,
            )
            await joining.start()
            worker = joining
            under_way = Run(app, log, worker)
            while not stop.requested and not (until_end and worker.done):
                await worker.turn(POLL_MS)
                under_way.count()
                await watch(under_way)
                await asyncio.sleep(0)  # a log in this process never waits while it has records
            latest = await under_way.progress()
            if until_end and worker.done:  # what is left to read is marks, which nobody waits for
                stages = [msgspec.structs.replace(stage, lag=0) for stage in latest.stages]
                latest = msgspec.structs.replace(latest, stages=tuple(stages))
            await worker.stop()
            latest = msgspec.structs.replace(latest, late=dict(worker.late), skipped=dict(worker.skipped))
    except TimeoutError:
        if stop.since is None:
            raise
        logger.warning("not done in time: the open epoch is dropped, and read again by whoever comes next")
        latest = under_way.known() if under_way is not None else latest
        await _abandon(worker, GIVE_BACK_S)
    except BaseException:
        await _abandon(worker, ABANDON_S)
        raise
    return latest


async def _abandon(worker: Worker | None, within_s: float) -> None:
    """The worker is given up; what cannot be given back in time is as after kill -9."""
    if worker is None:
        return
    try:
        why: object = "" if await done_within(worker.abandon(), within_s) else "no answer"
    except LogError as error:
        why = error
    if why:
        logger.warning("the group was not left: %s", why)


def state_folder(app: App, settings: Settings) -> Path:
    """Where the app's stores are."""
    return state_root(settings) / app.name


def state_root(settings: Settings) -> Path:
    """Where the stores of all apps are: `state_dir`, else beside the local log, else .streamproc/kafka/state."""
    scheme, _, place = settings.broker.partition("://")
    if settings.state_dir is not None:
        return Path(settings.state_dir)
    return Path(place if scheme == "local" else ".streamproc/kafka") / "state"


def open_disk(app: App, settings: Settings) -> Disk:
    """The app's stores: in memory where the log is, else in folders."""
    if settings.broker.startswith("memory://") and settings.state_dir is None:
        return MemoryDisk()
    from streamproc.state.rocks import RocksDisk  # noqa: PLC0415 - loads RocksDB

    return RocksDisk(state_folder(app, settings))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
