"""Window kinds: which windows a record of a given timestamp falls into.

By the timestamp alone, kept by slices (`FixedWindows`)::

    tumbling   |-----|-----|-----|
    hopping    |-----------|
                     |-----------|

By the records of a key (`SessionWindows`, `CountingWindows`)::

    session    |-x-x--x|     |x-x|        ends where nothing comes for longer than the gap
    counting   |x x x|x  x x|             every n records

By a rule of one's own: `Assigner`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Protocol, TypeAlias, runtime_checkable

from streamproc.windows.duration import Duration, duration_ms, duration_text


@dataclass(frozen=True, slots=True, repr=False)
class FixedWindows:
    """Half-open windows [start, start + size) that start at `offset` and every multiple of `every` after and before it.

    Time is cut into slices as long as the greatest common divisor of size and every, so that each window is whole
    slices and a record is kept once, in its slice. Where that is a small part of both (1m every 59s: 1s), closing
    a window has many slices to merge; never wrong, but slow.
    """

    size_ms: int
    every_ms: int
    offset_ms: int = 0
    """In [0, every)."""
    slice_ms: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "offset_ms", self.offset_ms % self.every_ms)
        object.__setattr__(self, "slice_ms", gcd(self.size_ms, self.every_ms))

    def slice_of(self, timestamp: int) -> int:
        """The start of the slice that contains an instant."""
        return timestamp - (timestamp - self.offset_ms) % self.slice_ms

    def ends_of_slice(self, slice_start: int) -> range:
        """The ends of the windows that contain a slice, ascending; empty where hops are longer than windows.

        ::

            size 25, every 10        slice [20, 25)
            [10 -------- 35)              ends 35
                  [20 -------- 45)             45
        """
        first_start = self.last_start(slice_start - self.size_ms) + self.every_ms
        return range(first_start + self.size_ms, slice_start + self.size_ms + 1, self.every_ms)

    def start_of(self, end: int) -> int:
        """The start of the window that ends there."""
        return end - self.size_ms

    def last_start(self, at: int) -> int:
        """The latest start of a window at or before an instant."""
        return at - (at - self.offset_ms) % self.every_ms

    def last_end(self, at: int) -> int:
        """The latest end of a window at or before an instant."""
        return self.last_start(at - self.size_ms) + self.size_ms

    def __repr__(self) -> str:
        size, offset = duration_text(self.size_ms), duration_text(self.offset_ms)
        more = f", offset={offset!r}" if self.offset_ms else ""
        if self.size_ms == self.every_ms:
            return f"tumbling({size!r}{more})"
        return f"hopping({size!r}, every={duration_text(self.every_ms)!r}{more})"


@dataclass(frozen=True, slots=True, repr=False)
class SessionWindows:
    """A key's records, each at most `gap` from the next; from the first timestamp to the last, both included."""

    gap_ms: int

    def __repr__(self) -> str:
        return f"session({duration_text(self.gap_ms)!r})"


@dataclass(frozen=True, slots=True, repr=False)
class CountingWindows:
    """After each `every` records of a key, as they arrive, its last `n`; the first window is the first full one."""

    n: int
    every: int

    def __repr__(self) -> str:
        return f"counting({self.n})" if self.n == self.every else f"counting({self.n}, every={self.every})"


@runtime_checkable
class Assigner(Protocol):
    """Windows of one's own, calendar days for example: any frozen object that says which windows contain an instant.

    A pure function of the timestamp; every window it names contains the timestamp. State is kept a window, not by
    slices. The repr is stored with the state, and state of another repr is refused: it should name all settings.
    """

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        """The (start, end) of the half-open windows that contain the instant, in ms; none is allowed."""


WindowKind: TypeAlias = FixedWindows | SessionWindows | CountingWindows | Assigner


def tumbling(size: Duration, *, offset: Duration = "0s") -> FixedWindows:
    """Windows one after the other, aligned to the epoch (UTC), or to `offset` after it.

    >>> tumbling("1d", offset="22h")  # days of a zone two hours east of UTC
    tumbling('1d', offset='22h')
    """
    size_ms = _argument("size", size)
    return FixedWindows(size_ms, size_ms, _argument("offset", offset, zero=True))


def hopping(size: Duration, *, every: Duration, offset: Duration = "0s") -> FixedWindows:
    """Windows of one size, one starting every so often: they overlap, a record is in size / every of them.

    With hops longer than windows there are gaps, whose records are in no window: a sample of the stream.

    >>> hopping("5m", every="10s")
    hopping('5m', every='10s')
    """
    return FixedWindows(_argument("size", size), _argument("every", every), _argument("offset", offset, zero=True))


def session(gap: Duration) -> SessionWindows:
    """Windows that end where a key is silent for longer than `gap`.

    >>> session("30m")
    session('30m')
    """
    return SessionWindows(_argument("gap", gap))


def counting(n: int, *, every: int | None = None) -> CountingWindows:
    """The last n records of a key after each n of them, or after each `every`.

    >>> counting(10, every=1)
    counting(10, every=1)
    """
    every = n if every is None else every
    for name, count in (("n", n), ("every", every)):
        if type(count) is not int or count < 1:
            raise ValueError(f"{name}={count!r}: a number of records, 1 or more: counting(10, every=5)")
    return CountingWindows(n, every)


def _argument(name: str, value: Duration, *, zero: bool = False) -> int:
    try:
        return duration_ms(value, zero=zero)
    except ValueError as error:
        raise ValueError(f"{name}={value!r}: {error}") from None
