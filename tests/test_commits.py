"""What becomes of an epoch that is not simply committed, and of the group when there is no going on."""

import logging
from typing import Any

import pytest

from streamproc import App, RecordError, Stream
from streamproc.epoch_limits import HALVINGS, LAST_TRIES
from streamproc.log import Assigned, GroupFailed, LogError, Partition, Rejected
from streamproc.state.errors import StoreError
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.answers import Answers
from tests.live import Live
from tests.test_worker import SOURCE, answer, made, send, undisturbed, work


def answered(live: Live, **options: Any) -> tuple[Worker, Answers]:
    """A worker, and what its commits are answered with."""
    answers = Answers(live.log)
    return live.worker(work(), log=answers, **options), answers


def told(worker: Worker) -> list[Any]:
    """The assignments that the worker is told from here on."""
    found: list[Any] = []
    poll = worker._source.poll

    async def noting(partitions: Any, timeout_ms: int) -> Any:
        events = await poll(partitions, timeout_ms)
        found.extend(event for event in events if isinstance(event, Assigned))
        return events

    worker._source.poll = noting  # type: ignore[method-assign]
    return found


# -------------------------------------------------------------------------------------- aborted


def test_an_aborted_epoch_is_read_again() -> None:
    """Nothing of it is visible, the worker keeps its tasks, and what comes out is as if nothing had been."""
    live = made(epoch_records=4)
    worker, answers = answered(live)
    live.rest(worker)
    tasks, assigned = dict(worker.tasks), told(worker)
    answers.next = ["aborted"] * 3 + ["done"] * 2 + ["aborted"]
    send(live, range(60))
    while len([how for _, how in answers.commits if how == "aborted"]) < 3:
        assert live.rows("plain") == []
        live.clock.advance(100)
        run_now(worker.turn(0))
    live.rest(worker)
    assert answers.next == []
    assert worker.tasks == tasks
    assert assigned == []
    run_now(worker.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(60))


def test_epochs_are_halved_and_grow_again() -> None:
    """Half as many records after each that was aborted, one at last; twice as many after each that was committed."""
    live = made(epoch_interval="1h", epoch_records=8)
    worker, answers = answered(live)
    run_now(worker.turn(0))
    worker._step_sizes["numbers"].records = 100
    send(live, range(0, 200, 2))
    read: list[int] = []
    before = 0
    answers.next = ["aborted"] * 3
    while len(answers.commits) < 8:
        count = len(answers.commits)
        run_now(worker.turn(0))
        for offsets, how in answers.commits[count:]:
            read.append(offsets[SOURCE[0]].offset - before)
            before = offsets[SOURCE[0]].offset if how == "done" else before
    assert read[:4] == [8, 4, 2, 1]
    assert read[4:8] == [2, 4, 8, 8]


def test_epochs_that_are_always_aborted_end_the_worker() -> None:
    """It is not the size: after so many of the smallest the error is raised, with what the broker said last."""
    live = made()
    worker, answers = answered(live)
    answers.next = ["aborted"] * 1_000
    send(live, range(20))
    with pytest.raises(LogError, match="one epoch after the other is aborted.*the broker had enough"):
        live.rest(worker)
    assert len(answers.commits) == HALVINGS + LAST_TRIES
    run_now(worker.abandon())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


# -------------------------------------------------------------------------------------- in doubt


@pytest.mark.parametrize("outcome", ["lost", "lost but committed"])
@pytest.mark.parametrize("unanswered", [0, 3])
def test_an_epoch_in_doubt(outcome: str, unanswered: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it was committed or not, nothing is lost or doubled, and the worker keeps its membership.

    Until that is settled nothing is processed; how long it took is in the log.
    """
    live = made(epoch_records=4)
    worker, answers = answered(live)
    live.rest(worker)
    tasks, assigned = dict(worker.tasks), told(worker)
    send(live, range(40))
    answers.next, answers.unanswered = [outcome], unanswered
    while not answers.commits or answers.commits[-1][1] != outcome:
        live.clock.advance(100)
        run_now(worker.turn(0))
    count = len(answers.commits)
    for _ in range(unanswered - 1):
        live.clock.advance(1_000)
        assert run_now(worker.turn(0)), "something is still under way"
        assert worker.tasks == {}
    assert len(answers.commits) == count
    with caplog.at_level(logging.INFO, "streamproc"):
        live.rest(worker)
    assert ("over after 2.0 s" in caplog.text) == (unanswered == 3)
    assert worker.tasks.keys() == tasks.keys()
    assert assigned == []
    run_now(worker.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(40))


def test_a_group_that_changes_while_an_epoch_is_in_doubt() -> None:
    """The worker gives up its tasks all the same: whoever opens them waits for the stable offsets."""
    live = made(epoch_records=4)
    first, answers = answered(live)
    live.rest(first)
    send(live, range(40))
    answers.next, answers.unanswered = ["lost but committed"], 4
    while not answers.commits or answers.commits[-1][1] == "done":
        live.clock.advance(100)
        run_now(first.turn(0))
    second = live.worker(work(), "b", disk=MemoryDisk())
    live.rest(first, second)
    assert len(first.tasks) == len(second.tasks) == 2
    run_now(first.stop())
    run_now(second.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(40))


def test_a_record_that_fails_while_the_log_does_not_answer() -> None:
    """An epoch that is dropped for a failing record is one more that must be settled first."""
    live = made(on_error="skip")
    app = App("work", on_error="skip")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out", partitions=1))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda v: 12 // (v - 4))

    answers = Answers(live.log)
    worker = live.worker(app, log=answers)
    live.rest(worker)
    send(live, range(0, 12, 2))
    answers.unanswered = 3
    live.rest(worker)
    assert worker.skipped == {"one.map": 1}
    assert live.values("out") == [b"-3", b"-6", b"6", b"3", b"2"]


def test_stopped_in_doubt() -> None:
    """A worker that stops while its last epoch is in doubt leaves it to whoever comes next."""
    for outcome in ("lost", "lost but committed"):
        live = made(epoch_interval="1h")
        worker, answers = answered(live)
        send(live, range(20))
        for _ in range(4):
            run_now(worker.turn(0))
        answers.next, answers.unanswered = [outcome], 2
        run_now(worker.stop())
        live.run(work())
        assert answer(live) == undisturbed(range(20))


# -------------------------------------------------------------------------------------- the group stops


def pair(live: Live, app: App, answers: Answers) -> tuple[Worker, Worker]:
    first = live.worker(app, "a", log=answers)
    second = live.worker(app, "b", disk=MemoryDisk())
    live.rest(first, second)
    return first, second


def test_what_is_rejected_stops_the_group() -> None:
    """Whoever took the tasks over would be told the same: the others are told why, once, and end too."""
    live = made()
    first, second = pair(live, work(), answers := Answers(live.log))
    answers.next = ["rejected"]
    send(live, range(10))
    with pytest.raises(Rejected, match="larger than the topic allows"):
        live.rest(first)
    run_now(first.abandon())
    with pytest.raises(GroupFailed, match="It said: a: Rejected: a record is larger than the topic allows"):
        run_now(second.turn(0))
    run_now(second.abandon())
    assert live.rows("plain") == []
    live.run(work())
    assert answer(live) == undisturbed(range(10))


def failing() -> App:
    app = App("work")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda v: 1 // (v - 3))

    return app


def test_a_record_that_fails_stops_the_group() -> None:
    """Else one worker after the other would take the record over and end."""
    live = made()
    first, second = pair(live, failing(), Answers(live.log))
    (owner, other) = (first, second) if any(task.number == 1 for task in first.tasks) else (second, first)
    send(live, range(10))
    with pytest.raises(RecordError, match="numbers/1 at offset 1"):
        live.rest(owner)
    run_now(owner.abandon())
    with pytest.raises(GroupFailed, match="RecordError: one.map: numbers/1 at offset 1.*ZeroDivisionError"):
        run_now(other.turn(0))
    run_now(other.abandon())


def test_a_disk_that_fails_ends_its_worker_alone() -> None:
    """The others have disks of their own: they go on with its tasks."""
    live = made()
    first, second = pair(live, work(), Answers(live.log))
    broken = next(task for task in second.tasks.values() if task._store is not None)
    broken._store.close()  # type: ignore[union-attr] # as a disk that is gone
    send(live, range(20))
    with pytest.raises(StoreError):
        live.rest(first, second)
    run_now(second.abandon())
    live.rest(first)
    assert len(first.tasks) == 4
    run_now(first.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


# -------------------------------------------------------------------------------------- what is asked of the log


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_the_guarantee_is_the_sinks(guarantee: str) -> None:
    """The setting decides how the log writes."""
    live = made(guarantee=guarantee)
    _, answers = answered(live)
    assert answers.exactly_once == (guarantee == "exactly_once")


def test_no_epoch_is_without_offsets() -> None:
    """Each commit names every partition of every task, moved or not: it is always fenced."""
    live = made(epoch_records=3)
    worker, answers = answered(live, until_end=True)
    send(live, range(30))
    for _ in range(40):
        run_now(worker.turn(0))
    partitions = {partition for task in worker.tasks.values() for partition in task.readers}
    assert len(partitions) == 4
    assert worker.done
    assert [offsets.keys() for offsets, _ in answers.commits] == [partitions] * len(answers.commits)


def test_an_epoch_is_due_by_bytes() -> None:
    """So much read or written ends it before its time, however few the records."""
    live = Live(epoch_interval="1h", epoch_bytes=1_000)
    live.create("numbers", 2)
    app = App("work")

    @app.stream(app.topic("numbers", value=str), to=app.topic("plain"))
    def one(numbers: Stream[bytes, str]) -> Any:
        return numbers

    worker = live.worker(app)
    run_now(worker.turn(0))
    live.send("numbers", (b"k", b'"%s"' % (b"x" * 300), 1))
    run_now(worker.turn(0))
    assert live.rows("plain") == [], "three hundred read and as many written"
    live.send("numbers", (b"k", b'"%s"' % (b"x" * 300), 2))
    run_now(worker.turn(0))
    assert len(live.rows("plain")) == 2


def test_a_gap_is_no_reason_to_commit() -> None:
    """Markers of transactions move a position; that is committed with the next records, not for itself."""
    live = made()
    worker, answers = answered(live)
    live.rest(worker)
    count = len(answers.commits)
    poll = worker._source.poll
    gap = live.log.chunk(SOURCE[0], 0)
    gap.next_offset = 5

    async def once(partitions: Any, timeout_ms: int) -> Any:
        worker._source.poll = poll  # type: ignore[method-assign]
        return [gap]

    worker._source.poll = once  # type: ignore[method-assign]
    for _ in range(3):
        live.clock.advance(1_000)
        run_now(worker.turn(0))
    readers = {partition: reader for task in worker.tasks.values() for partition, reader in task.readers.items()}
    assert readers[SOURCE[0]].position == 5
    assert len(answers.commits) == count
    live.send("numbers", (None, b"1", 1_000), partition=1)
    live.rest(worker)
    assert answers.commits[-1][0][Partition("numbers", 0)].offset == 5
