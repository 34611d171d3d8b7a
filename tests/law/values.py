"""What users' functions of random plans compute, pure functions of a value, and the aggregates by name."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from streamproc import Stream, Table, Windowed, agg


def code(value: Any) -> int:
    """A number that depends on all of a value."""
    return zlib.crc32(repr(value).encode())


def number(value: Any) -> float:
    """A float whose sums are not exact: what `+=` gives depends on the order."""
    return value if isinstance(value, float) else code(value) % 1_000 / 10


def whole(value: Any) -> int:
    """One of few ints, so that there are ties."""
    return code(value) % 5


def combined(a: Any, b: Any) -> float:
    """Depends on the order of its arguments."""
    return code((a, b)) % 997 / 10


class Poison(Exception):
    """What a user's function raises on some values."""


def fragile(a: Any, b: Any) -> float:
    """As `combined`, where it does not fail."""
    if code((b, a)) % 9 == 0:
        raise Poison
    return combined(a, b)


def appended(items: list[int], value: Any) -> list[int]:
    """The same list, changed in place, with one more."""
    items.append(whole(value))
    return items


class Stats(msgspec.Struct, frozen=True):
    hits: int
    total: float
    newest: Any


class Agg(NamedTuple):
    """An aggregate: as a verb behind a window, as a running verb (None: there is none), and by definition."""

    windowed: Callable[[Windowed[Any, Any]], Stream[Any, Any]]
    running: Callable[[Stream[Any, Any], str], Table[Any, Any]] | None
    of: Callable[[Sequence[Any]], Any]


def _exact_mean(values: Sequence[Any]) -> float:
    return float(sum(map(Fraction, map(number, values)), Fraction()) / len(values))


def _largest(values: Sequence[Any]) -> list[Any]:
    places = sorted(range(len(values)), key=lambda i: (-whole(values[i]), i))
    return [values[i] for i in places[:2]]


AGGREGATES: dict[str, Agg] = {
    "count": Agg(lambda w: w.count(), lambda s, n: s.count(name=n), len),
    "odd": Agg(
        lambda w: w.count(lambda v: whole(v) % 2),
        lambda s, n: s.count(lambda v: whole(v) % 2, name=n),
        lambda vs: sum(whole(v) % 2 for v in vs),
    ),
    "sum": Agg(lambda w: w.sum(number), lambda s, n: s.sum(number, name=n), lambda vs: math.fsum(map(number, vs))),
    "whole": Agg(lambda w: w.sum(whole), lambda s, n: s.sum(whole, name=n), lambda vs: sum(map(whole, vs))),
    "mean": Agg(lambda w: w.mean(number), lambda s, n: s.mean(number, name=n), _exact_mean),
    "min": Agg(lambda w: w.min(number), lambda s, n: s.min(number, name=n), lambda vs: min(map(number, vs))),
    "max": Agg(lambda w: w.max(number), lambda s, n: s.max(number, name=n), lambda vs: max(map(number, vs))),
    "first": Agg(lambda w: w.first(), None, lambda vs: vs[0]),
    "last": Agg(lambda w: w.last(), lambda s, n: s.latest(name=n), lambda vs: vs[-1]),
    "collect": Agg(lambda w: w.collect(), None, list),
    "reduce": Agg(
        lambda w: w.reduce(combined),
        lambda s, n: s.reduce(combined, name=n),
        lambda vs: functools.reduce(combined, vs),
    ),
    "fragile": Agg(
        lambda w: w.reduce(fragile),
        lambda s, n: s.reduce(fragile, name=n),
        lambda vs: functools.reduce(fragile, vs),
    ),
    "fold": Agg(
        lambda w: w.fold(list, appended), lambda s, n: s.fold(list, appended, name=n), lambda vs: list(map(whole, vs))
    ),
    "merged": Agg(
        lambda w: w.fold(int, lambda total, v: total + whole(v), merge=lambda a, b: a + b),
        None,
        lambda vs: sum(map(whole, vs)),
    ),
    "stats": Agg(
        lambda w: w.aggregate(Stats, hits=agg.count(), total=agg.sum(number), newest=agg.last()),
        lambda s, n: s.aggregate(Stats, name=n, hits=agg.count(), total=agg.sum(number), newest=agg.last()),
        lambda vs: Stats(len(vs), math.fsum(map(number, vs)), vs[-1]),
    ),
    "totals": Agg(
        lambda w: w.aggregate(dict, hits=agg.count(), total=agg.sum(number)),
        lambda s, n: s.aggregate(dict, name=n, hits=agg.count(), total=agg.sum(number)),
        lambda vs: {"hits": len(vs), "total": math.fsum(map(number, vs))},
    ),
    "distinct": Agg(lambda w: w.distinct_count(whole), None, lambda vs: len(set(map(whole, vs)))),
    "largest": Agg(lambda w: w.largest(2, by=whole), None, _largest),
}
RUNNING = [name for name, one in AGGREGATES.items() if one.running is not None]
