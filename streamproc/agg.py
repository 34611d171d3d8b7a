"""Aggregates to combine: `window(...).aggregate(Stats, hits=agg.count(), bytes=agg.sum(lambda visit: visit.size))`.

A function of the user's gets a value; without one the value itself is taken. Behind a window, first, last,
collect, reduce, fold and the ties of largest follow (timestamp, source order); running ones follow arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar, overload

from streamproc.windows.aggregate import Aggregate
from streamproc.windows.combined import Combined
from streamproc.windows.counts import Count, CountWhere, DistinctCount
from streamproc.windows.extremes import Largest, Max, Min
from streamproc.windows.folds import Fold, MergingFold, Reduce
from streamproc.windows.ordered import Collect, First, Last
from streamproc.windows.sums import Mean, Sum

__all__ = [
    "Aggregate",
    "collect",
    "count",
    "distinct_count",
    "first",
    "fold",
    "largest",
    "last",
    "max",
    "mean",
    "min",
    "reduce",
    "struct",
    "sum",
]


class Comparable(Protocol):
    """What `<` compares."""

    def __lt__(self, other: Any, /) -> Any: ...


V = TypeVar("V")
U = TypeVar("U")
A = TypeVar("A")
T = TypeVar("T")
N = TypeVar("N", int, float)
C = TypeVar("C", bound=Comparable)


def count(where: Callable[[V], object] | None = None) -> Aggregate[V, int]:
    """How many records, or how many that satisfy `where`."""
    return Count() if where is None else CountWhere(where)


def sum(f: Callable[[V], N]) -> Aggregate[V, N]:  # noqa: A001 - read as agg.sum
    """The sum of f(value): an int of ints, else exactly rounded. Decimals and timedeltas: see `fold`."""
    return Sum(f)  # type: ignore[return-value] # an int of ints, a float of floats


def mean(f: Callable[[V], float]) -> Aggregate[V, float]:
    """The exactly rounded mean of f(value)."""
    return Mean(f)


def min(f: Callable[[V], C]) -> Aggregate[V, C]:  # noqa: A001 - read as agg.min
    """The smallest f(value); nan and None are errors of their record."""
    return Min(f)


def max(f: Callable[[V], C]) -> Aggregate[V, C]:  # noqa: A001 - read as agg.max
    """The largest f(value); nan and None are errors of their record."""
    return Max(f)


@overload
def first() -> Aggregate[V, V]: ...
@overload
def first(f: Callable[[V], U]) -> Aggregate[V, U]: ...
def first(f: Callable[[Any], Any] | None = None) -> Aggregate[Any, Any]:
    """The first value, or f(value)."""
    return First(f)


@overload
def last() -> Aggregate[V, V]: ...
@overload
def last(f: Callable[[V], U]) -> Aggregate[V, U]: ...
def last(f: Callable[[Any], Any] | None = None) -> Aggregate[Any, Any]:
    """The last value, or f(value)."""
    return Last(f)


@overload
def collect() -> Aggregate[V, list[V]]: ...
@overload
def collect(f: Callable[[V], U]) -> Aggregate[V, list[U]]: ...
def collect(f: Callable[[Any], Any] | None = None) -> Aggregate[Any, list[Any]]:
    """The list of all values, or f(value)s, in order."""
    return Collect(f)


def reduce(f: Callable[[V, V], V]) -> Aggregate[V, V]:
    """f(result so far, value) over the values in order, beginning with the first; f changes neither argument."""
    return Reduce(f)


def fold(
    initial: Callable[[], A], f: Callable[[A, V], A], *, merge: Callable[[A, A], A] | None = None
) -> Aggregate[V, A]:
    """f(state so far, value) over the values in order, beginning with initial(); f may change the state it is given.

    With `merge` the order does not matter: values are folded as they come, states of parts are merged. Exact money:
    `fold(Decimal, lambda total, order: total + order.price, merge=operator.add)`.
    """
    return Fold(initial, f) if merge is None else MergingFold(initial, f, merge)


def distinct_count(by: Callable[[V], Any] | None = None) -> Aggregate[V, int]:
    """How many different values, or by(value)s, exactly; all of them are kept. 1, 1.0 and True differ."""
    return DistinctCount(by)


def largest(n: int, *, by: Callable[[V], Any] | None = None) -> Aggregate[V, list[V]]:
    """The n largest values, or those with the largest by(value); ties in order."""
    return Largest(n, by)


def struct(into: Callable[..., T], fields: Mapping[str, Aggregate[V, Any]]) -> Aggregate[V, T]:
    """Several aggregates as the fields of a Struct, dataclass, attrs class, NamedTuple or TypedDict."""
    return Combined(into, fields)
