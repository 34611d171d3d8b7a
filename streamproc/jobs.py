"""Jobs: work that goes on beside a worker's turns. A door, since tests and replays have no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Generator
from typing import Any, Final, Protocol, TypeVar

BREATH_S: Final = 0.1
"""A worker that has so much to do lets others go on in between: a third of the default time between heartbeats."""
BREATH_TURNS: Final = 10
"""Of the loop: a timer, its task, a request, an answer and who waits for it come one after the other."""

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Job(Protocol[T_co]):
    """A coroutine under way; awaited, it gives what the coroutine returns. An asyncio.Task is one."""

    def done(self) -> bool:
        """Whether it has ended, in whichever way."""

    def result(self) -> T_co:
        """What the coroutine, which has ended, returned or raised."""

    def __await__(self) -> Generator[Any, None, T_co]: ...


class Jobs(Protocol):
    """Where work goes on beside the worker's. All of it in one thread: a job runs while the worker awaits something."""

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        """Begin; the job must be given to `end` unless it is known to be done."""

    async def wait(self, jobs: Collection[Job[Any]], timeout_ms: int) -> None:
        """Let the jobs go on, until one of them is done or so much time is over."""

    async def end(self, jobs: Collection[Job[Any]]) -> None:
        """Cancel the jobs and wait until they have ended: afterwards they hold nothing. What they raise is dropped."""

    async def pause(self, ms: int) -> None:
        """For a job: the others go on for so long; 0: each once."""

    async def breathe(self) -> None:
        """For the worker, between two pieces of work: what else goes on in the process goes on, if it was long ago."""


class LoopJobs:
    """Jobs as tasks of the event loop."""

    def __init__(self) -> None:
        self._breathed = 0.0

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        return asyncio.create_task(work)

    async def wait(self, jobs: Collection[Job[Any]], timeout_ms: int) -> None:
        await asyncio.wait(_tasks(jobs), timeout=timeout_ms / 1000, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, jobs: Collection[Job[Any]]) -> None:
        tasks = _tasks(jobs)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def pause(self, ms: int) -> None:
        await asyncio.sleep(ms / 1000)

    async def breathe(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._breathed >= BREATH_S:
            for _ in range(BREATH_TURNS):
                await asyncio.sleep(0)
            self._breathed = loop.time()


def _tasks(jobs: Collection[Job[Any]]) -> list[asyncio.Task[Any]]:
    return [job for job in jobs if isinstance(job, asyncio.Task)]
