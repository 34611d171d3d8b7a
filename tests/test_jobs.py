"""Jobs on an event loop and without one: the same promises."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from streamproc.jobs import Job, Jobs, LoopJobs
from streamproc.testing.stepped_jobs import SteppedJobs


@pytest.fixture(params=[LoopJobs, SteppedJobs])
def jobs(request: pytest.FixtureRequest) -> Jobs:
    make: Callable[[], Jobs] = request.param
    return make()


async def until_done(jobs: Jobs, *under_way: Job[Any]) -> None:
    for _ in range(100):
        left = [job for job in under_way if not job.done()]
        if not left:
            return
        await jobs.wait(left, 1_000)
    pytest.fail("the jobs do not end")


async def test_a_job_gives_what_its_work_returns_or_raises(jobs: Jobs) -> None:
    """Once it is done, and as often as it is asked."""

    async def answer() -> int:
        await jobs.pause(0)
        return 42

    async def fails() -> int:
        await jobs.pause(1)
        raise ValueError("no answer")

    answers, failing = jobs.start(answer()), jobs.start(fails())
    await until_done(jobs, answers, failing)
    for _ in range(2):
        assert answers.result() == 42
        with pytest.raises(ValueError, match="no answer"):
            failing.result()


async def test_a_job_awaits_another(jobs: Jobs) -> None:
    """One may begin another, go on, and take its result later."""

    async def inner() -> str:
        await jobs.pause(1)
        return "inner"

    async def outer() -> str:
        other = jobs.start(inner())
        await jobs.pause(0)
        return await other + " and outer"

    job = jobs.start(outer())
    await until_done(jobs, job)
    assert job.result() == "inner and outer"


async def test_jobs_go_on_side_by_side(jobs: Jobs) -> None:
    """Where one pauses another goes on."""
    seen: list[str] = []

    async def steps(name: str) -> None:
        for _ in range(3):
            seen.append(name)
            await jobs.pause(1)

    await until_done(jobs, jobs.start(steps("a")), jobs.start(steps("b")))
    assert seen[:2] == ["a", "b"]
    assert sorted(seen) == ["a", "a", "a", "b", "b", "b"]


async def test_a_job_that_is_ended_gives_back_what_it_holds(jobs: Jobs) -> None:
    """When `end` has returned, its finally blocks have run; one that never began has nothing to give back."""
    held: list[str] = []

    async def holds(name: str) -> None:
        held.append(name)
        try:
            await jobs.pause(3_600_000)
        finally:
            await jobs.pause(0) if isinstance(jobs, LoopJobs) else None
            held.remove(name)

    first, second = jobs.start(holds("a")), jobs.start(holds("b"))
    await jobs.wait([first, second], 1)
    assert held == ["a", "b"]
    never = jobs.start(holds("c"))
    await jobs.end([first, second, never])
    assert held == []
    assert all(job.done() for job in (first, second, never))


async def test_a_wait_is_over_when_the_first_is_done() -> None:
    """On the loop: it does not wait for its time to pass."""
    jobs = LoopJobs()

    async def long() -> None:
        await jobs.pause(3_600_000)

    async def short() -> None:
        await jobs.pause(1)

    under_way = [jobs.start(long()), jobs.start(short())]
    await asyncio.wait_for(jobs.wait(under_way, 3_600_000), 10)
    assert [job.done() for job in under_way] == [False, True]
    await jobs.end(under_way)
