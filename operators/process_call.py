"""Call: the calls of a process function, one after the other, and the rows that they gave."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from types import GeneratorType
from typing import Any

from streamproc.operators.batch import EMPTY, Batch, Headers, Origin
from streamproc.operators.process_context import NO_HEADERS, Context, Sent
from streamproc.operators.process_function import ProcessFunction, StateType
from streamproc.operators.timers import Timers
from streamproc.state.keyed_state import KeyedState

PAST_TIMERS = 1_000
"""So many timers may fire at once for one record: more are a timer that sets itself in its own past."""


class Call(Context[Any, Any]):
    """The context from the side of the operator, which has one and moves it from call to call."""

    __slots__ = ("_columns", "_function", "_row_headers", "_states")

    def __init__(
        self, function: ProcessFunction[Any, Any, Any, Any], state_type: StateType, states: KeyedState, timers: Timers
    ) -> None:
        super().__init__(timers, function.timers, state_type.initial)
        self._function = function
        self._states = states
        self._row_headers: Headers | None = None
        self._columns = _Columns()

    def begin(
        self,
        identity: Hashable,
        key: Any,
        timestamp: int,
        *,
        time: int,
        clock: int | None = None,
        origin: Origin | None = None,
        headers: Headers | None = None,
        number: int = 0,
        closing: tuple[Hashable, Any] | None = None,
    ) -> None:
        """What runs next is about this key and instant. Its past is up to `time`; `number` tells timers apart.

        closing   (unit, key) of the timer that it is; None for a record
        """
        self._identity = identity
        self.key = key
        self.timestamp = timestamp
        self._time = time
        self._clock = clock
        self._closing = closing
        self._origin = origin
        self._place = None if origin is None else (*origin, timestamp, number)
        self._send_count = 0
        self._row_headers = headers
        self.headers = NO_HEADERS if headers is None else headers

    def run(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call the function, then those of the timers that it set in its past; keep the rows and the state."""
        self._value = self._states.enter(self._identity)
        first = len(self._columns.values)
        self._collect(function(*arguments))
        if self._past:
            self._run_past()
        count = len(self._columns.values) - first
        if count:
            self._columns.extend(count, self.key, self.timestamp, self._clock, self._place, self._row_headers)
        self._states.leave(self._identity, self._value)

    def take_rows(self) -> Batch:
        """The rows since the last time."""
        columns, self._columns = self._columns, _Columns()
        return columns.batch()

    def take_sent(self) -> list[Sent]:
        """What was sent since the last time."""
        sent, self._sent = self._sent, []
        return sent

    def is_overdue(self) -> bool:
        """Whether, since the last time, a timer was set that the watermark has reached already."""
        overdue, self._overdue = self._overdue, False
        return overdue

    def _run_past(self) -> None:
        for _ in range(PAST_TIMERS):
            if not self._past:
                return
            _, name = min((due, name) for name, due in self._past.items())
            del self._past[name]
            self._collect(self._function.timers[name](self))
        raise RuntimeError(f"timer {name!r} is set again and again for no later than its own time: set it later")

    def _collect(self, made: Any) -> None:
        if made is None:
            return
        kind = type(made)
        if kind is not GeneratorType and kind is not list:
            self._check(made)
        self._columns.values.extend(made)

    def _check(self, made: Any) -> None:
        """Refuse what can be iterated over but is one value, and what has no order."""
        name, kind = self._function.__name__, type(made).__name__
        if isinstance(made, (set, frozenset)):
            raise TypeError(f"{name} returns a {kind}, which has no order: return a list")
        if isinstance(made, (str, bytes, Mapping)) or hasattr(made, "_fields") or not isinstance(made, Iterable):
            raise TypeError(f"{name} returns its values as an iterable, not a {kind}: yield it, or return [it]")


class _Columns:
    """Columns of a batch that grows."""

    __slots__ = ("clocks", "headers", "keys", "origins", "timestamps", "values")

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.values: list[Any] = []
        self.timestamps: list[int] = []
        self.clocks: list[int | None] = []
        self.origins: list[Origin | None] = []
        self.headers: list[Headers | None] = []

    def extend(
        self, count: int, key: Any, timestamp: int, clock: int | None, place: Origin | None, headers: Headers | None
    ) -> None:
        """The other columns of the last `count` values."""
        self.keys += [key] * count
        self.timestamps += [timestamp] * count
        self.clocks += [clock] * count
        self.headers += [headers] * count
        self.origins += [None] * count if place is None else [(*place, i) for i in range(count)]

    def batch(self) -> Batch:
        """All rows; a column in which there is nothing is None."""
        if not self.values:
            return EMPTY
        clocks = self.clocks if any(clock is not None for clock in self.clocks) else None
        origins: Any = None if None in self.origins else self.origins
        headers = self.headers if any(self.headers) else None
        return Batch(self.keys, self.values, self.timestamps, clocks, origins, headers)
