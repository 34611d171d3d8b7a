"""What is left to restore, told to whoever looks on: as the group's lag in a changelog, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from streamproc.clock import ManualClock
from streamproc.errors import StateLost
from streamproc.in_process import InProcessSource
from streamproc.jobs import LoopJobs
from streamproc.log import Assigned, Committed, LogError, Partition, Rejected, TaskInput
from streamproc.memory_log import MemoryLog
from streamproc.plan import TaskId
from streamproc.restore import Restoring
from streamproc.restore_lag import EACH_MS, RestoreLag, RestoreNote, note_of, positions
from streamproc.state.memory import MemoryDisk
from streamproc.status import TaskStatus, status_of
from streamproc.worker import Worker
from tests.live import Live
from tests.test_opening import STATEFUL, Bench, Gated, forget, gated, ran, to_end
from tests.test_worker import CHANGELOG, SOURCE, answer, undisturbed, work

CHANGELOGS = [Partition(CHANGELOG, number) for number in range(2)]
Notes = Mapping[Partition, Committed | None]


async def noted(log: MemoryLog) -> dict[Partition, tuple[int, RestoreNote]]:
    """What the group has in the changelogs."""
    found = await log.committed("work")
    return {p: (at.offset, note) for p, at in found.items() if (note := note_of(at)) is not None}


async def task(log: MemoryLog, folder: Path, task_id: TaskId = STATEFUL[0]) -> TaskStatus:
    """A task as it is seen from outside."""
    status = await status_of(work(), log, "memory://", folder, ahead_ms=3_600_000)
    return next(task for stage in status.stages for task in stage.tasks if (task.stage, task.number) == task_id)


def slow(live: Live) -> Gated:
    """A log that gives a record of a changelog at a time."""
    log = gated(live)
    log.at_once = 1
    log.gate.set()
    return log


async def restoring(bench: Bench, worker: Worker, *, ms: int = 400) -> None:
    """Both tasks are on their way, and have been for more than a second."""

    def is_so() -> bool:
        began = [found.began_ms for found in worker.restoring.values() if found.end]
        return len(began) == 2 and bench.clock.now_ms() - max(began) > EACH_MS

    await bench.turns(worker, until=is_so, ms=ms)
    await asyncio.sleep(0)


# -------------------------------------------------------------------------------------- what is seen


async def test_what_is_left_to_restore_is_the_lag_of_the_changelog(tmp_path: Path) -> None:
    """It falls from second to second; with it is who restores, and of how much. Behind the restore it is gone."""
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    await restoring(bench, worker)
    end = (await log.ends(CHANGELOGS))[CHANGELOGS[0]]
    seen: list[int] = []

    def through() -> bool:
        committed = log.records().committed("work").get(CHANGELOGS[0])
        if committed is not None:
            seen.append(committed.offset)
        return CHANGELOGS[0] not in log.records().committed("work") and STATEFUL[0] in worker.tasks

    shown = await task(log, tmp_path)
    [offset, note] = (await noted(log))[CHANGELOGS[0]]
    assert note == RestoreNote("a", 0, end)
    assert (shown.state, shown.restored, shown.to_restore) == ("restoring", offset, end)
    assert 0 < offset < end
    await bench.turns(worker, until=through, ms=400)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] == end
    await bench.turns(worker, until=lambda: CHANGELOGS[1] not in log.records().committed("work"), ms=400)
    shown = await task(log, tmp_path)
    assert (shown.state, shown.restored, shown.to_restore) == ("working", None, None)
    await to_end(bench, live, 40, worker)
    assert await noted(log) == {}


async def test_a_short_restore_notes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is through within a second asks the log for nothing more."""
    notes: list[Notes] = []

    async def note(self: InProcessSource, offsets: Notes) -> None:
        notes.append(offsets)

    monkeypatch.setattr(InProcessSource, "note", note)
    live = ran()
    log = gated(live)
    log.gate.set()
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    await bench.turns(worker, until=lambda: worker.tasks.keys() >= set(STATEFUL), ms=EACH_MS // 20)
    await bench.turns(worker, until=lambda: bench.clock.now_ms() > 1_000_000 + 5 * EACH_MS, ms=EACH_MS // 20)
    assert notes == []
    await to_end(bench, live, 40, worker)


async def test_notes_are_a_second_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request for all tasks of a worker, however often it turns."""
    times: list[int] = []
    real = InProcessSource.note

    async def note(self: InProcessSource, offsets: Notes) -> None:
        times.append(bench.clock.now_ms())
        await real(self, offsets)

    monkeypatch.setattr(InProcessSource, "note", note)
    live = ran()
    bench = Bench(slow(live), MemoryDisk())
    worker = await bench.worker()
    await bench.turns(worker, until=lambda: worker.tasks.keys() >= set(STATEFUL), ms=200)
    assert len(times) > 2
    assert all(after - before >= EACH_MS for before, after in pairwise(times))
    await worker.abandon()


# -------------------------------------------------------------------------------------- whose it is


async def test_a_note_of_an_earlier_owner_is_nobodys_progress(tmp_path: Path) -> None:
    """It is not shown as the next owner's, and is gone once that one has the state, however fast."""
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    first = await bench.worker("a")
    await restoring(bench, first)
    assert set(await noted(log)) == set(CHANGELOGS)
    await first.abandon()
    assert (await task(log, tmp_path)).state == "no owner"
    log.gate.clear()
    second = await bench.worker("b", disk=MemoryDisk())
    await bench.turns(second, until=lambda: bool(second.restoring))
    assert {note.restores for _, note in (await noted(log)).values()} == {"a"}
    shown = await task(log, tmp_path)
    assert (shown.owner, shown.state, shown.restored) == ("b", "opening", None)
    log.at_once = 20_000
    log.gate.set()
    await bench.turns(second, until=lambda: second.tasks.keys() >= set(STATEFUL))
    await bench.turns(second, until=lambda: not positions_beside(log), ms=400)
    await second.stop()
    live.run(work())
    assert answer(live) == undisturbed(range(40))


def positions_beside(log: MemoryLog) -> set[Partition]:
    """What the group has that it does not read on from."""
    found = log.records().committed("work")
    return found.keys() - positions(found).keys()


async def test_a_task_that_is_lost_is_noted_no_more() -> None:
    """The group changes in the middle: whoever has the task then notes it, from where it begins."""
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    a = await bench.worker("a")
    await restoring(bench, a)
    b = await bench.worker("b", disk=MemoryDisk())
    await bench.turns(a, b, until=lambda: any(found.end for found in b.restoring.values()), ms=400)
    [of_b] = [found.changelog for found in b.restoring.values()]

    def owner() -> str | None:
        note = note_of(log.records().committed("work").get(of_b, Committed(0, "")))
        return None if note is None else note.restores

    assert owner() == "a"
    await bench.turns(a, b, until=lambda: owner() == "b", ms=400)
    await bench.turns(a, b, until=lambda: len(a.tasks) + len(b.tasks) == 4 and not positions_beside(log), ms=400)
    for worker in (a, b):
        await worker.stop()
    live.run(work())
    assert answer(live) == undisturbed(range(40))


async def test_what_is_through_is_taken_back_though_the_group_changes() -> None:
    """A worker that keeps the task goes on with that where it was."""
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    a = await bench.worker("a")
    await restoring(bench, a)
    await bench.turns(a, until=lambda: a.tasks.keys() >= set(STATEFUL), ms=100)
    assert positions_beside(log)
    log.at_once = 20_000
    b = await bench.worker("b", disk=MemoryDisk())
    await bench.turns(a, b, until=lambda: len(a.tasks) == len(b.tasks) == 2, ms=1)
    await bench.turns(a, b, until=lambda: not positions_beside(log), ms=400)
    for worker in (a, b):
        await worker.abandon()


# -------------------------------------------------------------------------------------- in nobody's way


@pytest.mark.parametrize("error", [LogError("no answer"), Rejected("not allowed")], ids=["passes", "stays"])
async def test_a_note_that_is_not_taken(error: LogError, monkeypatch: pytest.MonkeyPatch) -> None:
    """The restore goes on as if it had been; it is tried again while there is something to note, and no longer."""
    tried: list[Notes] = []

    async def note(self: InProcessSource, offsets: Notes) -> None:
        tried.append(offsets)
        raise error

    monkeypatch.setattr(InProcessSource, "note", note)
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    await restoring(bench, worker)
    await bench.turns(worker, until=lambda: worker.tasks.keys() >= set(STATEFUL), ms=400)
    assert len(tried) > 2
    while_open, until_ms = len(tried), bench.clock.now_ms() + 10 * EACH_MS
    await bench.turns(worker, until=lambda: bench.clock.now_ms() > until_ms, ms=400)
    more = len(tried) - while_open
    assert more <= 1 if isinstance(error, Rejected) else more > 5
    assert await noted(log) == {}
    await to_end(bench, live, 40, worker)


async def test_a_note_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it: not the restore, not the work behind it, not the end of the worker."""
    asked: list[Notes] = []

    async def note(self: InProcessSource, offsets: Notes) -> None:
        asked.append(offsets)
        await asyncio.Event().wait()

    monkeypatch.setattr(InProcessSource, "note", note)
    live = ran()
    bench = Bench(slow(live), MemoryDisk())
    worker = await bench.worker()
    await restoring(bench, worker)
    await to_end(bench, live, 40, worker)
    assert len(asked) == 1
    assert not any("RestoreLag" in repr(each) for each in asyncio.all_tasks())


async def test_a_note_is_no_offset_to_go_on_from() -> None:
    """A group that has nothing but notes has lost its offsets."""
    live = ran()
    log = slow(live)
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    await restoring(bench, worker)
    await worker.abandon()
    notes = {partition: at for partition, at in log.records().committed("work").items() if note_of(at) is not None}
    assert set(notes) == set(CHANGELOGS)
    forget(live, offsets=True)
    log.records().write({}, "work", notes)
    with pytest.raises(StateLost, match="group 'work' has no offsets for it"):
        live.run(work())


async def test_a_changelog_that_the_app_reads_is_not_noted() -> None:
    """The offset there is a position to read on from."""
    log = MemoryLog()
    await log.create(CHANGELOG, partitions=2, config={})
    source = await log.source("work", "a", [TaskInput("reads", 0, (CHANGELOGS[0],))])
    assert isinstance((await source.poll([], 0))[0], Assigned)
    clock = ManualClock(0)
    lag = RestoreLag(source, "a", {CHANGELOG}, clock=clock, jobs=LoopJobs())
    under_way = Restoring(CHANGELOGS[0], clock, noted_before=True)
    under_way.start(0, 10)
    for _ in range(10):
        clock.advance(EACH_MS)
        await lag.go_on([under_way])
        await asyncio.sleep(0)
    under_way.moved(10, 10)
    lag.opened(under_way)
    clock.advance(EACH_MS)
    await lag.go_on([])
    await asyncio.sleep(0)
    assert await log.committed("work") == {}


@pytest.mark.parametrize("metadata", ["", "?", "[]", '{"clock": 1}', '{"restores": 1, "begin": 0, "end": 0}'])
def test_what_others_have_committed_is_no_note(metadata: str) -> None:
    """Kafka's own tools set offsets with nothing beside them, and other programs anything."""
    committed: dict[Partition, Committed] = {SOURCE[0]: Committed(1, metadata)}
    assert note_of(committed[SOURCE[0]]) is None
    assert positions(committed) == committed


def test_how_much_is_restored() -> None:
    """Never less than nothing, or more than all."""
    note = RestoreNote("a", 10, 30)
    found: list[Any] = [note.restored(offset) for offset in (0, 10, 25, 30, 31)]
    assert (found, note.to_restore) == ([0, 0, 15, 20, 20], 20)
