"""Every aggregate against its definition over the whole input: any order, any cut into parts, the codec in between."""

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc import agg
from streamproc.state.codec import Codec
from streamproc.windows.aggregate import Aggregate

Row = tuple[str, int, tuple[int, int], Any]
"""key, timestamp, origin, value"""

mixed = st.one_of(st.integers(-3, 3), st.floats(-3, 3), st.booleans(), st.sampled_from([1.0, 0.0, -0.0, 0.1, 2**60]))


def in_order(rows: Sequence[Row]) -> list[Any]:
    return [row[3] for row in sorted(rows, key=lambda row: (row[1], row[2]))]


def smallest(values: Sequence[Any], *, sign: int = 1) -> Any:
    best = min(values) if sign > 0 else max(values)
    return min((v for v in values if v == best), key=lambda v: (type(v).__name__, repr(v)))


def rounded_sum(values: Sequence[Any]) -> Any:
    return math.fsum(values) if any(type(v) is float for v in values) else sum(values)


def append(items: list[Any], value: Any) -> list[Any]:
    items.append(value)
    return items


def tally(counts: dict[str, int], value: Any) -> dict[str, int]:
    counts[repr(value)] = counts.get(repr(value), 0) + 1
    return counts


def add_tallies(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    for name, n in b.items():
        a[name] = a.get(name, 0) + n
    return a


def same_value(value: Any) -> Any:
    return value


AGGREGATES: dict[str, tuple[Callable[[], Aggregate[Any, Any]], Callable[[list[Any]], Any]]] = {
    "count": (agg.count, len),
    "count where": (lambda: agg.count(lambda v: v > 0), lambda vs: sum(v > 0 for v in vs)),
    "sum": (lambda: agg.sum(same_value), rounded_sum),
    "mean": (lambda: agg.mean(same_value), lambda vs: float(sum(map(Fraction, vs)) / len(vs))),
    "min": (lambda: agg.min(same_value), smallest),
    "max": (lambda: agg.max(same_value), lambda vs: smallest(vs, sign=-1)),
    "distinct_count": (agg.distinct_count, lambda vs: len({(type(v), v) for v in vs})),
    "first": (agg.first, lambda vs: vs[0]),
    "last": (agg.last, lambda vs: vs[-1]),
    "last of f": (lambda: agg.last(repr), lambda vs: repr(vs[-1])),
    "collect": (agg.collect, list),
    "reduce": (lambda: agg.reduce(lambda a, b: f"{a}|{b}"), lambda vs: reduce(lambda a, b: f"{a}|{b}", vs)),
    "fold": (lambda: agg.fold(list, append), list),
    "fold merge": (lambda: agg.fold(dict, tally, merge=add_tallies), lambda vs: reduce(tally, vs, dict[str, int]())),
    "largest": (lambda: agg.largest(3), lambda vs: sorted(vs, reverse=True)[:3]),
    "largest by": (lambda: agg.largest(2, by=abs), lambda vs: sorted(vs, key=abs, reverse=True)[:2]),
    "struct": (
        lambda: agg.struct(dict, {"n": agg.count(), "sum": agg.sum(same_value), "low": agg.min(same_value)}),
        lambda vs: {"n": len(vs), "sum": rounded_sum(vs), "low": smallest(vs)},
    ),
    "struct in order": (
        lambda: agg.struct(dict, {"n": agg.count(), "first": agg.first(), "hits": agg.count(lambda v: v > 0)}),
        lambda vs: {"n": len(vs), "first": vs[0], "hits": sum(v > 0 for v in vs)},
    ),
}
NAMES = sorted(AGGREGATES)
SUBTRACTED = ("count", "count where", "sum", "mean")

rows_of = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-2, 2), mixed), max_size=40).map(
    lambda rows: [(key, timestamp, (0, i), value) for i, (key, timestamp, value) in enumerate(rows)]
)


def add_all(aggregate: Aggregate[Any, Any], accumulators: dict[str, Any], rows: Sequence[Row]) -> None:
    values = [row[1:] for row in rows] if aggregate.ordered else [row[3] for row in rows]
    aggregate.add_rows(accumulators, [row[0] for row in rows], aggregate.column(values))


def results(aggregate: Aggregate[Any, Any], accumulators: dict[str, Any]) -> dict[str, str]:
    """As repr, which tells 1 from 1.0 and 0.0 from -0.0, and of a dict without its order."""
    return {key: shown(aggregate.result(accumulator)) for key, accumulator in accumulators.items()}


def shown(value: Any) -> str:
    return repr(sorted(value.items())) if isinstance(value, dict) else repr(value)


def expected(name: str, rows: Sequence[Row]) -> dict[str, str]:
    definition = AGGREGATES[name][1]
    keys = {row[0] for row in rows}
    return {key: shown(definition(in_order([row for row in rows if row[0] == key]))) for key in keys}


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_of, rng=st.randoms(use_true_random=False), size=st.integers(1, 40))
def test_any_order_and_batching_gives_the_definition(name: str, rows: list[Row], rng: random.Random, size: int) -> None:
    """Rows in any order and batches give what the definition says of the whole input, accumulators stored between."""
    truth = expected(name, rows)
    aggregate, codec = AGGREGATES[name][0](), Codec()
    rng.shuffle(rows)
    accumulators: dict[str, Any] = {}
    for i in range(0, len(rows), size):
        add_all(aggregate, accumulators, rows[i : i + size])
        assert None not in accumulators.values()
        accumulators = codec.decode(codec.encode(accumulators))
    assert results(aggregate, accumulators) == truth


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_of, rng=st.randoms(use_true_random=False), size=st.integers(1, 10))
def test_merging_parts_equals_adding_rows(name: str, rows: list[Row], rng: random.Random, size: int) -> None:
    """Merged slices are the whole, whichever way they are merged; and merging leaves the slices as they were."""
    aggregate, codec = AGGREGATES[name][0](), Codec()
    whole: dict[str, Any] = {}
    add_all(aggregate, whole, rows)
    rng.shuffle(rows)
    slices: list[dict[str, Any]] = []
    for i in range(0, len(rows), size):
        slices.append({})
        add_all(aggregate, slices[-1], rows[i : i + size])
    before = codec.encode(slices)
    totals: dict[str, Any] = {}
    for part in slices:
        aggregate.merge_rows(totals, part)
    at_once = {key: aggregate.merge([part[key] for part in slices if key in part]) for key in whole}
    assert results(aggregate, totals) == results(aggregate, at_once) == results(aggregate, whole)
    for row in rows[:3]:
        add_all(aggregate, totals, [row])
    assert codec.encode(slices) == before


@pytest.mark.parametrize("name", [*SUBTRACTED, "struct of those"])
@given(kept=rows_of, gone=rows_of)
def test_remove_inverts_merge(name: str, kept: list[Row], gone: list[Row]) -> None:
    """Taking a slice out of a total leaves what the other slices alone would have made, keys without records gone."""
    if name in SUBTRACTED:
        aggregate = AGGREGATES[name][0]()
    else:
        aggregate = agg.struct(dict, {other: AGGREGATES[other][0]() for other in SUBTRACTED})
    assert aggregate.invertible
    totals: dict[str, Any] = {}
    alone: dict[str, Any] = {}
    part: dict[str, Any] = {}
    add_all(aggregate, part, gone)
    add_all(aggregate, alone, kept)
    aggregate.merge_rows(totals, alone)
    aggregate.merge_rows(totals, part)
    aggregate.remove_rows(totals, part)
    assert results(aggregate, totals) == results(aggregate, alone)
    for key, accumulator in part.items():
        both = [accumulator, alone[key]] if key in alone else [accumulator]
        left = aggregate.remove(aggregate.merge(both), accumulator)
        assert (left is not None) == (key in alone)
        assert left is None or shown(aggregate.result(left)) == results(aggregate, alone)[key]


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_of)
def test_add_is_add_rows(name: str, rows: list[Row]) -> None:
    """The hot loop of a column and one addition after the other give the same."""
    aggregate = AGGREGATES[name][0]()
    at_once: dict[str, Any] = {}
    one_by_one: dict[str, Any] = {}
    add_all(aggregate, at_once, rows)
    values = [row[1:] for row in rows] if aggregate.ordered else [row[3] for row in rows]
    for (key, *_), item in zip(rows, aggregate.column(values), strict=True):
        one_by_one[key] = aggregate.add(one_by_one[key] if key in one_by_one else aggregate.initial(), item)
    assert results(aggregate, one_by_one) == results(aggregate, at_once)


@pytest.mark.parametrize("name", NAMES)
@given(rows=rows_of)
def test_running_gives_each_prefix_in_order_of_arrival(name: str, rows: list[Row]) -> None:
    """After each record: the definition over the key's values so far, as they arrived; no result changes later."""
    definition = AGGREGATES[name][1]
    running = AGGREGATES[name][0]().running()
    assert not running.ordered
    assert running.running() is running or name.startswith("struct")
    keys = [row[0] for row in rows]
    values = [row[3] for row in rows]
    given_out = running.add_each({}, keys, running.column(values))
    truth = [
        definition([v for k, v in zip(keys[: i + 1], values, strict=False) if k == keys[i]]) for i in range(len(keys))
    ]
    assert list(map(shown, given_out)) == list(map(shown, truth))


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [
        ([1, 1.0, True], "True", "True"),
        ([2, 2.0], "2.0", "2.0"),
        ([0.0, -0.0], "-0.0", "-0.0"),
        ([Decimal("1.0"), Decimal("1.00")], "Decimal('1.0')", "Decimal('1.0')"),
        ([(1, 2), (1.0, 2)], "(1, 2)", "(1, 2)"),
        (["b", "a"], "'a'", "'b'"),
        ([datetime(2022, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC)], None, None),
    ],
)
def test_equal_values_have_one_extreme(values: list[Any], low: str | None, high: str | None) -> None:
    """Which of equal values is the smallest or largest is a matter of content, not of arrival."""
    for aggregate, shows in ((agg.min(same_value), low), (agg.max(same_value), high)):
        found = set()
        for order in (values, values[::-1]):
            accumulators: dict[str, Any] = {}
            aggregate.add_rows(accumulators, ["k"] * len(order), aggregate.column(order))
            found.add(repr(aggregate.result(accumulators["k"])))
        assert len(found) == 1
        assert shows is None or found == {shows}


@pytest.mark.parametrize("value", [math.nan, Decimal("nan"), None])
@pytest.mark.parametrize("aggregate", [agg.min(same_value), agg.max(same_value), agg.largest(1).running()])
def test_what_has_no_order_is_refused_before_state_is_touched(value: Any, aggregate: Aggregate[Any, Any]) -> None:
    """None and nan are errors of `column`, which names them."""
    with pytest.raises(ValueError, match="has no order") as raised:
        aggregate.column([1, value])
    assert repr(value) in str(raised.value)


def test_sets_have_no_order() -> None:
    """Values that neither precede each other nor are equal are refused, not picked from by arrival."""
    aggregate: Aggregate[Any, Any] = agg.min(same_value)
    with pytest.raises(ValueError, match="have no order"):
        aggregate.add_rows({}, ["k", "k"], aggregate.column([frozenset({1}), frozenset({2})]))


@pytest.mark.parametrize("value", [Decimal(1), "1", None, 1j])
@pytest.mark.parametrize("verb", ["sum", "mean"])
def test_sums_refuse_what_they_could_not_add_exactly(verb: str, value: Any) -> None:
    """A sum takes int and float; the error names the value and the way out."""
    with pytest.raises(TypeError, match=f"{verb} takes int and float, not {type(value).__name__} .*fold"):
        getattr(agg, verb)(same_value).column([1, value])


def test_bools_and_subclasses_are_numbers() -> None:
    """bool counts as int, and what is kept is of the plain types."""

    class Meters(float):
        pass

    column = agg.sum(same_value).column([True, Meters(1.5), 2])
    assert list(map(repr, column)) == ["1", "1.5", "2"]


def test_exact_money_by_fold() -> None:
    """The way out for Decimals that the errors name works."""
    aggregate: Aggregate[Decimal, Decimal] = agg.fold(Decimal, Decimal.__add__, merge=Decimal.__add__)
    rows: dict[str, Any] = {}
    aggregate.add_rows(rows, ["k", "k"], aggregate.column([Decimal("0.1"), Decimal("0.2")]))
    assert aggregate.result(aggregate.merge([rows["k"], rows["k"]])) == Decimal("0.6")


def test_distinct_values_are_told_apart_as_keys_are() -> None:
    """1, 1.0, True and "1" are four values, also in tuples; nans are one."""
    aggregate: Aggregate[Any, int] = agg.distinct_count()
    values = [1, 1.0, True, "1", b"1", None, (1,), (1.0,), (True,), math.nan, -math.nan, float("nan"), ("int", 1)]
    assert aggregate.result(set(aggregate.column(values))) == 11
    with pytest.raises(TypeError, match=r"\[1\] is not hashable: give distinct_count"):
        aggregate.column([[1]])


def test_errors_of_functions_come_before_state_is_touched() -> None:
    """A user's function that fails on one value has changed nothing."""

    def fails(value: int) -> int:
        return 1 // value

    aggregates: list[Aggregate[int, Any]] = [
        agg.count(fails), agg.sum(fails), agg.mean(fails), agg.min(fails), agg.max(fails), agg.distinct_count(fails),
        agg.first(fails).running(), agg.last(fails).running(), agg.collect(fails).running(),
        agg.largest(2, by=fails).running(), agg.struct(dict, {"n": agg.count(), "sum": agg.sum(fails)}),
    ]  # fmt: skip
    for aggregate in aggregates:
        with pytest.raises(ZeroDivisionError):
            aggregate.column([1, 0])


def test_a_merging_fold_shares_nothing() -> None:
    """A merge that changes and keeps its arguments harms no slice, and a result stays what it was."""

    def add(state: dict[str, list[int]], value: int) -> dict[str, list[int]]:
        state.setdefault("all", []).append(value)
        return state

    def merge(a: dict[str, list[int]], b: dict[str, list[int]]) -> dict[str, list[int]]:
        b.setdefault("all", []).extend(a.get("all", []))
        return b

    aggregate: Aggregate[int, Any] = agg.fold(dict, add, merge=merge)
    slices: list[dict[str, Any]] = [{}, {}, {}]
    for i, part in enumerate(slices):
        aggregate.add_rows(part, ["k"], [i])
    total = aggregate.merge([part["k"] for part in slices])
    result = aggregate.result(total)
    aggregate.add(total, 9)
    assert sorted(result["all"]) == [0, 1, 2]
    assert [aggregate.result(part["k"]) for part in slices] == [{"all": [0]}, {"all": [1]}, {"all": [2]}]


def test_largest_keeps_few() -> None:
    """However many come, a few times n are kept."""
    aggregate: Aggregate[int, list[int]] = agg.largest(10)
    accumulator = aggregate.initial()
    for item in aggregate.column([(i, (0, i), i * 7 % 1_000) for i in range(1_000)]):
        accumulator = aggregate.add(accumulator, item)
        assert len(accumulator) <= 20
    assert aggregate.result(accumulator) == list(range(999, 989, -1))


@pytest.mark.parametrize("n", [0, -1, True, 1.5])
def test_largest_of_nothing_is_refused(n: Any) -> None:
    """n is a number of values."""
    with pytest.raises(ValueError, match=r"n=.*1 or more"):
        agg.largest(n)


def test_a_repr_names_what_is_kept() -> None:
    """Reprs go into the signature of stored state: stable, without addresses, different where accumulators are."""
    assert [repr(make()) for make, _ in AGGREGATES.values()] == [
        "count",
        "count(where)",
        "sum",
        "mean",
        "min",
        "max",
        "distinct_count",
        "first",
        "last",
        "last",
        "collect",
        "reduce",
        "fold",
        "fold(merge)",
        "largest(3)",
        "largest(2)",
        "aggregate(n=count, sum=sum, low=min)",
        "aggregate(n=count, first=first, hits=count(where))",
    ]
