"""A store brought up to its changelog, from wherever it is."""

import pytest

from streamproc import App, Stream, restore
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.state.errors import StoreError
from streamproc.state.memory import MemoryStore
from tests.live import Live, ints

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


def content(store: MemoryStore) -> dict[bytes, bytes]:
    return dict(store.scan(b"", b"\xff"))


ROWS = [(b"%d" % (n % 4), None if n % 5 == 0 else b"%d" % n) for n in range(23)]


@pytest.mark.parametrize("at_once", [1, 2, 5, 20_000])
@pytest.mark.parametrize("behind", [0, 1, 7, 22, 23])
async def test_from_anywhere(behind: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a store holds of the changelog already, afterwards it has the last value of each key, and no deleted one."""
    monkeypatch.setattr(restore, "RESTORE_RECORDS", at_once)
    store = MemoryStore()
    if behind:
        store.write(dict(ROWS[:behind]), behind)
    await restore.restore(store, await changelog(*ROWS), CHANGES)
    assert content(store) == {key: value for key, value in dict(ROWS).items() if value is not None}
    assert store.position == 23


async def test_nothing_to_do() -> None:
    """A store that is where its changelog ends is not written to."""
    store = MemoryStore()
    log = await changelog(*ROWS)
    assert await restore.restore(store, log, CHANGES) > 0
    assert await restore.restore(store, log, CHANGES) == 0


async def test_a_store_ahead_of_its_changelog() -> None:
    """It is of another log, or the topic was made anew: refused, with the way out."""
    store = MemoryStore()
    store.write({b"a": b"1"}, 24)
    with pytest.raises(StoreError, match="at 24 of its changelog, which ends at 23.*made anew.*Delete the state directory"):
        await restore.restore(store, await changelog(*ROWS), CHANGES)


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
