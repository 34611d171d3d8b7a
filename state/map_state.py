"""MapState: a key's state as a dict, one row an entry."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, MutableMapping
from typing import Any, Generic, TypeVar

from streamproc.state.keyed_state import UNCHANGEABLE
from streamproc.state.keys import identities, key_of, sorted_by_bytes
from streamproc.state.table import Table

A = TypeVar("A")
B = TypeVar("B")


class MapState(MutableMapping[A, B], Generic[A, B]):
    """The entries of the key at hand, in the order of their keys' bytes (that of the keys, where they are of one type).

    Reading or writing an entry does not touch the others; only iterating and `len` read all. A value that is handed out
    and may be changed in place (a list, an object) is written again with the epoch.
    Valid while the function runs: do not keep it.
    """

    def __init__(self, table: Table[Any], key: Hashable) -> None:
        self._table = table
        self._key = key

    def __getitem__(self, key: A) -> B:
        inner = _identity(key)
        rows = self._table.rows((inner,), self._key)
        if inner not in rows:
            raise KeyError(key)
        value: B = rows[inner]
        if type(value) not in UNCHANGEABLE:
            self._table.changed((inner,), self._key)
        return value

    def __setitem__(self, key: A, value: B) -> None:
        self._table.put(_identity(key), value, self._key)

    def __delitem__(self, key: A) -> None:
        inner = _identity(key)
        if inner not in self._table.rows((inner,), self._key):
            raise KeyError(key)
        self._table.delete(inner, self._key)

    def __contains__(self, key: object) -> bool:
        inner = _identity(key)
        return inner in self._table.rows((inner,), self._key)

    def __iter__(self) -> Iterator[A]:
        return map(key_of, sorted_by_bytes(self._table.whole(self._key)))

    def __len__(self) -> int:
        return len(self._table.whole(self._key))

    def __repr__(self) -> str:
        return f"MapState({dict(self)!r})"

    def clear(self) -> None:
        """No entry is left."""
        rows = self._table.whole(self._key)
        inners = list(rows)
        rows.clear()
        self._table.changed(inners, self._key)


class MapStates:
    """The maps of all keys (`KeyedState`); every change is in the table at once."""

    def __init__(self, table: Table[Any]) -> None:
        self._table = table

    def load(self, identities: Collection[Hashable]) -> None:
        """Entries are read when they are asked for."""

    def enter(self, identity: Hashable) -> MapState[Any, Any]:
        return MapState(self._table, identity)

    def leave(self, identity: Hashable, value: Any) -> None:
        """Nothing is left to do."""

    def flush(self) -> None:
        """Nothing is left to do."""


def _identity(key: Any) -> Hashable:
    return identities((key,))[0]
