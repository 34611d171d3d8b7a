"""How long it takes until records are processed again when a worker comes, or is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from statistics import median
from typing import Final

from streamproc.log import Partition
from tests.benchmarks.kafka.goals import Goals, line
from tests.benchmarks.kafka.processes import Commit, Scene, scene

ROUNDS: Final = 3
EPOCH: Final = ("--epoch-interval", "50ms")
"""What is seen from outside are commits."""
JOIN_GOAL_S: Final = 0.5
RESTART_GOAL_S: Final = 2.0
WIDTHS: Final = (60, 8, 8, 10)


async def report(broker: str, goals: Goals) -> None:
    """Measure and print."""
    print(
        f"Job count, 4 tasks, 1,000 records a second, epochs of 50 ms: from ... to the first commit; {ROUNDS} times.\n"
    )
    print(line(WIDTHS, ("", "s", "worst", "goal")))
    from_start, from_join = zip(*[await second_worker(broker) for _ in range(ROUNDS)], strict=True)
    _print("a second worker joins: to the first of both", from_join, goals, JOIN_GOAL_S)
    _print("  the same, from the start of its process", from_start, goals)
    await _repeat("kill -9, started again by the supervisor", restarted_by_supervisor, broker, goals, RESTART_GOAL_S)
    await _repeat(
        "kill -9, started again by hand, its slot is its own", restarted_by_hand, broker, goals, RESTART_GOAL_S
    )
    await _repeat("kill -9, dismissed: another worker has all of its tasks", taken_over, broker, goals)
    print()


async def _repeat(
    what: str, measure: Callable[[str], Awaitable[float]], broker: str, goals: Goals, goal: float | None = None
) -> None:
    _print(what, [await measure(broker) for _ in range(ROUNDS)], goals, goal)


def _print(what: str, found: tuple[float, ...] | list[float], goals: Goals, goal: float | None = None) -> None:
    middle = median(found)
    shown = "" if goal is None else goals.at_most(f"{what}: {middle:.2f} s", middle, goal)
    print(line(WIDTHS, (what, f"{middle:.2f}", f"{max(found):.2f}", shown)), flush=True)


async def second_worker(broker: str) -> tuple[float, float]:
    """From the start of its process, and from when it has its name, which it joins with at once."""
    async with scene(broker, "count") as app:
        first = app.start(*EPOCH)
        await app.until_all_work(first)
        began = time.monotonic()
        second = app.start(*EPOCH)
        joins: list[float] = []

        def both(commits: Mapping[Partition, Commit]) -> bool:
            name = app.name_of(second)
            if name is not None and not joins:
                joins.append(time.monotonic())
            return name in {commit.member for commit in commits.values()}

        await app.until(both, "a commit of the second worker")
        done = await _commits_on(app, app.name_of(first))
        return done - began, done - joins[0]


async def _commits_on(app: Scene, name: str | None) -> float:
    """The instant at which a worker has committed once more."""
    before = _last(await app.commits(), name)
    return await app.until(lambda commits: _last(commits, name) > before, f"another commit of {name}")


def _last(commits: Mapping[Partition, Commit], name: str | None) -> int:
    return max((commit.epoch for commit in commits.values() if commit.member == name), default=0)


async def restarted_by_supervisor(broker: str) -> float:
    """One of its two processes."""
    async with scene(broker, "count") as app:
        app.start("--processes", "2", *EPOCH, command="run")
        await app.until(lambda commits: len({commit.member for commit in commits.values()}) == 2, "commits of both")
        victim = next(slot for slot in app.slots() if slot.pid is not None)
        assert victim.pid is not None
        return await _works_again(app, victim.name, partial(os.kill, victim.pid, signal.SIGKILL))


async def restarted_by_hand(broker: str) -> float:
    """The only worker."""
    async with scene(broker, "count") as app:
        worker = app.start(*EPOCH)
        await app.until_all_work(worker)
        name = app.name_of(worker)

        def restart() -> None:
            worker.kill()
            worker.wait()
            app.start(*EPOCH)

        return await _works_again(app, name, restart)


async def _works_again(app: Scene, name: str | None, restart: Callable[[], None]) -> float:
    """In its new life a worker numbers its epochs anew."""
    await app.until(lambda commits: _last(commits, name) > 20, "20 epochs")
    began = time.monotonic()
    restart()
    return await app.until(lambda commits: 0 < _last(commits, name) < 20, "a commit of its new life") - began


async def taken_over(broker: str) -> float:
    """One of two workers."""
    async with scene(broker, "count") as app:
        gone, stays = app.start(*EPOCH), app.start(*EPOCH)
        await app.until_all_work(gone, stays)
        name = app.name_of(gone)
        assert name is not None
        began = time.monotonic()
        gone.kill()
        gone.wait()
        await app.log.dismiss(app.names.group, name)
        return await app.until(lambda commits: _last(commits, name) == 0, "all tasks with the other") - began
