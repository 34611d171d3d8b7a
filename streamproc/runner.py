"""Runner: one process's run of an app, from the preparation of its log to the last commit.

    start ---> turn, turn, turn, ... ---> stop: commit, leave the group
                 |         ^
                 v         |
               watch(worker): whoever looks on

SIGINT or SIGTERM asks the run to stop: the open epoch is committed first. A second one stops it where it is: the open
epoch is not committed, as after kill -9, and read again by the next run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final, Self

import msgspec

from streamproc.app import App
from streamproc.clock import SystemClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Log, Partition
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.settings import Settings
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Disk
from streamproc.worker import Worker

logger = logging.getLogger("streamproc")

POLL_MS: Final = 200
"""How long a turn waits for records: the delay, at most, of a first signal to a run that has nothing to do."""


class StageProgress(msgspec.Struct, frozen=True):
    """How far a stage is, over the tasks of this process.

    records     read in this run; of an internal topic its marks too
    lag         committed records still to read
    event_time  the watermark in ms; None: not known yet
    """

    name: str
    records: int
    lag: int
    event_time: int | None


class Progress(msgspec.Struct, frozen=True):
    """How far a run is; `late` and `skipped` are records by step."""

    stages: tuple[StageProgress, ...]
    late: Mapping[str, int]
    skipped: Mapping[str, int]
    seconds: float

    def __str__(self) -> str:
        stages = ", ".join(
            f"{stage.name} {stage.records:,} record{'' if stage.records == 1 else 's'}"
            + (f" (lag {stage.lag:,})" if stage.lag else "")
            for stage in self.stages
        )
        late = f"; late: {_counts(self.late)}" if self.late else ""
        skipped = f"; skipped: {_counts(self.skipped)}" if self.skipped else ""
        return f"{stages} in {self.seconds:.1f} s{late}{skipped}"


class Stop(AbstractContextManager["Stop"]):
    """Within it, a first SIGINT or SIGTERM sets `requested`, a second ends the process by SystemExit, at once."""

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # Not add_signal_handler: the event loop gets no turn while a function of the user runs.
        if self.requested:
            raise SystemExit(128 + number)
        self.requested = True
        logger.warning("%s: committing what was read; once more stops at once", signal.Signals(number).name)


class Run:
    """A run under way: the log, and the worker once it has begun."""

    def __init__(self, app: App, log: Log, worker: Worker) -> None:
        self.app = app
        self.log = log
        self.worker = worker
        self._began = time.monotonic()
        self._first: dict[Partition, int] = {}

    async def progress(self) -> Progress:
        """How far it is now."""
        stages = []
        for stage in self.app.plan.stages:
            tasks = [task for task in self.worker.tasks.values() if task.id.stage == stage.name]
            positions = {partition: r.position for task in tasks for partition, r in task.readers.items()}
            ends = await self.log.ends(list(positions))
            known = [mark for task in tasks if NEVER < (mark := task.watermark()) < FOREVER]
            stages.append(
                StageProgress(
                    stage.name,
                    sum(position - self._first.get(partition, position) for partition, position in positions.items()),
                    sum(max(0, ends[partition] - position) for partition, position in positions.items()),
                    min(known, default=None),
                )
            )
        seconds = time.monotonic() - self._began
        return Progress(tuple(stages), dict(self.worker.late), dict(self.worker.skipped), seconds)

    def begin(self) -> None:
        """Count records from here on: the partitions that came have their committed positions."""
        for task in self.worker.tasks.values():
            for partition, reader in task.readers.items():
                self._first.setdefault(partition, reader.position)


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
) -> Progress:
    """Run an app until it is asked to stop, or to the end of its input as it is now; returns how far it came.

    Raises what ends a run: RecordError, LogError, StoreError, PlanChanged. Then nothing of the open epoch is committed.
    """
    launch = await prepare(app, log)
    worker = Worker(
        launch.plan,
        launch.topology,
        log,
        disk,
        app.codec(),
        settings=settings,
        clock=SystemClock(),
        member=f"worker-{os.getpid()}",
        partitions_of=launch.partitions_of,
        end=await end_of_input(launch, log) if until_end else None,
    )
    under_way = Run(app, log, worker)
    await worker.start()
    try:
        while not stop.requested and not (until_end and worker.tasks and worker.done):
            await worker.turn(POLL_MS)
            under_way.begin()
            await watch(under_way)
            await asyncio.sleep(0)  # a log in this process never waits while it has records
        progress = await under_way.progress()
        if until_end and worker.done:  # what is left to read is marks, which nobody waits for
            stages = [msgspec.structs.replace(stage, lag=0) for stage in progress.stages]
            progress = msgspec.structs.replace(progress, stages=tuple(stages))
    except BaseException:
        await worker.abandon()
        raise
    await worker.stop()
    return msgspec.structs.replace(progress, late=dict(worker.late), skipped=dict(worker.skipped))


def state_folder(app: App, settings: Settings) -> Path:
    """Where the app's stores are."""
    return state_root(settings) / app.name


def state_root(settings: Settings) -> Path:
    """Where the stores of all apps are: `state_dir`, else beside the local log, else .streamproc/state."""
    scheme, _, place = settings.broker.partition("://")
    if settings.state_dir is not None:
        return Path(settings.state_dir)
    return Path(place) / "state" if scheme == "local" else Path(".streamproc") / "state"


def open_disk(app: App, settings: Settings) -> Disk:
    """The app's stores: in memory where the log is, else in folders."""
    if settings.broker.startswith("memory://") and settings.state_dir is None:
        return MemoryDisk()
    from streamproc.state.rocks import RocksDisk  # noqa: PLC0415 - loads RocksDB

    return RocksDisk(state_folder(app, settings))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
