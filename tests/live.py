"""Workers over a log in memory, moved one turn at a time, with a clock that moves by hand."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

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

EPOCH_MS = 10
ROUNDS = 500
"""More than this is a run that does not come to rest."""


class Row(NamedTuple):
    """A record of a topic, as it is on the wire."""

    key: bytes | None
    value: bytes | None
    timestamp: int


class Live:
    """A log, a disk, a clock, and runs of apps on them."""

    def __init__(self, *, chunk_records: int = 10_000, **settings: Any) -> None:
        self.log = MemoryLog(chunk_records=chunk_records)
        self.disk = MemoryDisk(undo_writes=5)
        self.clock = ManualClock(1_000_000)
        self.settings = {"epoch_interval": f"{EPOCH_MS}ms", **settings}

    # ------------------------------------------------------------------------------------ the log

    def create(self, topic: str, partitions: int = 1) -> None:
        run_now(self.log.create(topic, partitions=partitions, config={}))

    def grow(self, topic: str, partitions: int) -> None:
        """Somebody gives a topic more partitions."""
        records: Any = self.log._records
        before = records.topics()[topic]
        fresh = MemoryLog()
        run_now(fresh.create(topic, partitions=partitions, config=before.config))
        more: Any = fresh._records
        records._topics[topic] = more._topics[topic]
        records._kept = {**more._kept, **records._kept}

    def send(self, topic: str, *rows: Row | tuple[bytes | None, bytes | None, int], partition: int = 0) -> None:
        sink = run_now(self.log.sink(None, "test"))
        columns = Columns([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
        sink.send(Partition(topic, partition), columns)
        run_now(sink.commit({}))

    def columns(self, topic: str, partition: int = 0) -> Columns:
        return run_now(self.log.read(Partition(topic, partition), 0, FOREVER)).columns

    def rows(self, topic: str) -> list[Row]:
        """The records of all partitions of a topic, in order of partition and offset."""
        found: list[Row] = []
        for number in range(run_now(self.log.topics())[topic].partitions):
            columns = self.columns(topic, number)
            found += map(Row, columns.keys, columns.values, columns.timestamps)
        return found

    def values(self, topic: str) -> list[bytes | None]:
        return [row.value for row in self.rows(topic)]

    def committed(self, app: App) -> dict[Partition, tuple[int, str]]:
        return {partition: tuple(c) for partition, c in run_now(self.log.committed(app.name)).items()}  # type: ignore[misc]

    # ------------------------------------------------------------------------------------ workers

    def worker(
        self, app: App, name: str = "a", *, disk: Disk | None = None, until_end: bool = False, log: Any = None
    ) -> Worker:
        """A worker that has joined the group."""
        launch = run_now(prepare(app, self.log))
        worker = Worker(
            launch.plan,
            launch.topology,
            log or self.log,
            disk or self.disk,
            app.codec(),
            settings=app.settings(self.settings, {}),
            clock=self.clock,
            member=name,
            partitions_of=launch.partitions_of,
            end=run_now(end_of_input(launch, self.log)) if until_end else None,
            jobs=SteppedJobs(),
        )
        run_now(worker.start())
        return worker

    def rested(self, app: App, name: str = "a") -> Worker:
        """A worker that has joined the group, and has nothing to do any more."""
        worker = self.worker(app, name)
        self.rest(worker)
        return worker

    def rest(self, *workers: Worker) -> None:
        """Turns until nobody has anything to do: all read, all committed. Passes some hundredths of a second."""
        for _ in range(ROUNDS):
            self.clock.advance(EPOCH_MS)
            moved = [run_now(worker.turn(0)) for worker in workers]  # each of them, whatever the others do
            if not any(moved):
                return
        pytest.fail("the workers do not come to rest")

    def run(self, app: App, *, disk: Disk | None = None) -> Worker:
        """A whole run to the end of what is there; an error ends it as it ends a process."""
        worker = self.worker(app, disk=disk, until_end=True)
        try:
            for _ in range(ROUNDS):
                run_now(worker.turn(0))
                if worker.done:
                    break
            else:
                pytest.fail("the run does not end")
        except BaseException:
            run_now(worker.abandon())
            raise
        run_now(worker.stop())
        return worker


def ints(values: Sequence[int], *, key: bytes | None = b"k", every_ms: int = 1_000) -> list[Row]:
    """A record for each number, one every so many ms."""
    return [Row(key, b"%d" % value, place * every_ms) for place, value in enumerate(values)]
