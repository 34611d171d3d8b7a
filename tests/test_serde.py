from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import DefinitionError
from streamproc.serde import BadRecord, EncodeError, value_serde
from streamproc.windows.results import Item, Previous, Top, WindowResult

T = TypeVar("T")
L = TypeVar("L")
R = TypeVar("R")


class Tweet(msgspec.Struct):
    user: str
    likes: int


class Stats(msgspec.Struct):
    hits: int
    mean: float | None


class Renamed(msgspec.Struct, rename="camel", omit_defaults=True):
    hit_count: int
    last_user: str = ""


class Circle(msgspec.Struct, tag=True):
    radius: int


class Square(msgspec.Struct, tag=True):
    side: int


class Box(msgspec.Struct, Generic[T]):
    content: T


class Nothing(msgspec.Struct):
    pass


class Row(msgspec.Struct, array_like=True):
    a: int


class HasKey(msgspec.Struct):
    key: str


class Closed(msgspec.Struct, forbid_unknown_fields=True):
    hits: int


class HasValue(msgspec.Struct):
    value: int


@dataclasses.dataclass
class Data:
    hits: int
    best: str | None = None


@attrs.define
class Attrs:
    hits: int


class Pair(NamedTuple):
    hits: int
    best: str = "-"


class Typed(TypedDict):
    hits: int
    best: NotRequired[str]


class Joined(NamedTuple, Generic[L, R]):
    left: L
    right: R


class Chain(NamedTuple):
    head: int
    tail: Chain | None


class Reading(msgspec.Struct):
    sensor: str
    at: datetime
    celsius: float
    lux: float | None = None
    note: str | None = None


UserId = NewType("UserId", int)


# -------------------------------------------------------------------------------------- declared types


@pytest.mark.parametrize(
    ("declared", "value", "data"),
    [
        (bytes, b"\x00", b"\x00"),
        (str, "é\n", "é\n".encode()),
        (int, -(2**70), b"-1180591620717411303424"),
        (float, 0.1, b"0.1"),
        (float, math.inf, b"inf"),
        (UserId, 3, b"3"),
        (Annotated[str, msgspec.Meta(max_length=3)], "abc", b"abc"),
        (bool, True, b"true"),
        (int | str, "a", b'"a"'),
        (Any, {"a": [1, None]}, b'{"a":[1,null]}'),
        (Any, "a", b'"a"'),
        (Any, 2**70, b"1180591620717411303424"),
        (Tweet, Tweet("a", 1), b'{"user":"a","likes":1}'),
        (Data, Data(1), b'{"hits":1,"best":null}'),
        (Attrs, Attrs(1), b'{"hits":1}'),
        (Typed, {"hits": 1}, b'{"hits":1}'),
        (list[Tweet], [Tweet("a", 1)], b'[{"user":"a","likes":1}]'),
        (Circle | Square, Square(2), b'{"type":"Square","side":2}'),
        (Box[int], Box(1), b'{"content":1}'),
        (datetime, datetime(2030, 1, 1, tzinfo=UTC), b'"2030-01-01T00:00:00Z"'),
        (Pair, Pair(1), b'{"hits":1,"best":"-"}'),
        (Joined[Tweet, int | None], Joined(Tweet("a", 1), None), b'{"left":{"user":"a","likes":1},"right":null}'),
        (Joined[Pair, Joined[int, str]], Joined(Pair(1), Joined(2, "x")),
         b'{"left":{"hits":1,"best":"-"},"right":{"left":2,"right":"x"}}'),
        (Joined[int, Pair | None], Joined(1, Pair(2)), b'{"left":1,"right":{"hits":2,"best":"-"}}'),
        (Joined[int, Pair | None], Joined(1, None), b'{"left":1,"right":null}'),
        (list[Pair], [Pair(1, "b")], b'[[1,"b"]]'),
    ],
)  # fmt: skip
def test_values_have_the_bytes_of_their_declared_type_and_come_back(declared: Any, value: Any, data: bytes) -> None:
    """Each declared type has its bytes, and reads them back equal and of the same class."""
    serde = value_serde(declared)
    assert serde.encode_column([value, value]) == [data, data]
    assert serde.encode_one(value) == data
    assert serde.decode_column([data, data]) == [value, value]
    found = serde.decode_one(data)
    assert (found, type(found)) == (value, type(value))


def test_an_untyped_topic_writes_bytes_as_they_are_and_all_else_as_json() -> None:
    """Without a type, encoded bytes pass and everything else is JSON, in one column too."""
    serde = value_serde()
    assert serde.encode_column([b"raw", "a", None, 1, b"\xff"]) == [b"raw", b'"a"', None, b"1", b"\xff"]
    assert serde.encode_column([b"raw", b""]) == [b"raw", b""]


@pytest.mark.parametrize(
    "declared", [bytes | None, str | None, int | None, float | None, Tweet | None, Any, Pair | None]
)
def test_none_is_a_record_without_a_value(declared: Any) -> None:
    """None is written as no value, and no value is read as None where the type admits it."""
    serde = value_serde(declared)
    assert serde.encode_column([None, None]) == [None, None]
    assert serde.encode_one(None) is None
    assert serde.decode_column([None, None]) == [None, None]


def test_columns_may_mix_values_and_none() -> None:
    """Tombstones among values keep their places."""
    serde = value_serde(Tweet | None)
    column = [Tweet("a", 1), None, Tweet("b", 2)]
    encoded = serde.encode_column(column)
    assert encoded == [b'{"user":"a","likes":1}', None, b'{"user":"b","likes":2}']
    assert serde.decode_column(encoded) == column


@pytest.mark.parametrize("declared", [bytes, str, int, float, Tweet, list[int]])
def test_no_value_is_an_error_where_the_type_does_not_admit_none(declared: Any) -> None:
    """A tombstone is not read as a value of a type that has no None; the error is of its record."""
    good = value_serde(declared).encode_one(
        {bytes: b"x", str: "x", int: 1, float: 1.0, Tweet: Tweet("a", 1)}.get(declared, [1])
    )
    with pytest.raises(BadRecord, match=r"has no value.* \| None") as caught:
        value_serde(declared).decode_column([good, None])
    assert caught.value.index == 1


@pytest.mark.parametrize(
    ("declared", "good", "bad", "says"),
    [
        (Tweet, b'{"user":"a","likes":1}', b'{"user":"a","likes":"many"}',
         r"Tweet: Expected `int`, got `str` - at `\$\.likes` \(lax=True .*\); it is b'\{\"user"),
        (Any, b"1", b"{nonsense", "no JSON: JSON is malformed"),
        (int, b"1", b"1_0", "no int: .*underscores"),
        (float, b"1", b"one", "no float: .*; it is b'one'"),
        (str, b"a", b"\xff", "no str: .*utf-8"),
        (Tweet, b'{"user":"a","likes":1}', b'{"user":"' + b"x" * 500 + b'"}', r"\.\.\. \(511 bytes\)"),
        (Annotated[int, msgspec.Meta(ge=0)], b"1", b"-1", "Expected `int` >= 0"),
    ],
)  # fmt: skip
def test_the_first_bad_record_of_a_column_is_named(declared: Any, good: bytes, bad: bytes, says: str) -> None:
    """A bad record's place is told, what is wrong with it and how it begins."""
    with pytest.raises(BadRecord, match=says) as caught:
        value_serde(declared).decode_column([good, good, bad, good, bad])
    assert caught.value.index == 2
    assert caught.value.__cause__ is not None


def test_a_function_reads_raw_formats() -> None:
    """decode= reads bytes; what it gives None for is left out; what it raises is the record's error."""
    serde = value_serde(decode=lambda data: int(data) if data else None)
    assert serde.leaves_out
    assert serde.decode_column([b"1", b"", b"2"]) == [1, None, 2]
    with pytest.raises(BadRecord, match="ValueError: invalid literal") as caught:
        serde.decode_column([b"1", b"x"])
    assert caught.value.index == 1


def test_a_function_is_never_given_a_record_without_a_value() -> None:
    """decode= sees bytes alone; a tombstone goes by the declared type."""
    assert value_serde(decode=len).decode_column([None, b"ab"]) == [None, 2]
    with pytest.raises(BadRecord, match="has no value"):
        value_serde(int, decode=len).decode_column([b"ab", None])


def test_lax_takes_the_cells_of_a_csv() -> None:
    """lax=True reads numbers and instants out of strings; an empty cell is None where only that can be meant."""
    serde = value_serde(Reading, lax=True)
    row = b'{"sensor":"","at":"2030-01-01T00:00:00Z","celsius":"21.5","lux":"%b","note":""}'
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert serde.decode_column([row % b"3", row % b""]) == [
        Reading("", at, 21.5, 3.0, ""),
        Reading("", at, 21.5, None, ""),
    ]
    with pytest.raises(BadRecord, match="celsius"):
        serde.decode_one(b'{"sensor":"a","at":"2030-01-01T00:00:00Z","celsius":"","lux":""}')
    with pytest.raises(BadRecord, match="celsius"):
        value_serde(Reading).decode_one(row % b"3")


@pytest.mark.parametrize("arguments", [{}, {"declared": int}, {"declared": Tweet, "decode": len}])
def test_lax_without_fields_is_a_definition_error(arguments: dict[str, Any]) -> None:
    """lax=True is refused where it would do nothing."""
    with pytest.raises(DefinitionError, match="lax=True"):
        value_serde(**arguments, lax=True)


@pytest.mark.parametrize(
    ("declared", "value", "says"),
    [
        (str, b"a", "type bytes cannot be written as str: .*declare value="),
        (bytes, "a", "type str cannot be written as bytes"),
        (int, 1.5, "type float cannot be written as int"),
        (float, "1", "type str cannot be written as float"),
        (Any, object(), "type object cannot be written as JSON"),
        (Tweet, Tweet("\ud800", 1), "type Tweet cannot be written as Tweet: .*surrogates"),
        (Any, {(1, 2): 3}, "type dict cannot be written as JSON"),
    ],
)
def test_a_value_that_cannot_be_written_is_named(declared: Any, value: Any, says: str) -> None:
    """The error tells the value's place, its type and the declared type."""
    good = {str: "a", bytes: b"a", int: 1, float: 1.0}.get(declared, Tweet("a", 1))
    with pytest.raises(EncodeError, match=says) as caught:
        value_serde(declared).encode_column([good, None, value])
    assert caught.value.index == 2


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "where"),
    [
        (lambda x: x, r"`\$`"),
        (lambda x: Stats(1, x), r"`\$\.mean`"),
        (lambda x: WindowResult("k", 0, 1, Stats(1, x)), r"`\$\.value\.mean`"),
        (lambda x: WindowResult("k", 0, 1, x), r"`\$\.value`"),
        (lambda x: Top(0, 1, [Item("a", x)]), r"`\$\.value\[0\]\.value`"),
        (lambda x: {"a": [None, (x,)]}, r"`\$\['a'\]\[1\]\[0\]`"),
        (lambda x: Data(1, x), r"`\$\.best`"),
    ],
)
def test_a_number_that_json_cannot_say_is_not_lost(number: float, wrap: Callable[[float], Any], where: str) -> None:
    """nan and infinities are refused, not written as null; the error tells where they are."""
    with pytest.raises(EncodeError, match=where + ".*JSON cannot say") as caught:
        value_serde().encode_column([Stats(1, None), {"null": None}, wrap(number)])
    assert caught.value.index == 2


def test_a_type_that_cannot_be_read_is_a_definition_error() -> None:
    """An impossible declaration fails when it is made, and names the type."""
    with pytest.raises(DefinitionError, match="Tweet"):
        value_serde(list[Tweet] | set[int])


atoms = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(atoms, lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=8))
def test_untyped_json_comes_back(value: Any) -> None:
    """Any JSON value, integers of any size too, is read back as it was written."""
    serde = value_serde()
    assert serde.decode_one(serde.encode_one(value)) == value


# -------------------------------------------------------------------------------------- results of windows


def result(value: Any, *, final: bool = True) -> WindowResult[str, Any]:
    return WindowResult("k", 0, 60_000, value, final)


HEAD = {"key": "k", "start": 0, "end": 60_000}


@pytest.mark.parametrize(
    ("declared", "value", "fields"),
    [
        (int, 3, {"value": 3}),
        (float | None, None, {"value": None}),
        (list[int], [1, 2], {"value": [1, 2]}),
        (dict[str, int], {"a": 1}, {"value": {"a": 1}}),
        (Row, Row(1), {"value": [1]}),
        (Stats, Stats(1, 0.5), {"hits": 1, "mean": 0.5}),
        (Renamed, Renamed(1), {"hitCount": 1}),
        (Renamed, Renamed(1, "a"), {"hitCount": 1, "lastUser": "a"}),
        (Nothing, Nothing(), {}),
        (Circle | Square, Square(2), {"type": "Square", "side": 2}),
        (Box[int], Box(1), {"content": 1}),
        (Data, Data(1, "a"), {"hits": 1, "best": "a"}),
        (Attrs, Attrs(1), {"hits": 1}),
        (Pair, Pair(1, "a"), {"hits": 1, "best": "a"}),
        (Typed, {"hits": 1, "best": "a"}, {"hits": 1, "best": "a"}),
        (Previous[int], Previous(1, [2, 3]), {"now": 1, "before": [2, 3]}),
        (Previous[Stats], Previous(Stats(1, 0.5), [Stats(2, 0.5)]),
         {"now": {"hits": 1, "mean": 0.5}, "before": [{"hits": 2, "mean": 0.5}]}),
        (Joined[Tweet, Pair], Joined(Tweet("a", 1), Pair(1)),
         {"left": {"user": "a", "likes": 1}, "right": {"hits": 1, "best": "-"}}),
        (Stats | None, Stats(1, 0.5), {"hits": 1, "mean": 0.5}),
        (Stats | None, None, {"value": None}),
        (Stats | int, 7, {"value": 7}),
        (WindowResult[str, int], WindowResult("x", 1, 2, 3), {"value": {"key": "x", "start": 1, "end": 2, "value": 3}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("final", [True, False])
def test_a_windows_result_is_flat_and_comes_back(declared: Any, value: Any, fields: Any, *, final: bool) -> None:
    """Key, times, and the value's fields (or "value") stand side by side; the declared type reads that back."""
    serde = value_serde(WindowResult[str, declared])
    sent = result(value, final=final)
    data = serde.encode_one(sent)
    assert data is not None
    assert json.loads(data) == HEAD | fields | ({} if final else {"final": False})
    assert serde.decode_one(data) == sent
    assert serde.encode_column([sent, None, sent]) == [data, None, data]
    if declared is not Typed:
        assert value_serde().encode_one(sent) == data


def test_the_order_of_a_results_fields_is_fixed() -> None:
    """Key, start and end come first, "final" last."""
    assert value_serde().encode_one(result(Stats(1, 0.5), final=False)) == (
        b'{"key":"k","start":0,"end":60000,"hits":1,"mean":0.5,"final":false}'
    )
    assert value_serde().encode_one(WindowResult(None, 0, 1, 2)) == b'{"key":null,"start":0,"end":1,"value":2}'
    assert (
        value_serde().encode_one(result(Nothing(), final=False)) == b'{"key":"k","start":0,"end":60000,"final":false}'
    )


def test_results_of_several_kinds_share_a_column() -> None:
    """Each value of a mixed column has its own form."""
    assert value_serde().encode_column([result(1), 5, result(Pair(1)), Top(0, 1, [])]) == [
        b'{"key":"k","start":0,"end":60000,"value":1}',
        b"5",
        b'{"key":"k","start":0,"end":60000,"hits":1,"best":"-"}',
        b'{"start":0,"end":1,"top":[]}',
    ]


@pytest.mark.parametrize(
    ("declared", "key"), [(tuple[str, int], ("a", 1)), (bytes, b"\xff"), (int, 7), (Pair, Pair(1, "x")), (str, "é")]
)
def test_a_results_key_comes_back(declared: Any, key: Any) -> None:
    """The key of a result is read as its declared type, beside flat fields and beside a value."""
    result_type: Any = WindowResult
    for kind, value in ((Stats, Stats(1, 0.5)), (int, 5)):
        serde = value_serde(result_type[declared, kind])
        sent = WindowResult(key, 0, 1, value)
        assert serde.decode_one(serde.encode_one(sent)) == sent


def test_a_result_of_no_declared_value_is_read_as_a_dict() -> None:
    """WindowResult alone reads any result: the value, or a dict of the fields."""
    serde = value_serde(WindowResult)
    assert serde.decode_one(b'{"key":"k","start":0,"end":60000,"value":3}') == result(3)
    assert serde.decode_one(b'{"key":"k","start":0,"end":60000,"hits":1,"final":false}') == result(
        {"hits": 1}, final=False
    )
    assert value_serde(WindowResult[str, Any]).decode_one(b'{"key":"k","start":0,"end":60000,"value":3}') == result(3)


def test_a_dict_of_a_typed_dict_must_not_have_the_names_of_a_result() -> None:
    """A TypedDict's extra keys cannot take the place of the window's."""
    serde = value_serde(WindowResult[str, Typed])
    with pytest.raises(EncodeError, match="a key 'start'"):
        serde.encode_one(result({"hits": 1, "start": 2}))


def test_a_field_named_as_one_of_the_result_is_refused() -> None:
    """A clash of names is a definition error, at the declaration or at the first value, and says how to rename."""
    with pytest.raises(DefinitionError, match=r"HasKey has a field 'key'.*msgspec\.field"):
        value_serde(WindowResult[str, HasKey])
    with pytest.raises(DefinitionError, match="HasKey has a field 'key'"):
        value_serde().encode_column([result(HasKey("a"))])
    with pytest.raises(DefinitionError, match="HasValue has a field 'value'"):
        value_serde(WindowResult[str, HasValue | None])
    assert value_serde(WindowResult[str, HasValue]).decode_one(
        b'{"key":"k","start":0,"end":60000,"value":3}'
    ) == result(HasValue(3))


def test_a_class_that_forbids_other_fields_cannot_be_read_beside_them() -> None:
    """What could be written and not read back is refused where it is declared."""
    with pytest.raises(DefinitionError, match="forbid_unknown_fields"):
        value_serde(WindowResult[str, Closed])


@pytest.mark.parametrize(
    ("declared", "items", "expected"),
    [
        (Top[str, int], [Item("a", 3), Item("b", 2)], [{"key": "a", "value": 3}, {"key": "b", "value": 2}]),
        (Top[str, Stats], [Item("a", Stats(1, 0.5))], [{"key": "a", "value": {"hits": 1, "mean": 0.5}}]),
        (Top[str, Previous[int]], [Item("a", Previous(1, [2]))], [{"key": "a", "value": {"now": 1, "before": [2]}}]),
        (Top[tuple[str, int], float], [Item(("a", 1), 0.5)], [{"key": ["a", 1], "value": 0.5}]),
        (Top[str, int], [], []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("final", [True, False])
def test_a_top_is_read_back_from_objects(declared: Any, items: Any, expected: Any, *, final: bool) -> None:
    """A top is {"start", "end", "top"} with an object a place."""
    sent: Top[Any, Any] = Top(0, 60_000, items, final)
    serde = value_serde(declared)
    data = serde.encode_one(sent)
    assert data is not None
    assert json.loads(data) == {"start": 0, "end": 60_000, "top": expected} | ({} if final else {"final": False})
    found = serde.decode_one(data)
    assert found == sent
    assert all(type(item) is Item for item in found.value)


def test_a_top_of_no_declared_types_is_read_untyped() -> None:
    """Top alone reads any top."""
    assert value_serde(Top).decode_one(b'{"start":0,"end":1,"top":[{"key":"a","value":3}]}') == Top(
        0, 1, [Item("a", 3)]
    )


def test_results_within_other_values_keep_their_own_shape() -> None:
    """In lists and classes a result has "value", and the declared type reads it back."""
    declared = Joined[WindowResult[str, Stats], list[WindowResult[str, int]]]
    sent = Joined(result(Stats(1, 0.5)), [result(2)])
    data = value_serde(declared).encode_one(sent)
    assert data == (
        b'{"left":{"key":"k","start":0,"end":60000,"value":{"hits":1,"mean":0.5}},'
        b'"right":[{"key":"k","start":0,"end":60000,"value":2}]}'
    )
    assert value_serde(declared).decode_one(data) == sent


@pytest.mark.parametrize("declared", [Pair | int, Chain, Joined[int, Chain]])
def test_named_tuples_that_cannot_be_read_back_are_refused(declared: Any) -> None:
    """Unions with a named tuple, and named tuples that contain themselves, are definition errors."""
    with pytest.raises(DefinitionError, match="JSON cannot be read as"):
        value_serde(declared)


def test_a_cell_that_is_text_is_told_with_the_way_out() -> None:
    """The cells of a CSV are strings: the error of a number says which option reads them."""

    class Flow(msgspec.Struct):
        size: int

    with pytest.raises(BadRecord, match=r"Expected `int`, got `str`.*lax=True"):
        value_serde(Flow).decode_one(b'{"size": "7"}')
    assert value_serde(Flow, lax=True).decode_one(b'{"size": "7"}') == Flow(7)
