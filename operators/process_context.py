"""Context: what a process function sees of its key: state, time, timers, and topics to send to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

from streamproc.operators.batch import NEVER, Origin
from streamproc.operators.timers import Timer, Timers
from streamproc.state.list_state import ListState
from streamproc.state.map_state import MapState
from streamproc.windows.duration import Duration, Instant, duration_ms, instant_ms

K = TypeVar("K")
S = TypeVar("S")

NO_HEADERS: Mapping[str, bytes] = MappingProxyType({})
KNOWN_DURATIONS = 256
"""So many durations of `timer(after=)` are not read again."""


class Sent(NamedTuple):
    """A record for a topic beside what a process function returns, with the time, clock and origin that a row has.

    closing   (unit, key) of the timer whose function sent it, for a `CloseError`; None: it is of the record
    """

    topic: Any
    key: Any
    value: Any
    timestamp: int
    clock: int | None
    origin: Origin | None
    closing: tuple[Hashable, Any] | None = None


class Context(Generic[K, S]):
    """The key at hand in a call of a process function, or of the function of one of its timers. Valid during that call.

    key        of the record, or of the timer
    timestamp  of the record, or for which the timer was set, in ms since the epoch
    headers    of the record; none in a timer
    watermark  up to where the task has seen everything, in ms; it depends on the pace of the run, so results should not
    """

    __slots__ = (
        "_after_ms",
        "_clock",
        "_closing",
        "_identity",
        "_initial",
        "_names",
        "_origin",
        "_overdue",
        "_past",
        "_place",
        "_send_count",
        "_sent",
        "_time",
        "_timers",
        "_value",
        "headers",
        "key",
        "timestamp",
        "watermark",
    )

    key: K
    timestamp: int
    headers: Mapping[str, bytes]

    def __init__(self, timers: Timers, names: Collection[str], initial: Callable[[], Any] | None) -> None:
        self.watermark = NEVER
        self._timers = timers
        self._names = names
        self._initial = initial
        self._after_ms = lru_cache(KNOWN_DURATIONS)(duration_ms)
        self._identity: Hashable = None
        self._value: Any = None
        self._time = NEVER
        self._clock: int | None = None
        self._closing: tuple[Hashable, Any] | None = None
        self._origin: Origin | None = None
        self._place: Origin | None = None
        self._send_count = 0
        self._past: dict[str, int] = {}
        self._overdue = False
        self._sent: list[Sent] = []

    @property
    def state(self) -> S:
        """The key's state, as the annotation has it: `Context[str, Open | None]`.

        S | None      one object, None where there is none; set it to None, or `del ctx.state`, and there is none
        S             one object; a key without one gets S(), which is kept from when it is first asked for
        MapState[A, B], ListState[T]    one row an entry; they are changed, never set

        An object or entry that is changed in place is kept as changed.
        """
        value = self._value
        if value is None and self._initial is not None:
            value = self._value = self._initial()
        return value  # type: ignore[no-any-return]

    @state.setter
    def state(self, value: S) -> None:
        if isinstance(self._value, (MapState, ListState)):
            kind = type(self._value).__name__
            raise TypeError(f"ctx.state is a {kind}: change its entries, or clear() it, instead of setting it")
        self._value = value

    @state.deleter
    def state(self) -> None:
        if isinstance(self._value, (MapState, ListState)):
            self._value.clear()
        else:
            self._value = None

    def timer(self, name: str, *, at: Instant | None = None, after: Duration | None = None) -> None:
        """The function `@f.on_timer(name)` is called once, when event time reaches the instant.

        at      an instant: an aware datetime or ms since the epoch
        after   a duration from this record's (or timer's) timestamp on

        A key has one timer of a name: setting it again moves it. It fires before the key's next record whose clock
        (behind in_order: whose timestamp) reaches it, else when the watermark does. One that is set in the past of its
        record, or of the timer that sets it, fires at once, with the time of that.
        """
        self._check_name(name)
        if at is not None and after is None:
            due = instant_ms(at)
        elif after is not None and at is None:
            due = self.timestamp + self._after_ms(after, zero=True)
        else:
            raise TypeError(f"timer {name!r} is set either at= an instant or after= a duration")
        if due <= self._time:
            self._timers.cancel(self._identity, name)
            self._past[name] = due
        else:
            self._past.pop(name, None)
            self._timers.set(self._identity, Timer(due, name, self._origin))
            self._overdue |= due <= self.watermark

    def cancel(self, name: str) -> None:
        """The key's timer of that name does not fire; one that is not set is no error."""
        self._check_name(name)
        self._past.pop(name, None)
        self._timers.cancel(self._identity, name)

    def send(self, topic: Any, value: Any, *, key: Any = None) -> None:
        """A record goes to another topic as well, at the time of this one and in the same transaction."""
        origin = None if self._place is None else (*self._place, -1, self._send_count)
        self._send_count += 1
        self._sent.append(Sent(topic, key, value, self.timestamp, self._clock, origin, self._closing))

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            raise LookupError(f"timer {name!r} has no function: give it one with @FUNCTION.on_timer({name!r})")
