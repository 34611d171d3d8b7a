"""Serdes: the values of a topic from bytes and to bytes, by its declared type, column by column.

| declared type | bytes |
| --- | --- |
| bytes | as they are |
| str | UTF-8 |
| int, float | decimal text |
| Any, or none | JSON, read untyped; written: any value as JSON, but bytes as they are |
| all others (Struct, dataclass, TypedDict, list[...], unions, ...) | JSON, read by msgspec as that type |

None is a record without a value (a tombstone), both ways; reading one is an error unless the type admits None. What
JSON looks like is in `streamproc.json_encode`; floats that it cannot say (nan, infinities) are refused. Values are not
checked against the declared type when they are written as JSON: that is a type checker's work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any, Generic, TypeVar, is_typeddict

import msgspec

from streamproc.errors import DefinitionError, StreamprocError
from streamproc.json_decode import json_reader
from streamproc.json_encode import JsonEncoder
from streamproc.type_hints import admits_none, atom_of, class_of, members, show, without_none
from streamproc.windows.results import WindowResult
from streamproc.wire_key import read_float, read_int

V = TypeVar("V")

SHOWN_BYTES = 60
"""How much of offending bytes an error shows."""


_LAX_HELPS = re.compile(r"Expected `(int|float|bool)[^`]*`, got `str`")


class BadRecord(StreamprocError):
    """Record `index` of a column is not what its topic declares."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(what)
        self.index = index


class EncodeError(StreamprocError):
    """Value `index` of a column cannot be written."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(what)
        self.index = index


class Serde(Generic[V]):
    """Reads and writes values of one declared type.

    leaves_out   None stands for a value that is left out, not only for a record that has none
    """

    def __init__(
        self,
        name: str,
        read: Callable[[bytes], V | None],
        write_column: Callable[[Sequence[V]], list[bytes]],
        *,
        admits_none: bool,
        leaves_out: bool = False,
    ) -> None:
        self.name = name
        self.leaves_out = leaves_out
        self._read = read
        self._write_column = write_column
        self._admits_none = admits_none

    def decode_column(self, column: Sequence[bytes | None]) -> list[V | None]:
        """The value of each. Raises BadRecord for the first that is not of the type."""
        if None not in column:
            read = self._read
            try:
                return [read(data) for data in column]  # type: ignore[arg-type] # no None among them
            except Exception:  # noqa: BLE001, S110 - `decode=` is the user's and may raise anything; found below
                pass
        return [self._decode(data, i) for i, data in enumerate(column)]

    def decode_one(self, data: bytes | None) -> V | None:
        """The value of these bytes. Raises BadRecord."""
        return self._decode(data, 0)

    def encode_column(self, values: Sequence[V | None]) -> list[bytes | None]:
        """The bytes of each. Raises EncodeError for the first that has none, DefinitionError for clashing names."""
        kinds = set(map(type, values))
        try:
            if NoneType not in kinds:
                return list(self._write_column(values))  # type: ignore[arg-type] # no None among them
            written = iter(self._write_column([value for value in values if value is not None]))
            return [None if value is None else next(written) for value in values]
        except DefinitionError:
            raise
        except Exception:  # noqa: BLE001 - whatever the value's own methods raise
            return [self._encode(value, i) for i, value in enumerate(values)]

    def encode_one(self, value: V | None) -> bytes | None:
        """The bytes of a value. Raises EncodeError."""
        return self._encode(value, 0)

    def _decode(self, data: bytes | None, index: int) -> V | None:
        if data is None:
            if self._admits_none:
                return None
            raise BadRecord(index, f"the record has no value: declare value={self.name} | None if that may be")
        try:
            return self._read(data)
        except Exception as error:
            reason = _reason(error)
            hint = " (lax=True on the topic lets strings stand for numbers)" if _LAX_HELPS.search(reason) else ""
            what = f"the value is no {self.name}: {reason}{hint}; it is {beginning(data)}"
            raise BadRecord(index, what) from error

    def _encode(self, value: V | None, index: int) -> bytes | None:
        if value is None:
            return None
        try:
            return self._write_column([value])[0]
        except DefinitionError:
            raise
        except Exception as error:
            what = f"a value of type {type(value).__qualname__} cannot be written as {self.name}: {_reason(error)}"
            raise EncodeError(index, what) from error


def value_serde(declared: Any = Any, *, decode: Callable[[bytes], Any] | None = None, lax: bool = False) -> Serde[Any]:
    r"""The serde of a declared type.

    decode   reads values in place of the type; what it gives None for is left out
    lax      JSON may have numbers in strings, as the cells of a CSV are

    Raises DefinitionError for types that cannot be read.

    >>> value_serde(list[int]).decode_column([b"[1,2]", b"[]"]), value_serde(str).encode_one("é")
    ([[1, 2], []], b'\xc3\xa9')
    """
    if lax and (decode is not None or declared in (Any, object) or atom_of(without_none(declared)) is not None):
        raise DefinitionError("lax=True is about JSON of a type with fields: give value=, and no decode=")
    base = without_none(declared)
    read: Callable[[bytes], Any] = decode or _reader(base, strict=not lax)
    return Serde(
        "JSON" if base in (Any, object) else show(base),
        read,
        _writer(base),
        admits_none=admits_none(declared),
        leaves_out=decode is not None,
    )


def beginning(data: bytes) -> str:
    """The first bytes, for messages.

    >>> beginning(b"abc")
    "b'abc'"
    """
    return repr(data) if len(data) <= SHOWN_BYTES else f"{data[:SHOWN_BYTES]!r}... ({len(data)} bytes)"


def _reason(error: Exception) -> str:
    known = isinstance(error, (msgspec.MsgspecError, StreamprocError))
    return str(error) if known else f"{type(error).__name__}: {error}"


# -------------------------------------------------------------------------------------- reading


def _reader(base: Any, *, strict: bool) -> Callable[[bytes], Any]:
    atom = atom_of(base)
    if atom is None:
        return json_reader(base, strict=strict)
    readers: dict[Any, Callable[[bytes], Any]] = {bytes: bytes, str: _read_text, int: read_int, float: read_float}
    read = readers[atom]
    return read if base is atom else lambda data: msgspec.convert(read(data), base)


def _read_text(data: bytes) -> str:
    return data.decode()


# -------------------------------------------------------------------------------------- writing


def _writer(base: Any) -> Callable[[Sequence[Any]], list[bytes]]:
    atom = atom_of(base)
    if atom is not None:
        writers: dict[Any, Callable[[Any], bytes]]
        writers = {bytes: _write_bytes, str: _write_text, int: _write_int, float: _write_float}
        write = writers[atom]
        return lambda values: [write(value) for value in values]
    encode = JsonEncoder(flat_dicts=_has_typed_dict(base)).encode_column
    return _untyped_writer(encode) if base in (Any, object) else encode


def _has_typed_dict(base: Any) -> bool:
    found = members(base.__args__[1]) if class_of(base) is WindowResult and hasattr(base, "__args__") else []
    return any(is_typeddict(class_of(kind)) for kind in found)


def _untyped_writer(encode: Callable[[Sequence[Any]], list[bytes]]) -> Callable[[Sequence[Any]], list[bytes]]:
    """JSON, but bytes as they are."""

    def write(values: Sequence[Any]) -> list[bytes]:
        kinds = set(map(type, values))
        if bytes not in kinds:
            return encode(values)
        if kinds == {bytes}:
            return list(values)
        encoded = iter(encode([value for value in values if type(value) is not bytes]))
        return [value if type(value) is bytes else next(encoded) for value in values]

    return write


def _write_bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("it takes bytes: declare value= with what the stream gives")
    return bytes(value)


def _write_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("it takes a str: declare value= with what the stream gives")
    return str.encode(value)


def _write_int(value: Any) -> bytes:
    if not isinstance(value, int):
        raise TypeError("it takes an int: declare value= with what the stream gives")
    return b"%d" % value


def _write_float(value: Any) -> bytes:
    if not isinstance(value, (float, int)):
        raise TypeError("it takes a float: declare value= with what the stream gives")
    return float.__repr__(float(value)).encode()
