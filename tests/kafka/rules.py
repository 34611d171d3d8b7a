"""What a proxy does to some of the frames that pass."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Literal

from tests.kafka.frames import Api, Request

Side = Literal["request", "reply"]
Fate = Callable[[asyncio.Event], Awaitable[bool]]
"""Returns, when the time has come, whether a caught frame goes on; the event is set when the rule is released."""

WAIT_SECONDS = 30


async def closed(released: asyncio.Event) -> bool:
    """The frame is lost, and its connection ends."""
    raise ConnectionAbortedError


async def unheard(released: asyncio.Event) -> bool:
    """The frame is lost, and nobody is told."""
    return False


async def held(released: asyncio.Event) -> bool:
    """The frame waits for the rule's release."""
    await released.wait()
    return True


def late(seconds: float) -> Fate:
    """The frame is so much later."""

    async def fate(released: asyncio.Event) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(released.wait(), seconds)
        return True

    return fate


class Rule:
    """Catches some of the requests of an API, or of the replies to them, and decides about their fate.

    The `nth` that `where` accepts is the first to be caught, and then those after it, `times` in all (None: no end).
    The proxy calls `takes` and `fate` in its thread; a test calls `wait` in its own.
    """

    def __init__(
        self, api: Api, side: Side, fate: Fate, where: Callable[[Request], bool], nth: int, times: int | None
    ) -> None:
        self.api, self.side = api, side
        self.released = asyncio.Event()
        self._fate, self._where = fate, where
        self._skip, self._left = nth - 1, times
        self._caught: SimpleQueue[Request] = SimpleQueue()
        self.frames: list[bytes] = []
        """What was caught."""

    def wait(self, seconds: float = WAIT_SECONDS) -> Request:
        """The next request that was caught, or whose reply was; raises TimeoutError when none comes.

        Blocks: a test with clients in its own loop says `await asyncio.to_thread(rule.wait)`.
        """
        try:
            return self._caught.get(timeout=seconds)
        except Empty:
            raise TimeoutError(f"no {self.api.name} {self.side} was caught in {seconds} s") from None

    def takes(self, side: Side, request: Request, frame: bytes) -> bool:
        """Whether the rule decides about this frame, which has then been caught."""
        if side != self.side or request.api != self.api or self._left == 0 or not self._where(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._left is not None:
            self._left -= 1
        self.frames.append(frame)
        self._caught.put(request)
        return True

    async def fate(self) -> bool:
        """Returns, when the time has come, whether a caught frame goes on; raises ConnectionAbortedError."""
        return await self._fate(self.released)

    def end(self) -> None:
        """Nothing more is caught, and what waits goes on."""
        self._left = 0
        self.released.set()
