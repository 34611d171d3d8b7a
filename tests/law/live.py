"""Live runs, without an end of the input: idle partitions, times from the future. Each gives '' or what was wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamproc import App, Stream, WindowResult, tumbling
from streamproc.clock import ManualClock
from streamproc.launch import prepare
from streamproc.log import Chunk, Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.testing.stepped_jobs import SteppedJobs
from streamproc.worker import Worker
from tests.law.plans import Reading
from tests.law.world import heard

YEARS_MS = 70 * 365 * 86_400_000


class SlowLog(MemoryLog):
    """A log of which some partitions give nothing for now, as behind a slow broker."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: set[Partition] = set()

    def chunk(self, partition: Partition, offset: int, limit: int | None = None) -> Chunk:
        found = super().chunk(partition, offset, limit)
        return found if partition not in self.slow else Chunk(partition, range(0), offset, Columns([], [], []))


class Live:
    """Counts of readings in ten milliseconds, from two partitions: of a topic, re-keyed, or of two in one task.

    That counts them itself, or (`apart`) re-keys them and keeps no state.
    """

    def __init__(self, *, merged: bool = False, apart: bool = False) -> None:
        self.app = App("live", on_error="skip")
        self.partitions = (
            [Partition("left", 0), Partition("right", 0)] if merged else [Partition("left", n) for n in (0, 1)]
        )
        left = self.app.topic("left", value=Reading, timestamp="at")
        counts = self.app.topic("counts", partitions=1)
        if merged:
            right = self.app.topic("right", value=Reading, timestamp="at")

            @self.app.stream(left, right, to=counts)
            def counted_both(left: Stream[bytes, Reading], right: Stream[bytes, Reading]) -> Any:
                both: Stream[Any, Reading] = left.merge(right)
                keyed = both.key_by(lambda reading: reading.level) if apart else both
                return keyed.window(tumbling("10ms")).count()
        else:

            @self.app.stream(left, to=counts)
            def counted(left: Stream[bytes, Reading]) -> Stream[float, WindowResult[float, int]]:
                return left.key_by(lambda reading: reading.level).window(tumbling("10ms")).count()

        self.log = SlowLog()
        self.clock = ManualClock()
        self.disk = MemoryDisk()
        self.alarms: list[str] = []
        self.late = 0
        for name in {partition.topic for partition in self.partitions}:
            run_now(self.log.create(name, partitions=1 if merged else 2, config={}))
        self._start()

    def _start(self) -> None:
        launch = run_now(prepare(self.app, self.log))
        self.worker = Worker(
            launch.plan,
            launch.topology,
            self.log,
            self.disk,
            self.app.codec(),
            settings=self.app.settings({}, {}),
            clock=self.clock,
            member="worker",
            partitions_of=launch.partitions_of,
            jobs=SteppedJobs(),
        )
        run_now(self.worker.start())

    def crash(self) -> None:
        """The worker dies and another goes on under its name."""
        self.late += sum(self.worker.late.values())
        self.disk.crash()
        self._start()

    def send(self, number: int, *times: int) -> None:
        values = self.app.topics["left"].encode_values([Reading(at, 1.0) for at in times])
        own = [at if at < YEARS_MS else at - YEARS_MS for at in times]
        sink = run_now(self.log.sink(None, "input"))
        sink.send(self.partitions[number], Columns([b"key"] * len(times), values, own))
        run_now(sink.commit({}))

    def turns(self, seconds: int) -> None:
        """So many turns, one a second."""
        with heard(self.alarms):
            for _ in range(seconds):
                run_now(self.worker.turn(0))
                self.clock.advance(1_000)

    def counts(self) -> list[tuple[int, int]]:
        """(start, count) of the windows that have closed."""
        columns = run_now(self.log.read(Partition("counts", 0), 0, FOREVER)).columns
        values = self.app.topics["counts"].decode_values(columns.values)
        return [(value["start"], value["value"]) for value in values]

    def wrong(self, expected: Sequence[tuple[int, int]], late: int) -> str:
        """'' where these windows closed, and so many records were late."""
        found = self.counts(), self.late + sum(self.worker.late.values())
        if self.alarms:
            return self.alarms[0]
        return "" if found == (list(expected), late) else f"{found} is not {(list(expected), late)}"


def slow_fetch() -> str:
    """A partition that has records which do not arrive is not idle, however long it takes: nothing of it is late."""
    live = Live()
    live.send(0, 5, 15, 25, 35)
    live.send(1, 4, 14, 24, 34)
    live.log.slow.add(live.partitions[1])
    live.turns(40)
    if live.counts():
        return f"closed without the partition: {live.counts()}"
    live.log.slow.clear()
    live.turns(10)
    return live.wrong([(0, 2), (10, 2), (20, 2)], late=0)


def idle(happens: Callable[[Live], None], *, merged: bool = False, apart: bool = False) -> str:
    """A partition read to its end and silent for 30 s is left out; what it then sends for a closed window is late."""
    live = Live(merged=merged, apart=apart)
    live.send(1, 4)
    live.send(0, 5, 15, 25)
    live.turns(20)
    live.send(0, 35)
    live.turns(20)
    if live.counts() != [(0, 2), (10, 1), (20, 1)]:
        return f"not left out: {live.counts()}"
    happens(live)
    live.send(1, 14, 36)
    live.turns(10)
    live.send(0, 45)
    live.send(1, 46)
    live.turns(10)
    return live.wrong([(0, 2), (10, 1), (20, 1), (30, 2)], late=1)


def idle_and_a_crash() -> str:
    """The decision is recorded with the offset: a restart repeats it."""
    return idle(Live.crash) or idle(Live.crash, merged=True)


def idle_and_a_crash_of_a_stage_without_state() -> str:
    """So is what was closed without the partition."""
    return idle(Live.crash, merged=True, apart=True)


def idle_without_a_crash() -> str:
    """A closed window stays closed."""
    return idle(lambda _: None) or idle(lambda _: None, merged=True)


def silent_but_not_for_long() -> str:
    """A partition that is silent for less is waited for; a record from it counts."""
    live = Live()
    live.send(1, 4)
    live.send(0, 5, 15, 25)
    live.turns(20)
    live.send(1, 6)
    live.turns(20)
    live.send(1, 16, 26)
    live.turns(2)
    return live.wrong([(0, 3), (10, 2)], late=0)


def from_the_future() -> str:
    """A timestamp seventy years ahead of its record is a bad record: it moves no clock and makes nothing late."""
    live = Live()
    live.send(0, 5, 15)
    live.send(1, 4, 7 + YEARS_MS, 14)
    live.turns(2)
    live.send(0, 25)
    live.send(1, 24)
    live.turns(2)
    skipped = sum(live.worker.skipped.values())
    return live.wrong([(0, 2), (10, 2)], late=0) or ("" if skipped == 1 else f"{skipped} records were skipped")
