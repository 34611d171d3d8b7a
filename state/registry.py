"""Which classes may be kept as bytes, by name, and how their instances are taken apart and rebuilt.

Nothing is ever imported by name: a class is in a `Registry` because it was given, or because an
instance of it was seen.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, Flag
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

KEPT = (
    "None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict, datetime, date, time, timedelta, "
    "Decimal, UUID, enum members, and instances of a msgspec Struct, dataclass, attrs class or NamedTuple"
)
"""The closed set of what can be kept, for error messages."""


class CodecError(Exception):
    """A key or value cannot be turned into bytes, or bytes are not what this app can read; says what to change."""


class Shape:
    """One class: its name, its fields in order, and how to take an instance apart and build one."""

    __slots__ = ("_allowed", "_make", "_take", "cls", "fields", "name")

    def __init__(
        self,
        cls: type,
        fields: Sequence[str],
        make: Callable[[dict[str, Any]], Any],
        take: Callable[[Any], tuple[Any, ...]] | None = None,
    ) -> None:
        self.cls = cls
        self.name = name_of(cls)
        self.fields = tuple(fields)
        self._make = make
        self._take = take or _taker(self.fields)
        self._allowed = frozenset(fields) if cls.__dictoffset__ else None

    def take(self, value: Any) -> tuple[Any, ...]:
        """The values of the fields, in order. An attribute that is no field would be lost, so it is an error."""
        try:
            values = self._take(value)
        except AttributeError as error:
            raise CodecError(f"an instance of {self.name} has no value for a field: {error}") from error
        if self._allowed is not None and not value.__dict__.keys() <= self._allowed:
            self._refuse_others(value)
        return values

    def build(self, values: Mapping[str, Any]) -> Any:
        """The instance with these values: fields it gained since have their defaults, fields it lost are left out."""
        try:
            return self._make({field: values[field] for field in self.fields if field in values})
        except Exception as error:  # a constructor is the user's code: it may raise anything
            raise CodecError(
                f"what was kept of {self.name} does not fit the class as it is now ({type(error).__name__}: {error}): "
                "give new fields a default, or reset the state"
            ) from error

    def _refuse_others(self, value: Any) -> None:
        others = [
            name
            for name in value.__dict__.keys() - set(self.fields)
            if not isinstance(getattr(self.cls, name, None), functools.cached_property)
        ]
        if others:
            raise CodecError(f"{self.name} keeps {', '.join(sorted(others))} outside its fields: make them fields")


class Registry:
    """The classes that may be built from bytes, by qualified name ("module:qualname")."""

    def __init__(self, hints: Sequence[Any] = ()) -> None:
        self._by_class: dict[type, Shape] = {}
        self._by_name: dict[str, Shape] = {}
        self._typed_dicts: set[Any] = set()
        for hint in hints:
            self.register(hint)

    def register(self, hint: Any) -> None:
        """Every class in a type hint that can be kept is known, and those of their fields."""
        for part in _parts(hint):
            if is_keepable(part):
                self.of(part)
            elif typing.is_typeddict(part) and part not in self._typed_dicts:
                self._typed_dicts.add(part)
                self._register_fields(part)

    def of(self, cls: type) -> Shape:
        """The shape of a class, which is registered from here on."""
        shape = self._by_class.get(cls)
        if shape is None:
            shape = _describe(cls)
            if shape.name in self._by_name:
                raise CodecError(f"two classes are called {shape.name}: rename one, or define it once")
            self._by_class[cls] = self._by_name[shape.name] = shape
            self._register_fields(cls)
        return shape

    def _register_fields(self, cls: type) -> None:
        for hint in hints_of(cls).values():
            self.register(hint)

    def named(self, name: Any) -> Shape:
        """The shape of a registered class."""
        shape = self._by_name.get(name)
        if shape is None:
            raise CodecError(
                f"the class {name} is not known here: annotate the function or the topic with it, "
                "or convert its instances to built-in types"
            )
        return shape


def name_of(cls: type) -> str:
    """The qualified name by which bytes refer to a class: the same in `python app.py` as where `app` is imported."""
    module = cls.__module__
    if module == "__main__":
        main = sys.modules[module]
        spec = getattr(main, "__spec__", None)
        module = spec.name if spec is not None else Path(getattr(main, "__file__", None) or module).stem
    return f"{module}:{cls.__qualname__}"


def hints_of(cls: type) -> dict[str, Any]:
    """The type hints of a class with what `Annotated` adds; empty where they cannot be resolved."""
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, AttributeError, TypeError):
        return {}  # names only its author's function can see: such classes are registered when first seen


def unkept(cls: type) -> CodecError:
    """The error for a value of a type outside the closed set."""
    return CodecError(
        f"a value of type {name_of(cls)} cannot be kept: annotate the function or the topic with a class that can "
        f"be, or convert it; what can be kept is {KEPT} (no subclasses of the built-in types)"
    )


def corrupt(value: object) -> CodecError:
    """The error for bytes that are not what was written."""
    return CodecError(f"corrupt bytes: {value}")


# -------------------------------------------------------------------------------------- kinds of classes


def is_keepable(cls: Any) -> TypeGuard[type]:
    """Whether it is a class that a registry takes."""
    if not isinstance(cls, type) or cls in (Enum, Flag, msgspec.Struct):
        return False
    if issubclass(cls, (Enum, msgspec.Struct)) or _is_named_tuple(cls):
        return True
    return _is_data_class(cls) and _is_only_attributes(cls)


def _describe(cls: type) -> Shape:
    if not is_keepable(cls):
        raise unkept(cls)
    if issubclass(cls, Enum):
        return Shape(cls, (), functools.partial(_refuse_enum, cls))
    if issubclass(cls, msgspec.Struct):
        return _struct(cls)
    if _is_named_tuple(cls):
        return _named_tuple(cls)
    return _attrs_class(cls) if hasattr(cls, "__attrs_attrs__") else _dataclass(cls)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _is_data_class(cls: type) -> bool:
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__attrs_attrs__")


def _is_only_attributes(cls: type) -> bool:
    """Whether instances are their attributes: no exception, no list with fields, nothing abstract."""
    try:
        object.__new__(cls)
    except TypeError:
        return False
    return True


def _parts(hint: Any) -> Iterator[Any]:
    """What a type hint is made of: `dict[str, Tweet | None]` of dict, str, Tweet and NoneType."""
    if isinstance(hint, (list, tuple)):  # the arguments of a Callable
        for part in hint:
            yield from _parts(part)
        return
    origin = typing.get_origin(hint)
    if origin is None:
        yield hint
    else:
        yield from _parts(origin)
        yield from _parts(typing.get_args(hint))


def _taker(fields: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    if not fields:
        return lambda value: ()
    get = attrgetter(*fields)
    if len(fields) == 1:
        return lambda value: (get(value),)
    return typing.cast("Callable[[Any], tuple[Any, ...]]", get)


def _refuse_enum(cls: type, values: dict[str, Any]) -> Any:
    raise TypeError(f"{cls.__qualname__} is an enum")


def _struct(cls: type[msgspec.Struct]) -> Shape:
    fields = cls.__struct_fields__
    if not hasattr(cls, "__post_init__"):
        return Shape(cls, fields, lambda values: cls(**values))

    def make(values: dict[str, Any]) -> Any:
        """`__post_init__` may change fields, and has seen these already: they are set as they were kept."""
        struct = cls(**values)
        for field, value in values.items():
            msgspec.structs.force_setattr(struct, field, value)
        return struct

    return Shape(cls, fields, make)


def _named_tuple(cls: type) -> Shape:
    fields: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]
    defaults: dict[str, Any] = cls._field_defaults  # type: ignore[attr-defined]

    def make(values: dict[str, Any]) -> Any:
        whole = defaults | values
        return tuple.__new__(cls, [whole[field] for field in fields])

    return Shape(cls, fields, make, tuple)


def _dataclass(cls: type) -> Shape:
    defaults: dict[str, Callable[[Any], Any]] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = functools.partial(_constant, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = functools.partial(_made, field.default_factory)
    return _by_attribute(cls, [field.name for field in dataclasses.fields(cls)], defaults)


def _attrs_class(cls: type) -> Shape:
    import attrs  # noqa: PLC0415 - no dependency: whoever defines such a class has it

    defaults: dict[str, Callable[[Any], Any]] = {}
    fields = attrs.fields(cls)
    for field in fields:
        if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
            factory = field.default.factory
            defaults[field.name] = factory if field.default.takes_self else functools.partial(_made, factory)
        elif field.default is not attrs.NOTHING:
            defaults[field.name] = functools.partial(_constant, field.default)
    return _by_attribute(cls, [field.name for field in fields], defaults)


def _by_attribute(cls: type, fields: Sequence[str], defaults: Mapping[str, Callable[[Any], Any]]) -> Shape:
    """Instances are rebuilt from their fields as they were; no constructor, validator or `__post_init__` runs."""

    def make(values: dict[str, Any]) -> Any:
        instance: Any = object.__new__(cls)
        for field in fields:
            value = values[field] if field in values else defaults[field](instance)
            object.__setattr__(instance, field, value)
        return instance

    return Shape(cls, fields, make)


def _constant(value: Any, _: Any) -> Any:
    return value


def _made(factory: Callable[[], Any], _: Any) -> Any:
    return factory()
