"""MessagePack for the closed set of values: what it has no type for is in extension types.

An extension holds MessagePack of its own, so that containers of any kind nest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from types import NoneType
from typing import Any, TypeAlias
from uuid import UUID

from msgspec.msgpack import Decoder, Encoder, Ext

from streamproc.state.registry import CodecError, Registry, Shape, corrupt

MAX_DEPTH = 64
"""How many containers may lie within each other."""

ATOMS = frozenset({NoneType, bool, int, float, str, bytes})
"""What MessagePack keeps exactly; but its encoder raises over ints beyond 64 bits and lone surrogates."""
SURE_ATOMS = ATOMS - {int, str}

# Extension types; never renumber.
_BIG_INT, _SURROGATES, _TUPLE, _SET, _FROZENSET, _PAIRS, _DATETIME, _DATE, _TIME, _TIMEDELTA = range(1, 11)
_DECIMAL, _UUID, _ENUM, _RECORD = range(11, 15)

_MICROSECOND = timedelta(microseconds=1)

_Writer: TypeAlias = Callable[[Any, int], Any]
_Reader: TypeAlias = Callable[[memoryview], Any]


class Packer:
    """Values to MessagePack.

    `atoms` are the types that are passed on unseen: ATOMS, or SURE_ATOMS where an encoder's error says to look closer.
    Every writer takes a value and how many containers may still be opened, and gives what MessagePack keeps exactly.
    """

    def __init__(self, registry: Registry, atoms: frozenset[type]) -> None:
        self._registry = registry
        self._atoms = atoms
        self._all_atoms = atoms.issuperset
        self._encode = Encoder().encode
        self._writers: dict[type, _Writer] = {
            int: self._int,
            str: self._str,
            list: self._items,
            tuple: self._within(_TUPLE),
            set: self._within(_SET),
            frozenset: self._within(_FROZENSET),
            dict: self._dict,
            datetime: self._datetime,
            date: lambda value, _: Ext(_DATE, value.isoformat().encode()),
            time: self._time,
            timedelta: self._timedelta,
            Decimal: lambda value, _: Ext(_DECIMAL, str(value).encode()),
            UUID: lambda value, _: Ext(_UUID, value.bytes),
        }

    def pack(self, value: Any) -> bytes:
        """The value's MessagePack; OverflowError and UnicodeEncodeError ask for a packer with SURE_ATOMS."""
        return self._encode(self._plain(value, MAX_DEPTH))

    def _plain(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in self._atoms:
            return value
        write = self._writers.get(kind)
        if write is None:
            write = self._writers[kind] = self._writer_of(kind)
        return write(value, depth)

    def _items(self, items: Collection[Any], depth: int) -> Collection[Any]:
        if not depth:
            raise CodecError(
                f"a value contains itself, or more than {MAX_DEPTH} containers within each other: flatten it"
            )
        if self._all_atoms(map(type, items)):
            return items
        plain, below = self._plain, depth - 1
        return [plain(item, below) for item in items]

    def _within(self, code: int) -> _Writer:
        return lambda items, depth: Ext(code, self._encode(self._items(items, depth)))

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        plain_keys = self._all_atoms(map(type, value))
        if plain_keys and depth and self._all_atoms(map(type, value.values())):
            return value
        values = self._items(list(value.values()), depth)
        if plain_keys:
            return dict(zip(value, values, strict=True))
        return Ext(_PAIRS, self._encode([self._items(list(value), depth), values]))

    def _writer_of(self, kind: type) -> _Writer:
        shape = self._registry.of(kind)
        name, fields = shape.name, shape.fields

        def write_member(member: Enum, depth: int) -> Ext:
            """By name, so that `auto` may renumber; flags can be combined, so they are kept by value."""
            content = self._plain(member.value, depth) if isinstance(member, Flag) else member.name
            return Ext(_ENUM, self._encode([name, content]))

        def write_record(value: Any, depth: int) -> Ext:
            values = self._items(shape.take(value), depth)
            return Ext(_RECORD, self._encode([name, dict(zip(fields, values, strict=True))]))

        return write_member if issubclass(kind, Enum) else write_record

    def _int(self, value: int, _: int) -> Any:
        if -(1 << 63) <= value < 1 << 64:
            return value
        return Ext(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, signed=True))

    def _str(self, value: str, _: int) -> Any:
        content = value.encode("utf-8", "surrogatepass")
        return value if content.decode("utf-8", "ignore") == value else Ext(_SURROGATES, content)

    def _datetime(self, value: datetime, _: int) -> Any:
        if value.tzinfo is UTC:
            return value  # MessagePack's own timestamp
        return self._offset_apart(_DATETIME, value)

    def _time(self, value: time, _: int) -> Ext:
        return self._offset_apart(_TIME, value)

    def _offset_apart(self, code: int, value: datetime | time) -> Ext:
        """Apart, because `fromisoformat` takes an offset of less than a second for none."""
        offset = value.utcoffset()
        if offset is None and value.tzinfo is not None:
            raise CodecError(f"{value!r} has a time zone without an offset: give it one, or use a datetime")
        text = value.replace(tzinfo=None).isoformat()
        return Ext(code, self._encode((text, None if offset is None else offset // _MICROSECOND)))

    def _timedelta(self, value: timedelta, _: int) -> Ext:
        return Ext(_TIMEDELTA, self._encode((value.days, value.seconds, value.microseconds)))


class Unpacker:
    """MessagePack to values; what is not as a `Packer` writes it raises an error of any kind."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.unpack: Callable[[bytes | memoryview], Any] = Decoder(ext_hook=self._extension).decode
        self._readers: dict[int, _Reader] = {
            _BIG_INT: lambda data: int.from_bytes(data, signed=True),
            _SURROGATES: lambda data: bytes(data).decode("utf-8", "surrogatepass"),
            _TUPLE: lambda data: tuple(self._list(data)),
            _SET: lambda data: set(self._list(data)),
            _FROZENSET: lambda data: frozenset(self._list(data)),
            _PAIRS: self._pairs,
            _DATETIME: lambda data: self._with_offset(data, datetime.fromisoformat),
            _DATE: lambda data: date.fromisoformat(_text(data)),
            _TIME: lambda data: self._with_offset(data, time.fromisoformat),
            _TIMEDELTA: lambda data: timedelta(*self._list(data)),
            _DECIMAL: lambda data: Decimal(_text(data)),
            _UUID: lambda data: UUID(bytes=bytes(data)),
            _ENUM: self._member,
            _RECORD: self._record,
        }

    def _extension(self, code: int, data: memoryview) -> Any:
        read = self._readers.get(code)
        if read is None:
            raise corrupt(f"extension type {code}")
        return read(data)

    def _list(self, data: memoryview) -> list[Any]:
        items = self.unpack(data)
        if type(items) is not list:
            raise corrupt(f"{type(items).__name__} in place of items")
        return items

    def _pairs(self, data: memoryview) -> dict[Any, Any]:
        keys, values = self._list(data)
        return dict(zip(keys, values, strict=True))

    def _with_offset(self, data: memoryview, parse: Callable[[str], datetime | time]) -> datetime | time:
        text, offset = self._list(data)
        zone = None if offset is None else timezone(timedelta(microseconds=offset))
        return parse(text).replace(tzinfo=zone)

    def _member(self, data: memoryview) -> Any:
        name, content = self._list(data)
        shape = self._registry.named(name)
        return _member(shape, content)

    def _record(self, data: memoryview) -> Any:
        name, values = self._list(data)
        return self._registry.named(name).build(values)


def _member(shape: Shape, content: Any) -> Any:
    cls: Any = shape.cls
    try:
        return cls(content) if issubclass(cls, Flag) else cls[content]
    except (KeyError, ValueError) as error:
        raise CodecError(f"{shape.name} has no member {content!r} any more") from error


def _text(data: memoryview) -> str:
    return bytes(data).decode("ascii")
