"""Aggregates of the order of records: first, last, all of them.

In windows the order is that of (timestamp, origin), whatever the order of arrival. Running forms, which
follow each record at once, have the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from streamproc.windows.aggregate import Aggregate, Contribution

_in_order = itemgetter(0, 1)


class _Ordered(Aggregate[Any, Any]):
    ordered = True

    def __init__(self, f: Callable[[Any], Any] | None = None) -> None:
        self._f = f

    def column(self, values: Sequence[Contribution]) -> Sequence[Contribution]:
        f = self._f
        return values if f is None else [(timestamp, origin, f(value)) for timestamp, origin, value in values]


class First(_Ordered):
    """The first f(value); the accumulator is its contribution, or ()."""

    def initial(self) -> tuple[Any, ...]:
        return ()

    def add(self, accumulator: tuple[Any, ...], item: Contribution) -> tuple[Any, ...]:
        return item if not accumulator or _in_order(item) < _in_order(accumulator) else accumulator

    def merge(self, parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
        return min(filter(None, parts), key=_in_order, default=())

    def result(self, accumulator: tuple[Any, ...]) -> Any:
        return accumulator[2]

    def running(self) -> Aggregate[Any, Any]:
        return RunningFirst(self._f)


class Last(First):
    """The last f(value); the accumulator is its contribution, or ()."""

    def add(self, accumulator: tuple[Any, ...], item: Contribution) -> tuple[Any, ...]:
        return item if not accumulator or _in_order(item) > _in_order(accumulator) else accumulator

    def merge(self, parts: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
        return max(filter(None, parts), key=_in_order, default=())

    def running(self) -> Aggregate[Any, Any]:
        return RunningLast(self._f)


class Collect(_Ordered):
    """The list of all f(value), in order; the accumulator is the list of contributions as they came."""

    def initial(self) -> list[Contribution]:
        return []

    def add(self, accumulator: list[Contribution], item: Contribution) -> list[Contribution]:
        accumulator.append(item)
        return accumulator

    def merge(self, parts: Iterable[list[Contribution]]) -> list[Contribution]:
        return list(chain.from_iterable(parts))

    def result(self, accumulator: list[Contribution]) -> Any:
        return [value for _, _, value in sorted(accumulator, key=_in_order)]

    def running(self) -> Aggregate[Any, Any]:
        return RunningCollect(self._f)


class _Running(Aggregate[Any, Any]):
    def __init__(self, f: Callable[[Any], Any] | None = None) -> None:
        self._f = f

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        return values if self._f is None else [self._f(value) for value in values]


class RunningLast(_Running):
    """The last f(value) to arrive; the accumulator is a tuple of it."""

    def initial(self) -> tuple[Any, ...]:
        return ()

    def add(self, accumulator: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
        return (item,)

    def result(self, accumulator: tuple[Any, ...]) -> Any:
        return accumulator[0]


class RunningFirst(RunningLast):
    """The first f(value) to arrive; the accumulator is a tuple of it."""

    def add(self, accumulator: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
        return accumulator or (item,)


class RunningCollect(_Running):
    """The list of all f(value) so far, as they arrived. Each record gets a list of its own: n cost n * n."""

    def initial(self) -> list[Any]:
        return []

    def add(self, accumulator: list[Any], item: Any) -> list[Any]:
        accumulator.append(item)
        return accumulator

    def result(self, accumulator: list[Any]) -> list[Any]:
        return accumulator.copy()
