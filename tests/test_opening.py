"""Tasks that are opened beside those that work: on an event loop, over a log that takes its time."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streamproc import restore as restore_module
from streamproc.clock import ManualClock
from streamproc.errors import StateLost
from streamproc.jobs import LoopJobs
from streamproc.launch import end_of_input, prepare
from streamproc.log import Chunk, Columns, Committed, Partition
from streamproc.memory_log import MemoryLog
from streamproc.opening import OPENING_MS
from streamproc.plan import TaskId
from streamproc.state.memory import MemoryDisk
from streamproc.state.rocks import RocksDisk
from streamproc.state.settled import settle as real_settle
from streamproc.state.store import Disk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.live import Live
from tests.test_worker import CHANGELOG, answer, made, send, undisturbed, work

STATEFUL = [TaskId("work-key_by", number) for number in range(2)]


class Gated(MemoryLog):
    """A log of which changelogs are read when the gate is open, so many records at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.at_once = 20_000
        self.hidden = 0
        """So many records at the end of a changelog cannot be read yet."""

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        if not partition.topic.endswith("changelog"):
            return await super().read(partition, offset, limit)
        await self.gate.wait()
        stable = self.bounds(partition)[1] - self.hidden
        limit = min(limit, self.at_once, stable - offset)
        return await super().read(partition, offset, max(0, limit))


def gated(live: Live) -> Gated:
    """What the log holds, behind a gate that is closed."""
    log = Gated()
    log._records = live.log._records
    return log


class Bench:
    """A worker on the event loop, and a clock that moves by hand."""

    def __init__(self, log: MemoryLog, disk: Disk) -> None:
        self.log = log
        self.disk = disk
        self.clock = ManualClock(1_000_000)

    async def worker(self, name: str = "a", *, disk: Disk | None = None, until_end: bool = False) -> Worker:
        launch = await prepare(app := work(epoch_interval="10ms"), self.log)
        worker = Worker(
            launch.plan,
            launch.topology,
            self.log,
            disk or self.disk,
            app.codec(),
            settings=app.settings({}, {}),
            clock=self.clock,
            member=name,
            partitions_of=launch.partitions_of,
            end=await end_of_input(launch, self.log) if until_end else None,
        )
        await worker.start()
        return worker

    async def turns(self, *workers: Worker, until: Callable[[], bool], ms: int = 10) -> None:
        for _ in range(2_000):
            if until():
                return
            self.clock.advance(ms)
            for worker in workers:
                await worker.turn(0)
            await asyncio.sleep(0)
        pytest.fail("it does not come to that")


def ran(count: int = 40) -> Live:
    """A run to the end of some records, in many epochs, has left state behind."""
    live = made(epoch_records=2, chunk_records=2)
    send(live, range(count))
    live.run(work())
    return live


async def to_end(bench: Bench, live: Live, count: int, worker: Worker) -> None:
    """The worker goes on to the end of all records; the answer is as if nothing had been."""
    await bench.turns(worker, until=lambda: worker.tasks.keys() >= set(STATEFUL))
    await worker.stop()
    live.run(work())
    assert answer(live) == undisturbed(range(count))


# -------------------------------------------------------------------------------------- beside work


async def test_the_others_work_while_a_task_is_restored() -> None:
    """Tasks without state read, write and commit; those whose state is on its way join when it is there."""
    live = ran()
    send(live, range(40, 80))
    log = gated(live)
    bench = Bench(log, MemoryDisk())  # the disk is gone
    worker = await bench.worker()
    await bench.turns(worker, until=lambda: len(live.rows("plain")) == 80)
    assert {task.stage for task in worker.tasks} == {"numbers"}
    assert {task: round(found.share, 1) for task, found in worker.restoring.items()} == dict.fromkeys(STATEFUL, 0.0)
    log.gate.set()
    await to_end(bench, live, 80, worker)
    assert worker.restoring == {}


async def test_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    """What was replayed of how much, and how fast; a restore that takes long says so every five seconds."""
    live = ran()
    log = gated(live)
    log.at_once = 1
    log.gate.set()
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    shares: list[float] = []

    def half() -> bool:
        shares.extend(found.share for task, found in worker.restoring.items() if task == STATEFUL[0])
        return bool(shares) and shares[-1] >= 0.5

    with caplog.at_level(logging.INFO, "streamproc"):
        await bench.turns(worker, until=half, ms=1_000)
    assert shares == sorted(shares)
    found = worker.restoring[STATEFUL[0]]
    assert found.records == found.position > 5
    assert found.share == found.position / found.end
    assert found.records_a_second == 1_000 * found.records / (bench.clock.now_ms() - found.began_ms)
    lines = [line for line in caplog.messages if line.startswith(f"restoring from {CHANGELOG}/0: ")]
    assert len(lines) == (bench.clock.now_ms() - found.began_ms) // restore_module.SAID_EACH_MS
    assert re.fullmatch(r"restoring from \S+: \d+ %, \d+ records, \d+ a second", lines[0])
    await worker.abandon()


async def test_the_next_records_are_on_their_way_while_the_last_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """One read is always ahead of the write, and one alone."""
    log, reads = rows(45), [0]
    real_read = log.read

    async def read(partition: Partition, offset: int, limit: int) -> Chunk:
        reads.append(offset)
        return await real_read(partition, offset, min(limit, 10))

    log.read = read  # type: ignore[method-assign]
    seen: list[str] = []

    def settle(store: Any, changes: Any, position: int, *, now_ms: int) -> None:
        seen.append(f"write to {position}, read from {reads[-1]}")
        real_settle(store, changes, position, now_ms=now_ms)

    monkeypatch.setattr(restore_module, "settle", settle)
    progress = restore_module.Restoring(Partition(CHANGELOG, 0), ManualClock())
    store = MemoryDisk().open("0")
    await restore_module.restore(store, log, progress, LoopJobs())
    assert seen == [f"write to {to}, read from {at}" for to, at in ((10, 10), (20, 20), (30, 30), (40, 40), (45, 40))]


# -------------------------------------------------------------------------------------- the end of a changelog


async def test_an_open_transaction_at_the_end_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """The offsets may be of it already: the state must not be older. After a while it is said what is waited for."""
    live = ran()
    log = gated(live)
    log.gate.set()
    log.hidden = 3
    bench = Bench(log, MemoryDisk())
    worker = await bench.worker()
    waits = f"waits for an open transaction in {CHANGELOG}/0 at offset {log.bounds(Partition(CHANGELOG, 0))[1] - 3}"
    with caplog.at_level(logging.WARNING, "streamproc"):
        await bench.turns(worker, until=lambda: waits in caplog.text, ms=100)
    assert bench.clock.now_ms() >= 1_000_000 + 5_000
    assert not worker.tasks.keys() & set(STATEFUL)
    log.hidden = 0
    await to_end(bench, live, 40, worker)


async def test_an_end_that_is_a_marker() -> None:
    """The last offsets of a changelog need not be of records: a gap is a step too."""
    live = ran()
    log = gated(live)
    log.gate.set()
    real, changelog = log.read, Partition(CHANGELOG, 0)
    end = log.bounds(changelog)[1]

    async def read(partition: Partition, offset: int, limit: int) -> Chunk:
        if partition == changelog and offset >= end:
            return Chunk(partition, [], end + 2, Columns([], [], []))
        return await real(partition, offset, limit)

    async def ends(partitions: Sequence[Partition]) -> dict[Partition, int]:
        return {changelog: end + 2}

    log.read, log.ends = read, ends  # type: ignore[method-assign]
    store = MemoryDisk().open("0")
    progress = restore_module.Restoring(changelog, ManualClock())
    await restore_module.restore(store, log, progress, LoopJobs())
    assert (store.position, progress.records, progress.share) == (end + 2, end, 1.0)


# -------------------------------------------------------------------------------------- given up


@pytest.mark.parametrize("how", ["revoked", "fenced", "abandoned"])
async def test_a_task_is_given_up_while_it_is_opened(how: str) -> None:
    """Its store is unlocked at once, and has what was replayed: from there it goes on."""
    live = ran()
    log = gated(live)
    log.at_once = 1
    log.gate.set()
    disk = MemoryDisk()
    bench = Bench(log, disk)
    worker = await bench.worker()
    await bench.turns(worker, until=lambda: any(found.records > 3 for found in worker.restoring.values()))
    log.gate.clear()
    await asyncio.sleep(0.01)
    other = None
    if how == "revoked":
        other = await bench.worker("b", disk=MemoryDisk())
        while worker.restoring:
            await worker.turn(0)
    elif how == "fenced":
        log.expel("work", "a")
        await worker.turn(0)
    else:
        await worker.abandon()
    for task in STATEFUL:
        store = disk.open(f"{task.stage}/{task.number}")
        assert (store.position or 0) > 3
        store.close()
    assert not any("Openings._open" in repr(task) for task in asyncio.all_tasks())
    log.gate.set()
    if how == "abandoned":
        worker = await bench.worker()
    workers = [worker, *([other] if other is not None else [])]
    await bench.turns(*workers, until=lambda: sum(len(one.tasks) for one in workers) == 4)
    for one in workers:
        await one.stop()
    live.run(work())
    assert answer(live) == undisturbed(range(40))


KILLED = """
import os, signal, sys
sys.path.insert(0, {root!r})
from tests.test_opening import killed_in_the_middle
killed_in_the_middle({folder!r})
"""


def rows(count: int = 5_000) -> MemoryLog:
    log = MemoryLog()
    run_now(log.create(CHANGELOG, partitions=1, config={}))
    sink = run_now(log.sink(None, "test"))
    keys: list[bytes | None] = [b"%d" % (n % 700) for n in range(count)]
    sink.send(Partition(CHANGELOG, 0), Columns(keys, [b"%d" % n for n in range(count)], [0] * count))
    run_now(sink.commit({}))
    return log


def restored(log: MemoryLog, folder: str) -> tuple[dict[bytes, bytes], int]:
    """The rows, and how many records were replayed for them."""
    store = RocksDisk(folder).open("0")
    progress = restore_module.Restoring(Partition(CHANGELOG, 0), ManualClock())
    asyncio.run(restore_module.restore(store, log, progress, LoopJobs()))
    found = dict(store.scan(b"0", b":"))
    store.close()
    return found, progress.records


def killed_in_the_middle(folder: str) -> None:
    """For another process: it is killed by a read in the middle of the changelog."""
    log = rows()
    real = log.read

    async def read(partition: Partition, offset: int, limit: int) -> Chunk:
        if offset >= 2_500:
            os.kill(os.getpid(), signal.SIGKILL)
        return await real(partition, offset, min(limit, 100))

    log.read = read  # type: ignore[method-assign]
    restored(log, folder)


def test_killed_in_the_middle_of_a_restore(tmp_path: Path) -> None:
    """The next process goes on from where it was, on RocksDB."""
    root = str(Path(__file__).parents[1])
    code = KILLED.format(root=root, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    found, replayed = restored(rows(), str(tmp_path))
    assert 2_500 <= replayed <= 2_700
    assert found == {b"%d" % (n % 700): b"%d" % n for n in range(5_000)}


HOLDER = """
import sys, time
sys.path.insert(0, {root!r})
from streamproc.state.rocks import RocksDisk
from streamproc.state.settled import settle as real_settle
disk = RocksDisk({folder!r})
stores = [disk.open(f"work-key_by/{{number}}") for number in range(2)]
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def stalled(folder: Path) -> Iterator[None]:
    """A process that has the stores open, stopped; it dies with the block."""
    code = HOLDER.format(root=str(Path(__file__).parents[1]), folder=str(folder))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            os.kill(process.pid, signal.SIGSTOP)
            yield
        finally:
            process.kill()


async def test_a_stalled_process_has_the_stores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are waited for some seconds; then the state is restored beside them. Once it is dead they are used again."""
    live = ran()
    with stalled(tmp_path):
        log = gated(live)
        log.gate.set()
        bench = Bench(log, RocksDisk(tmp_path))
        worker = await bench.worker()
        with caplog.at_level(logging.WARNING, "streamproc"):
            await bench.turns(worker, until=lambda: len(worker.tasks) == 4, ms=50)
        assert bench.clock.now_ms() >= 1_000_000 + OPENING_MS
        assert "is open in another worker" in caplog.text
        send(live, range(40, 60))
        await bench.turns(worker, until=lambda: len(live.rows("plain")) == 60)
        await worker.stop()
    assert len(list((tmp_path / "work-key_by").iterdir())) == 4
    live.run(work(), disk=RocksDisk(tmp_path))
    assert len(list((tmp_path / "work-key_by").iterdir())) == 2
    assert answer(live) == undisturbed(range(60))


# -------------------------------------------------------------------------------------- state without offsets


def forget(live: Live, *, offsets: bool = False, changelog: bool = False) -> None:
    """Somebody deletes the group's offsets, or the changelog; what is left is as it was."""
    records = live.log._records
    committed = dict(records.committed("work"))
    records.forget("work", [CHANGELOG] if changelog else [])
    if not offsets:
        records.write({}, "work", committed)
    live.disk = MemoryDisk()


def test_offsets_that_are_gone() -> None:
    """State without offsets: the input would be counted again, which nobody asked for."""
    live = ran()
    forget(live, offsets=True)
    what = (
        r"task work-key_by/0 has state, in topic 'work-work-key_by-changelog', and group 'work' has no offsets for it"
    )
    with pytest.raises(StateLost, match=f"{what}.*offsets.retention.minutes.*streamproc reset MODULE:APP"):
        live.run(work())


def test_at_least_once_offsets_come_last() -> None:
    """State without offsets is then what a crash in the first epoch leaves."""
    live = made(guarantee="at_least_once")
    send(live, range(40))
    live.run(work())
    forget(live, offsets=True)
    live.run(work())
    assert len(live.rows("plain")) == 80


def test_a_changelog_that_is_gone() -> None:
    """Offsets without state: counts would begin at nothing in the middle of the input."""
    live = ran()
    forget(live, changelog=True)
    with pytest.raises(StateLost, match="offsets for task work-key_by/0, and its state is gone.*Put back what was"):
        live.run(work())


def test_offsets_of_a_time_without_state_need_none() -> None:
    """A stage that had no state when its offsets were committed begins with none."""
    live = ran()
    forget(live, changelog=True)
    records = live.log._records
    for partition, at in list(records.committed("work").items()):
        without = Committed(at.offset, at.metadata.replace('"state":true', '"state":false'))
        records.write({}, "work", {partition: without})
    live.run(work())


def test_the_beginning_of_a_changelog_is_gone() -> None:
    """Records that the state would need were deleted: refused; a store that is behind them already needs none."""
    live = ran()
    end = len(live.columns(CHANGELOG))
    run_now(live.log.purge({Partition(CHANGELOG, 0): end - 1}))
    send(live, range(40, 60))
    live.run(work())
    assert answer(live) == undisturbed(range(60))
    live.disk = MemoryDisk()
    where = rf"is at offset 0 of its changelog {CHANGELOG}/0, whose records begin at {end - 1}"
    with pytest.raises(StateLost, match=f"{where}.*cleanup.policy"):
        live.run(work())


def test_a_store_is_not_cleared_for_a_changelog_that_is_not_whole() -> None:
    """One that stood still too long would be rebuilt; where it cannot be, it is all there is left."""
    live = ran()
    run_now(live.log.purge({Partition(CHANGELOG, 0): 1}))
    live.clock.advance(restore_module.TOMBSTONES_MS)
    with pytest.raises(StateLost, match="at offset 0 of its changelog"):
        live.run(work())
    assert live.disk.open("work-key_by/0").position
