"""What can be seen of an app from outside of its group."""

from pathlib import Path
from typing import Any

import pytest

from streamproc import App, Stream, tumbling
from streamproc.log import Columns, Partition, TaskInput, UnknownTopic
from streamproc.memory_log import MemoryLog
from streamproc.runner import Run, run
from streamproc.slot import taken_slot
from streamproc.state.memory import MemoryDisk
from streamproc.status import COUNTED, Status, status_of
from streamproc.stop import Stop

SECOND = 1_000


def counting() -> App:
    app = App("counting", epoch_interval="1ms")
    words = app.topic("words", value=dict[str, int], timestamp="at", grace="1s")
    counts = app.topic("counts")

    @app.stream(words, to=counts)
    def count(words: Stream[bytes, Any]) -> Any:
        return words.key_by(lambda word: word["n"] % 3).window(tumbling("1m")).count()

    return app


async def send(log: MemoryLog, numbers: range, *, partition: int = 0, bad: int | None = None) -> None:
    """A word each second of event time; the record's own time says nothing."""
    sink = await log.sink(None, "test")
    values: list[bytes | None] = [
        b"?" if number == bad else b'{"n": %d, "at": %d}' % (number, number * SECOND) for number in numbers
    ]
    sink.send(Partition("words", partition), Columns([None] * len(values), values, [10**12] * len(values)))
    await sink.commit({})


async def made(partitions: int = 1) -> MemoryLog:
    log = MemoryLog()
    await log.create("words", partitions=partitions, config={})
    return log


async def seen(app: App, log: MemoryLog, folder: Path, broker: str = "memory://") -> Status:
    return await status_of(app, log, broker, folder, ahead_ms=3_600_000)


def states(status: Status) -> set[str]:
    return {task.state for stage in status.stages for task in stage.tasks}


async def run_to_the_end(app: App, log: MemoryLog, *, member: str = "a") -> None:
    with Stop() as stop:
        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True, member=member)


async def test_before_the_first_run(tmp_path: Path) -> None:
    """All of the input is lag, internal topics need not be there, nobody has a task; nothing is made."""
    log = await made(2)
    await send(log, range(10))
    status = await seen(counting(), log, tmp_path)
    assert [(stage.name, stage.lag, stage.event_time) for stage in status.stages] == [
        ("words", 10, None),
        ("count-key_by", 0, None),
    ]
    assert states(status) == {"no owner"}
    assert status.problems == ("no worker runs",)
    assert set(await log.topics()) == {"words"}


async def test_lag_and_event_time(tmp_path: Path) -> None:
    """Records that were not read, and how much later the newest of them is, by the topic's own times."""
    app, log = counting(), await made()
    await send(log, range(100))
    await run_to_the_end(app, log)
    [words, behind_key] = (await seen(app, log, tmp_path)).stages
    assert (words.lag, words.behind_ms, words.event_time) == (0, 0, 99 * SECOND)
    assert (behind_key.lag, behind_key.behind_ms, behind_key.event_time) == (0, None, None)
    await send(log, range(100, 160), bad=159)
    [words, _] = (await seen(app, log, tmp_path)).stages
    assert (words.lag, words.behind_ms, words.event_time) == (60, 59 * SECOND, 99 * SECOND)


async def test_a_long_lag_is_the_distance(tmp_path: Path) -> None:
    """It is not counted record by record."""
    app, log = counting(), await made()
    await send(log, range(COUNTED + 500))
    await log.purge({Partition("words", 0): 100})
    [words, _] = (await seen(app, log, tmp_path)).stages
    assert words.lag == COUNTED + 400


async def test_what_waits_between_stages_counts_without_marks(tmp_path: Path) -> None:
    """Marks are not what anybody waits for."""
    app, log = counting(), await made()
    await send(log, range(60))
    with Stop() as stop:

        async def when_written(_: Run) -> None:
            if Partition("words", 0) in await log.committed("counting"):
                stop.request()

        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=when_written, member="a")
    internal = Partition("counting-count-key_by-repartition", 0)
    committed = (await log.committed("counting")).get(internal)
    chunk = await log.read(internal, committed.offset if committed else 0, 1_000)
    rows = sum(key is not None for key in chunk.columns.keys)
    assert rows < len(chunk.columns), "there are marks among what waits"
    assert (await seen(app, log, tmp_path)).stages[1].lag == rows


async def test_a_running_worker(tmp_path: Path) -> None:
    """It owns all tasks, and works on them once it has committed for each."""
    app, log = counting(), await made(2)
    await send(log, range(10))
    statuses: list[Status] = []
    with Stop() as stop:

        async def look(_: Run) -> None:
            statuses.append(await seen(app, log, tmp_path))
            if states(statuses[-1]) == {"working"}:
                stop.request()

        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=look, member="host-0")
    last = statuses[-1]
    assert last.problems == ()
    [member] = last.members
    assert (member.name, member.tasks) == ("host-0", ("count-key_by/0", "count-key_by/1", "words/0", "words/1"))
    assert (member.slot, member.pid) == (None, None)


async def test_a_task_that_is_opened(tmp_path: Path) -> None:
    """An owner that has not committed for a task yet is opening it, whoever committed for it before."""
    app, log = counting(), await made()
    await send(log, range(10))
    await run_to_the_end(app, log, member="host-0")
    words = TaskInput("words", 0, (Partition("words", 0),))
    behind_key = TaskInput("count-key_by", 0, (Partition("counting-count-key_by-repartition", 0),))
    for member, expected in (("host-1", "opening"), ("host-0", "ended")):
        source = await log.source("counting", member, [words, behind_key])
        await source.poll((), 0)
        assert states(await seen(app, log, tmp_path)) == {expected}
        await source.leave()


async def test_tasks_without_owner(tmp_path: Path) -> None:
    """They are named; tasks of another plan that the workers have are named too."""
    app, log = counting(), await made(2)
    await run_to_the_end(app, log)
    source = await log.source("counting", "host-0", [])
    await source.poll((), 0)
    status = await seen(app, log, tmp_path)
    assert status.problems == tuple(
        f"held by {task}: no owner" for task in ("words/0", "words/1", "count-key_by/0", "count-key_by/1")
    )
    await source.leave()


async def test_the_process_of_a_local_log(tmp_path: Path) -> None:
    """Who is in the group of a local log is known in its process alone: what is seen is who has its slot."""
    app, log = counting(), await made()
    await run_to_the_end(app, log)
    with taken_slot(tmp_path) as slot:
        status = await seen(app, log, tmp_path, "local://data")
        assert [(member.name, member.slot) for member in status.members] == [(slot.name, 0)]
        assert status.members[0].tasks == ("count-key_by/0", "words/0")
        assert status.problems == ()
    assert (await seen(app, log, tmp_path, "local://data")).problems == ("no worker runs",)


async def test_a_worker_whose_process_is_gone(tmp_path: Path) -> None:
    """The group believes that it lives until its session is over; who sees its state directory knows better."""
    app, log = counting(), await made()
    await run_to_the_end(app, log)
    with taken_slot(tmp_path) as slot:
        words = TaskInput("words", 0, (Partition("words", 0),))
        behind_key = TaskInput("count-key_by", 0, (Partition("counting-count-key_by-repartition", 0),))
        source = await log.source("counting", slot.name, [words, behind_key])
        await source.poll((), 0)
        assert (await seen(app, log, tmp_path)).problems == ()
    status = await seen(app, log, tmp_path)
    [gone] = status.problems
    assert gone.startswith(f"{slot.name} is gone: no process has slot 0. Its tasks wait until it is started again")
    assert status.members[0].gone
    assert (await seen(app, log, tmp_path / "elsewhere")).problems == (), "on another machine it is not known"


async def test_an_unknown_source(tmp_path: Path) -> None:
    """As at the start."""
    with pytest.raises(UnknownTopic, match="there is no topic 'words'"):
        await seen(counting(), MemoryLog(), tmp_path)
