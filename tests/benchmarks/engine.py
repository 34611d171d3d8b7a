"""An app on a memory log, with the CPU time that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamproc import App
from streamproc.clock import ManualClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Disk
from streamproc.testing.replay import run_now
from streamproc.testing.stepped_jobs import SteppedJobs
from streamproc.worker import Worker
from tests.benchmarks.inputs import PARTITIONS, Input


def log_of(name: str, topic: Input) -> MemoryLog:
    """A log that holds a topic."""
    log = MemoryLog()
    run_now(log.create(name, partitions=PARTITIONS, config={}))
    append(log, name, topic)
    return log


def append(log: MemoryLog, name: str, topic: Input) -> None:
    """The records stand behind those that are there."""
    sink = run_now(log.sink(None, "loader"))
    for number, columns in enumerate(topic):
        sink.send(Partition(name, number), columns)
    run_now(sink.commit({}))


class Run:
    """One worker of an app. Its time is the CPU's, so that epochs are as long on a busy machine as on a quiet one."""

    def __init__(self, app: App, log: MemoryLog, disk: Disk | None = None, *, until_end: bool = True) -> None:
        launch = run_now(prepare(app, log))
        self._log = log
        self._clock = ManualClock()
        self.worker = Worker(
            launch.plan,
            launch.topology,
            log,
            MemoryDisk() if disk is None else disk,
            app.codec(),
            settings=app.settings({}, {}),
            clock=self._clock,
            member="worker",
            partitions_of=launch.partitions_of,
            end=run_now(end_of_input(launch, log)) if until_end else None,
            jobs=SteppedJobs(),
        )
        run_now(self.worker.start())

    def to_end(self, watch: Callable[[], None] = lambda: None) -> None:
        """The input ends with what is there: everything that is open closes. `watch` is called after each turn."""
        while not self.worker.done:
            self._turn()
            watch()

    def assign(self) -> None:
        """The tasks are there, with their stores."""
        while not self.worker.tasks:
            self._turn()

    def to_here(self) -> None:
        """What is there is taken in and committed, and the input goes on."""
        while self._behind():
            self._turn()
        self._clock.advance(60_000)  # an epoch is due
        self._turn()

    def stop(self) -> None:
        """Leave."""
        run_now(self.worker.stop())

    def _turn(self) -> None:
        began = time.process_time_ns()
        run_now(self.worker.turn(0))
        self._clock.advance((time.process_time_ns() - began) // 1_000_000)

    def _behind(self) -> bool:
        positions = {p: reader.position for task in self.worker.tasks.values() for p, reader in task.readers.items()}
        ends = run_now(self._log.ends(list(positions)))
        return any(position < ends[partition] for partition, position in positions.items())


def run_to_end(app: App, log: MemoryLog) -> None:
    """The app's whole life on what the log holds, start and stop included."""
    run = Run(app, log)
    run.to_end()
    run.stop()


def results_of(log: MemoryLog) -> list[Columns]:
    """What the app has written, by partition."""
    read = [run_now(log.read(Partition("results", number), 0, FOREVER)) for number in range(PARTITIONS)]
    return [chunk.columns for chunk in read]


def cpu_us(work: Callable[[], object], records: int) -> float:
    """The CPU time of some work, in microseconds a record; all threads, system time included."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / records * 1e6
