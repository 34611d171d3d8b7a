"""A store brought up to its changelog, from wherever it is."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from streamproc import App, Stream, restore
from streamproc.clock import ManualClock
from streamproc.jobs import LoopJobs
from streamproc.log import Chunk, Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.state.errors import StoreError
from streamproc.state.memory import MemoryStore
from streamproc.state.settled import settle
from tests.live import Live, ints

NOW_MS = 1_000_000_000
CHANGES = Partition("app-stage-changelog", 0)


async def changelog(*rows: tuple[bytes, bytes | None]) -> MemoryLog:
    log = MemoryLog()
    await log.create(CHANGES.topic, partitions=1, config={})
    await append(log, *rows)
    return log


async def append(log: MemoryLog, *rows: tuple[bytes, bytes | None]) -> None:
    sink = await log.sink(None, "test")
    sink.send(CHANGES, Columns([key for key, _ in rows], [value for _, value in rows], [0] * len(rows)))
    await sink.commit({})


async def restored(store: MemoryStore, log: MemoryLog, *, now_ms: int = NOW_MS) -> int:
    """How many records were replayed."""
    progress = restore.Restoring(CHANGES, ManualClock(now_ms))
    await restore.restore(store, log, progress, LoopJobs())
    return progress.records


def content(store: MemoryStore) -> dict[bytes, bytes]:
    """The rows, but for what is kept of the store itself."""
    return {key: value for key, value in store.scan(b"", b"\xff") if key in dict(ROWS)}


ROWS = [(b"%d" % (n % 4), None if n % 5 == 0 else b"%d" % n) for n in range(23)]


@pytest.mark.parametrize("at_once", [1, 2, 5, 20_000])
@pytest.mark.parametrize("behind", [0, 1, 7, 22, 23])
async def test_from_anywhere(behind: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a store holds of the changelog already, afterwards it has the last value of each key, none deleted."""
    monkeypatch.setattr(restore, "RESTORE_RECORDS", at_once)
    store = MemoryStore()
    if behind:
        settle(store, dict(ROWS[:behind]), behind, now_ms=NOW_MS)
    await restored(store, await changelog(*ROWS))
    assert content(store) == {key: value for key, value in dict(ROWS).items() if value is not None}
    assert store.position == 23


async def test_nothing_to_do() -> None:
    """A store that is where its changelog ends is not written to."""
    store = MemoryStore()
    log = await changelog(*ROWS)
    assert await restored(store, log) > 0
    assert await restored(store, log) == 0


async def test_a_store_ahead_of_its_changelog() -> None:
    """It is of another log, or the topic was made anew: refused, with the way out."""
    store = MemoryStore()
    settle(store, {b"a": b"1"}, 24, now_ms=NOW_MS)
    with pytest.raises(
        StoreError, match="at 24 of its changelog, which ends at 23.*made anew.*Delete the state directory"
    ):
        await restored(store, await changelog(*ROWS))


async def test_a_store_that_stood_still_too_long_is_rebuilt() -> None:
    """The changelog may have forgotten what was deleted meanwhile: such a key must not be there again."""
    old, ahead, young = MemoryStore(), MemoryStore(), MemoryStore()
    kept_ms = restore.TOMBSTONES_MS
    for one, settled_ms in ((old, NOW_MS - kept_ms), (ahead, NOW_MS + kept_ms), (young, NOW_MS - 1)):
        settle(one, {b"0": b"deleted since"}, 1, now_ms=settled_ms)
        await restored(one, await changelog((b"x", None), (b"1", b"1")))
    assert content(old) == {b"1": b"1"}
    assert content(ahead) == {b"1": b"1"}, "the clock was wrong, so nobody knows how old it is"
    assert content(young) == {b"0": b"deleted since", b"1": b"1"}


async def test_a_store_is_as_old_as_it_was_until_it_is_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed on its way there, and again and again, it is not taken for young: the rest may be of the first time."""
    monkeypatch.setattr(restore, "RESTORE_RECORDS", 1)
    store, log = MemoryStore(), await changelog((b"0", b"0"), (b"1", b"1"), (b"2", b"2"), (b"0", None))
    settle(store, {b"0": b"0"}, 1, now_ms=NOW_MS)
    third_ms = restore.TOMBSTONES_MS // 3
    for before, now_ms in ((2, NOW_MS), (3, NOW_MS + third_ms)):
        with pytest.raises(asyncio.CancelledError):
            await restored(store, Killing(log, before=before), now_ms=now_ms)
        assert store.position == before
    log = await changelog((b"x", None), (b"1", b"1"), (b"2", b"2"), (b"x", None))  # 0 is compacted away
    await restored(store, log, now_ms=NOW_MS + 2 * third_ms)
    assert content(store) == {b"1": b"1", b"2": b"2"}


class Killing(MemoryLog):
    """A log at which the process is killed when it reads from an offset on."""

    def __init__(self, log: MemoryLog, *, before: int) -> None:
        super().__init__()
        self._log = log
        self._before = before

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._log.ends(partitions)

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        if offset >= self._before:
            raise asyncio.CancelledError
        return await self._log.read(partition, offset, limit)


def test_the_state_of_another_log_is_refused() -> None:
    """A worker that finds the stores of another log says so, and touches neither."""
    app = App("ahead")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> object:
        return numbers.count()

    old, new = Live(epoch_records=1, chunk_records=1), Live()
    for live in (old, new):
        live.create("numbers")
        live.send("numbers", *ints(range(20)))
    old.run(app)
    new.disk = old.disk
    with pytest.raises(StoreError, match="made anew"):
        new.run(app)
    assert new.rows("out") == []
    old.send("numbers", *ints([1]))
    old.run(app)
    assert old.values("out")[-1] == b"21"


async def test_a_store_that_missed_a_deletion_is_rebuilt() -> None:
    """The tombstone is gone from the changelog by then: a store that is only caught up would keep the key for ever."""
    day_ms = 86_400_000
    log = MemoryLog(compact_records=4)
    kept_ms = str(restore.TOMBSTONES_MS)
    await log.create(CHANGES.topic, partitions=1, config={"cleanup.policy": "compact", "delete.retention.ms": kept_ms})

    async def put(rows: dict[bytes, bytes | None], at_ms: int) -> None:
        sink = await log.sink(None, "test")
        sink.send(CHANGES, Columns(list(rows), list(rows.values()), [at_ms] * len(rows)))
        await sink.commit({})

    await put({b"deleted": b"1", b"kept": b"1"}, 0)
    store = MemoryStore()
    await restored(store, log, now_ms=0)
    await put({b"deleted": None}, 1)
    for day in range(8, 40):
        await put({b"other": b"%d" % day}, day * day_ms)
    assert b"deleted" not in (await log.read(CHANGES, 0, 1_000)).columns.keys, "the tombstone is still there: no case"
    await restored(store, log, now_ms=40 * day_ms)
    assert [store.get(key) for key in (b"deleted", b"kept", b"other")] == [None, b"1", b"39"]
