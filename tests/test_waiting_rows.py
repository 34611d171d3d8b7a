"""Rows that wait in a repartition topic while the app is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamproc import App, PlanChanged, Stream, tumbling
from streamproc.clock import ManualClock
from streamproc.launch import end_of_input, prepare
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker


def app_of(verb: Callable[[Any], Any]) -> App:
    app = App("waiting")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return verb(numbers.key_by(lambda n: n % 2))

    return app


def worker(app: App, log: MemoryLog, disk: MemoryDisk) -> Worker:
    launch = run_now(prepare(app, log))
    return Worker(
        launch.plan,
        launch.topology,
        log,
        disk,
        app.codec(),
        settings=app.settings({}, {}),
        clock=ManualClock(),
        member="one",
        partitions_of=launch.partitions_of,
        end=run_now(end_of_input(launch, log)),
    )


def half_way() -> tuple[MemoryLog, MemoryDisk]:
    """What is left of a run that stopped with rows in the repartition topic that nobody has read."""
    log, disk = MemoryLog(), MemoryDisk()
    run_now(log.create("numbers", partitions=1, config={}))
    sink = run_now(log.sink(None, "sender"))
    sink.send(Partition("numbers", 0), Columns([b"k"] * 4, [b"1", b"2", b"3", b"4"], [0, 1, 2, 3]))
    run_now(sink.commit({}))
    first = worker(app_of(lambda s: s.window(tumbling("1s")).count()), log, disk)
    run_now(first.start())
    topic = Partition("waiting-one-key_by-repartition", 0)
    while run_now(log.ends([topic]))[topic] < 4:
        run_now(first.turn(0))
    run_now(first.abandon())
    return log, disk


def ended(app: App, log: MemoryLog, disk: MemoryDisk) -> list[bytes | None]:
    last = worker(app, log, disk)
    run_now(last.start())
    while run_now(last.turn(0)) or not (last.tasks and last.done):
        pass
    run_now(last.stop())
    return run_now(log.read(Partition("out", 0), 0, 100)).columns.values


def counts(stream: Any) -> Any:
    return stream.window(tumbling("1s")).count()


def test_a_verb_that_orders_them_is_refused() -> None:
    """They have no origins; the earlier version reads them first."""
    log, disk = half_way()

    def both(stream: Any) -> Any:
        counted = counts(stream)
        return counted.merge(stream.window(tumbling("1s")).collect())

    with pytest.raises(PlanChanged, match=r"wait in topic 'waiting-one-key_by-repartition'.*--until-end"):
        ended(app_of(both), log, disk)
    disk.crash()
    assert len(ended(app_of(counts), log, disk)) == 2
    assert len(ended(app_of(both), log, disk)) == 2, "nothing waits now, so the new version goes on"


def test_the_same_plan_goes_on() -> None:
    """They are read as if nothing had happened."""
    log, disk = half_way()
    assert len(ended(app_of(counts), log, disk)) == 2
