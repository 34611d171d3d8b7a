"""Keys as bytes: one type tag, then a payload whose byte order is the order of the values of that type.

    same type and value = same bytes; everything else differs: 1, 1.0, True, "1", b"1" and (1,) are six keys

Values that Python calls equal within a type are one key, and that key is what decoding gives: 0.0 for
-0.0, Decimal("1") for Decimal("1.0"), an aware datetime in UTC. The tuple form follows the tuple layer
of FoundationDB: every element delimits itself, so that a prefix sorts before what it begins.

Operators keep keys in dicts as *identities*, because Python takes 1, 1.0 and True for one dict key:
str, bytes, int and None are their own identity, every other key is wrapped as `Encoded`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from enum import Enum, Flag
from types import NoneType
from typing import Any

from streamproc.state.elements import (
    BYTES,
    END,
    ENUM,
    FROZENSET,
    INT,
    INT64_MAX,
    INT64_MIN,
    READERS,
    RECORD,
    STR,
    TAGGED_BIAS,
    TUPLE,
    WRITERS,
    Read,
    decode_time,
    encode_time,
    read_str,
    write_str,
)
from streamproc.state.registry import CodecError, Registry, Shape, corrupt

__all__ = [
    "CodecError",
    "Encoded",
    "KeyCodec",
    "bytes_of",
    "decode_key",
    "decode_time",
    "encode_key",
    "encode_keys",
    "encode_time",
    "identities",
    "key_of",
    "sorted_by_bytes",
]

_RAW = frozenset({str, bytes, int, NoneType})
"""Types whose values are never equal to each other across types: dict keys as they are."""


class Encoded(tuple[bytes]):  # noqa: SLOT001 - `codec` is set on the few that need it
    """The identity of a key that Python could take for another: the key's bytes, equal to no raw key."""

    # A tuple of one hashes and compares in C, and no raw identity is a tuple.
    codec: KeyCodec | None = None
    """What knows the classes in the key; None where there are none."""


_ARE_BUILT_IN = frozenset(WRITERS).issuperset
_SORTED_AS_BYTES = frozenset({str, bytes, int, Encoded})
"""Types whose own order is that of their bytes."""


class KeyCodec:
    """Keys to bytes and back, with a registry for keys that are enum members or frozen class instances.

    Fields of a class are its elements, in order; an enum member is its value where it has an order (a Flag or a
    member that is also an int, str, ...), else its name. Encoding registers the classes it sees.

    >>> codec = KeyCodec()
    >>> codec.decode(codec.encode(("a", 1)))
    ('a', 1)
    """

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry = Registry() if registry is None else registry

    def encode(self, key: Any) -> bytes:
        """The key's bytes."""
        kind = type(key)
        if kind is str:
            return STR + key.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
        if kind is bytes:
            return BYTES + key  # type: ignore[no-any-return]
        try:
            return self._element(key)
        except RecursionError:
            raise CodecError("a key is nested too deeply") from None

    def decode(self, data: bytes) -> Any:
        """The key of these bytes."""
        try:
            tag = data[:1]
            if tag == STR:
                return data[1:].decode("utf-8", "surrogatepass")
            if tag == BYTES:
                return data[1:]
            if tag == INT and len(data) == 9:
                return int.from_bytes(data) - TAGGED_BIAS
            key, end = self._read(data, 0)
        except CodecError:
            raise
        except (ArithmeticError, LookupError, ValueError, TypeError, RecursionError) as error:
            raise corrupt(f"key {data[:40]!r}: {error}") from error
        if end != len(data):
            raise corrupt(f"key {data[:40]!r}: {len(data) - end} bytes too many")
        return key

    def identities(self, keys: Sequence[Any]) -> Sequence[Hashable]:
        """Each key's identity; the same sequence where all are str, bytes, int or None."""
        if set(map(type, keys)) <= _RAW:
            return keys
        return [key if type(key) in _RAW else self._identity(key) for key in keys]

    def _identity(self, key: Any) -> Encoded:
        kind = type(key)
        if kind in WRITERS:
            return Encoded((WRITERS[kind](key),))
        if kind is tuple and _ARE_BUILT_IN(map(type, key)):
            return Encoded((TUPLE + b"".join([WRITERS[type(item)](item) for item in key]) + END,))
        identity = Encoded((self.encode(key),))
        if not _is_built_in(key):
            identity.codec = self
        return identity

    def identity_of(self, data: bytes) -> Hashable:
        """The identity of the key that has these bytes."""
        key = self.decode(data)
        return key if type(key) in _RAW else self._identity(key)

    # ------------------------------------------------------------------------------------ elements

    def _element(self, key: Any) -> bytes:
        """The form that delimits itself; but for str and bytes, which end with the data, also the whole key's."""
        write = WRITERS.get(type(key))
        if write is not None:
            return write(key)
        if type(key) is tuple:
            return TUPLE + self._elements(key) + END
        if type(key) is frozenset:
            return b"".join([FROZENSET, *sorted(map(self._element, key)), END])
        if isinstance(key, Enum):
            return self._enum_member(key)
        return self._record(key)

    def _elements(self, items: Iterable[Any]) -> bytes:
        writers, element = WRITERS, self._element
        return b"".join([writers[kind](item) if (kind := type(item)) in writers else element(item) for item in items])

    def _enum_member(self, member: Enum) -> bytes:
        name = self.registry.of(type(member)).name
        content = member.value if _has_order(type(member)) else member.name
        return ENUM + write_str(name)[1:] + self._element(content)

    def _record(self, key: Any) -> bytes:
        kind = type(key)
        if kind in (list, dict, set, bytearray):
            raise CodecError(f"a {kind.__name__} cannot be a key: convert to a tuple")
        shape = self.registry.of(kind)
        try:
            hash(key)
        except TypeError as error:
            advice = "freeze the class, or convert to a tuple"
            raise CodecError(f"a {shape.name} cannot be a key ({error}): {advice}") from None
        return RECORD + write_str(shape.name)[1:] + self._elements(shape.take(key)) + END

    def _read(self, data: bytes, at: int) -> Read:
        """The element that begins at `at`, and where the next one does."""
        tag = data[at : at + 1]
        read = READERS.get(tag)
        if read is not None:
            return read(data, at + 1)
        if tag == TUPLE:
            items, end = self._read_items(data, at + 1)
            return tuple(items), end
        if tag == FROZENSET:
            items, end = self._read_items(data, at + 1)
            return frozenset(items), end
        if tag not in (ENUM, RECORD):
            raise corrupt(f"{tag!r} is no type of a key")
        name, at = read_str(data, at + 1)
        shape = self.registry.named(name)
        if tag == ENUM:
            content, end = self._read(data, at)
            return _member(shape, content), end
        items, end = self._read_items(data, at)
        if len(items) != len(shape.fields):
            now = len(shape.fields)
            raise CodecError(f"a key of {name} has {len(items)} fields, the class now {now}: reset the state")
        return shape.build(dict(zip(shape.fields, items, strict=True))), end

    def _read_items(self, data: bytes, at: int) -> tuple[list[Any], int]:
        items = []
        while data[at]:
            item, at = self._read(data, at)
            items.append(item)
        return items, at + 1


_CLASSLESS = KeyCodec()
"""For decoding alone, which registers nothing."""

# ------------------------------------------------------------------------------------------ functions


def encode_key(key: Any) -> bytes:
    """The key's bytes: same type and value, same bytes; in the order of the values of one type.

    >>> encode_key(-1) < encode_key(2) and encode_key("1") != encode_key(1) != encode_key(True)
    True
    """
    kind = type(key)
    if kind is str:
        return STR + key.encode("utf-8", "surrogatepass")  # type: ignore[no-any-return]
    if kind is int and INT64_MIN <= key <= INT64_MAX:
        return (key + TAGGED_BIAS).to_bytes(9)  # type: ignore[no-any-return]
    if kind is bytes:
        return BYTES + key  # type: ignore[no-any-return]
    write = WRITERS.get(kind)
    return KeyCodec().encode(key) if write is None else write(key)


def decode_key(data: bytes) -> Any:
    """The key of these bytes; a key with classes in it needs a `KeyCodec` that knows them."""
    return _CLASSLESS.decode(data)


def encode_keys(keys: Sequence[Any]) -> list[bytes]:
    """Each key's bytes."""
    kinds = set(map(type, keys))
    if kinds == {str}:
        return [STR + key.encode("utf-8", "surrogatepass") for key in keys]
    if kinds <= {str, int, bytes}:
        return list(map(encode_key, keys))
    return list(map(KeyCodec().encode, keys))


def identities(keys: Sequence[Any]) -> Sequence[Hashable]:
    """What stands for each key in a dict; the same sequence where all are str, bytes, int or None.

    -0.0 and 0.0 are one identity, as are all keys with the same bytes.

    >>> len({*identities([1, 1.0, True, "1", b"1"])})
    5
    """
    return keys if set(map(type, keys)) <= _RAW else KeyCodec().identities(keys)


def key_of(identity: Hashable) -> Any:
    """The key that an identity stands for, as decoding its bytes gives it: the same whichever key came first."""
    if type(identity) is not Encoded:
        return identity
    return (identity.codec or _CLASSLESS).decode(identity[0])


def bytes_of(identity: Hashable) -> bytes:
    """The bytes of the key that an identity stands for."""
    return identity[0] if type(identity) is Encoded else encode_key(identity)


def sorted_by_bytes(identities: Iterable[Hashable]) -> list[Hashable]:
    """The identities in the order of their keys' bytes."""
    found: list[Any] = list(identities)
    kinds = set(map(type, found))
    if len(kinds) == 1 and kinds <= _SORTED_AS_BYTES:
        return sorted(found)
    return sorted(found, key=bytes_of)


def _is_built_in(key: Any) -> bool:
    """Whether there are no classes in it to decode."""
    return type(key) in WRITERS or (type(key) in (tuple, frozenset) and all(map(_is_built_in, key)))


def _has_order(cls: type) -> bool:
    return issubclass(cls, Flag) or any(base in WRITERS for base in cls.__mro__)


def _member(shape: Shape, content: Any) -> Any:
    cls: Any = shape.cls
    try:
        return cls(content) if _has_order(cls) else cls[content]
    except Exception as error:  # a class may look for members in its own way
        raise CodecError(f"{shape.name} has no member {content!r} any more: {error}") from error
