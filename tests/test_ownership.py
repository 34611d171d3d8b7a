"""Which internal topics are an app's, and forgetting them, over the logs of this process."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streamproc.in_process import InProcessLog
from streamproc.local_log import LocalLog
from streamproc.log import Columns, Committed, LogError, Partition, TaskInput
from streamproc.memory_log import MemoryLog
from streamproc.ownership import internal_topics

SOURCE = Partition("orders", 0)


@pytest.fixture(params=["memory", "local"])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[InProcessLog]:
    opened: InProcessLog = MemoryLog() if request.param == "memory" else LocalLog(tmp_path / "log")
    for name in ("orders", "shop-count-changelog", "shop-count-repartition", "shop-eu-count-changelog", "shop-offers"):
        await opened.create(name, partitions=2, config={})
    yield opened
    await opened.close()


async def commit(log: InProcessLog, group: str, changelog: str) -> None:
    source = await log.source(group, "worker", [TaskInput("count", 0, (SOURCE,))])
    await source.poll([], 0)
    sink = await log.sink(source, "worker")
    sink.send(Partition(changelog, 1), Columns([b"k"] * 3, [b"v"] * 3, [0] * 3))
    await sink.commit({SOURCE: Committed(7, "{}")})
    await source.leave()
    await sink.close()


async def test_an_apps_topics(log: InProcessLog) -> None:
    """By their names, without those of an app with a longer name that has committed something."""
    own = ["shop-count-changelog", "shop-count-repartition"]
    assert sorted(await internal_topics("shop", log)) == [*own, "shop-eu-count-changelog"]
    await commit(log, "shop-eu", "shop-eu-count-changelog")
    assert sorted(await internal_topics("shop", log)) == own
    assert await internal_topics("shop-eu", log) == ["shop-eu-count-changelog"]


async def test_forget(log: InProcessLog, tmp_path: Path) -> None:
    """Positions and topics of the group are gone, all else stays; also in the log as it is opened again."""
    await commit(log, "shop", "shop-count-changelog")
    await commit(log, "shop-eu", "shop-eu-count-changelog")
    await log.forget("shop", ["shop-count-changelog", "shop-count-repartition"])
    if isinstance(log, LocalLog):
        await log.close()
        again: InProcessLog = LocalLog(tmp_path / "log")
    else:
        again = log
    assert sorted(await again.topics()) == ["orders", "shop-eu-count-changelog", "shop-offers"]
    assert await again.committed("shop") == {}
    assert await again.committed("shop-eu") == {SOURCE: Committed(7, "{}")}
    # A topic of the name can be made anew, and is empty.
    await again.create("shop-count-changelog", partitions=1, config={})
    assert await again.ends([Partition("shop-count-changelog", 0)]) == {Partition("shop-count-changelog", 0): 0}
    await commit(again, "shop", "shop-eu-count-changelog")
    await again.close()


async def test_a_reader_sees_it(tmp_path: Path) -> None:
    """A reader beside the writer sees that topics are gone."""
    log = LocalLog(tmp_path / "log")
    await log.create("orders", partitions=1, config={})
    await log.create("shop-count-changelog", partitions=2, config={})
    await commit(log, "shop", "shop-count-changelog")
    reader = LocalLog(tmp_path / "log", read_only=True)
    assert "shop-count-changelog" in await reader.topics()
    await log.forget("shop", ["shop-count-changelog"])
    assert "shop-count-changelog" not in await reader.topics()
    assert await reader.committed("shop") == {}
    with pytest.raises(LogError, match="open for reading only"):
        await reader.forget("shop", [])
    await reader.close()
    await log.close()


async def test_not_under_a_running_worker(log: InProcessLog) -> None:
    """A group that has members is not forgotten: they would commit on."""
    source = await log.source("shop", "worker", [TaskInput("count", 0, (SOURCE,))])
    with pytest.raises(LogError, match="group 'shop' has members, worker"):
        await log.forget("shop", [])
    await source.leave()
    await log.forget("shop", ["no-such-topic"])
