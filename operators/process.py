"""process: a user's function with keyed state and event-time timers."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from typing import Any

from streamproc.operators.batch import FOREVER, Batch
from streamproc.operators.operator import CloseError, Operator
from streamproc.operators.operator import Context as OperatorContext
from streamproc.operators.process_call import Call
from streamproc.operators.process_context import Context, Sent
from streamproc.operators.process_function import ProcessFunction, process
from streamproc.operators.timers import Timer, Timers
from streamproc.state.errors import StoreError
from streamproc.state.keyed_state import KeyedState, ObjectState
from streamproc.state.keys import bytes_of, identities, key_of
from streamproc.state.list_state import ListStates
from streamproc.state.map_state import MapStates

__all__ = ["Context", "Process", "ProcessFunction", "Sent", "process"]


class Process(Operator):
    """Each record becomes what the function returns for it and its key's context; so does each timer that fires.

    Rows have the time of their record, or the instant of their timer. A timer that waited fires before its key's next
    record whose time (its clock, where that is known, else its timestamp) reaches it, else when the watermark does; its
    rows cannot be late. One set in the past of its record fires at once, and its rows are the record's. Those that the
    watermark fires come sorted by (instant, key bytes, name). The end of the input fires none beyond the watermark.

    A timer's function that fails is a `CloseError` of (key identity, name, instant), from `process` too; what it sent
    carries that unit, for whoever cannot write it.
    """

    keyed = True
    stateful = True

    def __init__(self, function: ProcessFunction[Any, Any, Any, Any]) -> None:
        self.function = function
        self.state_type = function.use()
        self.dense_clock = bool(function.timers)
        self.signature = {"verb": "process", "state": self.state_type.kind}
        self._numbers = {name: number for number, name in enumerate(sorted(function.timers), 1)}

    def open(self, context: OperatorContext) -> None:
        self.sent: list[Sent] = []
        self._states = _states(self.state_type.kind, context)
        self._timers = Timers(context.table("timers"), context.table("due", timed=True))
        self._call = Call(self.function, self.state_type, self._states, self._timers)

    def process(self, batch: Batch, side: int = 0) -> Batch:
        keys = identities(batch.keys)
        self._states.load(keys)
        if self.function.timers:
            self._timers.load(keys)
        call, function, pop = self._call, self.function.function, self._timers.pop
        call.watermark = self.watermark
        nothing = [None] * len(batch)
        columns = (batch.keys, batch.values, batch.timestamps)
        sparse = (batch.clocks or nothing, batch.origins or nothing, batch.headers or nothing)
        for identity, key, value, timestamp, clock, origin, headers in zip(keys, *columns, *sparse, strict=True):
            time = timestamp if clock is None else clock
            while timer := pop(identity, time):
                self._fire(identity, timer)
            call.begin(identity, key, timestamp, time=time, clock=clock, origin=origin, headers=headers)
            call.run(function, value, call)
        if call.is_overdue():
            self._fire_due(self.watermark)
        return self._finished()

    def close(self, watermark: int) -> Batch:
        self._call.watermark = self.watermark
        self._fire_due(max(self.watermark, self.end_time) if watermark == FOREVER else watermark)
        return self._finished()

    def take_sent(self) -> list[Sent]:
        sent, self.sent = self.sent, []
        return sent

    def _finished(self) -> Batch:
        self._states.flush()
        self._timers.flush()
        self.sent += self._call.take_sent()
        return self._call.take_rows()

    def _fire_due(self, until: int) -> None:
        """Fire what is due, and what that sets, in order."""
        timers = self._timers
        woken = timers.wake(until)
        if not woken:
            return
        self._states.load(woken)
        firsts = [(timers.first(identity), identity) for identity in woken]
        queue: list[Any] = [(timer.due, bytes_of(key), timer.name, key) for timer, key in firsts if timer]
        heapify(queue)  # one entry a key: its first timer
        while queue and queue[0][0] <= until:
            _, key_bytes, _, identity = heappop(queue)
            if timer := timers.pop(identity, until):
                self._fire(identity, timer)
            if timer := timers.first(identity):
                heappush(queue, (timer.due, key_bytes, timer.name, identity))
        for identity in woken:
            timers.sleep(identity)

    def _fire(self, identity: Hashable, timer: Timer) -> None:
        unit = (identity, timer.name, timer.due)
        if unit in self.discarded:
            return
        key = key_of(identity)
        try:
            handler = self.function.handler(timer.name)
            number = self._numbers[timer.name]
            self._call.begin(
                identity, key, timer.due, time=timer.due, origin=timer.origin, number=number, closing=(unit, key)
            )
            self._call.run(handler, self._call)
        except StoreError:
            raise
        except Exception as error:
            raise CloseError(unit, key, timer.due) from error


def _states(kind: str, context: OperatorContext) -> KeyedState:
    if kind == "map":
        return MapStates(context.table())
    if kind == "list":
        return ListStates(context.table(), context.table("lengths"))
    return ObjectState(context.table())
