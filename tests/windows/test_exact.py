import math
import random
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.state.codec import Codec
from streamproc.windows import exact

finite = st.floats(allow_nan=False, allow_infinity=False)
any_float = st.floats()
wild = st.sampled_from([1e308, -1e308, sys.float_info.max, -sys.float_info.max, 5e-324, 2.0**1000, 0.1, -0.0, 1.0])
ints = st.one_of(st.integers(-5, 5), st.integers(-(2**70), 2**70), st.sampled_from([2**53 + 1, 10**400, -(10**400)]))
numbers = st.lists(st.one_of(finite, wild, ints), max_size=40)
any_numbers = st.lists(st.one_of(any_float, wild, ints), max_size=40)


def accumulate(xs: Iterable[float]) -> exact.Sum:
    accumulator = exact.empty()
    for x in xs:
        exact.add(accumulator, x)
    return accumulator


def merged(xs: Sequence[float], cuts: Sequence[int]) -> exact.Sum:
    """The sum of parts, of which some are sums of parts."""
    bounds = sorted({0, len(xs), *(cut % (len(xs) + 1) for cut in cuts)})
    parts = [accumulate(xs[a:b]) for a, b in pairwise(bounds)]
    return exact.merge([exact.merge(parts[:2]), *parts[2:]])


def by_definition(xs: Sequence[float]) -> float:
    return sum(xs) if all(type(x) is int for x in xs) else quotient(xs, 1)


def quotient(xs: Sequence[float], divisor: int) -> float:
    """Rational arithmetic, rounded once."""
    special = sum(x for x in xs if type(x) is float and not math.isfinite(x))
    if special != 0:
        return special
    total = sum((Fraction(x) for x in xs), Fraction(0)) / divisor
    try:
        return total.numerator / total.denominator
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def same(a: float, b: float) -> bool:
    """The same type and value: 1 is not 1.0, 0.0 is not -0.0, nan is nan."""
    return repr(a) == repr(b)


@given(any_numbers, st.randoms(use_true_random=False), st.lists(st.integers(0, 40), max_size=6))
def test_one_answer_in_any_order_and_partition(xs: list[float], rng: random.Random, cuts: list[int]) -> None:
    """However ints, floats, infinities and nans are ordered, cut and merged, the sum is the exact one, rounded once."""
    expected = by_definition(xs)
    rng.shuffle(xs)
    assert same(exact.value(accumulate(xs)), expected)
    assert same(exact.value(merged(xs, cuts)), expected)


@given(st.lists(finite, min_size=1, max_size=50))
def test_equal_to_fsum(xs: list[float]) -> None:
    """Of floats it is what math.fsum gives, where that does not overflow on its way."""
    try:
        expected = math.fsum(xs)
    except OverflowError:
        expected = by_definition(xs)
    assert exact.value(accumulate(xs)) == expected


@given(any_numbers.filter(bool), st.lists(st.integers(0, 40), max_size=6))
def test_the_mean_is_rounded_once(xs: list[float], cuts: list[int]) -> None:
    """The mean is the exact sum by the number of contributions, rounded once."""
    expected = quotient(xs, len(xs))
    assert same(exact.mean(accumulate(xs)), expected)
    assert same(exact.mean(merged(xs, cuts)), expected)


def test_a_mean_that_two_roundings_get_wrong() -> None:
    """The sum is not rounded before it is divided."""
    rng = random.Random(1)
    twice = 0
    for _ in range(300):
        xs = [rng.uniform(0, 1) for _ in range(7)]
        assert exact.mean(accumulate(xs)) == quotient(xs, 7)
        twice += math.fsum(xs) / 7 != quotient(xs, 7)
    assert twice, "no example in which it matters"


@given(any_numbers, any_numbers, st.lists(st.integers(0, 40), max_size=6))
def test_remove_inverts(kept: list[float], gone: list[float], cuts: list[int]) -> None:
    """What was taken out leaves no trace: not in the value, its type, or the number of contributions."""
    total, part = merged(kept, cuts), merged(gone, cuts)
    exact.add_sum(total, part)
    assert same(exact.value(total), by_definition(kept + gone))
    for x in kept[:3]:
        exact.add(total, x)  # what came meanwhile stays
    exact.remove(total, part)
    kept += kept[:3]
    assert same(exact.value(total), by_definition(kept))
    assert exact.contributions(total) == len(kept)


@given(any_numbers, any_numbers)
def test_parts_stay_as_they_are(xs: list[float], ys: list[float]) -> None:
    """Merging, adding and taking out change no part, and share nothing with it."""
    a, b = accumulate(xs), accumulate(ys)
    codec = Codec()
    before = codec.encode([a, b])
    total = exact.merge([a, b])
    exact.add_sum(total, b)
    exact.remove(total, b)
    for x in (0.1, 0.2, 1e308, 1):
        exact.add(total, x)
    assert codec.encode([a, b]) == before


@given(any_numbers)
def test_an_accumulator_is_kept_by_the_codec(xs: list[float]) -> None:
    """An accumulator that was stored and read again is the same sum."""
    codec = Codec()
    assert same(exact.value(codec.decode(codec.encode(accumulate(xs)))), by_definition(xs))


@pytest.mark.parametrize("order", [[1e308, 1e308, -1e308], [1e308, -1e308, 1e308], [-1e308, 1e308, 1e308]])
def test_no_order_overflows(order: list[float]) -> None:
    """1e308 + 1e308 - 1e308 is 1e308 in any order, also where the floats are settled one by one."""
    assert exact.value(accumulate(order)) == 1e308
    assert exact.value(exact.merge([exact.merge([accumulate([x])]) for x in order])) == 1e308
    running = exact.empty()
    for x in order:
        exact.add_sum(running, accumulate([x]))
    assert exact.value(running) == 1e308
    assert exact.value(accumulate([1e308, 1e308])) == math.inf


def test_infinities_can_be_taken_out() -> None:
    """A sum is finite again when its infinities and nans have gone."""
    total = exact.empty()
    part = accumulate([math.inf, -math.inf, math.nan])
    exact.add_sum(total, part)
    exact.add_sum(total, accumulate([0.5]))
    assert math.isnan(exact.value(total))
    exact.remove(total, part)
    assert exact.value(total) == 0.5


def test_ints_alone_stay_two_ints() -> None:
    """A sum of ints is an int and its accumulator a count and a total."""
    assert accumulate([2**70, 1, -3]) == [3, 2**70 - 2]


def test_an_accumulator_stays_small() -> None:
    """Ten thousand floats of any size are a few dozen."""
    rng = random.Random(7)
    total = accumulate(rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300) for _ in range(10_000))
    assert len(total) < exact.PENDING + exact.PENDING_LIMIT
    assert len(total[exact.PARTIALS]) <= 40
