"""The Clock protocol: wall time as a door, so that tests and simulations can hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where the wall time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch; never goes back."""


class SystemClock:
    """The machine's clock, made monotone: where the system time steps back, this one goes on from where it was.

    It must not stand still either: what is due after so long would not come until the system time is where it was.

    >>> system = iter([60_000_000_000, 0, 5_000_000_000])
    >>> monotonic = iter([0, 1_000_000_000, 6_000_000_000])
    >>> clock = SystemClock(system_ns=lambda: next(system), monotonic_ns=lambda: next(monotonic))
    >>> clock.now_ms(), clock.now_ms()
    (61000, 66000)
    """

    def __init__(
        self, *, system_ns: Callable[[], int] = time.time_ns, monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._system_ns = system_ns
        self._monotonic_ns = monotonic_ns
        self._now_ns = system_ns()
        self._at_ns = monotonic_ns()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        system_ns = self._system_ns()  # first: what may pass until the next line is then no step ahead
        at_ns = self._monotonic_ns()
        self._now_ns = max(system_ns, self._now_ns + at_ns - self._at_ns)
        self._at_ns = at_ns
        return self._now_ns // 1_000_000


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
