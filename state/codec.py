"""The codec of state and internal topics: a format byte, then MessagePack that describes itself.

Functions have no types at run time, so bytes say what they are. MessagePack's own types stand for themselves;
the rest of the closed set is in extension types, each of which holds MessagePack in turn. Types come back
exactly: a tuple is no list, 1 is not 1.0 or True. Declared classes skip the description (`Codec.typed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import msgspec
from msgspec.msgpack import Decoder, Encoder

from streamproc.state.exact import Check, exact_check
from streamproc.state.keys import KeyCodec
from streamproc.state.packing import ATOMS, MAX_DEPTH, SURE_ATOMS, Packer, Unpacker
from streamproc.state.registry import CodecError, Registry, corrupt

__all__ = ["MAX_DEPTH", "Codec", "CodecError", "TypedCodec"]

# The first byte: never give one another meaning.
_DESCRIBED = b"\x01"
_TYPED = b"\x02"

_LOOK_CLOSER = (OverflowError, UnicodeEncodeError)
"""What the encoder raises over ints beyond 64 bits and lone surrogates."""


class Codec:
    """Values to bytes and back, for None, bool, int, float, str, bytes, containers, times, Decimal, UUID and classes.

    Classes (enums, msgspec Structs, dataclasses, attrs classes, NamedTuples) are kept as their qualified name and
    their fields. Encoding registers a class it sees; decoding builds registered ones only, and never imports.
    A class that gained a field with a default or lost one can read what was kept before. An aware datetime
    keeps its offset, not the name of its zone; the bytes of a set depend on the order of its iteration.
    The instances of dataclasses and attrs classes are rebuilt without calling a constructor.

    >>> codec = Codec()
    >>> codec.decode(codec.encode({"a": (1, 1.0, True), "b": {2, 3}}))
    {'a': (1, 1.0, True), 'b': {2, 3}}
    """

    def __init__(self, classes: Sequence[Any] = (), *, registry: Registry | None = None) -> None:
        self.registry = Registry() if registry is None else registry
        self.keys = KeyCodec(self.registry)
        self._encode = Encoder().encode
        self._pack = Packer(self.registry, ATOMS).pack
        self._pack_closely = Packer(self.registry, SURE_ATOMS).pack
        self._unpack = Unpacker(self.registry).unpack
        for cls in classes:
            self.register(cls)

    def register(self, hint: Any) -> None:
        """Every class in a type hint, and those of their fields, can be decoded from here on."""
        self.registry.register(hint)

    def typed(self, hint: Any) -> Codec:
        """The codec for a declared type, with the same registry: reads what this one wrote; faster for classes."""
        self.register(hint)
        others = [arg for arg in get_args(hint) if arg is not NoneType]
        cls = others[0] if get_origin(hint) in (Union, UnionType) and len(others) == 1 else hint
        check = exact_check(cls, self.registry)
        return self if check is None else TypedCodec(cls, check, self.registry)

    def encode(self, value: Any) -> bytes:
        """The bytes of a value, the first of which is the format."""
        try:
            return _DESCRIBED + self._pack(value)
        except _LOOK_CLOSER:
            return _DESCRIBED + self._pack_closely(value)

    def decode(self, data: bytes) -> Any:
        """The value of these bytes."""
        try:
            return self._unpack(data[1:]) if data[0] == 1 else self._other(data)
        except CodecError:
            raise
        except Exception as error:  # bytes that are not ours may lead anywhere
            raise corrupt(error) from error

    def encode_column(self, values: Sequence[Any]) -> list[bytes]:
        """The bytes of each value."""
        if set(map(type, values)) <= ATOMS:
            encode = self._encode
            try:
                return [_DESCRIBED + encode(value) for value in values]
            except _LOOK_CLOSER:
                pass  # value by value, then
        return list(map(self.encode, values))

    def decode_column(self, datas: Sequence[bytes]) -> list[Any]:
        """The value of each."""
        unpack = self._unpack
        try:
            return [unpack(data[1:]) if data[0] == 1 else self._other(data) for data in datas]
        except Exception:  # noqa: BLE001 - one by one, then: the culprit raises again, as a CodecError
            return list(map(self.decode, datas))

    def _other(self, data: bytes) -> Any:
        if data[:1] == _TYPED:
            raise CodecError("a value was kept by its declared type: annotate the function or the topic with that type")
        raise corrupt(f"{data[:1]!r} is no format of a value")


class TypedCodec(Codec):
    """The codec for a declared class: its exact instances without a description, everything else with it."""

    def __init__(self, cls: Any, check: Check, registry: Registry) -> None:
        super().__init__(registry=registry)
        self._check = check
        self._decode_typed = Decoder(cls).decode

    def encode(self, value: Any) -> bytes:
        return self.encode_column((value,))[0]

    def encode_column(self, values: Sequence[Any]) -> list[bytes]:
        if _passes(self._check, values):
            encode = self._encode
            try:
                return [_TYPED + encode(value) for value in values]
            except _LOOK_CLOSER:
                pass
        return [self._encode_one(value) for value in values]

    def _encode_one(self, value: Any) -> bytes:
        if _passes(self._check, (value,)):
            try:
                return _TYPED + self._encode(value)
            except _LOOK_CLOSER:
                pass
        return super().encode(value)

    def decode(self, data: bytes) -> Any:
        if data[:1] != _TYPED:
            return super().decode(data)
        try:
            return self._decode_typed(data[1:])
        except msgspec.ValidationError as error:
            advice = "give new fields a default, or reset the state"
            raise CodecError(
                f"what was kept does not fit the declared type as it is now ({error}): {advice}"
            ) from error
        except Exception as error:
            raise corrupt(error) from error

    def decode_column(self, datas: Sequence[bytes]) -> list[Any]:
        decode, other = self._decode_typed, super().decode
        try:
            return [decode(data[1:]) if data[0] == 2 else other(data) for data in datas]
        except Exception:  # noqa: BLE001 - as in Codec
            return list(map(self.decode, datas))


def _passes(check: Check, values: Sequence[Any]) -> bool:
    try:
        return check(values)
    except AttributeError:
        return False  # a field without a value: the self-describing form says so
