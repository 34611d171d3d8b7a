"""Keys on the wire: what other programs see as the key of a record, and what its partition is chosen by.

| key | bytes |
| --- | --- |
| None | no key |
| bytes | as they are |
| str | UTF-8 |
| int, float | decimal text: 12, -0.5 (float: the shortest that reads back the same) |
| bool and all others | compact JSON, dicts and sets sorted: true, ["a",1] |

Members of enums that are str or int are written as the str or int that they equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import NoneType
from typing import Any

import msgspec

from streamproc.errors import StreamprocError
from streamproc.type_hints import atom_of, show, without_none

_json = msgspec.json.Encoder(order="deterministic").encode


class KeyEncodeError(StreamprocError):
    """A key has no form on the wire."""


def encode_key(key: Any) -> bytes | None:
    """The bytes of a key; None for no key.

    >>> encode_key("tag"), encode_key(12), encode_key(("a", True)), encode_key(None)
    (b'tag', b'12', b'["a",true]', None)
    """
    try:
        return _encode(key)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise KeyEncodeError(f"the key {key!r} cannot be written: {error}") from error


def encode_column(keys: Sequence[Any]) -> list[bytes | None]:
    """The bytes of each key."""
    kinds = set(map(type, keys))
    if kinds <= {bytes, NoneType}:
        return list(keys)
    if kinds == {int}:
        return [b"%d" % key for key in keys]
    return list(map(encode_key, keys))


def key_decoder(declared: Any = bytes) -> Callable[[bytes | None], Any]:
    """The function that reads the keys of a topic with this declared type; no key is None, whatever the type.

    It raises ValueError or MsgspecError for bytes that are not of the type.

    >>> key_decoder(int)(b"12"), key_decoder(tuple[str, bool])(b'["a",true]'), key_decoder(str)(None)
    (12, ('a', True), None)
    """
    decode = _decoder(without_none(declared))
    return lambda data: None if data is None else decode(data)


def read_int(data: bytes) -> int:
    """The int that decimal text says; stricter than `int`, which takes underscores."""
    if b"_" in data:
        raise ValueError("underscores are no digits")
    return int(data)


def read_float(data: bytes) -> float:
    """The float that decimal text says; also inf and nan, as `repr` writes them."""
    if b"_" in data:
        raise ValueError("underscores are no digits")
    return float(data)


def _encode(key: Any) -> bytes | None:
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, str):
        return str.encode(key)
    if isinstance(key, bool):
        return b"true" if key else b"false"
    if isinstance(key, int):
        return b"%d" % key
    if isinstance(key, float):
        return float.__repr__(key).encode()
    return _json(key)


def _decoder(declared: Any) -> Callable[[bytes], Any]:
    atom = atom_of(declared)
    if atom is bytes:
        return bytes
    if atom is None:
        try:
            return msgspec.json.Decoder(declared).decode
        except TypeError as error:
            raise TypeError(f"keys cannot be read as {show(declared)}: {error}") from error
    read: Callable[[bytes], Any] = {str: _text, int: read_int, float: read_float}[atom]
    return read if declared is atom else lambda data: msgspec.convert(read(data), declared)


def _text(data: bytes) -> str:
    return data.decode()
