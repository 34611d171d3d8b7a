"""Topics that are compacted keep the last record of each key, in memory and on disk, also when killed in the middle."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamproc.clock import ManualClock
from streamproc.compaction import Compacted
from streamproc.in_process import InProcessLog
from streamproc.jobs import LoopJobs
from streamproc.local_log import LocalLog, LocalRecords
from streamproc.log import Columns, LogCorrupt, OffsetOutOfRange, Partition, WireHeaders
from streamproc.memory_log import MemoryLog
from streamproc.restore import Restoring, restore
from streamproc.state.memory import MemoryDisk, MemoryStore
from streamproc.testing.replay import run_now

TOTALS = Partition("totals", 0)
CONFIG = {"cleanup.policy": "compact", "delete.retention.ms": "5"}

Row = tuple[bytes | None, bytes | None, int]
State = dict[bytes, bytes]

rows_of_an_epoch = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.sampled_from([b"1", b"2", None]), st.integers(0, 20)),
    min_size=1,
    max_size=8,
)
epochs_and_events = st.lists(st.one_of(rows_of_an_epoch, st.integers(1, 5), st.just("reopen")), max_size=30)


@contextmanager
def opener(kind: str) -> Iterator[Callable[..., InProcessLog]]:
    """Opens a log; one in memory is the same each time."""
    if kind == "memory":
        kept: list[MemoryLog] = []

        def memory(**options: int) -> MemoryLog:
            kept.extend([MemoryLog(**options)] if not kept else [])
            return kept[0]

        yield memory
    else:
        with TemporaryDirectory() as folder:
            yield lambda **options: LocalLog(folder, **options)


def restored(store: MemoryStore, log: InProcessLog) -> int:
    """How many records were replayed."""
    progress = Restoring(TOTALS, ManualClock())
    asyncio.run(restore(store, log, progress, LoopJobs()))
    return progress.records


def put(log: InProcessLog, rows: Sequence[Row], headers: list[WireHeaders | None] | None = None) -> None:
    """An epoch."""
    sink = run_now(log.sink(None, "writer"))
    keys, values, timestamps = map(list, zip(*rows, strict=True))
    sink.send(TOTALS, Columns(keys, values, timestamps, headers))
    run_now(sink.commit({}))


def records(log: InProcessLog, offset: int = 0, limit: int = 1_000_000) -> dict[int, Row]:
    """All records from an offset, by offset, read `limit` at a time."""
    found: dict[int, Row] = {}
    (end,) = run_now(log.ends([TOTALS])).values()
    while offset < end:
        chunk = run_now(log.read(TOTALS, offset, limit))
        columns = chunk.columns
        assert 1 <= len(columns) == len(chunk.offsets) <= limit
        assert offset <= chunk.offsets[0]
        assert chunk.offsets[-1] < chunk.next_offset <= end
        found.update(
            zip(chunk.offsets, zip(columns.keys, columns.values, columns.timestamps, strict=True), strict=True)
        )
        offset = chunk.next_offset
    assert list(found) == sorted(found)
    return found


def state(rows: Sequence[Row] | Mapping[int, Row], before: State | None = None) -> State:
    """What the rows make of a state."""
    after = dict(before or {})
    for key, value, _ in rows.values() if isinstance(rows, Mapping) else rows:
        assert key is not None
        if value is None:
            after.pop(key, None)
        else:
            after[key] = value
    return after


def check(log: InProcessLog, written: Sequence[Row], start: int) -> None:
    """What is left of the records written, `start` of them purged, is what a compacted topic promises."""
    with pytest.raises(OffsetOutOfRange) as caught:
        run_now(log.read(TOTALS, len(written) + 1, 1))
    assert (caught.value.start, caught.value.end) == (start, len(written))
    kept = records(log, start)
    assert all(written[offset] == row for offset, row in kept.items())
    assert start == len(written) or len(written) - 1 in kept
    last = {key: offset for offset, (key, _, _) in enumerate(written)}
    newest = max((timestamp for _, _, timestamp in written), default=0)
    dropped = [offset for offset in last.values() if start <= offset and offset not in kept]
    assert all(written[offset][1] is None and written[offset][2] < newest - 5 for offset in dropped)
    for offset in range(start, len(written)):
        tail = records(log, offset, limit=3)
        assert tail == {at: row for at, row in kept.items() if at >= offset}
        whole, restored = state(written[start:]), state(tail, before=state(written[start:offset]))
        undead = {written[at][0] for at in dropped if at >= offset}
        assert {key: value for key, value in restored.items() if key not in undead} == whole
        assert offset > start or restored == whole


@given(epochs_and_events, st.integers(1, 12))
@settings(deadline=None)
def test_a_replay_gives_the_same_state_in_memory(steps: Sequence[list[Row] | int | str], floor: int) -> None:
    """From the first record, and from any position behind the tombstones that were dropped; records stay in place."""
    replay("memory", steps, floor)


@given(epochs_and_events, st.integers(1, 12))
@settings(deadline=None, max_examples=25)
def test_a_replay_gives_the_same_state_on_disk(steps: Sequence[list[Row] | int | str], floor: int) -> None:
    """The same, between any two slices too, and after opening again in the midst of them."""
    replay("local", steps, floor)


def replay(kind: str, steps: Sequence[list[Row] | int | str], floor: int) -> None:
    with opener(kind) as open_it:
        log, written, start = open_it(compact_records=floor), list[Row](), 0
        run_now(log.create("totals", partitions=1, config=CONFIG))
        for step in steps:
            if isinstance(step, list):
                put(log, step)
                written += step
            elif isinstance(step, int):
                start = max(start, len(written) - step)
                run_now(log.purge({TOTALS: start}))
            elif kind == "local":
                run_now(log.close())
                log = open_it(compact_records=floor)
            check(log, written, start)
        run_now(log.close())


@pytest.fixture(params=["memory", "local"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[InProcessLog]:
    log = MemoryLog(compact_records=10) if request.param == "memory" else LocalLog(tmp_path / "log", compact_records=10)
    run_now(log.create("totals", partitions=1, config=CONFIG))
    yield log
    run_now(log.close())


def fill(log: InProcessLog) -> None:
    """More epochs, of one key, until a compaction of what was there has ended."""
    for number in range(60):
        put(log, [(b"filler", b"%d" % number, 0)])


def test_old_tombstones_go_and_young_ones_stay(log: InProcessLog) -> None:
    """Old and young by the timestamps of the records, the newest being now; a tombstone of just that age stays."""
    put(log, [(b"a", b"1", 0), (b"b", b"1", 0), (b"a", None, 94), (b"b", None, 95), (b"c", b"1", 100)])
    fill(log)
    assert [offset for offset in records(log) if offset < 5] == [3, 4]


def test_the_last_record_stays_even_if_it_is_an_old_tombstone(log: InProcessLog) -> None:
    """The end does not move back, and whoever reads towards it gets there."""
    put(log, [(b"c", b"1", 100)] * 20)
    for number in range(60):
        put(log, [(b"%d" % number, None, 0)])
        assert 20 + number in records(log)
    assert len(records(log)) < 40


def test_records_without_a_key_stay(log: InProcessLog) -> None:
    """None is no key that one record of could stand for another; headers stay with their records."""
    header: list[WireHeaders | None] = [[("h", b"1")], None, [("h", b"2")], None]
    put(log, [(None, b"1", 0), (b"a", b"1", 0), (None, None, 0), (b"a", b"2", 100)], header)
    fill(log)
    assert [offset for offset in records(log) if offset < 4] == [0, 2, 3]
    headers = run_now(log.read(TOTALS, 0, 3)).columns.headers
    assert headers is not None
    assert [h and [(name, value) for name, value in h] for h in headers] == [[("h", b"1")], [("h", b"2")], None]


def test_other_topics_keep_everything(log: InProcessLog) -> None:
    """Only the policy `compact` compacts; a retention time takes nothing, old as the records may be."""
    run_now(log.create("kept", partitions=1, config={"retention.ms": "1", "cleanup.policy": "delete"}))
    sink = run_now(log.sink(None, "writer"))
    for number in range(100):
        sink.send(Partition("kept", 0), Columns([b"a"], [b"%d" % number], [number]))
        run_now(sink.commit({}))
    chunk = run_now(log.read(Partition("kept", 0), 0, 1_000))
    assert chunk.columns.values == [b"%d" % number for number in range(100)]
    assert chunk.offsets == range(100)


def test_a_store_restored_from_what_is_left_is_the_same(log: InProcessLog) -> None:
    """Whole, and from where it was when it fell behind, if that is behind the tombstones that were dropped."""
    draw = random.Random(1)
    written: list[Row] = []
    stores = MemoryDisk()
    for epoch in range(80):
        keys = draw.sample(range(30), 8)
        rows: list[Row] = [(b"%d" % key, draw.choice([b"%d" % epoch, None]), epoch // 10) for key in keys]
        put(log, rows)
        written += rows
        if epoch == 40:
            restored(stores.open("behind"), log)
    assert len(records(log)) < len(written) / 2
    assert restored(stores.open("whole"), log) <= len(records(log))
    stores.crash()
    restored(stores.open("behind"), log)
    stores.crash()
    for name in ("whole", "behind"):
        store = stores.open(name)
        assert {key: data for key, data in store.scan(b"", b"\xff") if key != b"\x01settled"} == state(written)
        assert store.position == len(written)


def test_rewriting_the_same_keys_takes_bounded_room(tmp_path: Path) -> None:
    """200 epochs of the same 1,000 keys: neither the records nor the rows on disk grow with the epochs."""
    log = LocalLog(tmp_path / "log", compact_records=2_000)
    run_now(log.create("totals", partitions=1, config=CONFIG))
    most_records = most_rows = 0
    for epoch in range(200):
        put(log, [(b"%d" % key, b"%d" % epoch * 10, epoch) for key in range(1_000)])
        if epoch % 10 == 9:
            most_records = max(most_records, len(records(log)))
            most_rows = max(most_rows, len(list(disk(log)._store.scan(b"r", b"s"))))
    assert most_records <= 6_000
    assert most_rows <= 10
    assert state(records(log)) == {b"%d" % key: b"199" * 10 for key in range(1_000)}
    run_now(log.close())


@pytest.mark.parametrize(
    ("last", "start", "end", "due"),
    [
        (Compacted(), 0, 10, False),
        (Compacted(), 0, 11, True),
        (Compacted(100, 5), 0, 110, False),
        (Compacted(100, 5), 0, 111, True),
        (Compacted(100, 50), 0, 150, False),
        (Compacted(100, 50), 0, 151, True),
        (Compacted(100, 5), 105, 115, False),
    ],
)
def test_a_compaction_waits_for_as_much_as_the_last_one_left(last: Compacted, start: int, end: int, due: bool) -> None:
    """And for its floor, 10 here: so what it costs is a few steps a record. What was purged does not count."""
    assert last.is_due(start, end, 10) == due


# On disk


def disk(log: InProcessLog) -> LocalRecords:
    assert isinstance(log._records, LocalRecords)
    return log._records


def epoch_rows(epoch: int) -> list[Row]:
    """What an epoch of the program below writes: some of 40 keys, or their tombstones."""
    draw = random.Random(epoch)
    keys = draw.sample(range(40), 10)
    return [(b"%d" % key, draw.choice([b"%d" % epoch, b"%d" % epoch, None]), epoch) for key in keys]


def whole_epochs(log: InProcessLog) -> int:
    """How many epochs there are; the state is checked to be theirs."""
    if "totals" not in run_now(log.topics()):
        return 0
    (end,) = run_now(log.ends([TOTALS])).values()
    assert end % 10 == 0
    assert state(records(log)) == state([row for epoch in range(end // 10) for row in epoch_rows(epoch)])
    return int(end) // 10


def open_small(folder: Path | str) -> LocalLog:
    log = LocalLog(folder, compact_records=100)
    run_now(log.create("totals", partitions=1, config=CONFIG))
    return log


def test_each_moment_of_a_compaction_is_whole(tmp_path: Path) -> None:
    """Copied behind any epoch, as a kill would leave it, the log has the state of its epochs, and can go on."""
    log, replacing = open_small(tmp_path / "log"), 0
    for epoch in range(50):
        put(log, epoch_rows(epoch))
        compaction = disk(log)._compaction
        replacing += compaction is not None and compaction._left > 0
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        copy = open_small(tmp_path / "copy")
        assert whole_epochs(copy) == epoch + 1
        for more in range(epoch + 1, epoch + 15):
            put(copy, epoch_rows(more))
        assert whole_epochs(copy) == epoch + 15
        run_now(copy.close())
        shutil.rmtree(tmp_path / "copy")
    assert replacing >= 3
    assert len(records(log)) < 250
    run_now(log.close())


def test_a_compaction_that_has_ended_is_known_after_opening_again(tmp_path: Path) -> None:
    """Opening a log does not cost a compaction."""
    log = open_small(tmp_path / "log")
    for epoch in range(15):
        put(log, epoch_rows(epoch))
    compacted = disk(log)._view.compacted
    assert compacted[TOTALS].behind == 110
    run_now(log.close())
    log = open_small(tmp_path / "log")
    assert disk(log)._view.compacted == compacted
    run_now(log.close())


@pytest.mark.parametrize("replacing", [False, True])
def test_purging_in_the_midst_of_a_compaction(tmp_path: Path, replacing: bool) -> None:
    """Segments go away before a compaction under way has come to them: it begins again with what is left."""
    log, written = open_small(tmp_path / "log"), list[Row]()
    for epoch in range(60):
        compaction = disk(log)._compaction
        if epoch > 10 and compaction is not None and compaction._surveyed == replacing:
            break
        put(log, epoch_rows(epoch))
        written += epoch_rows(epoch)
    start = len(written) - 15
    run_now(log.purge({TOTALS: start}))
    for more in range(epoch, epoch + 30):
        put(log, epoch_rows(more))
        written += epoch_rows(more)
    assert state(records(log, start)) == state(written[start:])
    assert disk(log)._view.compacted[TOTALS].behind > start
    run_now(log.close())


def test_forgetting_in_the_midst_of_a_compaction(tmp_path: Path) -> None:
    """A topic made anew has nothing of the compaction of the one before."""
    log = open_small(tmp_path / "log")
    while disk(log)._compaction is None:
        put(log, epoch_rows(0))
    run_now(log.forget("app", ["totals"]))
    assert whole_epochs(log) == 0
    run_now(log.create("totals", partitions=1, config=CONFIG))
    for epoch in range(30):
        put(log, epoch_rows(epoch))
    assert whole_epochs(log) == 30
    run_now(log.close())


def test_a_compaction_counts_what_it_left_over_all_its_slices(tmp_path: Path) -> None:
    """By that count it is decided when the next one is due."""
    log = open_small(tmp_path / "log")
    for epoch in range(100):
        put(log, epoch_rows(epoch))
        behind, left = disk(log)._view.compacted.get(TOTALS, Compacted())
        if disk(log)._compaction is None:
            assert left == sum(offset < behind for offset in records(log))
    assert left > 20
    run_now(log.close())


def test_kill_9_while_compacting_loses_nothing(tmp_path: Path) -> None:
    """A process killed at a random moment, which compacts in every third epoch, leaves what it acknowledged."""
    draw, there = random.Random(5), 0
    root = str(Path(__file__).parent.parent)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, __file__, str(tmp_path / "log"), str(there)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(draw.randrange(20, 150))]
        process.send_signal(signal.SIGKILL)
        acknowledged += map(int, process.stdout.read().split())
        process.communicate()
        log = open_small(tmp_path / "log")
        there = whole_epochs(log)
        assert acknowledged[-1] + 1 <= there <= acknowledged[-1] + 2
        run_now(log.close())
    log = open_small(tmp_path / "log")
    assert len(records(log)) < 500 < there * 10
    run_now(log.close())


def test_a_large_compaction_is_spread_over_epochs(tmp_path: Path) -> None:
    """An epoch of one record does not pay for a partition of thousands."""
    log = LocalLog(tmp_path / "log", compact_records=1_000)
    run_now(log.create("totals", partitions=1, config=CONFIG))
    for first in range(0, 20_000, 100):
        put(log, [(b"%d" % key, b"1", 0) for key in range(first, first + 100)])
    slices, compaction = 0, disk(log)._compaction
    while compaction is not None and disk(log)._compaction is compaction:
        put(log, [(b"0", b"2", 0)])
        slices += 1
    assert slices > 5
    assert len(state(records(log))) == 20_000
    run_now(log.close())


def test_a_reader_beside_sees_the_same_through_a_compaction(tmp_path: Path) -> None:
    """It has the writer's records at any moment."""
    log = open_small(tmp_path / "log")
    reader = LocalLog(tmp_path / "log", read_only=True)
    for epoch in range(60):
        put(log, epoch_rows(epoch))
        assert records(reader, limit=7) == records(log)
    run_now(reader.close())
    run_now(log.close())


@pytest.mark.parametrize("lost", ["first", "middle"])
def test_a_lost_segment_is_not_silence(tmp_path: Path, lost: str) -> None:
    """That compaction took records must not hide that damage took others: from a read, or the next compaction."""
    log = LocalLog(tmp_path / "log", compact_records=100)
    run_now(log.create("totals", partitions=1, config=CONFIG))
    for first in range(0, 25_000, 100):
        put(log, [(b"%d" % key, b"1", 0) for key in range(first, first + 100)])
    assert disk(log)._view.compacted[TOTALS].left > 0
    store = disk(log)._store
    keys = [key for key, _ in store.scan(b"r", b"s")]
    store.write({keys[0 if lost == "first" else 1]: None}, store.position or 0)
    with pytest.raises(LogCorrupt, match="are not there"):
        records(log)
    (end,) = run_now(log.ends([TOTALS])).values()
    with pytest.raises(LogCorrupt, match="are not there"):
        for _ in range(1_000):
            put(log, [(b"x", b"1", 0)] * 100)
            (end,) = run_now(log.ends([TOTALS])).values()
    assert run_now(log.ends([TOTALS])) == {TOTALS: end}
    run_now(log.close())


async def main(folder: str, first: str) -> None:
    """What a child process does."""
    log = open_small(folder)
    for epoch in range(int(first), 1_000_000):
        put(log, epoch_rows(epoch))
        print(epoch, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
