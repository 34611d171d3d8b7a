"""Jobs without an event loop: they go on when the worker waits for them, in a fixed order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Generator
from types import coroutine
from typing import Any, Generic, TypeVar

from streamproc.jobs import Job

T = TypeVar("T")


class SteppedJobs:
    """Jobs that, waited for, go on up to their next pause, or as far as `going_on` says.

    `going_on` is asked where a job would begin and where it lets others go on, with how long it pauses: whether it goes
    on all the same. A simulation draws the answers.
    """

    def __init__(self, going_on: Callable[[int], bool] = lambda ms: ms == 0) -> None:
        self._going_on = going_on

    def start(self, work: Coroutine[Any, Any, T]) -> Job[T]:
        return _SteppedJob(work)

    async def wait(self, jobs: Collection[Job[Any]], timeout_ms: int) -> None:
        for job in jobs:
            if isinstance(job, _SteppedJob) and self._going_on(0):
                job.go_on(self._going_on)

    async def end(self, jobs: Collection[Job[Any]]) -> None:
        for job in jobs:
            if isinstance(job, _SteppedJob):
                job.end()

    async def pause(self, ms: int) -> None:
        await _paused(ms)

    async def breathe(self) -> None:
        """Nothing else goes on."""


class _SteppedJob(Generic[T]):
    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._outcome: Callable[[], T] | None = None

    def done(self) -> bool:
        return self._outcome is not None

    def result(self) -> T:
        assert self._outcome is not None, "the job is done"
        return self._outcome()

    def __await__(self) -> Generator[Any, None, T]:
        while not self.done():
            paused = self._step()
            if not self.done():
                yield paused
        return self.result()

    def go_on(self, going_on: Callable[[int], bool]) -> None:
        while not self.done():
            paused = self._step()
            if not self.done() and not going_on(paused):
                return

    def end(self) -> None:
        if not self.done():
            self._outcome = _ended
            self._work.close()

    def _step(self) -> int:
        """To the next pause, which it returns, or to the end."""
        try:
            return self._work.send(None)  # type: ignore[no-any-return] # nothing else is awaited without a loop
        except StopIteration as stop:
            value = stop.value
            self._outcome = lambda: value
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever asks for the result
            self._outcome = _raising(error)
        return 0


def _raising(error: BaseException) -> Callable[[], Any]:
    def outcome() -> Any:
        raise error

    return outcome


def _ended() -> Any:
    raise RuntimeError("the job was ended before it was done")


@coroutine
def _paused(ms: int) -> Generator[int, None, None]:
    yield ms
