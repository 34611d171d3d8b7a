"""A record with a time from the future, and how an app gets over it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from msgspec import json

from streamproc import App, Stream, tumbling
from streamproc.clock import ManualClock
from streamproc.clock_repair import Beyond, clocks_beyond, set_clocks_back
from streamproc.errors import StreamprocError
from streamproc.log import Columns, Partition, TaskInput
from streamproc.memory_log import MemoryLog
from streamproc.runner import Run, run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop

MINUTE = 60_000
FUTURE = 4_000_000_000_000
CLOCK = ManualClock(1_000_000)


def counting() -> App:
    """Windows before a re-key and behind it: clocks beside positions, watermarks in changelogs, marks on their way."""
    app = App("counting", epoch_interval="1ms", idle=None)
    words = app.topic("words", key=str, value=str, grace="10s")
    own, all_, firsts = app.topic("own"), app.topic("all"), app.topic("firsts")

    @app.stream(words, to=(own, all_, firsts))
    def count(words: Stream[str, str]) -> Any:
        by_word = words.key_by(lambda word: word)
        windows = words.window(tumbling("1m")), by_word.window(tumbling("1m"))
        return windows[0].count(name="own"), windows[1].count(name="all"), by_word.in_order().count(name="firsts")

    return app


async def made(partitions: int = 2) -> MemoryLog:
    log = MemoryLog()
    await log.create("words", partitions=partitions, config={})
    return log


async def send(log: MemoryLog, times: Sequence[int], *, partition: int = 0, word: str = "a") -> None:
    sink = await log.sink(None, "test")
    key = b"k%d" % partition
    columns = Columns([key] * len(times), [word.encode()] * len(times), list(times))
    sink.send(Partition("words", partition), columns)
    await sink.commit({})


async def read_all(app: App, log: MemoryLog, disk: MemoryDisk) -> dict[str, int]:
    """A live run that is stopped when all of the input is read; what was late."""
    with Stop() as stop:

        async def watch(under_way: Run) -> None:
            progress = await under_way.progress()
            tasks = under_way.worker.tasks.values()
            if len(tasks) == 4 and not progress.stages[0].lag and not any(task.dirty for task in tasks):
                stop.request()

        return dict((await run(app, log, disk, app.settings({}, {}), stop=stop, watch=watch, member="a")).late)


async def rows(log: MemoryLog, topic: str) -> list[tuple[Any, int, int]]:
    """The windows that came out: key, start, count."""
    values = (await read(log, topic)).values
    return sorted((row["key"], row["start"] // MINUTE, row["value"]) for row in map(json.decode, filter(None, values)))


async def read(log: MemoryLog, topic: str) -> Columns:
    found = Columns([], [], [])
    for number in range((await log.topics())[topic].partitions):
        found.extend((await log.read(Partition(topic, number), 0, 10_000)).columns)
    return found


async def repair(app: App, log: MemoryLog, to_ms: int) -> None:
    await set_clocks_back(app, log, app.settings({}, {}), CLOCK, to_ms=to_ms, member="reset")


async def beyond(app: App, log: MemoryLog, at_ms: int) -> list[Beyond]:
    return await clocks_beyond(app, log, app.settings({}, {}), CLOCK, at_ms=at_ms)


STEADY = [minute * MINUTE + second * 1_000 for minute in range(4) for second in (1, 20, 40)]
LATER = [minute * MINUTE + second * 1_000 for minute in range(4, 8) for second in (1, 20, 40)]


@pytest.mark.parametrize("lose_disk", [False, True])
async def test_after_it_nothing_is_late_any_more(lose_disk: bool) -> None:
    """What comes after the repair gives what it gives an app that never had the record; also from the changelogs alone.

    What the wrong time had closed stays as it was written; the minute in which it came is written a second time.
    """
    app, log, disk = counting(), await made(), MemoryDisk()
    for partition in (0, 1):
        await send(log, STEADY, partition=partition)
        await send(log, [FUTURE], partition=partition, word="x")
    assert await read_all(app, log, disk) == {}
    await repair(app, log, STEADY[-1])
    assert await beyond(app, log, STEADY[-1]) == []
    for partition in (0, 1):
        await send(log, LATER, partition=partition)
    later_disk = MemoryDisk() if lose_disk else disk
    assert await read_all(app, log, later_disk) == {}
    with Stop() as stop:
        await run(app, log, later_disk, app.settings({}, {}), stop=stop, until_end=True, member="a")
    own, shared = await rows(log, "own"), await rows(log, "all")
    for minute in range(8):
        assert own.count(("k0", minute, 3)) == 1, minute
        assert shared.count(("a", minute, 6)) == 1, minute
    assert len(await read(log, "firsts")) == 2 * len(STEADY + LATER) + 2


async def test_without_it_all_that_comes_is_late() -> None:
    """The harm: time does not go back by itself."""
    app, log, disk = counting(), await made(), MemoryDisk()
    for partition in (0, 1):
        await send(log, [*STEADY, FUTURE], partition=partition)
        await send(log, LATER, partition=partition)
    late = await read_all(app, log, disk)
    assert late["count.own"] == 2 * len(LATER)


async def test_what_is_beyond_is_told_before_it_is_changed() -> None:
    """Clocks and watermarks by name; looking changes nothing."""
    app, log, disk = counting(), await made(), MemoryDisk()
    await send(log, [*STEADY, FUTURE], partition=1)
    await read_all(app, log, disk)
    committed, topics = await log.committed("counting"), await log.topics()
    found = await beyond(app, log, STEADY[-1])
    assert Beyond("clock of words/1", FUTURE) in found
    assert Beyond("watermark of count.own in words/1", FUTURE) in found
    assert not any("words/0" in what for what, _ in found)
    assert await beyond(app, log, FUTURE) == []
    assert (await log.committed("counting"), await log.topics()) == (committed, topics)


async def test_marks_that_wait_bring_no_clock_back() -> None:
    """A mark that says the wrong time and was not read yet is not read after the repair; rows that wait with it are."""
    app, log, disk = counting(), await made(1), MemoryDisk()
    await send(log, STEADY)
    await send(log, [FUTURE], word="x")
    with Stop() as stop:

        async def as_soon_as_it_is_written(under_way: Run) -> None:
            offsets = await log.committed("counting")
            if offsets.get(Partition("words", 0), (0,))[0] == len(STEADY) + 1:
                stop.request()

        settings = app.settings({}, {})
        await run(app, log, disk, settings, stop=stop, watch=as_soon_as_it_is_written, member="a")
    internal = Partition("counting-count-key_by-repartition", 0)
    waiting = (await log.ends([internal]))[internal] - (await log.committed("counting"))[internal].offset
    assert waiting > 0, "the test is about rows and marks that wait"
    await repair(app, log, STEADY[-1])
    await send(log, LATER)
    with Stop() as stop:
        progress = await run(app, log, disk, app.settings({}, {}), stop=stop, until_end=True, member="a")
    assert progress.late == {}
    shared = await rows(log, "all")
    assert [row for row in shared if row[0] == "a"] == [("a", minute, 3) for minute in range(8)]


async def test_not_while_a_worker_is_there() -> None:
    """A group with members is left alone; they are named."""
    app, log = counting(), await made()
    await send(log, [FUTURE])
    await read_all(app, log, MemoryDisk())
    source = await log.source("counting", "host-0", [TaskInput("words", 0, (Partition("words", 0),))])
    with pytest.raises(StreamprocError, match="group 'counting' has members, host-0: stop its workers first"):
        await repair(app, log, 0)
    await source.leave()
    before: Mapping[Partition, Any] = await log.committed("counting")
    await repair(app, log, 0)
    assert (await log.committed("counting"))[Partition("words", 0)].offset == before[Partition("words", 0)].offset
    assert not (await log.group("counting")).members
