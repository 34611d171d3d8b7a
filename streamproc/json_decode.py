"""JSON to values of a declared type, by msgspec: the inverse of `json_encode`.

Types that msgspec does not read from these forms (results of windows, named tuples as objects) are read into a form
made for the purpose, and rebuilt from it.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple, TypeAlias, get_args

import msgspec

from streamproc.errors import DefinitionError
from streamproc.json_encode import RESULT_FIELDS, TopForm, check_clash, is_flat
from streamproc.type_hints import class_of, field_types, is_named_tuple, json_names, members, show, without_none
from streamproc.windows.results import Item, Top, WindowResult

Read: TypeAlias = Callable[[bytes], Any]


def json_reader(declared: Any, *, strict: bool = True) -> Read:
    """The function that reads JSON of a declared type; untyped JSON for Any.

    `strict=False` takes numbers, booleans and nulls out of strings, and an empty string for None where a field may be
    None and not a string: the cells of a CSV. Raises DefinitionError for types that cannot be read.
    """
    try:
        if class_of(declared) is WindowResult:
            return _result_reader(declared, strict=strict)
        return _reader(declared, strict=strict)
    except (TypeError, NameError) as error:
        raise DefinitionError(f"JSON cannot be read as {show(declared)}: {error}") from error


class _Form(NamedTuple):
    """What JSON is decoded as, and what then makes the value of it (None: it is the value)."""

    read_as: Any
    rebuild: Callable[[Any], Any] | None


def _reader(declared: Any, *, strict: bool) -> Read:
    form = _form(declared, ())
    decode = _decoder(form.read_as, strict=strict)
    rebuild = form.rebuild
    return decode if rebuild is None else lambda data: rebuild(decode(data))


def _decoder(read_as: Any, *, strict: bool) -> Read:
    decode: Read = msgspec.json.Decoder(read_as, strict=strict).decode
    return decode if strict else _with_empty_cells(decode, read_as)


def _with_empty_cells(decode: Read, read_as: Any) -> Read:
    """The same, but empty strings are None where nothing else can be meant."""
    info = msgspec.inspect.type_info(read_as)
    nullable = {
        field.encode_name
        for field in getattr(info, "fields", ())
        if isinstance(field.type, msgspec.inspect.UnionType)
        and field.type.includes_none
        and not any(isinstance(kind, msgspec.inspect.StrType) for kind in field.type.types)
    }
    if not nullable:
        return decode

    def decode_cells(data: bytes) -> Any:
        try:
            return decode(data)
        except msgspec.ValidationError:
            cells = msgspec.json.decode(data)
            if not isinstance(cells, dict):
                raise
            filled = {name: None if cell == "" and name in nullable else cell for name, cell in cells.items()}
            return decode(msgspec.json.encode(filled))

    return decode_cells


# -------------------------------------------------------------------------------------- named tuples and tops


def _form(hint: Any, within: tuple[Any, ...]) -> _Form:
    """The form of a whole value, of a named tuple's field, of a top's items."""
    cls = class_of(hint)
    if cls is Top:
        return _top_form(hint, within)
    if is_named_tuple(cls):
        return _named_tuple_form(hint, within)
    kinds = members(hint)
    if not any(class_of(kind) is Top or is_named_tuple(class_of(kind)) for kind in kinds):
        return _Form(hint, None)
    if len(kinds) != 2 or NoneType not in kinds:
        raise DefinitionError(
            f"JSON cannot be read as {show(hint)}: with a NamedTuple or Top in it, a union is of that and None"
        )
    form = _form(without_none(hint), within)
    rebuild = form.rebuild
    assert rebuild is not None
    return _Form(form.read_as | None, lambda found: None if found is None else rebuild(found))


def _named_tuple_form(hint: Any, within: tuple[Any, ...]) -> _Form:
    cls = class_of(hint)
    if hint in within:
        raise DefinitionError(f"JSON cannot be read as {show(hint)}, which contains itself: make it a msgspec Struct")
    types = field_types(hint)
    forms = {name: _form(types.get(name, Any), (*within, hint)) for name in cls._fields}
    return _object_form(show(hint), forms, cls._field_defaults, lambda *values: tuple.__new__(cls, values))


def _top_form(hint: Any, within: tuple[Any, ...]) -> _Form:
    key, value = get_args(hint) or (Any, Any)
    item = _object_form("Item", {"key": _Form(key, None), "value": _form(value, within)}, {}, Item)
    read_as = msgspec.defstruct("Top", [*_types_but(TopForm, "top"), ("top", list[item.read_as])], kw_only=True)  # type: ignore[name-defined]
    rebuild = item.rebuild
    assert rebuild is not None
    return _Form(read_as, lambda found: Top(found.start, found.end, list(map(rebuild, found.top)), found.final))


def _object_form(name: str, fields: dict[str, _Form], defaults: dict[str, Any], make: Callable[..., Any]) -> _Form:
    """A JSON object, of which `make` is given the values."""
    declared: list[Any] = [
        (field, form.read_as, msgspec.field(default_factory=_constant(defaults[field]))) if field in defaults
        else (field, form.read_as)
        for field, form in fields.items()
    ]  # fmt: skip
    read_as = msgspec.defstruct(name, declared, kw_only=True)
    getters = [_getter(field, form.rebuild) for field, form in fields.items()]
    return _Form(read_as, lambda found: make(*[get(found) for get in getters]))


def _getter(field: str, rebuild: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    get = attrgetter(field)
    return get if rebuild is None else lambda found: rebuild(get(found))


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def _types_but(struct: type[msgspec.Struct], left_out: str) -> list[Any]:
    return [
        (field.name, field.type) if field.required else (field.name, field.type, field.default)
        for field in msgspec.structs.fields(struct)
        if field.name != left_out
    ]


# -------------------------------------------------------------------------------------- results of windows


def _result_reader(declared: Any, *, strict: bool) -> Read:
    """Fields that stand side by side are read twice from the same bytes: as the result's, and as those of its value."""
    key, value = get_args(declared) or (Any, Any)
    kinds = members(value)
    flat = [kind for kind in kinds if is_flat(kind)]
    if value in (Any, object):
        return _untyped_result_reader(key)
    if not flat:
        generic: Any = WindowResult
        return _decoder(generic[key, value], strict=strict)
    for kind in flat:
        check_clash(kind)
        _check_open(kind)
    others = [kind for kind in kinds if kind not in flat]
    read_flat = _reader(_union(flat), strict=strict)
    if not others:
        read_head = _decoder(_head(key), strict=strict)

        def read(data: bytes) -> Any:
            head = read_head(data)
            return WindowResult(head.key, head.start, head.end, read_flat(data), head.final)

        return read
    return _mixed_result_reader(_decoder(_head(key, _union(others)), strict=strict), read_flat, flat)


def _mixed_result_reader(read_head: Read, read_flat: Read, flat: list[Any]) -> Read:
    for kind in flat:
        if "value" in (json_names(kind) or ()):
            raise DefinitionError(
                f"{show(kind)} has a field 'value', so that in JSON a result of it is not told from others: rename it"
            )

    def read(data: bytes) -> Any:
        head = read_head(data)
        value = read_flat(data) if head.value is msgspec.UNSET else head.value
        return WindowResult(head.key, head.start, head.end, value, head.final)

    return read


def _untyped_result_reader(key: Any) -> Read:
    """The value is what stands under "value", or else a dict of what is beside "key"."""
    read_head = _decoder(_head(key), strict=True)
    read_all = msgspec.json.Decoder(dict[str, Any]).decode

    def read(data: bytes) -> Any:
        head = read_head(data)
        rest = {name: value for name, value in read_all(data).items() if name not in RESULT_FIELDS}
        value = rest["value"] if rest.keys() == {"value"} else rest
        return WindowResult(head.key, head.start, head.end, value, head.final)

    return read


def _head(key: Any, value: Any = None) -> type[msgspec.Struct]:
    fields: list[Any] = [*_types_but(WindowResult, "value")]
    fields[0] = ("key", key)
    if value is not None:
        fields.append(("value", value | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct("WindowResult", fields, kw_only=True)


def _union(kinds: list[Any]) -> Any:
    found = kinds[0]
    for kind in kinds[1:]:
        found = found | kind
    return found


def _check_open(kind: Any) -> None:
    cls = class_of(kind)
    if isinstance(cls, type) and issubclass(cls, msgspec.Struct) and cls.__struct_config__.forbid_unknown_fields:
        raise DefinitionError(
            f"{show(kind)} forbids unknown fields, so it cannot be read where it stands beside a window's key and "
            "times: drop forbid_unknown_fields, or read it without a type"
        )
