"""Sums and means of numbers: exact inside, rounded once, the same in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from streamproc.windows import exact
from streamproc.windows.aggregate import Aggregate

R = TypeVar("R", covariant=True)

_NUMBERS = frozenset({int, float})


class ExactSum(Aggregate[Any, R]):
    """What keeps an exact sum (`streamproc.windows.exact`) and reads something from it."""

    invertible = True

    def initial(self) -> exact.Sum:
        return exact.empty()

    def add(self, accumulator: exact.Sum, item: float) -> exact.Sum:
        exact.add(accumulator, item)
        return accumulator

    def add_rows(self, rows: dict[Any, exact.Sum], keys: Sequence[Any], items: Sequence[float]) -> None:
        exact.add_rows(rows, keys, items)

    def merge(self, parts: Iterable[exact.Sum]) -> exact.Sum:
        return exact.merge(parts)

    def merge_rows(self, rows: dict[Any, exact.Sum], part: Mapping[Any, exact.Sum]) -> None:
        for key, accumulator in part.items():
            before = rows.get(key)
            if before is None:
                rows[key] = exact.merge([accumulator])
            else:
                exact.add_sum(before, accumulator)

    def remove(self, accumulator: exact.Sum, part: exact.Sum) -> exact.Sum | None:
        exact.remove(accumulator, part)
        return accumulator if exact.contributions(accumulator) else None


class Sum(ExactSum[float]):
    """The sum of f(value): an int where all are ints, else a float, exactly rounded.

    Takes int (bool counts as int) and float. Decimal and timedelta are refused: their sum depends on a context or
    is another type; `fold(Decimal, lambda total, v: total + v.price, merge=operator.add)` adds them.
    """

    def __init__(self, f: Callable[[Any], float]) -> None:
        self._f = f

    def column(self, values: Sequence[Any]) -> Sequence[float]:
        return numbers([self._f(value) for value in values], "sum")

    def result(self, accumulator: exact.Sum) -> float:
        return exact.value(accumulator)


class Mean(ExactSum[float]):
    """The mean of f(value): the exact sum divided by how many there are, rounded once."""

    def __init__(self, f: Callable[[Any], float]) -> None:
        self._f = f

    def column(self, values: Sequence[Any]) -> Sequence[float]:
        return numbers([self._f(value) for value in values], "mean")

    def result(self, accumulator: exact.Sum) -> float:
        return exact.mean(accumulator)


def numbers(items: Sequence[Any], verb: str) -> Sequence[float]:
    """The items as int and float of exactly these types; TypeError where one is no number."""
    if set(map(type, items)) <= _NUMBERS:
        return items
    return [_number(item, verb) for item in items]


def _number(item: Any, verb: str) -> float:
    if isinstance(item, int):
        return int(item)
    if isinstance(item, float):
        return float(item)
    way_out = "convert it, or use fold(..., merge=...)"
    raise TypeError(f"{verb} takes int and float, not {type(item).__name__} ({item!r}): {way_out}")
