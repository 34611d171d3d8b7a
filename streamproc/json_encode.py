"""Values as JSON, by msgspec, in the forms that topics carry.

| value | JSON |
| --- | --- |
| WindowResult of a class with fields | {"key", "start", "end", its fields} |
| WindowResult of anything else | {"key", "start", "end", "value"} |
| Top | {"start", "end", "top": [{"key", "value"}, ...]} |
| NamedTuple (Joined, Previous, ...) | {its fields}, and so for named tuples in its fields |
| all else | as msgspec has it |

`"final": false` is added where a result is not final. These forms are of a whole value and of a window's value; within
lists, dicts and other classes a WindowResult has "value", and a named tuple is an array. Bytes in JSON are base64.

orjson is no alternative: each kept result holds a 4 kB block, so that encoding columns costs ten times as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from streamproc.errors import DefinitionError
from streamproc.type_hints import class_of, field_names, is_named_tuple, json_names, show
from streamproc.windows.results import Top, WindowResult

Write: TypeAlias = Callable[[Any], bytes]

RESULT_FIELDS = ("key", "start", "end", "final")
"""What a window's result adds to the fields of its value."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class NotFinite(ValueError):
    """A float is nan or infinite: JSON has no such number, and msgspec writes null."""


class ItemForm(msgspec.Struct):
    """An `Item` in JSON."""

    key: Any
    value: Any


class TopForm(msgspec.Struct, omit_defaults=True):
    """A `Top` in JSON."""

    start: int
    end: int
    top: list[ItemForm]
    final: bool = True


class JsonEncoder:
    """Encodes values; `flat_dicts`: the dicts of window results are of a TypedDict, whose fields stand beside "key".

    >>> from streamproc.windows.results import WindowResult
    >>> JsonEncoder().encode_column([WindowResult("a", 0, 60_000, 3)])
    [b'{"key":"a","start":0,"end":60000,"value":3}']
    """

    def __init__(self, *, flat_dicts: bool = False) -> None:
        self._writers: dict[type, Write] = {}
        self._flat: dict[type, Write | None] = {}
        self._flat_dicts = flat_dicts

    def encode_column(self, values: Sequence[Any]) -> list[bytes]:
        """The JSON of each. Raises what msgspec raises, DefinitionError for clashing names, NotFinite."""
        kinds = set(map(type, values))
        writers = self._writers
        for kind in kinds - writers.keys():
            writers[kind] = self._writer(kind)
        if len(kinds) == 1:
            write = writers[kinds.pop()]
            encoded = [write(value) for value in values]
        else:
            encoded = [writers[type(value)](value) for value in values]
        if b"null" in b"".join(encoded):
            for value, data in zip(values, encoded, strict=True):
                if b"null" in data:
                    _refuse_not_finite(value)
        return encoded

    def _writer(self, kind: type) -> Write:
        if issubclass(kind, WindowResult):
            return self._write_result
        if issubclass(kind, Top):
            return _write_top
        return _write_named_tuple if is_named_tuple(kind) else _encode

    def _write_result(self, result: WindowResult[Any, Any]) -> bytes:
        value = result.value
        kind = type(value)
        try:
            write = self._flat[kind]
        except KeyError:
            write = self._flat[kind] = self._flat_writer(kind)
        if write is None:
            return _encode(result)
        fields = write(value)[1:]
        if not result.final:
            fields = fields[:-1] + (b',"final":false}' if len(fields) > 1 else b'"final":false}')
        if len(fields) == 1:
            return b'{"key":%b,"start":%d,"end":%d}' % (_encode(result.key), result.start, result.end)
        return b'{"key":%b,"start":%d,"end":%d,%b' % (_encode(result.key), result.start, result.end, fields)

    def _flat_writer(self, kind: type) -> Write | None:
        """How a window's values of a class are written, to stand beside its key; None: they stand under "value"."""
        if kind is dict and self._flat_dicts:
            return _write_open_dict
        if is_flat(kind):
            check_clash(kind)
            return _write_named_tuple if is_named_tuple(kind) else _encode
        return None


def is_flat(hint: Any) -> bool:
    """Whether the fields of such a value stand beside "key" in a window's result."""
    return json_names(hint) is not None and class_of(hint) not in (WindowResult, Top)


def check_clash(hint: Any) -> None:
    """Raise DefinitionError where a field has the name of one that window results have."""
    clash = [name for name in json_names(hint) or () if name in RESULT_FIELDS]
    if clash:
        msg = (
            f"{show(hint)} has a field {clash[0]!r}, and so has the window's result that it is the value of: in JSON "
            'they stand side by side. Rename the field (in JSON alone: msgspec.field(name="..."))'
        )
        raise DefinitionError(msg)


def _write_open_dict(value: dict[str, Any]) -> bytes:
    clash = [name for name in RESULT_FIELDS if name in value]
    if clash:
        raise ValueError(f"the window's value has a key {clash[0]!r}, and so has the result it is the value of")
    return _encode(value)


def _write_named_tuple(value: Any) -> bytes:
    return _encode(_fields(value))


def _write_top(top: Top[Any, Any]) -> bytes:
    items = [ItemForm(key, _fields(value) if isinstance(value, tuple) else value) for key, value in top.value]
    return _encode(TopForm(top.start, top.end, items, top.final))


def _fields(value: Any) -> Any:
    """A named tuple as a dict, and so for those in its fields; all else as it is."""
    if not is_named_tuple(type(value)):
        return value
    parts = zip(value._fields, value, strict=True)
    return {name: _fields(part) if isinstance(part, tuple) else part for name, part in parts}


def _refuse_not_finite(value: Any) -> None:
    if _decode(_encode(value)) == msgspec.to_builtins(value, str_keys=True):
        return  # each null is a None; tested like this because it is ten times as fast as the search
    found = next(_not_finite(value, "$"), None)
    if found is not None:
        raise NotFinite(f"{found}, which JSON cannot say: put None or a number in its place, or leave such values out")


def _not_finite(value: Any, path: str) -> Iterator[str]:
    """Where in a value there are nan and infinities."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield f"`{path}` is {value!r}"
        return
    names = field_names(type(value))
    parts: Iterable[tuple[Any, Any]] = ()
    if names is not None:
        parts = ((f".{name}", getattr(value, name, None)) for name in names)
    elif isinstance(value, dict):
        parts = ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = ((f"[{i}]", part) for i, part in enumerate(value))
    for name, part in parts:
        yield from _not_finite(part, path + name)
