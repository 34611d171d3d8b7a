"""An app on a memory log, with the CPU time that it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

from streamproc import App
from streamproc.clock import Clock, SystemClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Disk
from streamproc.testing.replay import run_now
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
    """One worker of an app, from the first record to the end of the input as it is when the run begins.

    watch   called after each turn
    """

    def __init__(self, app: App, log: MemoryLog, disk: Disk | None = None, clock: Clock | None = None) -> None:
        self.log = log
        launch = run_now(prepare(app, log))
        end = run_now(end_of_input(launch, log))
        self.worker = Worker(
            launch.plan,
            launch.topology,
            log,
            MemoryDisk() if disk is None else disk,
            app.codec(),
            settings=app.settings({}, {}),
            clock=SystemClock() if clock is None else clock,
            member="worker",
            partitions_of=launch.partitions_of,
            end=end,
        )

    def __call__(self, watch: Callable[[], None] = lambda: None) -> None:
        """Run to the end."""
        run_now(self.worker.start())
        while not (self.worker.tasks and self.worker.done):
            run_now(self.worker.turn(0))
            watch()
        run_now(self.worker.stop())


def results_of(log: MemoryLog) -> list[Columns]:
    """What the app has written, by partition."""
    read = [run_now(log.read(Partition("results", number), 0, FOREVER)) for number in range(PARTITIONS)]
    return [chunk.columns for chunk in read]


def cpu_us(work: Callable[[], object], records: int) -> float:
    """The CPU time of some work, in microseconds a record; all threads, system time included."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / records * 1e6
