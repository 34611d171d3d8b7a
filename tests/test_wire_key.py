from __future__ import annotations

import dataclasses
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, NamedTuple, NewType

import msgspec
import pytest
from aiokafka.partitioner import murmur2 as kafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from streamproc.murmur2 import murmur2, partition_of
from streamproc.wire_key import KeyEncodeError, encode_column, encode_key, key_decoder

# From Apache Kafka's UtilsTest.testMurmur2; Java's ints are signed.
KAFKAS_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


class Place(msgspec.Struct, frozen=True):
    row: int
    name: str


@dataclasses.dataclass(frozen=True)
class Spot:
    row: int


class Edge(NamedTuple):
    a: int
    b: int


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Suit(Enum):
    HEARTS = "hearts"


UserId = NewType("UserId", int)


@pytest.mark.parametrize(("data", "expected"), KAFKAS_VECTORS.items())
def test_the_hash_is_the_one_of_kafkas_own_tests(data: bytes, expected: int) -> None:
    """murmur2 gives what Kafka's own test suite expects."""
    assert murmur2(data) == expected & 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_the_hash_is_the_one_of_kafka_clients(data: bytes) -> None:
    """Any key hashes as in another client, so that records meet those that other programs write."""
    assert murmur2(data) == kafka_murmur2(data) & 0xFFFFFFFF


@given(st.binary(max_size=20), st.integers(1, 1_000))
def test_the_partition_is_the_one_of_kafkas_default_partitioner(data: bytes, partitions: int) -> None:
    """The partition is the hash without its sign bit, modulo the number of partitions."""
    assert partition_of(data, partitions) == (kafka_murmur2(data) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, None),
        (b"\x00\xff", b"\x00\xff"),
        ("é", "é".encode()),
        ("", b""),
        (12, b"12"),
        (-(2**80), b"-1208925819614629174706176"),
        (1.0, b"1.0"),
        (0.1, b"0.1"),
        (1e300, b"1e+300"),
        (True, b"true"),
        (False, b"false"),
        (("a", 1, None), b'["a",1,null]'),
        (Place(1, "x"), b'{"row":1,"name":"x"}'),
        (Spot(1), b'{"row":1}'),
        (Edge(1, 2), b"[1,2]"),
        ({"b": 1, "a": 2}, b'{"a":2,"b":1}'),
        (Colour.RED, b"red"),
        (Level.HIGH, b"3"),
        (Suit.HEARTS, b'"hearts"'),
    ],
)
def test_each_kind_of_key_has_its_bytes(key: Any, expected: bytes | None) -> None:
    """Bytes as they are, text in UTF-8, numbers as decimal text, all else compact JSON."""
    assert encode_key(key) == expected
    assert encode_column([key, "x", key]) == [expected, b"x", expected]
    assert encode_column([key]) == [expected]


@given(st.lists(st.frozensets(st.text(max_size=3)), max_size=4))
def test_equal_keys_have_equal_bytes(keys: list[frozenset[str]]) -> None:
    """Equal keys come to the same partition, whatever the order in which a set gives its members."""
    for key in keys:
        assert encode_key(key) == encode_key(frozenset(sorted(key, reverse=True)))


@pytest.mark.parametrize("key", [object(), "\ud800", {1: {(1, 2): 3}}])
def test_a_key_without_a_form_is_named(key: object) -> None:
    """What cannot be a key is an error that shows it."""
    with pytest.raises(KeyEncodeError, match="cannot be written"):
        encode_key(key)


@given(
    st.one_of(
        st.tuples(st.just(bytes), st.binary()),
        st.tuples(st.just(str), st.text()),
        st.tuples(st.just(int), st.integers()),
        st.tuples(st.just(float), st.floats(allow_nan=False)),
        st.tuples(st.just(bool), st.booleans()),
        st.tuples(st.just(tuple[str, int]), st.tuples(st.text(), st.integers(-(2**63), 2**63))),
        st.tuples(st.just(Place), st.builds(Place, st.integers(-9, 9), st.text())),
        st.tuples(st.just(Edge), st.builds(Edge, st.integers(-9, 9), st.integers(-9, 9))),
    )
)
def test_keys_come_back(typed: tuple[Any, Any]) -> None:
    """A key is read back as its declared type, equal and of the same class."""
    declared, key = typed
    found = key_decoder(declared)(encode_key(key))
    assert (found, type(found)) == (key, type(key))


@pytest.mark.parametrize("declared", [bytes, str, int, float, Any, Place, int | None])
def test_no_key_is_none_whatever_the_type(declared: Any) -> None:
    """A record without a key has the key None under any declaration."""
    assert key_decoder(declared)(None) is None


def test_declared_types_may_be_renamed_constrained_or_optional() -> None:
    """NewType, Annotated and X | None are of the text of their type."""
    assert key_decoder(UserId)(b"7") == 7
    assert key_decoder(str | None)(b"x") == "x"
    assert key_decoder(Annotated[int, msgspec.Meta(ge=0)])(b"7") == 7
    with pytest.raises(msgspec.ValidationError):
        key_decoder(Annotated[int, msgspec.Meta(ge=0)])(b"-7")
    assert key_decoder(Any)(b'{"a":1}') == {"a": 1}


@pytest.mark.parametrize(
    ("declared", "data"), [(int, b"x"), (int, b"1_0"), (float, b"1_0"), (str, b"\xff"), (Place, b"{}"), (Any, b"{")]
)
def test_bytes_of_another_type_are_an_error(declared: Any, data: bytes) -> None:
    """Bytes that are not of the declared type are not guessed at."""
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        key_decoder(declared)(data)


def test_a_type_that_no_key_can_be_read_as_is_refused_at_once() -> None:
    """An impossible declaration fails when it is made."""
    with pytest.raises(TypeError, match="cannot be read as"):
        key_decoder(dict[tuple[int, Any], set[dict[str, int]]] | list[int] | set[int])
