"""A silent partition: how long it holds time back, and what becomes of what it says later."""

from typing import Any

import msgspec
import pytest

from streamproc import App, Stream, tumbling
from streamproc.log import Partition
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.live import Live, Row

SILENT = Partition("numbers", 1)


def app() -> App:
    """Counts of ten seconds behind a re-key: they close when both partitions have passed their end."""
    made = App("silence")

    @made.stream(made.topic("numbers", value=int), to=made.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return (
            numbers.filter(bool)
            .key_by(lambda _: 0)
            .window(tumbling("10s"))
            .count()
            .map(lambda row: [row.start, row.value])
        )

    return made


def made(*, first: bool = True, **settings: Any) -> Live:
    """Partition 0 has records up to 60 s, partition 1 one at 5 s, or none."""
    live = Live(**settings)
    live.create("numbers", 2)
    say(live, 0, 0, 15, 30, 60)
    if first:
        say(live, 1, 5)
    return live


def say(live: Live, partition: int, *seconds: int) -> None:
    live.send("numbers", *[Row(None, b"1", at * 1_000) for at in seconds], partition=partition)


def is_idle(live: Live, partition: Partition = SILENT) -> bool:
    stored: dict[str, Any] = msgspec.json.decode(live.committed(app())[partition][1])
    return bool(stored["idle"])


CLOSED = [b"[0,2]", b"[10000,1]", b"[30000,1]"]


def silent_for(live: Live, seconds: int, *workers: Worker, topic: str = "numbers", all_of_it: bool = False) -> None:
    """Time passes, a second at a time, while the workers look; the other partition speaks, of nothing new."""
    for second in range(seconds):
        live.clock.advance(1_000)
        if second % 10 == 0 and not all_of_it:
            live.send(topic, Row(b"k", b"0", 60_000))
        for worker in workers:
            run_now(worker.turn(0))


def test_a_silent_partition_holds_windows_until_it_is_idle() -> None:
    """Read to its end and silent for `idle`, it is left out of the minimum; before that nothing closes."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 28, worker)
    assert live.values("out") == []
    assert not is_idle(live)
    silent_for(live, 4, worker)
    live.rest(worker)
    assert live.values("out") == CLOSED
    assert is_idle(live)


def test_one_that_never_had_a_record_is_waited_for_as_long() -> None:
    """Its first one may be under way: a topic is filled partition by partition."""
    live = made(first=False)
    worker = live.rested(app())
    silent_for(live, 28, worker)
    assert live.values("out") == []
    silent_for(live, 4, worker)
    live.rest(worker)
    assert live.values("out") == [b"[0,1]", *CLOSED[1:]]
    assert is_idle(live)


@pytest.mark.parametrize("first", [True, False])
def test_never(first: bool) -> None:
    """idle=None, on the command line `never`: time waits for every partition, however long."""
    live = made(first=first, idle="never")
    worker = live.rested(app())
    silent_for(live, 1_000, worker)
    assert live.values("out") == []


@pytest.mark.parametrize("lost_disk", [False, True])
def test_the_decision_outlives_a_restart(lost_disk: bool) -> None:
    """It is committed with the offset: the next worker does not wait again, with the disk or without."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 32, worker)
    live.rest(worker)
    run_now(worker.stop())
    if lost_disk:
        live.disk = MemoryDisk()
    say(live, 0, 80)
    worker = live.rested(app())
    assert live.values("out") == [*CLOSED, b"[60000,1]"]
    assert is_idle(live)


@pytest.mark.parametrize("restart", [False, True])
def test_a_record_after_idle(restart: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What closed without the partition stays closed: its record for that is late; one for an open window counts."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 32, worker)
    live.rest(worker)
    if restart:
        run_now(worker.stop())
        worker = live.rested(app())
    for seconds in (6, 7, 61):
        say(live, 1, seconds)
        live.rest(worker)
    assert worker.late == {"one.count": 2}
    assert caplog.records and all(record.levelname == "WARNING" for record in caplog.records), "no alarm"
    assert not is_idle(live)
    say(live, 0, 100)
    live.rest(worker)
    assert live.values("out") == CLOSED, "the partition holds time back again"
    say(live, 1, 100)
    live.rest(worker)
    assert live.values("out") == [*CLOSED, b"[60000,2]"]


def test_not_while_there_is_more_to_read() -> None:
    """A partition from which nothing comes, though it has more, is not silent: it is slow."""
    held = [False]
    live = made()
    live.log._chunk_records = lambda: 0 if held[0] else 10_000
    worker = live.rested(app())
    say(live, 1, 7)
    held[0] = True
    silent_for(live, 100, worker)
    assert live.values("out") == []
    held[0] = False
    live.rest(worker)
    assert worker.late == {}
    silent_for(live, 32, worker)
    live.rest(worker)
    assert live.values("out") == [b"[0,3]", *CLOSED[1:]]


def test_not_across_a_rebalance() -> None:
    """Silence is counted anew by whoever gets the partition, and by whoever keeps it."""
    live = made()
    first = live.rested(app(), "a")
    silent_for(live, 28, first)
    second = live.worker(app(), "b", disk=MemoryDisk())
    live.rest(first, second)
    silent_for(live, 20, first, second)
    assert live.values("out") == []
    silent_for(live, 15, first, second)
    live.rest(first, second)
    assert live.values("out") == CLOSED


def test_behind_a_pause_of_all_each_is_waited_for() -> None:
    """One that was left out too: which of them is heard first says nothing of the others."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 32, worker)
    assert is_idle(live)
    silent_for(live, 40, worker, all_of_it=True)
    live.rest(worker)
    assert live.values("out") == CLOSED
    assert not is_idle(live)
    say(live, 0, 100)
    silent_for(live, 10, worker, all_of_it=True)
    assert live.values("out") == CLOSED
    say(live, 1, 61)
    live.rest(worker)
    assert worker.late == {}
    say(live, 1, 100)
    live.rest(worker)
    assert live.values("out") == [*CLOSED, b"[60000,2]"]


def test_behind_a_pause_of_all_one_that_stays_silent_is_left_out_again() -> None:
    """It is waited for from the moment that another one goes on."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 200, worker, all_of_it=True)
    say(live, 0, 100)
    silent_for(live, 28, worker, all_of_it=True)
    assert live.values("out") == CLOSED
    silent_for(live, 4, worker, all_of_it=True)
    live.rest(worker)
    assert live.values("out") == [*CLOSED, b"[60000,1]"]


def test_all_silent_at_once() -> None:
    """Time goes to the newest record, and waits there: windows behind it do not close for want of records."""
    live = made()
    worker = live.rested(app())
    silent_for(live, 300, worker, all_of_it=True)
    assert live.values("out") == CLOSED
    assert not is_idle(live)
    assert not is_idle(live, Partition("numbers", 0))
    say(live, 1, 60)
    live.rest(worker)
    assert worker.late == {}
    assert live.values("out") == CLOSED


@pytest.mark.parametrize("pause_s", [0, 7, 100])
def test_history_that_comes_partition_by_partition(pause_s: int) -> None:
    """Two workers that were there before the first record, or behind a pause: none of it is late."""
    live = Live()
    live.create("numbers", 2)
    workers = [live.worker(app(), name, disk=MemoryDisk()) for name in "ab"]
    live.rest(*workers)
    if pause_s:
        say(live, 0, 1)
        say(live, 1, 1)
    silent_for(live, pause_s, *workers, all_of_it=True)
    for partition in (0, 1):
        say(live, partition, *range(20, 100))
        silent_for(live, 3, *workers, all_of_it=True)
    live.rest(*workers)
    assert [worker.late for worker in workers] == [{}, {}]
    assert live.values("out")[-7:] == [b"[%d000,20]" % start for start in range(20, 90, 10)]


def test_each_topic_of_a_merge_is_one() -> None:
    """A task that reads two topics waits for the silent one as for a partition."""
    made_app = App("merged")
    a, b = (made_app.topic(name, key=bytes, value=int) for name in "ab")

    @made_app.stream(a, b, to=made_app.topic("out"))
    def one(a: Stream[bytes, int], b: Stream[bytes, int]) -> Any:
        return a.merge(b).filter(bool).window(tumbling("10s")).count().map(lambda row: row.value)

    live = Live()
    live.create("a")
    live.create("b")
    live.send("a", *[Row(b"k", b"1", at * 1_000) for at in (0, 60)])
    live.send("b", Row(b"k", b"1", 5_000))
    worker = live.rested(made_app)
    silent_for(live, 28, worker, topic="a")
    assert live.values("out") == []
    silent_for(live, 4, worker, topic="a")
    live.rest(worker)
    assert live.values("out") == [b"2"]
    live.send("b", Row(b"k", b"1", 6_000))
    live.rest(worker)
    assert worker.late == {"one.count": 1}


@pytest.mark.parametrize("all_of_it", [False, True])
def test_what_was_closed_without_a_topic_is_known_behind_a_restart(
    all_of_it: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Though the stage that reads it keeps no state, and nothing else has come since; the other topic idle or not."""
    made_app = App("restarted")
    a, b = (made_app.topic(name, value=int) for name in "ab")

    @made_app.stream(a, b, to=made_app.topic("out"))
    def one(a: Stream[bytes, int], b: Stream[bytes, int]) -> Any:
        merged = a.merge(b).filter(bool).key_by(lambda _: 0)
        return merged.window(tumbling("10s")).count().map(lambda row: row.value)

    live = Live()
    live.create("a")
    live.create("b")
    live.send("a", *[Row(b"k", b"1", at * 1_000) for at in (0, 60)])
    live.send("b", Row(b"k", b"1", 5_000))
    worker = live.rested(made_app)
    silent_for(live, 32, worker, topic="a")
    silent_for(live, 60 if all_of_it else 0, worker, all_of_it=True)
    live.rest(worker)
    assert live.values("out") == [b"2"]
    run_now(worker.stop())
    worker = live.rested(made_app)
    live.send("b", Row(b"k", b"1", 6_000))
    live.rest(worker)
    assert worker.late == {"one.count": 1}
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "an alarm"


def test_a_run_until_the_end_decides_nothing() -> None:
    """No partition is idle in a run that knows its end: only the content of the log counts."""
    live = made(first=False)
    live.run(app())
    assert not is_idle(live)
    assert live.values("out") == [b"[0,1]", b"[10000,1]", b"[30000,1]", b"[60000,1]"]
