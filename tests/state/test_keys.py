from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from itertools import permutations
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamproc.state.keys import (
    CodecError,
    Encoded,
    KeyCodec,
    bytes_of,
    decode_key,
    decode_time,
    encode_key,
    encode_keys,
    encode_time,
    identities,
    key_of,
    sorted_by_bytes,
)
from streamproc.state.registry import Registry


class Place(NamedTuple):
    city: str
    number: int


class Sensor(msgspec.Struct, frozen=True):
    site: str
    place: Place | None = None


@dataclass(frozen=True, order=True)
class Version:
    major: int
    minor: int


class Open(msgspec.Struct):
    number: int


class Nowhere(tzinfo):
    def utcoffset(self, _: datetime | None) -> None:
        return None

    tzname = dst = utcoffset


class Name(str):
    __slots__ = ()


class Color(Enum):
    RED = "r"
    GREEN = "g"


class Level(IntEnum):
    LOW = -1
    HIGH = 300


class Unit(StrEnum):
    METRE = "m"


class Access(Flag):
    READ = 1
    WRITE = 2


any_text = st.text(st.characters(exclude_categories=()))
naive = st.datetimes()
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
instants = st.datetimes(timezones=offsets).filter(lambda value: 1 < value.year < 9999)
floats = st.floats(allow_nan=False)
decimals = st.decimals(allow_nan=False) | st.integers().map(Decimal) | st.sampled_from([Decimal("1.0"), Decimal("-0")])
ordered: list[st.SearchStrategy[Any]] = [
    st.booleans(),
    st.integers() | st.integers(-(1 << 80), 1 << 80) | st.integers(-(1 << 300), 1 << 300),
    floats,
    any_text,
    st.binary() | st.lists(st.sampled_from([0, 1, 255])).map(bytes),
    decimals,
    instants,
    naive,
    st.dates(),
    st.timedeltas(),
    st.uuids(),
]
atoms = st.one_of(st.none(), *ordered)
keys = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=4).flatmap(lambda x: st.sampled_from([tuple(x), frozenset(x)])),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, datetime) and (a.tzinfo is None) != (b.tzinfo is None):
        return False
    return bool(a == b)


@given(keys)
@example("\ud800\udc00")
@example(("a\0", b"\0\xff", "", ()))
@example((1 << 63, (1 << 63) - 1, -(1 << 63), -(1 << 63) - 1))
def test_a_key_comes_back(key: Any) -> None:
    """Decoding gives an equal key of the same types."""
    assert same(decode_key(encode_key(key)), key)


@given(keys, keys)
@example(1, 1.0)
@example(0, False)
@example(1, Decimal(1))
@example((1,), (True,))
@example(0.0, -0.0)
@example(Decimal("1.0"), Decimal(1))
@example(("a", "b"), ("a\0b",))
def test_same_bytes_mean_same_type_and_value(a: Any, b: Any) -> None:
    """Two keys have the same bytes exactly when their types and values are the same."""
    assert (encode_key(a) == encode_key(b)) == same(a, b)


def test_keys_that_python_or_json_conflate_differ() -> None:
    """1, 1.0, True, "1", b"1", (1,), Decimal(1) and their like are as many keys, in bytes and as identities."""
    alike = [1, 1.0, True, "1", b"1", (1,), (1.0,), (True,), Decimal(1), frozenset({1}), Level(300), 300, None, (), ""]
    assert len(set(map(encode_key, alike))) == len(alike)
    assert len(set(identities(alike))) == len(alike)


@given(st.sampled_from(ordered).flatmap(lambda values: st.tuples(values, values)))
@example((-1, 0))
@example((-(1 << 64), -(1 << 63)))
@example((-(1 << 900), -(1 << 64)))
@example(("\ud800", "\U00010000"))
@example(("a", "a\0"))
@example((-math.inf, -5e-324))
@example((Decimal("-Infinity"), Decimal("-1.01")))
@example((Decimal("-1.01"), Decimal(-1)))
@example((timedelta.min, timedelta(microseconds=-1)))
def test_byte_order_is_value_order(pair: tuple[Any, Any]) -> None:
    """Within one type bytes compare as values do, alone and inside tuples."""
    a, b = pair
    assert (encode_key(a) < encode_key(b)) == (a < b)
    assert (encode_key((a, b"\xff")) < encode_key((b, b""))) == ((a, b"\xff") < (b, b""))


@given(*[st.lists(st.tuples(any_text, st.binary(max_size=2)) | st.tuples(any_text), max_size=3).map(tuple)] * 2)
@example((("a",),), (("a", b""),))
@example((), ((),))
def test_tuples_order_as_in_python(a: Any, b: Any) -> None:
    """Tuples compare element by element, and a prefix comes before what it begins."""
    assert (encode_key(a) < encode_key(b)) == (a < b)


def test_sets_have_one_form() -> None:
    """Equal frozensets are one key, in whatever order they iterate."""
    a, b = frozenset([0, 8, 16]), frozenset([16, 8, 0])
    assert list(a) != list(b)
    assert encode_key(a) == encode_key(b)


def test_instants_come_back_in_utc() -> None:
    """Aware datetimes of one instant are one key, whatever their zone; it decodes to UTC."""
    berlin = datetime(2022, 11, 20, 17, 16, tzinfo=ZoneInfo("Europe/Berlin"))
    utc = datetime(2022, 11, 20, 16, 16, tzinfo=UTC)
    assert encode_key(berlin) == encode_key(utc) != encode_key(utc.replace(tzinfo=None))
    assert decode_key(encode_key(berlin)).tzinfo is UTC


def test_what_stands_for_equal_values() -> None:
    """Of values that are equal within a type, decoding gives one: 0.0, Decimal without ending zeros."""
    assert math.copysign(1, decode_key(encode_key(-0.0))) == 1
    assert [str(decode_key(encode_key(Decimal(text)))) for text in ("1.50", "100", "1E+2", "-0", "1E+99")] == [
        "1.5",
        "100",
        "100",
        "0",
        "1E+99",
    ]


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ([1], "convert to a tuple"),
        ({}, "convert to a tuple"),
        ((1, [2]), "convert to a tuple"),
        ({1}, "convert to a tuple"),
        (math.nan, "NaN"),
        (Decimal("sNaN"), "NaN"),
        ((1, math.nan), "NaN"),
        (Open(1), "freeze the class"),
        (object(), "builtins:object"),
        (range(3), "builtins:range"),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "years 1 to 9999"),
        (datetime(2022, 11, 20, tzinfo=Nowhere()), "without an offset"),
        (Name("x"), "Name"),
    ],
)
def test_what_cannot_be_a_key_says_why(key: Any, part: str) -> None:
    """A key that has no bytes is a CodecError that names the fix or the type."""
    functions: list[Callable[[Any], Any]] = [encode_key, lambda k: encode_keys([k]), lambda k: identities([k])]
    for function in functions:
        with pytest.raises(CodecError, match=part):
            function(key)


def test_a_key_nested_without_end_is_an_error() -> None:
    """Nesting beyond what can be read back is a CodecError."""
    key: Any = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(CodecError, match="deeply"):
        encode_key(key)
    while key:  # taken apart by hand: freeing it at once would recurse
        key = key[0]


@given(st.lists(keys))
@example(["a", "\ud800"])
def test_a_column_is_its_keys(column: list[Any]) -> None:
    """encode_keys gives what encode_key gives for each."""
    assert encode_keys(column) == list(map(encode_key, column))


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 63), (1 << 63) - 1))
@example(-1, 0)
def test_times_sort_as_bytes(a: int, b: int) -> None:
    """encode_time keeps the order of instants, negative ones first, in eight bytes."""
    assert decode_time(encode_time(a)) == a
    assert (encode_time(a) < encode_time(b)) == (a < b)
    assert len(encode_time(a)) == 8


# ------------------------------------------------------------------------------------------ identities


def test_plain_columns_are_their_own_identities() -> None:
    """A column of str, bytes, int and None is given back as it is, not copied."""
    column = ["1", b"1", 1, None]
    assert identities(column) is column
    assert identities([*column, 1.0])[:4] == column


@given(st.lists(keys))
def test_identities_are_equal_when_keys_are(column: list[Any]) -> None:
    """In a dict, identities meet exactly when the keys' bytes are the same; key and bytes can be had from each."""
    found = identities(column)
    for identity, key in zip(found, column, strict=True):
        assert bytes_of(identity) == encode_key(key)
        assert same(key_of(identity), key)
        assert getattr(identity, "codec", None) is None
    assert len(set(found)) == len(set(encode_keys(column)))


@given(st.lists(keys | any_text | st.integers()))
@example([2, 10, -1])
@example(["b", "a\U00010000", "a\uffff"])
@example([b"b", b""])
@example([1.5, -1.0])
@example([None])
def test_sorting_is_by_bytes(column: list[Any]) -> None:
    """sorted_by_bytes sorts as the encoded keys do, for columns of one type and mixed ones."""
    assert list(map(bytes_of, sorted_by_bytes(identities(column)))) == sorted(map(encode_key, column))


def test_key_of_does_not_depend_on_which_key_came_first() -> None:
    """Equal keys in either order give the same key back, so output does not show the batching."""
    pairs: list[tuple[Any, Any]] = [(0.0, -0.0), (Decimal("1.0"), Decimal(1))]
    for pair in pairs:
        assert len({repr(key_of(identities(order)[0])) for order in permutations(pair)}) == 1


# ------------------------------------------------------------------------------------------ classes

members = [Color.RED, Level.HIGH, Unit.METRE, Access.READ | Access.WRITE, Access(0)]
instances = [Place("Ede", 3), Sensor("x", Place("Ede", 3)), Sensor("x"), Version(1, 2)]


@pytest.mark.parametrize("key", [*members, *instances, (1, Color.RED)])
def test_class_keys_come_back_through_a_registry(key: Any) -> None:
    """Enum members and frozen instances decode where their class is registered, and by nobody else."""
    data = encode_key(key)
    reader = KeyCodec(Registry([Color, Level, Unit, Access, Sensor, Version]))
    assert same(reader.decode(data), key)
    assert same(key_of(identities([key])[0]), key)
    identity = reader.identity_of(data)
    assert identity == identities([key])[0]
    assert same(key_of(identity), key)
    with pytest.raises(CodecError, match=r"test_keys:\w+ is not known here: annotate"):
        decode_key(data)


def test_class_keys_differ_from_their_content() -> None:
    """A NamedTuple is no tuple, and an IntEnum member no int."""
    alike = [("Ede", 3), Place("Ede", 3), Level.HIGH, 300, Unit.METRE, "m", Version(1, 2), (1, 2)]
    assert len(set(encode_keys(alike))) == len(alike)


def test_class_keys_sort_by_fields() -> None:
    """Instances of one class are ordered by their fields, enum members that are ints by value."""
    assert encode_key(Version(1, 300)) < encode_key(Version(2, 0))
    assert encode_key(Level.LOW) < encode_key(Level.HIGH)


def test_a_changed_key_class_is_an_error() -> None:
    """A key whose class has other fields now cannot be decoded, and says so."""
    before = msgspec.defstruct("Changed", [("a", int)], frozen=True)
    after = msgspec.defstruct("Changed", [("a", int), ("b", int, 0)], frozen=True)
    with pytest.raises(CodecError, match="has 1 fields, the class now 2"):
        KeyCodec(Registry([after])).decode(encode_key(before(1)))
    gone: Any = Enum("Color", ["BLUE"], module=__name__)  # type: ignore[misc]
    with pytest.raises(CodecError, match="no member 'RED' any more"):
        KeyCodec(Registry([gone])).decode(encode_key(Color.RED))


# ------------------------------------------------------------------------------------------ corruption


@given(st.binary())
@example(b"")
@example(b"\x15\xff")
@example(b"\x16\x01\xff")
@example(b"\x33" + b"\xff" * 16)
@example(b"\x40" * 5000)
@example(b"\x42m:X\0\x13")
def test_foreign_bytes_are_a_codec_error(data: bytes) -> None:
    """Any bytes decode to a key or raise CodecError."""
    assert_key_or_codec_error(data)


@given(keys | st.sampled_from([*members, *instances]), st.data())
def test_damaged_keys_are_a_codec_error(key: Any, data: st.DataObject) -> None:
    """So do keys with a byte changed or the end cut off."""
    encoded = bytearray(encode_key(key))
    at = data.draw(st.integers(0, len(encoded) - 1))
    assert_key_or_codec_error(bytes(encoded[:at]))
    encoded[at] = data.draw(st.integers(0, 255))
    assert_key_or_codec_error(bytes(encoded))


def assert_key_or_codec_error(data: bytes) -> None:
    decode: Callable[[bytes], Any] = KeyCodec(Registry([Color, Level, Unit, Access, Sensor, Version])).decode
    with suppress(CodecError):
        decode(data)


def test_bytes_after_a_key_are_an_error() -> None:
    """A key must end where its bytes end."""
    with pytest.raises(CodecError, match="too many"):
        decode_key(encode_key(1) + b"\0")
    with pytest.raises(CodecError, match="instant"):
        decode_time(b"1234567")


def test_encoded_never_equals_a_raw_key() -> None:
    """An identity that wraps bytes is none of the keys that stand for themselves."""
    [identity] = identities([1.0])
    assert type(identity) is Encoded
    assert identity not in {1, b"1", "1", None, encode_key(1.0)}
    assert identities([date(2022, 11, 20), UUID(int=1)]) == identities((date(2022, 11, 20), UUID(int=1)))
