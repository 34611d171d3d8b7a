"""Exact sums: one answer for any order of additions and merges, rounded once, where it is read.

An accumulator is a list (so that the state codec keeps it):

    [n, total]                                          n ints, with their sum
    [n, total, m, inf, -inf, nan, partials, *pending]   and floats, m of them settled: infinite ones and nan
                                                        as counts, the others in `partials`; `pending` as they came

    exact value of all that is finite  =  total + sum(partials) + sum(pending)

Floats wait in `pending` and are then settled, several at once: `partials` become the value's leading
float, that of the rest, and so on, each found by `math.fsum`. (Shewchuk, "Adaptive precision
floating-point arithmetic", 1997, of which fsum is the summation in C.)
Floats too large for fsum are ints, and go to `total`. Nothing is rounded before `value` or `mean`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, inf, isfinite, nan
from typing import Any, TypeAlias

Sum: TypeAlias = list[Any]

N, TOTAL, M, INF, NEGATIVE_INF, NAN, PARTIALS, PENDING = range(8)
INTS_ONLY = 2
"""The length of an accumulator that has seen no float."""

PENDING_LIMIT = 8
"""Floats that wait before they are settled: more cost bytes of state, fewer cost time."""
_FULL = PENDING + PENDING_LIMIT
_HUGE = 2.0**1000
"""From here on fsum may overflow on its way; such a float is an int."""
_EXACT_INT = 1 << 53
"""Ints up to here are floats, exactly."""


def empty() -> Sum:
    """The sum of nothing."""
    return [0, 0]


def add(accumulator: Sum, x: float) -> None:
    """With one more int or float (of exactly these types)."""
    if type(x) is int:
        accumulator[N] += 1
        accumulator[TOTAL] += x
    else:
        add_float(accumulator, x)


def add_float(accumulator: Sum, x: float) -> None:
    """With one more float."""
    if len(accumulator) == INTS_ONLY:
        accumulator += (0, 0, 0, 0, [], x)
    else:
        accumulator.append(x)
        if len(accumulator) >= _FULL:
            _settle(accumulator)


def add_rows(rows: dict[Any, Sum], keys: Sequence[Any], items: Sequence[float]) -> None:
    """Add item i to the sum of key i, for all i."""
    get = rows.get
    for key, x in zip(keys, items, strict=True):
        accumulator = get(key)
        if accumulator is None:
            rows[key] = accumulator = [0, 0]
        if type(x) is int:
            accumulator[0] += 1
            accumulator[1] += x
        else:
            add_float(accumulator, x)


def merge(parts: Iterable[Sum]) -> Sum:
    """The sum of the contributions of all parts, which stay as they are."""
    merged = [0, 0]
    for part in parts:
        _take_in(merged, part)
    if len(merged) > INTS_ONLY:
        _settle(merged)
    return merged


def add_sum(accumulator: Sum, part: Sum) -> None:
    """With the contributions of a part, which stays as it is."""
    _take_in(accumulator, part)
    if len(part) > INTS_ONLY:
        _settle(accumulator)


def remove(accumulator: Sum, part: Sum) -> None:
    """Without the contributions of a part that was merged into it, exactly, as if they had never come."""
    if len(part) > PENDING:
        part = merge([part])  # infinities are counted then, and can be taken out
    accumulator[N] -= part[N]
    accumulator[TOTAL] -= part[TOTAL]
    if len(part) > INTS_ONLY:
        for count in (M, INF, NEGATIVE_INF, NAN):
            accumulator[count] -= part[count]
        accumulator[PARTIALS] += [-partial for partial in part[PARTIALS]]
        _settle(accumulator)


def contributions(accumulator: Sum) -> int:
    """How many ints and floats are in it."""
    ints: int = accumulator[N]
    return ints + _floats(accumulator)


def value(accumulator: Sum) -> float:
    """The sum: an int where all are ints, else the exact value rounded once; inf where that is too large.

    As IEEE 754 has it, an infinity stays, infinities of both signs or a nan give nan; the zero of floats is 0.0.
    """
    total = accumulator[TOTAL]
    if not _floats(accumulator):
        return total  # type: ignore[no-any-return]
    if -_EXACT_INT <= total <= _EXACT_INT and not (accumulator[INF] or accumulator[NEGATIVE_INF] or accumulator[NAN]):
        rounded = _sum_of([total, *accumulator[PARTIALS], *accumulator[PENDING:]])
        if isfinite(rounded):
            return rounded + 0.0  # never -0.0
    return _quotient(accumulator, 1)


def mean(accumulator: Sum) -> float:
    """The exact sum divided by the number of contributions (at least one), rounded once."""
    return _quotient(accumulator, contributions(accumulator))


def _floats(accumulator: Sum) -> int:
    if len(accumulator) == INTS_ONLY:
        return 0
    settled: int = accumulator[M]
    return settled + len(accumulator) - PENDING


def _take_in(accumulator: Sum, part: Sum) -> None:
    """Add a part and leave its floats, settled or not, among the partials: the caller settles."""
    accumulator[N] += part[N]
    accumulator[TOTAL] += part[TOTAL]
    if len(part) > INTS_ONLY:
        if len(accumulator) == INTS_ONLY:
            accumulator += (0, 0, 0, 0, [])
        accumulator[M] += part[M] + len(part) - PENDING
        if any(part[INF:PARTIALS]):
            for count in (INF, NEGATIVE_INF, NAN):
                accumulator[count] += part[count]
        accumulator[PARTIALS] += part[PARTIALS]
        accumulator[PARTIALS] += part[PENDING:]


def _settle(accumulator: Sum) -> None:
    """Count what is pending, and make of it and the partials the fewest partials of the same exact value."""
    pending = accumulator[PENDING:]
    del accumulator[PENDING:]
    accumulator[M] += len(pending)
    floats = [*accumulator[PARTIALS], *pending]
    partials = _expansion(floats)
    if partials is None:
        partials = _expansion([x for x in floats if not _set_apart(accumulator, x)])
    accumulator[PARTIALS] = partials


def _expansion(floats: list[float]) -> list[float] | None:
    """The fewest floats of the same exact sum, largest first; None where it is no number, or too large on the way.

    Uses up the list.
    """
    first = _sum_of(floats)
    if not isfinite(first):
        return None
    expansion = []
    while first:
        expansion.append(first)
        floats.append(-first)
        first = fsum(floats)
    return expansion


def _set_apart(accumulator: Sum, x: float) -> bool:
    """Whether x is none that fsum adds up; then it is taken over elsewhere."""
    if -_HUGE < x < _HUGE:
        return False
    if isfinite(x):
        accumulator[TOTAL] += int(x)
    else:
        accumulator[NAN if x != x else INF if x > 0 else NEGATIVE_INF] += 1  # noqa: PLR0124 - nan alone is not itself
    return True


def _sum_of(floats: Sequence[float]) -> float:
    """The rounded sum; nan where it is none, or too large on the way."""
    try:
        return fsum(floats)
    except (OverflowError, ValueError):
        return nan


def _quotient(accumulator: Sum, divisor: int) -> float:
    """The exact sum by a divisor, rounded once."""
    numerator, denominator = accumulator[TOTAL], 1
    if len(accumulator) > INTS_ONLY:
        partials = _expansion([*accumulator[PARTIALS], *accumulator[PENDING:]])
        if partials is None:  # what fsum cannot add is set apart by settling
            return _quotient(merge([accumulator]), divisor)
        if any(accumulator[INF:PARTIALS]):
            return _ieee(*accumulator[INF:PARTIALS])
        for partial in partials:
            n, d = partial.as_integer_ratio()
            if d > denominator:  # both are powers of two
                numerator, denominator = numerator * (d // denominator), d
            numerator += n * (denominator // d)
    try:
        return numerator / (denominator * divisor)  # type: ignore[no-any-return] # int by int is rounded once
    except OverflowError:
        return inf if numerator > 0 else -inf


def _ieee(up: int, down: int, no_number: int) -> float:
    """The sum of so many inf, -inf and nan."""
    if no_number or (up and down):
        return nan
    return inf if up else -inf
