"""Which classes MessagePack keeps exactly when their declared types are all it is told, and which values of them.

A declared type is only a promise: a field of type float may hold an int, which would come back as a float.
So a class passes once, by its hints, and its values pass column by column, by what they hold.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, TypeAlias

import msgspec

from streamproc.state.registry import Registry, Shape, hints_of, is_keepable

Check: TypeAlias = Callable[[Iterable[Any]], bool]
"""Whether all values of a column are exactly what the declared type says."""

_ATOMS = frozenset({str, int, float, bool, bytes, NoneType})
_DICT_KEYS = frozenset({str, int, bytes})


def exact_check(cls: Any, registry: Registry) -> Check | None:
    """The check for the instances of a class that msgspec keeps exactly by its declared types; None: it may not.

    Kept are fields of str, int, float, bool, bytes, None, aware datetime, list, dict with plain keys, X | None
    of these, and classes of such fields. Anything that could change what comes back is out: constraints,
    `__post_init__`, converters, fields by position or left out where they equal a default, recursion.
    """
    return _class_check(cls, registry, ()) if _is_plain_class(cls) else None


def _check(hint: Any, registry: Registry, within: tuple[type, ...]) -> Check | None:
    if hint is None or (isinstance(hint, type) and hint in _ATOMS):
        return _types({hint or NoneType})
    if hint is datetime:
        return _all_utc
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return _optional(args, registry, within)
    if origin is list or (origin is dict and args[0] in _DICT_KEYS):
        content = _check(args[-1], registry, within)
        return content and (_lists(content) if origin is list else _dicts(args[0], content))
    if _is_plain_class(hint) and hint not in within:
        return _class_check(hint, registry, within)
    return None


def _types(allowed: set[type]) -> Check:
    return lambda column: set(map(type, column)) <= allowed


def _all_utc(column: Iterable[Any]) -> bool:
    return all(type(value) is datetime and value.tzinfo is UTC for value in column)


def _optional(args: tuple[Any, ...], registry: Registry, within: tuple[type, ...]) -> Check | None:
    others = [arg for arg in args if arg is not NoneType]
    if len(others) != 1 or len(args) != 2:
        return None
    if others[0] in _ATOMS:
        return _types({others[0], NoneType})
    check = _check(others[0], registry, within)
    return check and (lambda column: check([value for value in column if value is not None]))


def _lists(items: Check) -> Check:
    def check(column: Iterable[Any]) -> bool:
        lists = list(column)
        return set(map(type, lists)) <= {list} and items(chain.from_iterable(lists))

    return check


def _dicts(key: type, values: Check) -> Check:
    def check(column: Iterable[Any]) -> bool:
        dicts = list(column)
        return (
            set(map(type, dicts)) <= {dict}
            and set(map(type, chain.from_iterable(dicts))) <= {key}
            and values(chain.from_iterable(map(dict.values, dicts)))
        )

    return check


def _class_check(cls: type, registry: Registry, within: tuple[type, ...]) -> Check | None:
    shape = registry.of(cls)
    hints = hints_of(cls)
    checks: list[tuple[Callable[[Any], Any], Check]] = []
    for field in shape.fields:
        check = _check(hints.get(field, Any), registry, (*within, cls))
        if check is None:
            return None
        checks.append((attrgetter(field), check))

    def check_all(column: Iterable[Any]) -> bool:
        instances = list(column)
        return (
            set(map(type, instances)) <= {cls}
            and _holds_fields_alone(shape, instances)
            and all(check(map(get, instances)) for get, check in checks)
        )

    return check_all


def _holds_fields_alone(shape: Shape, instances: list[Any]) -> bool:
    if not shape.cls.__dictoffset__:
        return True
    return set(map(len, map(vars, instances))) <= {len(shape.fields)}


def _is_plain_class(cls: Any) -> bool:
    """Whether instances are taken apart and built by msgspec field by field, all fields by name, with no code run."""
    if not is_keepable(cls):
        return False
    if hasattr(cls, "__post_init__") or hasattr(cls, "__attrs_post_init__") or hasattr(cls, "__attrs_pre_init__"):
        return False
    if issubclass(cls, msgspec.Struct):
        config = cls.__struct_config__
        return not (config.array_like or config.omit_defaults or cls.__dictoffset__)
    if hasattr(cls, "__attrs_attrs__"):
        fields = cls.__attrs_attrs__
        return all(f.init and not f.converter and not f.validator and not f.name.startswith("_") for f in fields)
    if dataclasses.is_dataclass(cls):
        return all(f.init and not f.name.startswith("_") for f in dataclasses.fields(cls))
    return False  # enums and named tuples
