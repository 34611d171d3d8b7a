"""Epochs: what one commits, what is left of one that was not, and what becomes of tasks that move."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from streamproc import App, RecordError, Stream, tumbling
from streamproc.internal_topic import ACTIVE, ENDED, MARK, Mark
from streamproc.log import Partition, Replaced
from streamproc.operators.batch import NEVER
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Store
from streamproc.testing.replay import run_now
from streamproc.worker import TURN_MS, Worker
from tests.live import EPOCH_MS, Live, Row, ints

SOURCE = [Partition("numbers", number) for number in range(2)]
REPARTITION = "work-work-key_by-repartition"
CHANGELOG = "work-work-key_by-changelog"


def work(**settings: Any) -> App:
    """Running and windowed counts behind a re-key, and plain rows before it."""
    app = App("work", **settings)
    numbers = app.topic("numbers", value=int, grace="1s")

    @app.stream(numbers, to=(app.topic("plain"), app.topic("running"), app.topic("windows")))
    def work(numbers: Stream[bytes, int]) -> Any:
        keyed = numbers.key_by(lambda v: v % 5)
        return numbers, keyed.count(name="so-far"), keyed.window(tumbling("10s")).count(name="window")

    return app


def numbers(*values: int) -> list[Row]:
    """The number is also its time in seconds."""
    return [Row(None, b"%d" % value, value * 1_000) for value in values]


def made(**settings: Any) -> Live:
    live = Live(**settings)
    live.create("numbers", 2)
    return live


def send(live: Live, values: Sequence[int]) -> None:
    """Even ones to one partition, odd ones to the other."""
    for number in range(2):
        rows = numbers(*[value for value in values if value % 2 == number])
        if rows:
            live.send("numbers", *rows, partition=number)


def answer(live: Live) -> dict[str, Any]:
    """What came out: the running counts of each key in their order, the others in any."""
    running: dict[bytes | None, list[bytes | None]] = {}
    for row in live.rows("running"):
        running.setdefault(row.key, []).append(row.value)
    return {"running": running, **{topic: sorted(live.rows(topic), key=repr) for topic in ("plain", "windows")}}


def undisturbed(values: Sequence[int]) -> dict[str, Any]:
    live = made()
    send(live, values)
    live.run(work())
    return answer(live)


# -------------------------------------------------------------------------------------- epochs


def test_an_epoch_is_due_by_time() -> None:
    """What was read is visible when the interval is over, all of it at once, and not before."""
    live = made(epoch_interval="1s")
    worker = live.worker(work())
    run_now(worker.turn(0))  # the assignment
    live.clock.advance(1_000)
    run_now(worker.turn(0))  # the first marks
    send(live, range(10))
    for _ in range(9):
        live.clock.advance(100)
        run_now(worker.turn(0))
        assert live.rows("plain") == []
        assert live.committed(work())[SOURCE[0]][0] == 0
    live.clock.advance(100)
    run_now(worker.turn(0))
    assert len(live.rows("plain")) == 10
    assert [live.committed(work())[partition][0] for partition in SOURCE] == [5, 5]


def test_an_epoch_is_due_by_records() -> None:
    """So many records read or written end it before its time."""
    live = made(epoch_interval="1h", epoch_records=4)
    worker = live.worker(work())
    run_now(worker.turn(0))
    live.send("numbers", *numbers(0))
    run_now(worker.turn(0))
    assert live.rows("plain") == []
    live.send("numbers", *numbers(2, 4, 6))
    run_now(worker.turn(0))
    assert len(live.rows("plain")) == 4


@pytest.mark.parametrize("partitions", [1, 50])
def test_a_turn_ends_with_work_left(partitions: int) -> None:
    """What a poll brought and functions have no time for is read again, in its order; so a worker can be stopped."""
    live = Live(epoch_interval="1h")
    live.create("numbers", partitions)
    seen: list[int] = []

    def slow(value: int) -> int:
        live.clock.advance(TURN_MS // 10)
        seen.append(value)
        return value

    app = App("slow")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def out(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(slow)

    for partition in range(partitions):
        live.send("numbers", *ints(range(partition, 200, partitions)), partition=partition)
    worker = live.worker(app)
    run_now(worker.turn(0))  # the assignment
    turns = []
    for _ in range(4):
        before = len(seen)
        run_now(worker.turn(0))
        turns.append(len(seen) - before)
    assert turns == [10] * 4
    run_now(worker.stop())
    assert len(live.rows("out")) == len(seen)
    live.run(app)
    for partition in range(partitions):
        assert [v for v in seen if v % partitions == partition] == list(range(partition, 200, partitions))


def test_no_partition_waits_for_ever() -> None:
    """What a turn has had no time for is first in the next, however far behind in event time another one stays."""
    live = Live(epoch_interval="1h", drift="1h")
    live.create("numbers", 3)
    seen: list[int] = []

    def slow(value: int) -> int:
        live.clock.advance(TURN_MS // 10)
        seen.append(value)
        return value

    app = App("slow")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def out(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(slow)

    for partition in range(3):
        live.send("numbers", *ints([partition] * 100, every_ms=1 + partition), partition=partition)
    worker = live.worker(app)
    run_now(worker.turn(0))  # the assignment
    for _ in range(6):
        run_now(worker.turn(0))
    assert [seen.count(partition) for partition in range(3)] == [20] * 3
    run_now(worker.stop())


def test_an_epoch_is_due_within_a_turn() -> None:
    """Where a turn lasts longer than an epoch may, it commits in between."""
    live = Live(epoch_interval="200ms")
    live.create("numbers")
    visible: list[int] = []

    def slow(value: int) -> int:
        live.clock.advance(100)
        visible.append(len(live.rows("out")))
        return value

    app = App("slow")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def out(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(slow)

    worker = live.worker(app)
    run_now(worker.turn(0))
    live.send("numbers", *ints(range(30)))
    run_now(worker.turn(0))
    assert visible == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14, 16, 16, 18, 18]
    run_now(worker.stop())


def test_marks_are_no_records() -> None:
    """A task has read as many as were sent to it, however many marks came in one record with them."""
    live = made()
    worker = live.worker(work())
    live.rest(worker)
    assert [task.records for task in worker.tasks.values()] == [0] * 4
    send(live, range(20))
    live.rest(worker)
    assert sum(task.records for task in worker.tasks.values() if task.id.stage == "numbers") == 20
    assert sum(task.records for task in worker.tasks.values() if task.id.stage != "numbers") == 20


def test_a_quiet_worker_commits_nothing() -> None:
    """Without records there are no epochs."""
    live = made()
    worker = live.worker(work())
    live.rest(worker)
    before = live.committed(work())
    for _ in range(5):
        live.clock.advance(60_000)
        run_now(worker.turn(0))
    assert live.committed(work()) == before
    assert set(SOURCE) < set(before)


def test_what_an_epoch_commits() -> None:
    """Outputs, rows and marks of internal topics, changes of state, positions with clock, plan, token: together."""
    live = made()
    app = work()
    worker = live.worker(app)
    send(live, range(10))
    live.rest(worker)
    assert set(live.values("plain")) == {b"%d" % n for n in range(10)}
    for number, partition in enumerate(SOURCE):
        offset, metadata = live.committed(app)[partition]
        stored = msgspec.json.decode(metadata)
        assert offset == 5
        assert stored["clock"] == 8_000 + number * 1_000
        assert stored["idle"] is False
        assert stored["partitions"] == 2
        assert stored["plan"] == app.plan.fingerprint
        assert stored["member"] == "a"
        assert stored["epoch"] >= 1
    for number in range(2):
        columns = live.columns(REPARTITION, number)
        headers = columns.headers or []
        last = max(i for i, row in enumerate(headers) if row and row[0][0] == MARK)
        assert last == len(columns) - 1, "a mark stands behind the rows that it speaks of"
        marks = msgspec.msgpack.decode(columns.values[last] or b"", type=list[Mark])
        assert {(m.stage, m.task, m.watermark, m.flag) for m in marks} == {
            ("numbers", 0, 8_000, ACTIVE),
            ("numbers", 1, 9_000, ACTIVE),
        }
        changelog = live.columns(CHANGELOG, number)
        names = {key.partition(b"\0")[0] for key in changelog.keys if key}
        assert names >= {b"work.so-far", b"work.window", b"\x01task"}
        assert set(changelog.timestamps) <= set(range(1_000_000, live.clock.now_ms() + 1)), "the wall's time"
        store = live.disk._images[f"work-key_by/{number}"]
        assert store.position == len(changelog)


def test_every_commit_has_the_offsets_of_every_task() -> None:
    """An epoch in which one task alone had records moves no other offset, but commits it: it is always fenced."""
    live = made()
    worker = live.worker(work())
    live.rest(worker)
    epochs = {p: msgspec.json.decode(c[1])["epoch"] for p, c in live.committed(work()).items()}
    live.send("numbers", *numbers(2))
    live.rest(worker)
    later = {p: msgspec.json.decode(c[1])["epoch"] for p, c in live.committed(work()).items()}
    assert later.keys() == epochs.keys()
    assert all(later[p] > epochs[p] for p in epochs)


def test_abandon_commits_nothing() -> None:
    """A worker that leaves without committing leaves no trace of its open epoch."""
    live = made(epoch_interval="1h")
    worker = live.worker(work())
    send(live, range(10))
    for _ in range(5):
        run_now(worker.turn(0))
    run_now(worker.abandon())
    assert live.rows("plain") == []
    live.run(work())
    assert answer(live) == undisturbed(range(10))


# -------------------------------------------------------------------------------------- state


@pytest.mark.parametrize("lost", ["nothing", "the last write", "all"])
def test_a_crash_between_commit_and_settle(lost: str) -> None:
    """A store that is behind its changelog, or gone, is brought up to it: the next run goes on as before."""
    live = made(epoch_records=4)
    worker = live.worker(work())
    send(live, range(40))
    live.rest(worker)
    live.disk.crash(lost_writes=0 if lost == "nothing" else 1)
    live.log.expel("work", "a")
    if lost == "all":
        live.disk = MemoryDisk()
    send(live, range(40, 80))
    live.run(work())
    assert answer(live) == undisturbed(range(80))


def test_two_workers_share_the_tasks() -> None:
    """Each task is one worker's; together they give what one gives."""
    live = made()
    a, b = (live.worker(work(idle=None), name, disk=MemoryDisk()) for name in "ab")
    live.rest(a, b)
    assert len(a.tasks) == len(b.tasks) == 2
    assert not a.tasks.keys() & b.tasks.keys()
    send(live, range(50))
    live.rest(a, b)
    run_now(a.stop())
    run_now(b.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(50))


@pytest.mark.parametrize("disks", ["one each", "one for both"])
@pytest.mark.parametrize("how", ["leaves", "dies"])
def test_tasks_that_move_keep_their_state(how: str, disks: str) -> None:
    """A worker comes, works and goes, in order or not: whoever has a task has its state, wherever it was before."""
    live = made()
    second = MemoryDisk(undo_writes=5) if disks == "one each" else live.disk.beside()
    a = live.worker(work(), "a")
    send(live, range(20))
    live.rest(a)
    b = live.worker(work(), "b", disk=second)
    live.rest(a, b)
    send(live, range(20, 40))
    live.rest(a, b)
    assert b.tasks
    if how == "leaves":
        run_now(b.stop())
    else:
        second.crash(lost_writes=1)
        live.log.expel("work", "b")
    send(live, range(40, 60))
    live.rest(a)
    assert len(a.tasks) == 4
    b = live.worker(work(), "b", disk=second)  # its stores are older than what it gets back
    live.rest(a, b)
    send(live, range(60, 80))
    live.rest(a, b)
    run_now(a.stop())
    run_now(b.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(80))


# -------------------------------------------------------------------------------------- fences


def test_fenced() -> None:
    """A worker that is taken for dead drops its open epoch, joins again, and goes on from what is committed."""
    live = made(epoch_interval="1h")
    worker = live.worker(work())
    send(live, range(20))
    for _ in range(4):
        run_now(worker.turn(0))
    tasks = dict(worker.tasks)
    live.log.expel("work", "a")
    assert run_now(worker.turn(0))
    assert worker.tasks == {}
    assert live.rows("plain") == []
    for _ in range(4):
        run_now(worker.turn(0))
    assert worker.tasks.keys() == tasks.keys()
    assert all(worker.tasks[task] is not tasks[task] for task in tasks)
    run_now(worker.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


def test_fenced_at_the_commit() -> None:
    """Expelled before it commits, a worker's epoch is not visible, and another one's is, once."""
    live = made(epoch_interval="1s")
    a = live.worker(work(), "a")
    send(live, range(20))
    for _ in range(4):
        run_now(a.turn(0))
    source, poll = a._source, a._source.poll

    async def expelled_after(partitions: Any, timeout_ms: int) -> Any:
        events = await poll(partitions, timeout_ms)
        live.log.expel("work", "a")
        return events

    source.poll = expelled_after  # type: ignore[method-assign]
    live.clock.advance(1_000)
    run_now(a.turn(0))
    assert a.tasks == {}
    assert live.rows("plain") == []
    source.poll = poll  # type: ignore[method-assign]
    b = live.worker(work(), "b")
    live.clock.advance(10_000)
    live.rest(a, b)
    run_now(a.stop())
    run_now(b.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


def kept(store: Store | None) -> tuple[int | None, list[tuple[bytes, bytes]]]:
    """Up to where a store is, and its rows."""
    assert store is not None
    return store.position, list(store.scan(b"", b"\xff"))


def test_fenced_at_its_last_commit() -> None:
    """Too late in giving up its tasks, a worker's epoch is not visible and not in its stores: others do its work."""
    live = made()
    a = live.worker(work(), "a")
    send(live, range(20))
    for _ in range(4):
        run_now(a.turn(0))
    live.clock.advance(EPOCH_MS)
    for _ in range(4):  # the source's tasks commit; those behind the re-key read that, and count
        run_now(a.turn(0))
    counting = [task for task in a.tasks.values() if task._store is not None]
    assert all(task.dirty for task in counting)
    before = [(task.id, kept(task._store)) for task in counting]
    b = live.worker(work(), "b", disk=MemoryDisk())
    commit = a._sink.commit

    async def too_late(offsets: Any) -> Any:
        live.log.expel("work", "a")
        return await commit(offsets)

    a._sink.commit = too_late  # type: ignore[method-assign]
    for _ in range(5):
        if a.tasks:
            run_now(a.turn(0))
    assert a.tasks == {}
    a._sink.commit = commit  # type: ignore[method-assign]
    assert live.rows("running") == []
    for (stage, number), rows in before:
        store = live.disk.open(f"{stage}/{number}")
        assert kept(store) == rows
        store.close()
    live.rest(a, b)
    run_now(a.stop())
    run_now(b.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


def test_replaced() -> None:
    """A worker whose name another one took ends; nothing of its open epoch becomes visible."""
    live = made(epoch_interval="1h")
    first = live.worker(work(), "a")
    send(live, range(20))
    for _ in range(4):
        run_now(first.turn(0))
    second = live.worker(work(), "a", disk=live.disk.beside())
    with pytest.raises(Replaced, match="another worker joined as 'a'"):
        run_now(first.turn(0))
    run_now(first.abandon())
    assert live.rows("plain") == []
    live.clock.advance(3_600_000)
    for _ in range(8):
        live.clock.advance(3_600_000)
        run_now(second.turn(0))
    run_now(second.stop())
    live.run(work())
    assert answer(live) == undisturbed(range(20))


def test_an_error_ends_the_run_and_not_the_group() -> None:
    """After a record that fails, another worker finds the stores unlocked and the tasks free."""
    live = made()
    app = App("work")

    @app.stream(app.topic("numbers", value=int))
    def failing(numbers: Stream[bytes, int]) -> Any:
        return numbers.key_by(lambda v: v).sum(lambda v: 1 // (v - 3))

    send(live, range(10))
    for _ in range(3):
        with pytest.raises(RecordError, match="ZeroDivisionError"):
            live.run(app)


# -------------------------------------------------------------------------------------- the end of the input


def ends_in(live: Live) -> list[Mark]:
    columns = live.columns(REPARTITION)
    rows = zip(columns.headers or (), columns.values, strict=True)
    found = [msgspec.msgpack.decode(v or b"", type=list[Mark]) for h, v in rows if h and h[0][0] == MARK]
    return [mark for marks in found for mark in marks if mark.flag == ENDED]


def test_until_end_twice() -> None:
    """What the end of an input closed stays closed: a later run's record for it is late, and all newer ones are not."""
    live = made()
    send(live, range(15))  # up to the middle of [10 s, 20 s)
    first = live.run(work())
    assert first.late == {}
    windows = answer(live)["windows"]
    assert {row.timestamp for row in windows} == {9_999, 19_999}
    assert {mark.watermark for mark in ends_in(live)} == {13_000, 14_000}, "the clocks keep their real values"
    send(live, range(15, 25))
    second = live.run(work())
    assert second.late == {"work.window": 5}  # 15 to 19
    assert [row for row in answer(live)["windows"] if row.timestamp < 20_000] == windows
    assert {row.timestamp for row in answer(live)["windows"]} == {9_999, 19_999, 29_999}
    assert answer(live)["running"] == undisturbed(range(25))["running"]
    assert {p.topic: msgspec.json.decode(c[1])["clock"] for p, c in live.committed(work()).items() if p in SOURCE}


def test_an_end_in_between_is_no_end_of_time() -> None:
    """After a run to the end, a live run takes what is on time, with the clocks as they were."""
    live = made(idle=None)
    send(live, range(15))
    live.run(work())
    worker = live.worker(work())
    send(live, range(20, 60))
    live.rest(worker)
    assert worker.late == {}
    closed = {row.timestamp for row in answer(live)["windows"]}
    assert closed == {9_999, 19_999, 29_999, 39_999, 49_999}


def test_the_end_is_one_snapshot() -> None:
    """Records that come while a run until the end is under way are not read by it."""
    live = made()
    send(live, range(15))
    worker = live.worker(work(), until_end=True)
    send(live, range(15, 25))
    for _ in range(20):
        run_now(worker.turn(0))
    assert worker.done
    run_now(worker.stop())
    assert len(live.rows("plain")) == 15
    assert sum(live.committed(work())[partition][0] for partition in SOURCE) == 15


def test_a_run_that_ends_can_be_killed_at_its_end() -> None:
    """Ended, but not committed: another worker of the same run ends it again, once."""
    live = made(epoch_interval="1h")
    send(live, range(15))
    a = live.worker(work(), "a", until_end=True)
    b = live.worker(work(), "b", until_end=True, disk=MemoryDisk())
    for _ in range(3):
        run_now(a.turn(0))
        run_now(b.turn(0))
    live.log.expel("work", "b")
    for _ in range(20):
        run_now(a.turn(0))
    assert a.done
    assert len(a.tasks) == 4
    run_now(a.stop())
    assert answer(live) == undisturbed(range(15))


def test_nothing_was_ever_read() -> None:
    """A clock that never ticked is committed as such."""
    live = made()
    live.run(work())
    assert msgspec.json.decode(live.committed(work())[SOURCE[0]][1])["clock"] == NEVER


def test_turns_say_whether_there_was_anything() -> None:
    """A turn without anything is False: so the caller knows when to wait."""
    live = made()
    worker: Worker = live.worker(work())
    assert run_now(worker.turn(0))
    live.rest(worker)
    live.clock.advance(EPOCH_MS)
    assert not run_now(worker.turn(0))
    live.send("numbers", *numbers(1))
    assert run_now(worker.turn(0))


def test_repeating_marks_forgets_no_open_epoch() -> None:
    """Also where the task has nobody to say them to: what it has read is still to be committed."""
    app = App("plain")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def same(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda n: n)

    live = Live()
    live.create("numbers")
    live.send("numbers", *ints([1, 2]))
    worker = live.worker(app)
    while not any(task.output_count for task in worker.tasks.values()):
        run_now(worker.turn(0))
    for task in worker.tasks.values():
        task.repeat_marks()
    run_now(worker.stop())
    assert live.values("out") == [b"1", b"2"]
