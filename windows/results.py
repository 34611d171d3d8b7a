"""What windows and the verbs behind them give: the values that users see and topics carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

K = TypeVar("K", covariant=True)
A = TypeVar("A", covariant=True)


class WindowResult(msgspec.Struct, Generic[K, A], frozen=True, omit_defaults=True):
    """The aggregate of a key and a window [start, end) in ms since the epoch; a session's end is its last timestamp.

    final   False for what may still change (`emit="update"`)

    >>> WindowResult("a", 0, 60_000, 3)
    WindowResult(key='a', start=0, end=60000, value=3, final=True)
    """

    key: K
    start: int
    end: int
    value: A
    final: bool = True


class Item(NamedTuple, Generic[K, A]):
    """One place of a `Top`."""

    key: K
    value: A


class Top(msgspec.Struct, Generic[K, A], frozen=True, omit_defaults=True):
    """A window's results with the largest values, largest first: a WindowResult of no key.

    >>> top = Top(0, 60_000, [Item("a", 3), Item("b", 2)])
    >>> top.value[0].key, top.key
    ('a', None)
    """

    start: int
    end: int
    value: list[Item[K, A]]
    final: bool = True

    @property
    def key(self) -> None:
        """None: it is of all keys."""
        return


class Previous(NamedTuple, Generic[A]):
    """A window's value and those of the windows before it, oldest first."""

    now: A
    before: Sequence[A]
