from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict, TypeVar, assert_type

import attrs
import msgspec
import pytest

from streamproc import agg
from streamproc.windows.aggregate import Aggregate

V = TypeVar("V")
T = TypeVar("T")


class Visit(NamedTuple):
    path: str
    size: int


class Struct(msgspec.Struct, frozen=True, kw_only=True):
    hits: int
    size: int
    note: str = ""


@dataclass
class Data:
    hits: int
    size: int
    note: str = ""


@attrs.frozen
class Attrs:
    hits: int
    size: int
    note: str = ""


class Named(NamedTuple):
    hits: int
    size: int
    note: str = ""


class Typed(TypedDict):
    hits: int
    size: int
    note: NotRequired[str]


VISITS = [Visit("/", 3), Visit("/a", 4)]


def aggregated(values: Sequence[V], into: type[T], **fields: Aggregate[V, Any]) -> T:
    """As Stream.aggregate is typed."""
    aggregate = agg.struct(into, fields)
    rows: dict[str, Any] = {}
    contributions = [(i, (0, i), value) for i, value in enumerate(values)] if aggregate.ordered else values
    aggregate.add_rows(rows, ["k"] * len(values), aggregate.column(contributions))
    result: T = aggregate.result(rows["k"])
    return result


@pytest.mark.parametrize("into", [Struct, Data, Attrs, Named, Typed, dict])
def test_results_are_of_any_class_with_fields(into: Any) -> None:
    """Struct, dataclass, attrs class, NamedTuple, TypedDict and dict can be the result."""
    result = aggregated(VISITS, into, hits=agg.count(), size=agg.sum(lambda visit: visit.size))
    assert result == into(hits=2, size=7)


def test_functions_know_the_values_type() -> None:
    """A type checker infers the parameter of a lambda from the stream's values, and the type of the result."""
    result = aggregated(
        VISITS,
        Struct,
        hits=agg.count(lambda visit: visit.size > 3),
        size=agg.max(lambda visit: visit.size),
        note=agg.last(lambda visit: visit.path),
    )
    assert_type(result, Struct)
    assert result == Struct(hits=1, size=4, note="/a")
    aggregated(
        VISITS[:0] or VISITS, dict, low=agg.min(lambda visit: visit.path), ways=agg.distinct_count(lambda v: v.path)
    )
    size: Aggregate[Visit, int] = agg.sum(lambda visit: visit.size)
    assert_type(size, Aggregate[Visit, int])


def test_functions_know_what_values_have_not() -> None:
    """A field that values do not have is found by the type checker (the ignore is needed), and fails when run."""
    with pytest.raises(AttributeError):
        aggregated(VISITS, dict, size=agg.sum(lambda visit: visit.nonsense))  # type: ignore[attr-defined]


@pytest.mark.parametrize("into", [Struct, Data, Attrs, Named, Typed])
def test_wrong_fields_are_found_at_definition(into: Any) -> None:
    """Names that the class does not have, and names that it needs, are errors before anything is read."""
    with pytest.raises(TypeError, match=rf"{into.__name__} has no field 'bites'; it has .*'hits', 'size', 'note'"):
        agg.struct(into, {"hits": agg.count(), "size": agg.count(), "bites": agg.count()})
    with pytest.raises(TypeError, match=rf"{into.__name__} needs 'size' as well"):
        agg.struct(into, {"hits": agg.count()})


def test_what_is_no_aggregate_is_found_at_definition() -> None:
    """Forgotten brackets, and no fields at all."""
    with pytest.raises(TypeError, match=r"hits=<function count .*> is no aggregate: hits=agg.count\(\)"):
        agg.struct(dict, {"hits": agg.count})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="give it fields"):
        agg.struct(dict, {})
