"""ListState: a key's state as a list, one row an entry."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from streamproc.state.keyed_state import UNCHANGEABLE
from streamproc.state.table import Table

T = TypeVar("T")


class ListState(Sequence[T], Generic[T]):
    """The entries of the key at hand, in the order they were appended.

    `append` costs the same however long the list is; only iterating reads all. It grows and shrinks at its end alone:
    what goes at the front, or is looked up, is better kept in a MapState. A value that is handed out and may be changed
    in place (a list, an object) is written again with the epoch.
    Valid while the function runs: do not keep it.
    """

    def __init__(self, table: Table[Any], lengths: Table[int], key: Hashable) -> None:
        self._table = table
        self._lengths = lengths
        self._key = key

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return self._take(range(len(self))[index])
        return self._take([self._place(index)])[0]

    def __setitem__(self, index: int, value: T) -> None:
        self._table.put(self._place(index), value, self._key)

    def __iter__(self) -> Iterator[T]:
        return iter(self._take(range(len(self))))

    def __len__(self) -> int:
        return self._lengths.get(self._key) or 0

    def __repr__(self) -> str:
        return f"ListState({list(self)!r})"

    def append(self, value: T) -> None:
        """One more entry at the end."""
        length = len(self)
        self._table.put(length, value, self._key)
        self._lengths.put(self._key, length + 1)

    def extend(self, values: Iterable[T]) -> None:
        """More entries at the end."""
        for value in values:
            self.append(value)

    def pop(self) -> T:
        """The last entry, which is taken out. IndexError: there is none."""
        last = self._place(-1)
        value = self._take([last])[0]
        self._table.delete(last, self._key)
        self._set_length(last)
        return value

    def clear(self) -> None:
        """No entry is left."""
        inners = range(len(self))
        for inner in inners:
            self._table.delete(inner, self._key)
        self._set_length(0)

    def _take(self, places: Sequence[int]) -> list[T]:
        if not places:
            return []
        rows = self._table.whole(self._key) if len(places) > 1 else self._table.rows(places, self._key)
        values = [rows[place] for place in places]
        changeable = [place for place, value in zip(places, values, strict=True) if type(value) not in UNCHANGEABLE]
        if changeable:
            self._table.changed(changeable, self._key)
        return values

    def _place(self, index: int) -> int:
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"{index} in a list of {length}")
        return index % length

    def _set_length(self, length: int) -> None:
        if length:
            self._lengths.put(self._key, length)
        else:
            self._lengths.delete(self._key)


class ListStates:
    """The lists of all keys (`KeyedState`); every change is in the tables at once."""

    def __init__(self, table: Table[Any], lengths: Table[int]) -> None:
        self._table = table
        self._lengths = lengths

    def load(self, identities: Collection[Hashable]) -> None:
        """Entries are read when they are asked for, their number is always."""
        self._lengths.rows(identities)

    def enter(self, identity: Hashable) -> ListState[Any]:
        return ListState(self._table, self._lengths, identity)

    def leave(self, identity: Hashable, value: Any) -> None:
        """Nothing is left to do."""

    def flush(self) -> None:
        """Nothing is left to do."""
