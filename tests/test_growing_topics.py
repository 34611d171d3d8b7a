"""A source topic that gains partitions: who may read on, and what becomes of what comes late."""

import logging
from typing import Any

import pytest

from streamproc import App, PlanChanged, Stream
from streamproc.log import GroupView, LogError, Partition
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from tests.counted import counted, counts
from tests.live import Live, Row


def keyed() -> App:
    """Windows behind a re-key: the stage that reads the topic keeps nothing."""
    return counted("grown", idle=None)


def direct() -> App:
    """A count by the topic's own keys: it is where its partition is."""
    app = App("grown")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.count()

    return app


def made() -> Live:
    live = Live()
    live.create("numbers", 2)
    return live


def send(live: Live, partition: int, *seconds: int) -> None:
    live.send("numbers", *[Row(b"k", b"%d" % at, at * 1_000) for at in seconds], partition=partition)


def windows(live: Live) -> dict[int, int]:
    return counts(live.values("out"))


def test_where_nothing_is_kept_by_partition_it_is_read_on(caplog: pytest.LogCaptureFixture) -> None:
    """The next start reads the new partitions from their first record on, and says so; keyed state is where it was."""
    live = made()
    for partition in range(2):
        send(live, partition, *range(partition, 24, 2))
    run_now(live.rested(keyed()).stop())
    assert windows(live) == {0: 10, 10: 10}
    live.grow("numbers", 4)
    with caplog.at_level(logging.WARNING, "streamproc"):
        worker = live.worker(keyed())
    assert "topic 'numbers' has gained partitions 2, 3" in caplog.text
    for partition in range(4):
        send(live, partition, *range(24, 50, 4))
    live.rest(worker)
    assert {task.stage: task.number for task in sorted(worker.tasks)} == {"numbers": 3, "one-key_by": 1}
    assert windows(live) == {0: 10, 10: 10, 20: 4 + 2 * 4, 30: 4 * 2}
    assert worker.late == {}
    run_now(worker.stop())
    caplog.clear()
    live.run(keyed())
    assert "gained" not in caplog.text, "said once"


def test_old_records_in_a_new_partition_are_late_where_their_windows_have_closed() -> None:
    """They are judged by what has been closed without them: late, and counted; never an alarm, never a second row."""
    live = made()
    for partition in range(2):
        send(live, partition, *range(partition, 34, 2))
    run_now(live.rested(keyed()).stop())
    closed = {0: 10, 10: 10, 20: 10}
    assert windows(live) == closed
    live.grow("numbers", 3)
    send(live, 2, 5, 15, 25, 31, 35)
    worker = live.rested(keyed())
    assert worker.late == {"one.count": 3}
    send(live, 2, 50)
    for partition in range(2):
        send(live, partition, 50 + partition)
    live.rest(worker)
    assert windows(live) == {**closed, 30: 4 + 2}
    assert worker.late == {"one.count": 3}


@pytest.mark.parametrize("disks", ["kept", "lost"])
def test_what_was_closed_before_is_state(disks: str) -> None:
    """A restart later they are late all the same."""
    live = made()
    for partition in range(2):
        send(live, partition, *range(partition, 34, 2))
    run_now(live.rested(keyed()).stop())
    live.grow("numbers", 3)
    run_now(live.rested(keyed()).stop())
    if disks == "lost":
        live.disk = MemoryDisk()
    send(live, 2, 5, 15, 25, 31, 35)
    worker = live.rested(keyed())
    assert worker.late == {"one.count": 3}
    assert windows(live) == {0: 10, 10: 10, 20: 10}


def test_where_state_is_kept_by_partition_it_is_refused() -> None:
    """Keys have moved, and what was counted of them has not."""
    live = made()
    send(live, 0, 1)
    live.run(direct())
    live.grow("numbers", 3)
    with pytest.raises(PlanChanged, match="topic 'numbers' had 2 partitions .* has 3 now.*streamproc reset MODULE:APP"):
        live.run(direct())


def test_a_topic_that_has_fewer_partitions_is_another_topic() -> None:
    """It was made anew, whoever reads it."""
    live = made()
    send(live, 0, 1)
    live.run(keyed())
    live.grow("numbers", 1)
    with pytest.raises(PlanChanged, match="had 2 partitions .* has 1 now"):
        live.run(keyed())


def test_a_worker_that_runs_does_not_notice() -> None:
    """It goes on with the partitions that it knew at its start."""
    live = made()
    worker = live.worker(keyed())
    send(live, 0, 1)
    live.rest(worker)
    live.grow("numbers", 3)
    send(live, 0, 2)
    send(live, 2, 2)
    live.rest(worker)
    positions = {p: reader.position for task in worker.tasks.values() for p, reader in task.readers.items()}
    assert positions[Partition("numbers", 0)] == 2
    assert Partition("numbers", 2) not in positions


def test_workers_of_before_and_after_do_not_work_together() -> None:
    """While most of the group know fewer partitions, who knows more has no task: their tasks and marks would differ."""
    live = made()
    old = [live.worker(keyed(), f"old-{n}", disk=MemoryDisk()) for n in range(2)]
    live.rest(*old)
    live.grow("numbers", 3)
    new = live.worker(keyed(), "new-0", disk=MemoryDisk())
    send(live, 0, 1)
    live.rest(*old, new)
    assert new.tasks == {}
    assert sum(len(worker.tasks) for worker in old) == 4
    run_now(old.pop().stop())
    again = live.worker(keyed(), "new-1", disk=MemoryDisk())
    live.rest(*old, new, again)
    view: GroupView = run_now(live.log.group("grown"))
    assert {member.name: len(member.tasks) for member in view.members} == {"old-0": 0, "new-0": 3, "new-1": 2}
    send(live, 2, 40)
    live.rest(*old, new, again)
    assert live.committed(keyed())[Partition("numbers", 2)][0] == 1


def test_a_topic_that_grows_while_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have gone on from there by the time it has looked: the topic is none that has lost partitions."""
    live = made()
    send(live, 0, 1)
    live.run(keyed())
    look = live.log.topics

    async def topics(*names: Any) -> Any:
        found = await look(*names)
        monkeypatch.undo()
        live.grow("numbers", 3)
        send(live, 2, 2)
        live.run(keyed())
        return found

    monkeypatch.setattr(live.log, "topics", topics)
    worker = live.worker(keyed())
    with pytest.raises(LogError, match="must begin anew"):
        live.rest(worker)


def test_a_worker_of_before_cannot_take_over_from_those_of_after() -> None:
    """It ends, to begin anew, when it is given their tasks; they do not end with it."""
    live = made()
    old = live.worker(keyed(), "old", disk=MemoryDisk())
    live.grow("numbers", 3)
    new = [live.worker(keyed(), f"new-{n}", disk=MemoryDisk()) for n in range(2)]
    send(live, 2, 40)
    live.rest(old, *new)
    assert old.tasks == {}
    for worker in new:
        run_now(worker.stop())
    with pytest.raises(LogError, match="topic 'numbers' has gained partitions; .* when it had 2, must begin anew"):
        live.rest(old)
    run_now(old.abandon())
    again = live.rested(keyed(), "old")
    assert len(again.tasks) == 5
