"""The Clock protocol: wall time as a door, so that tests and simulations can hold it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the wall time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch; never goes back."""


class SystemClock:
    """The machine's clock, made monotone: a step back of the system time shows as standing still."""

    def __init__(self) -> None:
        self._last_ms = 0

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms


class ManualClock:
    """A clock that moves when it is told to.

    >>> clock = ManualClock(1_000)
    >>> clock.advance(500)
    >>> clock.now_ms()
    1500
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._now_ms

    def advance(self, by_ms: int) -> None:
        """Time passes."""
        if by_ms < 0:
            msg = f"time does not go back: {by_ms} ms"
            raise ValueError(msg)
        self._now_ms += by_ms
