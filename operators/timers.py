"""Timers: which timers of which keys wait, and for when."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any, NamedTuple

from streamproc.operators.batch import FOREVER, Origin
from streamproc.state.schedule import Schedule
from streamproc.state.table import Table


class Timer(NamedTuple):
    """A timer that waits, or waited until now; `origin` is that of the record that set it."""

    due: int
    name: str
    origin: Origin | None


class Timers:
    """The waiting timers of each key, at most one of a name.

    State is one row a key, [wake, {name: (due, origin)}]. The schedule has the keys by `wake`, when they are looked at:
    never after the first timer, but not moved when that timer moves on. So a timer that every record moves costs the
    schedule nothing until it is about to fire.
    """

    def __init__(self, table: Table[Any], schedule: Table[Any]) -> None:
        self._table = table
        self._schedule = Schedule(schedule)
        self._rows: dict[Hashable, Any] = {}
        self._changed: list[Hashable] = []

    def load(self, identities: Collection[Hashable]) -> None:
        """These keys are asked about next."""
        self._rows = self._table.rows(identities)

    def flush(self) -> None:
        """The table knows of everything that was changed."""
        if self._changed:
            self._table.changed(self._changed)
            self._changed = []
        self._rows = {}

    def set(self, identity: Hashable, timer: Timer) -> None:
        """The timer waits; one of the same name does no more."""
        due, name, origin = timer
        row = self._rows.get(identity)
        if row is None:
            self._rows[identity] = [due, {name: (due, origin)}]
            self._schedule.set(identity, due)
        else:
            row[1][name] = (due, origin)
            if row[0] is not None and due < row[0]:
                self._schedule.move(identity, row[0], due)
                row[0] = due
        self._changed.append(identity)

    def cancel(self, identity: Hashable, name: str) -> None:
        """The timer does not wait, if it did."""
        row = self._rows.get(identity)
        if row is not None and name in row[1]:
            self._remove(identity, name)

    def first(self, identity: Hashable) -> Timer | None:
        """The key's timer that fires next: the first by (due, name)."""
        row = self._rows.get(identity)
        if row is None:
            return None
        return min(Timer(due, name, origin) for name, (due, origin) in row[1].items())

    def pop(self, identity: Hashable, until: int) -> Timer | None:
        """The key's first timer, removed, if it is due."""
        row = self._rows.get(identity)
        if row is None or (row[0] or -FOREVER) > until:
            return None
        timer = self.first(identity)
        if timer is None or timer.due > until:
            return None
        self._remove(identity, timer.name)
        return timer

    def wake(self, until: int) -> list[Hashable]:
        """The keys to look at: every key with a timer due is among them. Each must be told to `sleep` again."""
        woken = [identity for _, identity in self._schedule.pop_due(until)]
        self.load(woken)
        for identity in woken:
            self._rows[identity][0] = None
        return woken

    def sleep(self, identity: Hashable) -> None:
        """The key is looked at again when its first timer is due."""
        row = self._rows.get(identity)
        if row is not None and row[0] is None:
            due: int = min(due for due, _ in row[1].values())
            row[0] = due
            self._schedule.set(identity, due)
            self._changed.append(identity)

    def _remove(self, identity: Hashable, name: str) -> None:
        row = self._rows[identity]
        del row[1][name]
        if not row[1]:
            del self._rows[identity]
            if row[0] is not None:
                self._schedule.cancel(identity, row[0])
        self._changed.append(identity)
