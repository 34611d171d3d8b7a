"""Internal topics are purged of what was read and committed, and of nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest

from streamproc import App, Stream, tumbling
from streamproc.log import Columns, OffsetOutOfRange, Partition
from streamproc.memory_log import MemoryLog
from streamproc.runner import run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop

PURGE_RECORDS = 40


class Crash(BaseException):
    """The process ends here."""


class WatchedLog(MemoryLog):
    """A log that notes what is purged; with `crash`, the first purge is the last call, before or behind its work."""

    def __init__(self, crash: str = "") -> None:
        super().__init__(chunk_records=25)
        self.crash = crash
        self.purges: list[dict[Partition, int]] = []

    async def purge(self, before: Mapping[Partition, int]) -> None:
        committed = await self.committed("parity")
        assert all(committed[partition].offset >= offset for partition, offset in before.items())
        crash, self.crash = self.crash, ""
        if crash == "before":
            raise Crash
        await super().purge(before)
        self.purges.append(dict(before))
        if crash == "behind":
            raise Crash


@pytest.fixture(autouse=True)
def purge_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamproc.purging.PURGE_RECORDS", PURGE_RECORDS)


def parity_app() -> App:
    """A re-key behind a topic that one function writes and another reads."""
    app = App("parity", epoch_records=20)
    numbers = app.topic("numbers", value=int, grace="1s")
    squares, counts = app.topic("squares", value=int, grace="1s"), app.topic("counts")

    @app.stream(numbers, to=squares)
    def square(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda n: n * n)

    @app.stream(squares, to=counts)
    def parity(squares: Stream[bytes, int]) -> Any:
        return squares.key_by(lambda n: n % 2).window(tumbling("1m")).count()

    return app


async def filled(log: WatchedLog) -> WatchedLog:
    await log.create("numbers", partitions=2, config={})
    sink = await log.sink(None, "test")
    for number in range(2):
        values: list[bytes | None] = [b"%d" % n for n in range(number, 600, 2)]
        times = [n * 1_000 for n in range(number, 600, 2)]
        sink.send(Partition("numbers", number), Columns([None] * len(values), values, times))
    await sink.commit({})
    return log


async def to_the_end(log: WatchedLog, disk: MemoryDisk) -> None:
    app = parity_app()
    with Stop() as stop:
        await run(app, log, disk, app.settings({}, {}), stop=stop, until_end=True)


async def partitions(log: WatchedLog) -> list[Partition]:
    return [Partition(name, n) for name, topic in (await log.topics()).items() for n in range(topic.partitions)]


async def starts(log: WatchedLog) -> dict[Partition, int]:
    """The first offset kept of each partition."""
    found = {}
    for partition in await partitions(log):
        with pytest.raises(OffsetOutOfRange) as caught:
            await log.read(partition, -1, 1)
        found[partition] = caught.value.start
    return found


async def results(log: WatchedLog) -> dict[str, Collection[Any]]:
    """What is in the output topics, in no order: that of the partitions of a source is not fixed."""
    found: dict[str, list[Any]] = {"squares": [], "counts": []}
    for partition in await partitions(log):
        if partition.topic in found:
            columns = (await log.read(partition, 0, 1_000)).columns
            found[partition.topic] += zip(columns.keys, columns.values, columns.timestamps, strict=True)
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


async def test_internal_topics_shrink_behind_what_is_committed() -> None:
    """Re-keys and chained topics, never beyond the committed offset; no topic that anybody else may read."""
    log = await filled(WatchedLog())
    await to_the_end(log, MemoryDisk())
    first, committed, ends = await starts(log), await log.committed("parity"), await log.ends(await partitions(log))
    internal = {partition for partition in first if partition.topic.endswith("-repartition")}
    assert len({partition.topic for partition in internal}) == 2
    assert {partition for partition, start in first.items() if start > 0} == internal
    for partition in internal:
        assert committed[partition].offset == ends[partition]
        assert 0 <= ends[partition] - first[partition] < PURGE_RECORDS


async def test_it_is_not_done_in_each_epoch() -> None:
    """A partition is purged when there are enough records to be purged."""
    log = await filled(WatchedLog())
    await to_the_end(log, MemoryDisk())
    seen: dict[Partition, int] = {}
    for before in log.purges:
        for partition, offset in before.items():
            assert offset - seen.get(partition, 0) >= PURGE_RECORDS
            seen[partition] = offset
    assert len(log.purges) > 3


@pytest.mark.parametrize("disk_is_lost", [False, True])
@pytest.mark.parametrize("crash", ["before", "behind"])
async def test_a_crash_around_the_purge_loses_nothing(crash: str, disk_is_lost: bool) -> None:
    """What is purged has done its work: the next run goes on from the committed offsets, also without a disk."""
    log, undisturbed, disk = await filled(WatchedLog(crash)), await filled(WatchedLog()), MemoryDisk()
    with pytest.raises(Crash):
        await to_the_end(log, disk)
    disk.crash()
    before = await results(log)
    assert len(before["squares"]) < 600
    await to_the_end(log, MemoryDisk() if disk_is_lost else disk)
    await to_the_end(undisturbed, MemoryDisk())
    assert await results(log) == await results(undisturbed)
    assert log.purges


async def test_what_a_crash_left_is_purged_by_the_next_run() -> None:
    """A worker does not know what was purged before it, and begins with all that is committed."""
    log, disk = await filled(WatchedLog("before")), MemoryDisk()
    with pytest.raises(Crash):
        await to_the_end(log, disk)
    disk.crash()
    assert not log.purges
    await to_the_end(log, disk)
    assert all(start for partition, start in (await starts(log)).items() if partition.topic.endswith("-repartition"))
