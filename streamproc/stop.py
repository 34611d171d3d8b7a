"""Stop: how a process is asked to end, and how long it may take.

    first signal     the open epoch is committed and the group is left
      LEAVE_S        what is not done by then is abandoned: the epoch is dropped, and read again by whoever comes next
      EXIT_S         the process ends, whatever it hangs on: a function of the user, a broker that does not answer
    second signal    the process ends at once

Nothing is lost or doubled at any of these moments: a process may die at each of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractContextManager, asynccontextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

from streamproc.frames import where_it_is

logger = logging.getLogger("streamproc")

LEAVE_S: Final = 7.0
"""For the turn under way, the last commit and the goodbye to the group."""
GIVE_BACK_S: Final = 1.0
"""For dropping the epoch and giving the log back; after an error too."""
EXIT_S: Final = 9.5
"""Service managers and the supervisor kill after ten."""
_LOOK_S: Final = 0.1
_AGAIN_S: Final = 0.5
_SAY_S: Final = 0.3


class Stop(AbstractContextManager["Stop"]):
    """Within it, a first SIGINT or SIGTERM sets `requested`, a second ends the process by SystemExit, at once.

    A process that has not left the block `exit_s` after the first is ended by a thread, with exit code 1.
    `leave_s` is for `leaving_in_time`. A supervised process hears the first SIGTERM alone: Ctrl-C goes to all of a
    terminal's processes, a service manager's SIGTERM to all of a service's, and its supervisor passes both on.
    """

    def __init__(self, *, leave_s: float = LEAVE_S, exit_s: float = EXIT_S, supervised: bool = False) -> None:
        self.requested = False
        self.since: float | None = None
        """When it was asked to stop, on the monotonic clock."""
        self.leave_s = leave_s
        self._exit_s = exit_s
        self._supervised = supervised
        self._handlers: dict[signal.Signals, Any] = {}
        self._left = threading.Event()

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            unheard = self._supervised and number == signal.SIGINT
            self._handlers[number] = signal.signal(number, _unheard if unheard else self._heard)
        threading.Thread(target=self._see_to_it, name="stop", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def request(self) -> None:
        """As a first signal does; another one changes nothing."""
        if not self.requested:
            self.since = time.monotonic()
            self.requested = True

    def _heard(self, number: int, frame: FrameType | None) -> None:
        # Not add_signal_handler: the event loop gets no turn while a function of the user runs.
        if self.requested:
            if self._supervised:
                return
            raise SystemExit(128 + number)
        self.request()
        if self._supervised:
            logger.info("asked to stop: committing what was read")
        else:
            logger.warning("%s: committing what was read; once more stops at once", signal.Signals(number).name)

    def _see_to_it(self) -> None:
        """A thread, which runs while the event loop is blocked."""
        while not self._left.wait(_LOOK_S):
            if self.since is not None and time.monotonic() - self.since > self._exit_s:
                saying = threading.Thread(target=self._say_farewell, daemon=True)  # whoever reads the log may hang too
                saying.start()
                saying.join(_SAY_S)
                os._exit(1)

    def _say_farewell(self) -> None:
        main = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 - documented, for debuggers
        where = f" {where_it_is(main)}" if main is not None else ""
        logger.error(
            "not done %g s after it was asked to stop:%s. It ends as after kill -9: the open epoch is dropped, nothing "
            "is lost",
            self._exit_s,
            where,
        )


def _unheard(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which programs that this process starts would inherit."""


@asynccontextmanager
async def leaving_in_time(stop: Stop) -> AsyncIterator[None]:
    """Raises TimeoutError where the block is not left `leave_s` after it was asked to stop, whatever it waits for."""
    task = asyncio.current_task()
    assert task is not None
    driving = _Driving(stop, task)
    watching = asyncio.create_task(driving.out())
    try:
        yield
    except asyncio.CancelledError:
        for _ in range(driving.cancels):
            task.uncancel()
        if driving.cancels and not task.cancelling():
            raise TimeoutError from None
        raise
    finally:
        watching.cancel()


class _Driving:
    """Drives a task out of what it waits for; again where it waits for something else on its way out."""

    def __init__(self, stop: Stop, task: asyncio.Task[Any]) -> None:
        self.cancels = 0
        self._stop = stop
        self._task = task

    async def out(self) -> None:
        """Once it has been asked to stop, and the time is over."""
        while self._stop.since is None:  # noqa: ASYNC110 - a signal handler sets it, and wakes no event loop
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(self._stop.since + self._stop.leave_s - time.monotonic())
        while True:
            self.cancels += 1
            self._task.cancel()
            await asyncio.sleep(_AGAIN_S)


async def done_within(work: Awaitable[None], within_s: float) -> bool:
    """Whether this was done in time; what was not is left where it hangs, and waited for no longer."""
    doing = asyncio.ensure_future(work)
    done, _ = await asyncio.wait([doing], timeout=within_s)
    if not done:
        doing.cancel()
        return False
    doing.result()
    return True
