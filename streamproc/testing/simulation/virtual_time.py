"""An event loop whose time is virtual: nothing waits; where nothing is ready, it is the time of the next timer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from streamproc.testing.simulation.process import Crash

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TURNS = 100_000
"""Of the loop, at one time: more than that are no work, but somebody who goes round in circles."""


class Deadlock(RuntimeError):
    """Tasks wait, and nothing is scheduled that could wake one of them."""

    def __init__(self, waiting: list[str]) -> None:
        super().__init__(waiting)

    def __str__(self) -> str:
        waiting = self.args[0]
        return f"nothing is scheduled, so these {len(waiting)} tasks would wait for ever: {'; '.join(waiting)}"


class Livelock(RuntimeError):
    """Tasks go on and on, and time does not."""

    def __init__(self, at: float, running: list[str]) -> None:
        super().__init__(at, running)

    def __str__(self) -> str:
        at, running = self.args
        return f"at {at:.6f} s something goes on without ever waiting; the tasks are: {'; '.join(running)}"


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """asyncio without sockets, threads and waiting. `time()` is 0 at first and moves from timer to timer alone.

    >>> async def hours() -> float:
    ...     await asyncio.sleep(3_600)
    ...     return asyncio.get_running_loop().time() / 3_600
    >>> run(hours())
    1.0
    """

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        # What BaseEventLoop leaves to its subclasses, beside the two methods below.
        self._selector = _Jump(self)
        self._clock_resolution = math.ulp(0.0)

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def work(self, seconds: float) -> None:
        """Whoever calls this works for so long, and nothing else goes on meanwhile: timers are late."""
        self._go_to(self._now + seconds)

    def _go_to(self, when: float) -> None:
        self._now = when
        self._clock_resolution = math.ulp(when)  # timers before `now + resolution` fire

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Refused: how long a thread takes is no function of a seed."""
        msg = f"{func!r} would run in a thread, and in virtual time there is none"
        raise RuntimeError(msg)

    def _process_events(self, event_list: list[Any]) -> None:
        """There is nothing outside that an event could come from."""

    def _write_to_self(self) -> None:
        """The loop never blocks: there is nothing to wake."""


class _Jump:
    """In place of a selector: it waits by moving the time."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        loop = self._loop
        if timeout is None:
            raise Deadlock(_tasks(loop))
        if timeout > 0:  # exactly to the next timer: who then asks whether its time has come must be told that it has
            timers: Any = loop._scheduled  # type: ignore[attr-defined] # noqa: SLF001 # one class in two
            loop._now = timers[0]._when  # noqa: SLF001 # as above
            loop._clock_resolution = math.ulp(loop._now)  # noqa: SLF001 # timers before `now + resolution` fire
            self._turns = 0
        self._turns += 1
        if self._turns > TURNS:
            self._turns = 0
            raise Livelock(loop.time(), _tasks(loop))
        return []


class VirtualClock:
    """The wall clock of the loop that runs, which began at `start_ms`.

    >>> async def tomorrow() -> int:
    ...     await asyncio.sleep(86_400)
    ...     return VirtualClock(1_000).now_ms()
    >>> run(tomorrow())
    86401000
    """

    def __init__(self, start_ms: int) -> None:
        self._start_ms = start_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._start_ms + int(asyncio.get_running_loop().time() * 1000)


def run(main: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, in virtual time from 0 on. Tasks that are left are cancelled.

    Raises Deadlock as soon as nothing could ever happen any more, and Livelock when time never goes on.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.get_loop().set_exception_handler(_unheard)
        return runner.run(main)


def _unheard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tasks of a process that crashed have nobody to tell it to."""
    if not isinstance(context.get("exception"), Crash):
        loop.default_exception_handler(context)


def _tasks(loop: asyncio.AbstractEventLoop) -> list[str]:
    return sorted(f"{task.get_name()} at {_place(task)}" for task in asyncio.all_tasks(loop))


def _place(task: asyncio.Task[Any]) -> str:
    """The innermost line at which a task waits."""
    inner: Any = task.get_coro()
    while hasattr(awaited := getattr(inner, "cr_await", None), "cr_frame"):
        inner = awaited
    frame = getattr(inner, "cr_frame", None)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else repr(inner)
