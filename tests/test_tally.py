"""What is said of late records, of a task of windows that closed long ago."""

import logging

import pytest

from streamproc import App, Stream, tumbling
from streamproc.clock import ManualClock
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.runner import run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop
from streamproc.tally import SAID_EVERY_MS, Tally


class Left:
    """Of a task, what a tally takes."""

    def __init__(self, **late: int) -> None:
        self.flow = self
        self.late = late
        self.skipped: dict[str, int] = {}

    def take_alarms(self) -> list[tuple[str, int]]:
        return []


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def test_one_line_a_step_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    """However many tasks and epochs: with the number since the last line, and so far; nothing is left unsaid."""
    clock = ManualClock(1_000)
    tally = Tally(clock)
    for late in ({"a": 1}, {"a": 2, "b": 1}):
        tally.take(Left(**late))  # type: ignore[arg-type]
    tally.tell()
    assert said(caplog) == ["a: 3 records were late (3 so far)", "b: 1 record was late (1 so far)"]
    for _ in range(3):
        tally.take(Left(a=500))  # type: ignore[arg-type]
        tally.tell()
    clock.advance(SAID_EVERY_MS - 1)
    tally.tell()
    assert said(caplog) == []
    clock.advance(1)
    tally.tell()
    tally.tell()
    assert said(caplog) == ["a: 1,500 records were late (1,503 so far)"]
    tally.take(Left(a=1, b=1))  # type: ignore[arg-type]
    tally.tell()
    assert said(caplog) == ["b: 1 record was late (2 so far)"]
    tally.tell(last=True)
    assert said(caplog) == ["a: 1 record was late (1,504 so far)"]
    assert (tally.late, tally.skipped) == ({"a": 1_504, "b": 2}, {})


async def test_a_worker_says_it_until_it_leaves(caplog: pytest.LogCaptureFixture) -> None:
    """Of epochs that follow each other at once the first is said, and the rest when it ends."""
    app = App("late", epoch_records=1)
    values = app.topic("values", value=int, timestamp=lambda value: value)

    @app.stream(values, to=app.topic("counts"))
    def counts(values: Stream[bytes, int]) -> Stream[None, object]:
        return values.window_all(tumbling("1s")).count()

    log, late = MemoryLog(), 50
    await log.create("values", partitions=1, config={})
    sink = await log.sink(None, "test")
    rows: list[bytes | None] = [b"10000", *[b"1"] * late]
    sink.send(Partition("values", 0), Columns([None] * len(rows), rows, [10_000] * len(rows)))
    await sink.commit({})
    with caplog.at_level(logging.WARNING), Stop() as stop:
        settings = app.settings({}, {})
        progress = await run(app, log, MemoryDisk(), settings, stop=stop, until_end=True, member="a")
    assert dict(progress.late) == {"counts.count": late}
    lines = [line for line in said(caplog) if "late" in line]
    assert len(lines) <= 2
    assert lines[-1].endswith(f"({late} so far)")
