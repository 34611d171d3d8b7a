"""The smallest, the largest, and the n largest: the same whatever the order in which values come."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any

from streamproc.windows.aggregate import Aggregate, Contribution

_WITHOUT_NAN = frozenset({int, str, bytes, bool})
_EQUAL_ARE_SAME = frozenset({int, str, bytes, bool})


class Extreme(Aggregate[Any, Any]):
    """The f(value) that comes before all others; the accumulator is a tuple of it, or of nothing.

    Of values that are equal but differ (1 and 1.0, 0.0 and -0.0) it is the one with the smallest type name, then repr.
    None and nan have no place in an order: ValueError.
    """

    verb: str
    before: Any
    """Whether one value precedes another."""

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self._f = f

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        return comparable([self._f(value) for value in values], self.verb)

    def initial(self) -> tuple[Any, ...]:
        return ()

    def add(self, accumulator: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
        return (item,) if not accumulator or self._precedes(item, accumulator[0]) else accumulator

    def add_rows(self, rows: dict[Any, tuple[Any, ...]], keys: Sequence[Any], items: Sequence[Any]) -> None:
        get, before = rows.get, self.before
        for key, item in zip(keys, items, strict=True):
            accumulator = get(key)
            if not accumulator or not before(accumulator[0], item):
                rows[key] = self.add(accumulator or (), item)

    def merge(self, parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
        merged: tuple[Any, ...] = ()
        for part in parts:
            if part:
                merged = self.add(merged, part[0])
        return merged

    def result(self, accumulator: tuple[Any, ...]) -> Any:
        return accumulator[0]

    def _precedes(self, a: Any, b: Any) -> bool:
        before = self.before
        if before(b, a):
            return False
        return bool(before(a, b)) or self._precedes_equal(a, b)

    def _precedes_equal(self, a: Any, b: Any) -> bool:
        if type(a) is type(b) and (type(a) in _EQUAL_ARE_SAME or (type(a) is float and a)):
            return False
        if a != b:
            raise ValueError(f"{self.verb}: {a!r} and {b!r} have no order")
        return _content(a) < _content(b)

    def __repr__(self) -> str:
        return self.verb


class Min(Extreme):
    """The smallest f(value)."""

    verb = "min"
    before = staticmethod(operator.lt)


class Max(Extreme):
    """The largest f(value)."""

    verb = "max"
    before = staticmethod(operator.gt)


class Largest(Aggregate[Any, list[Any]]):
    """The n values with the largest by(value), largest first; equal ones in order of (timestamp, origin).

    The accumulator is a list of (by(value), timestamp, origin, value), at most twice as many as are wanted, or 16.
    """

    ordered = True

    def __init__(self, n: int, by: Callable[[Any], Any] | None = None) -> None:
        if type(n) is not int or n < 1:
            raise ValueError(f"n={n!r}: a number of values, 1 or more: largest(10, by=lambda v: v.size)")
        self._n = n
        self._by = by
        self._room = max(2 * n, 16)

    def column(self, values: Sequence[Contribution]) -> Sequence[Any]:
        ranks = self._ranks([value for _, _, value in values])
        return [(rank, *contribution) for rank, contribution in zip(ranks, values, strict=True)]

    def _ranks(self, values: Sequence[Any]) -> Sequence[Any]:
        return comparable(values if self._by is None else [self._by(value) for value in values], "largest")

    def initial(self) -> list[Any]:
        return []

    def add(self, accumulator: list[Any], item: Any) -> list[Any]:
        accumulator.append(item)
        if len(accumulator) > self._room:
            accumulator[:] = self._best(accumulator)
        return accumulator

    def merge(self, parts: Iterable[list[Any]]) -> list[Any]:
        return self._best(list(chain.from_iterable(parts)))

    def _best(self, items: list[Any]) -> list[Any]:
        in_order = sorted(items, key=itemgetter(1, 2))
        in_order.sort(key=itemgetter(0), reverse=True)  # stable, reversed too
        return in_order[: self._n]

    def result(self, accumulator: list[Any]) -> list[Any]:
        return [item[-1] for item in self._best(accumulator)]

    def running(self) -> Aggregate[Any, list[Any]]:
        return RunningLargest(self._n, self._by)

    def __repr__(self) -> str:
        return f"largest({self._n})"


class RunningLargest(Largest):
    """The n values with the largest by(value) so far; equal ones as they arrived. Keeps (by(value), value)."""

    ordered = False

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        return list(zip(self._ranks(values), values, strict=True))

    def _best(self, items: list[Any]) -> list[Any]:
        return sorted(items, key=itemgetter(0), reverse=True)[: self._n]

    def running(self) -> Aggregate[Any, list[Any]]:
        return self


def comparable(items: Sequence[Any], verb: str) -> Sequence[Any]:
    """The items; ValueError where one is None or nan."""
    kinds = set(map(type, items))
    if not kinds <= _WITHOUT_NAN:
        if NoneType in kinds:
            raise ValueError(f"{verb}: None has no order: filter it out, or give it a value")
        for item in items:
            if item != item:  # noqa: PLR0124 - nan alone is not itself
                raise ValueError(f"{verb}: {item!r} has no order: filter it out, or give it a value")
    return items


def _content(value: Any) -> tuple[str, str]:
    return type(value).__qualname__, repr(value)
