"""The forms that built-in types have inside a key: a type tag, then a payload that delimits itself.

Byte order within a tag is the order of the values. Variable lengths end with a zero byte, which is escaped
inside (0 becomes 0 255), or say their length first.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isnan
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

from streamproc.state.registry import CodecError, corrupt

# Type tags. They sort the types among each other; 0 ends a tuple and 255 escapes, so neither is a tag.
NONE, BOOL, BIG_NEGATIVE, INT, BIG_POSITIVE, FLOAT, DECIMAL = (bytes([tag]) for tag in range(0x10, 0x17))
STR, BYTES, UUID_ = (bytes([tag]) for tag in range(0x20, 0x23))
DATE, NAIVE, INSTANT, TIMEDELTA = (bytes([tag]) for tag in range(0x30, 0x34))
TUPLE, FROZENSET, ENUM, RECORD = (bytes([tag]) for tag in range(0x40, 0x44))
END = b"\0"

Read: TypeAlias = tuple[Any, int]
"""A value, and where the next element begins."""

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
TAGGED_BIAS = (INT[0] << 64) + (1 << 63)
"""Added to an int of 64 bits: the tag and the biased number as one big-endian number of 9 bytes."""
_BIAS = 1 << 63
_SIGN, _ALL_BITS = 1 << 63, (1 << 64) - 1
_COMPLEMENT = bytes(range(255, -1, -1))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_INSTANT = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_INSTANT = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_NEGATIVE_INFINITY, _NEGATIVE, _ZERO, _POSITIVE, _INFINITY = range(5)
_PLAIN_DECIMAL_DIGITS = 28
"""Decoded whole Decimals of up to so many digits have no exponent: 100, not 1E+2."""


def encode_time(ms: int) -> bytes:
    """An instant as 8 bytes that sort as the instants do."""
    return (ms + _BIAS).to_bytes(8)


def decode_time(data: bytes) -> int:
    """The instant of `encode_time`'s bytes."""
    if len(data) != 8:
        raise corrupt(f"an instant of {len(data)} bytes")
    return int.from_bytes(data) - _BIAS


def _read_none(_: bytes, at: int) -> Read:
    return None, at


def _read_bool(data: bytes, at: int) -> Read:
    return (False, True)[data[at]], at + 1


def _write_int(key: int) -> bytes:
    """64 bits biased; beyond them the length in bytes, then the magnitude, both complemented where negative."""
    if INT64_MIN <= key <= INT64_MAX:
        return (key + TAGGED_BIAS).to_bytes(9)
    length = (key.bit_length() + 7) // 8
    content = length.to_bytes(4) + abs(key).to_bytes(length)
    return BIG_POSITIVE + content if key > 0 else BIG_NEGATIVE + content.translate(_COMPLEMENT)


def _read_int(data: bytes, at: int) -> Read:
    return int.from_bytes(_cut(data, at, 8)) - _BIAS, at + 8


def _read_big_positive(data: bytes, at: int) -> Read:
    length = int.from_bytes(_cut(data, at, 4))
    return int.from_bytes(_cut(data, at + 4, length)), at + 4 + length


def _read_big_negative(data: bytes, at: int) -> Read:
    length = int.from_bytes(_cut(data, at, 4).translate(_COMPLEMENT))
    return -int.from_bytes(_cut(data, at + 4, length).translate(_COMPLEMENT)), at + 4 + length


def _write_float(key: float) -> bytes:
    """The IEEE bits, all flipped where negative, else the sign alone."""
    if isnan(key):
        raise CodecError("NaN cannot be a key: it is not equal to itself")
    bits: int = struct.unpack(">Q", struct.pack(">d", key + 0.0))[0]  # -0.0 + 0.0 is 0.0
    return FLOAT + (bits ^ (_ALL_BITS if bits & _SIGN else _SIGN)).to_bytes(8)


def _read_float(data: bytes, at: int) -> Read:
    bits = int.from_bytes(_cut(data, at, 8))
    bits ^= _SIGN if bits & _SIGN else _ALL_BITS
    return struct.unpack(">d", bits.to_bytes(8))[0], at + 8


def _write_decimal(key: Decimal) -> bytes:
    """The kind of number, its first digit's exponent, its digits without ending zeros; complemented if negative."""
    if key.is_nan():
        raise CodecError("NaN cannot be a key: it is not equal to itself")
    sign, digits, _ = key.as_tuple()
    if key.is_infinite():
        return DECIMAL + bytes([_NEGATIVE_INFINITY if sign else _INFINITY])
    if not key:
        return DECIMAL + bytes([_ZERO])
    content = encode_time(key.adjusted()) + "".join(map(str, digits)).rstrip("0").encode() + END
    return DECIMAL + (bytes([_NEGATIVE]) + content.translate(_COMPLEMENT) if sign else bytes([_POSITIVE]) + content)


def _read_decimal(data: bytes, at: int) -> Read:
    kind = data[at]
    if kind in _DECIMAL_CONSTANTS:
        return _DECIMAL_CONSTANTS[kind], at + 1
    if kind not in (_NEGATIVE, _POSITIVE):
        raise corrupt(f"a Decimal of kind {kind}")
    end = data.index(END if kind == _POSITIVE else b"\xff", at + 9) + 1
    content = data[at + 1 : end] if kind == _POSITIVE else data[at + 1 : end].translate(_COMPLEMENT)
    digits = tuple(map(int, content[8:-1].decode("ascii")))
    exponent = decode_time(content[:8]) + 1 - len(digits)
    if 0 < exponent <= _PLAIN_DECIMAL_DIGITS - len(digits):
        digits, exponent = digits + (0,) * exponent, 0
    return Decimal((int(kind == _NEGATIVE), digits, exponent)), end


_DECIMAL_CONSTANTS = {_NEGATIVE_INFINITY: Decimal("-Infinity"), _ZERO: Decimal(0), _INFINITY: Decimal("Infinity")}


def write_str(key: str) -> bytes:
    """UTF-8, which sorts as code points do; lone surrogates as if they were code points."""
    return STR + key.encode("utf-8", "surrogatepass").replace(b"\0", b"\0\xff") + END


def read_str(data: bytes, at: int) -> Read:
    """The str whose content begins at `at`."""
    content, end = _read_bytes(data, at)
    return content.decode("utf-8", "surrogatepass"), end


def _read_bytes(data: bytes, at: int) -> Read:
    end = data.index(0, at)
    while data[end + 1 : end + 2] == b"\xff":
        end = data.index(0, end + 2)
    return data[at:end].replace(b"\0\xff", b"\0"), end + 1


def _read_uuid(data: bytes, at: int) -> Read:
    return UUID(bytes=_cut(data, at, 16)), at + 16


def _read_date(data: bytes, at: int) -> Read:
    return date.fromordinal(int.from_bytes(_cut(data, at, 4))), at + 4


def _write_datetime(key: datetime) -> bytes:
    """Microseconds since the epoch; a naive datetime is a type of its own, in its own order."""
    if key.tzinfo is None:
        return NAIVE + encode_time((key.replace(fold=0) - _NAIVE_EPOCH) // _MICROSECOND)
    if key.utcoffset() is None:
        raise CodecError(f"{key!r} has a time zone without an offset, so it is no instant")
    instant = (key - _EPOCH) // _MICROSECOND
    if not _FIRST_INSTANT <= instant <= _LAST_INSTANT:
        raise CodecError(f"{key!r} is outside the years 1 to 9999 in UTC")
    return INSTANT + encode_time(instant)


def _read_instant(data: bytes, at: int) -> Read:
    return _EPOCH + timedelta(microseconds=decode_time(data[at : at + 8])), at + 8


def _read_naive(data: bytes, at: int) -> Read:
    return _NAIVE_EPOCH + timedelta(microseconds=decode_time(data[at : at + 8])), at + 8


def _write_timedelta(key: timedelta) -> bytes:
    """Days, seconds, microseconds as Python keeps them: only the days may be negative."""
    return TIMEDELTA + struct.pack(">QII", key.days + _BIAS, key.seconds, key.microseconds)


def _read_timedelta(data: bytes, at: int) -> Read:
    days, seconds, microseconds = struct.unpack(">QII", _cut(data, at, 16))
    return timedelta(days - _BIAS, seconds, microseconds), at + 16


def _cut(data: bytes, at: int, length: int) -> bytes:
    content = data[at : at + length]
    if len(content) != length:
        raise corrupt(f"a key that ends {length - len(content)} bytes early")
    return content


WRITERS: dict[type, Callable[[Any], bytes]] = {
    NoneType: lambda _: NONE,
    bool: lambda key: BOOL + (b"\1" if key else b"\0"),
    int: _write_int,
    float: _write_float,
    Decimal: _write_decimal,
    str: write_str,
    bytes: lambda key: BYTES + key.replace(b"\0", b"\0\xff") + END,
    UUID: lambda key: UUID_ + key.bytes,
    date: lambda key: DATE + key.toordinal().to_bytes(4),
    datetime: _write_datetime,
    timedelta: _write_timedelta,
}
READERS: dict[bytes, Callable[[bytes, int], Read]] = {
    NONE: _read_none,
    BOOL: _read_bool,
    BIG_NEGATIVE: _read_big_negative,
    INT: _read_int,
    BIG_POSITIVE: _read_big_positive,
    FLOAT: _read_float,
    DECIMAL: _read_decimal,
    STR: read_str,
    BYTES: _read_bytes,
    UUID_: _read_uuid,
    DATE: _read_date,
    NAIVE: _read_naive,
    INSTANT: _read_instant,
    TIMEDELTA: _read_timedelta,
}
