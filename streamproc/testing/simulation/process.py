"""A simulated process: what crashes and stops, and the numbers of its calls to the world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class Crash(BaseException):
    """The process ends here: nothing of it is to run any more, and no door lets anything of it through."""


class Process:
    """A process and its doors to the world: the cluster, and whatever else is called through `call` and `wait`.

    Moments are numbered: 2 * n before the call number n, 2 * n + 1 behind it.

    happens   what happens at a moment, once: `crash`, `pause`, whatever a test wants
    at_next   the same, by the name of a call: at the next one, 0 before it, 1 behind it
    calls     the names of the calls, in the order in which they began
    """

    def __init__(self, name: str, happens: Mapping[int, Callable[[], None]] | None = None) -> None:
        self.name = name
        self.happens = dict(happens or {})
        self.at_next: dict[str, tuple[int, Callable[[], None]]] = {}
        self.calls: list[str] = []
        self.dead = False
        self.paused = False
        self._waiting: dict[asyncio.Future[Any], None] = {}
        """Who waits for something that must not come once the process is dead."""
        self._arrived: list[Callable[[], None]] = []
        self._alarms: list[Callable[[], None]] = []
        self._goes_on: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------ what happens to it

    def kill(self) -> None:
        """It is dead (SIGKILL): who waits at a door is told Crash, and so is everyone who comes to one."""
        self.dead, self.paused = True, False
        self._arrived.clear()
        self._alarms.clear()
        self._never_mind()
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_exception(Crash(self.name))

    def crash(self) -> None:
        """It is dead, and so is who calls this."""
        self.kill()
        raise Crash(self.name)

    def pause(self, seconds: float | None = None) -> None:
        """It stands still (SIGSTOP): no call gets out, nothing gets in. It goes on by itself after `seconds`."""
        if self.dead:
            return
        self.resume()
        self.paused = True
        if seconds is not None:
            self._goes_on = asyncio.get_running_loop().call_later(seconds, self.resume)

    def resume(self) -> None:
        """It goes on (SIGCONT): first comes what has arrived meanwhile, then what it had set an alarm for."""
        self.paused = False
        self._never_mind()
        happened, self._arrived, self._alarms = self._arrived + self._alarms, [], []
        for happens in happened:
            happens()

    # ------------------------------------------------------------------------------------ its calls

    @property
    def now(self) -> int:
        """The next moment before a call."""
        return 2 * len(self.calls)

    def call(self, name: str, f: Callable[..., T], *args: Any, **options: Any) -> T:
        """A call that does not wait."""
        behind = self._begin(name)
        result = f(*args, **options)
        self._pass(behind)
        return result

    async def wait(self, name: str, f: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """A call that may. What it raises has come through the door, too: the moment behind it is before that."""
        behind = self._begin(name)
        await self._going()
        try:
            result = await f(*args, **options)
        except Exception:
            self._pass(behind)
            await self._going()
            raise
        self._pass(behind)
        await self._going()
        return result

    # ------------------------------------------------------------------------------------ for its doors

    def deliver(self, happens: Callable[[], None], *, alarm: bool = False) -> None:
        """Something comes in: now, or when the process goes on. An alarm is what it has set itself."""
        if self.paused:
            (self._alarms if alarm else self._arrived).append(happens)
        elif not self.dead:
            happens()

    async def until(self, future: asyncio.Future[T]) -> T:
        """The result of a future; Crash if the process dies before."""
        self._waiting[future] = None
        try:
            return await future
        finally:
            self._waiting.pop(future, None)

    def check(self) -> None:
        """Raise Crash if it is dead."""
        if self.dead:
            raise Crash(self.name)

    def _never_mind(self) -> None:
        if self._goes_on is not None:
            self._goes_on.cancel()
            self._goes_on = None

    def _begin(self, name: str) -> int:
        moment = self.now
        self.calls.append(name)
        if name in self.at_next:
            behind, happens = self.at_next.pop(name)
            self.happens[moment + behind] = happens
        self._pass(moment)
        return moment + 1

    def _pass(self, moment: int) -> None:
        self.check()
        happens = self.happens.pop(moment, None)
        if happens is not None:
            happens()
            self.check()

    async def _going(self) -> None:
        while self.paused:
            going: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._alarms.append(_setter(going))
            await self.until(going)
        self.check()


def _setter(future: asyncio.Future[None]) -> Callable[[], None]:
    def set_it() -> None:
        if not future.done():
            future.set_result(None)

    return set_it
