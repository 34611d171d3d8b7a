"""KeyedState: what a processor's context shows as the state of its key."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Protocol
from uuid import UUID

from streamproc.state.table import Table

UNCHANGEABLE = frozenset(
    {NoneType, bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID},
)
"""Types whose values cannot be changed in place; whatever else is handed out counts as changed."""


class KeyedState(Protocol):
    """The states of all keys of a task; one key at a time is entered, used and left.

    Nothing is kept beyond `flush`, before which `load` names the keys that may be entered.
    """

    def load(self, identities: Collection[Hashable]) -> None:
        """These keys are about to be entered."""

    def enter(self, identity: Hashable) -> Any:
        """The state of a key; None where an object has no value."""

    def leave(self, identity: Hashable, value: Any) -> None:
        """The key's state is this from here on."""

    def flush(self) -> None:
        """The table knows of everything that was changed; what was loaded is no longer used."""


class ObjectState:
    """One object a key; the one that a key has when it is left counts as changed: it may have been, in place."""

    def __init__(self, table: Table[Any]) -> None:
        self._table = table
        self._rows: dict[Hashable, Any] = {}
        self._changed: list[Hashable] = []

    def load(self, identities: Collection[Hashable]) -> None:
        self._rows = self._table.rows(identities)

    def enter(self, identity: Hashable) -> Any:
        return self._rows.get(identity)

    def leave(self, identity: Hashable, value: Any) -> None:
        if value is not None:
            self._rows[identity] = value
            self._changed.append(identity)
        elif identity in self._rows:
            del self._rows[identity]
            self._changed.append(identity)

    def flush(self) -> None:
        if self._changed:
            self._table.changed(self._changed)
            self._changed = []
        self._rows = {}
