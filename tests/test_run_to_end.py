"""A run to the end by several workers: one end for all, and nobody leaves before everybody is there."""

import pytest

from streamproc import App, Stream
from streamproc.end_of_input import LOOK_MS
from streamproc.log import LogError, Partition
from streamproc.state.memory import MemoryDisk
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.live import Live
from tests.test_worker import answer, made, send, undisturbed, work


def copies() -> App:
    """A task for each partition, none of which waits for another."""
    app = App("copies")

    @app.stream(app.topic("numbers", value=int), to=app.topic("plain"))
    def copies(numbers: Stream[bytes, int]) -> Stream[bytes, int]:
        return numbers

    return app


def turns(live: Live, count: int, *workers: Worker) -> None:
    for _ in range(count):
        live.clock.advance(10)
        for worker in workers:
            run_now(worker.turn(0))


def to_end(live: Live, *workers: Worker) -> None:
    """Turns until each worker sees that the run is over; each stops as soon as it does."""
    left = list(workers)
    for _ in range(1_000):
        turns(live, 1, *left)
        for worker in [worker for worker in left if worker.done]:
            left.remove(worker)
            run_now(worker.stop())
        if not left:
            return
    pytest.fail("the run does not end")


def test_the_end_is_what_the_first_worker_saw() -> None:
    """A worker that comes later, and sees more records, works to the end of the first: the rest is for another run."""
    live = made()
    send(live, range(15))
    first = live.worker(work(), "a", until_end=True)
    send(live, range(15, 40))
    second = live.worker(work(), "b", until_end=True, disk=MemoryDisk())
    to_end(live, first, second)
    assert len(live.rows("plain")) == 15
    assert answer(live) == undisturbed(range(15))


def test_who_has_ended_waits_for_the_others() -> None:
    """A worker whose tasks have ended stays in the group, as does one that has none, until all have ended."""
    live = made(chunk_records=1)
    send(live, range(15))
    apps = [work() for _ in range(6)]
    workers = [live.worker(app, f"w{n}", until_end=True, disk=MemoryDisk()) for n, app in enumerate(apps)]
    turns(live, 3, *workers)
    without = [worker for worker in workers if not worker.tasks]
    slow = next(worker for worker in workers if any(task.stage == "work-key_by" for task in worker.tasks))
    others = [worker for worker in workers if worker is not slow]
    assert len(without) == 2
    turns(live, 500, *others)
    assert not any(worker.done for worker in others)
    to_end(live, *workers)
    assert answer(live) == undisturbed(range(15))


def test_it_looks_seldom_whether_the_others_have_ended() -> None:
    """Once a second, however often its turn comes."""
    live = made(chunk_records=1)
    send(live, range(15))
    first = live.worker(copies(), "a", until_end=True)
    second = live.worker(copies(), "b", until_end=True, disk=MemoryDisk())
    turns(live, 3, first, second)
    asked = 0
    real = live.log.committed

    async def committed(group: str) -> object:
        nonlocal asked
        asked += 1
        return await real(group)

    live.log.committed = committed  # type: ignore[method-assign, assignment]
    while not all(task.ended_run for task in first.tasks.values()):
        turns(live, 1, first)
    asked = 0
    turns(live, 10 * LOOK_MS // 10, first)
    assert 9 <= asked <= 11


def test_tasks_that_have_ended_are_not_opened_again() -> None:
    """When the first has left, its tasks are assigned to the others; they have seen, or see then, that all is over."""
    live = made()
    send(live, range(15))
    first = live.worker(work(), "a", until_end=True)
    second = live.worker(work(), "b", until_end=True, disk=MemoryDisk())
    while not first.done:
        turns(live, 1, first, second)
    run_now(first.stop())
    mine = set(second.tasks)
    for _ in range(10):
        run_now(second.turn(0))
    assert second.done
    assert second.tasks.keys() <= mine
    run_now(second.stop())
    assert answer(live) == undisturbed(range(15))


def test_an_end_of_an_earlier_run_is_none_of_this() -> None:
    """What an earlier run has committed as ended is not over in one that has more to read."""
    live = made()
    send(live, range(15))
    to_end(live, live.worker(work(), "a", until_end=True))
    send(live, range(15, 30))
    first = live.worker(work(), "a", until_end=True)
    second = live.worker(work(), "b", until_end=True, disk=MemoryDisk())
    to_end(live, first, second)
    assert len(live.rows("plain")) == 30


def test_the_same_end_again() -> None:
    """A run that finds nothing new ends by itself, and changes nothing."""
    live = made()
    send(live, range(15))
    to_end(live, live.worker(work(), "a", until_end=True))
    before = answer(live)
    first = live.worker(work(), "a", until_end=True)
    second = live.worker(work(), "b", until_end=True, disk=MemoryDisk())
    to_end(live, first, second)
    assert answer(live) == before


@pytest.mark.parametrize("ends", [True, False])
def test_workers_with_and_without_an_end_do_not_mix(*, ends: bool) -> None:
    """Who comes second is told so and ends; who was there goes on."""
    live = made()
    send(live, range(15))
    first = live.worker(work(), "a", until_end=ends)
    turns(live, 1, first)
    second = live.worker(work(), "b", until_end=not ends, disk=MemoryDisk())
    with pytest.raises(LogError, match="with --until-end: start it like them" if not ends else "without --until-end"):
        turns(live, 5, first, second)
    run_now(second.abandon())
    turns(live, 20, first)
    assert first.done == ends
    assert len(live.rows("plain")) == 15
    assert sum(live.committed(work())[Partition("numbers", number)][0] for number in range(2)) == 15
