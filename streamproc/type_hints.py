"""What declared types say: whether None is one of their values, which fields their values have."""

from __future__ import annotations

import dataclasses
import functools
import operator
import typing
from types import NoneType, UnionType
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin, is_typeddict

import msgspec

ATOMS = (bytes, str, int, float)
"""Types whose values are on the wire as they are or as text, not as JSON."""


def members(hint: Any) -> list[Any]:
    """The types that a union is of; of any other type, itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [NoneType if hint is None else hint]


def admits_none(hint: Any) -> bool:
    """Whether None is a value of the type."""
    return hint in (Any, object) or NoneType in members(hint)


def without_none(hint: Any) -> Any:
    """The type of the values that are not None; None alone stays.

    >>> without_none(int | None), without_none(str)
    (<class 'int'>, <class 'str'>)
    """
    others = [member for member in members(hint) if member is not NoneType]
    if not others or len(others) == len(members(hint)):
        return hint
    return functools.reduce(operator.or_, others) if len(others) > 1 else others[0]


def atom_of(hint: Any) -> Any:
    """bytes, str, int or float where the type is that one, constrained (Annotated) or renamed (NewType); else None."""
    while True:
        if isinstance(hint, NewType):
            hint = hint.__supertype__
        elif get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        else:
            return hint if hint in ATOMS else None


def is_named_tuple(cls: Any) -> bool:
    """Whether it is a class made by NamedTuple."""
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def class_of(hint: Any) -> Any:
    """The class of a hint: `Stats[int]` is a `Stats`."""
    return get_origin(hint) or hint


def field_names(hint: Any) -> tuple[str, ...] | None:
    """The fields of a Struct, dataclass, attrs class, NamedTuple or TypedDict, as in Python; None: it is none."""
    cls = class_of(hint)
    if is_typeddict(cls):
        return tuple(cls.__annotations__)
    if not isinstance(cls, type):
        return None
    if issubclass(cls, msgspec.Struct):
        return cls.__struct_fields__
    if hasattr(cls, "__attrs_attrs__"):
        return tuple(field.name for field in cls.__attrs_attrs__)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return tuple(cls._fields) if is_named_tuple(cls) else None  # type: ignore[attr-defined]


def json_names(hint: Any) -> tuple[str, ...] | None:
    """The names of those fields in JSON; None where a value is no JSON object with names of its own."""
    cls = class_of(hint)
    if not (isinstance(cls, type) and issubclass(cls, msgspec.Struct)):
        return field_names(hint)
    config = cls.__struct_config__
    if config.array_like:
        return None
    return (*cls.__struct_encode_fields__, *([config.tag_field] if config.tag_field else []))


def field_types(hint: Any) -> dict[str, Any]:
    """The types of the fields of a class, with the arguments of a generic one filled in. Raises NameError."""
    cls = class_of(hint)
    found = typing.get_type_hints(cls, include_extras=True)
    given = dict(zip(getattr(cls, "__parameters__", ()), get_args(hint), strict=False))
    return {name: _filled(kind, given) for name, kind in found.items()}


def _filled(hint: Any, given: dict[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return given.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    return hint[tuple(given.get(parameter, Any) for parameter in parameters)] if parameters else hint


def show(hint: Any) -> str:
    """A type as a user writes it.

    >>> show(int), show(list[int] | None)
    ('int', 'list[int] | None')
    """
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).removeprefix("typing.")
