"""Which classes an app can be seen to use, so that their instances can be kept in state and in internal topics."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, get_args, get_type_hints

import msgspec

from streamproc.operators.records import Record
from streamproc.state.registry import name_of
from streamproc.topic import Topic
from streamproc.windows.results import Item, Previous, Top, WindowResult

GIVEN_BY_VERBS: Final[tuple[type, ...]] = (WindowResult, Top, Item, Previous, Record)
"""Classes of the values that verbs make."""


def classes_of(holders: Iterable[Any], topics: Iterable[Topic[Any, Any]]) -> list[type]:
    """The data classes among topics' types, the annotations of functions, and what the functions' modules define.

    `holders` are functions, or operators and aggregates that hold functions and classes.
    """
    found: dict[type, None] = dict.fromkeys(GIVEN_BY_VERBS)
    for topic in topics:
        found.update(dict.fromkeys(_classes_in(topic.value_type)))
        found.update(dict.fromkeys(_classes_in(topic.key_type)))
    seen: set[type] = set()
    for held in _held(list(holders), set()):
        if isinstance(held, type):
            found.update(dict.fromkeys(_classes_in(held)))
        else:
            for hint in _hints(held).values():
                found.update(dict.fromkeys(_classes_in(hint)))
            module = sys.modules.get(getattr(held, "__module__", ""), None)
            seen.update(value for value in vars(module).values() if _is_data_class(value)) if module else None
    names = {name_of(cls) for cls in found}
    return [*found, *(cls for cls in sorted(seen - found.keys(), key=name_of) if _first(name_of(cls), names))]


def _first(name: str, names: set[str]) -> bool:
    """Whether a name is new; classes that are only seen lying about may share one."""
    new = name not in names
    names.add(name)
    return new


def _held(things: Iterable[Any], seen: set[int]) -> Iterator[Any]:
    """The functions and classes in the attributes of operators and aggregates, at any depth."""
    for thing in things:
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, type) or callable(thing) and hasattr(thing, "__code__"):
            yield thing
        elif isinstance(thing, dict):
            yield from _held(list(thing.values()), seen)
        elif isinstance(thing, (list, tuple)):
            yield from _held(list(thing), seen)
        elif type(thing).__module__.startswith("streamproc."):
            attributes = [getattr(thing, name, None) for name in getattr(type(thing), "__slots__", ())]
            yield from _held([*attributes, *getattr(thing, "__dict__", {}).values()], seen)


def _hints(f: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(f)
    except (NameError, TypeError, AttributeError):
        return {}  # annotations that only a type checker can resolve


def _classes_in(hint: Any) -> Iterator[type]:
    if _is_data_class(hint):
        yield hint
        for inner in _hints(hint).values():
            if inner is not hint:
                yield from _classes_in(inner)
    for argument in get_args(hint):
        yield from _classes_in(argument)


def _is_data_class(value: Any) -> bool:
    return isinstance(value, type) and (
        dataclasses.is_dataclass(value)
        or issubclass(value, (msgspec.Struct, enum.Enum))
        or hasattr(value, "__attrs_attrs__")
        or (issubclass(value, tuple) and hasattr(value, "_fields"))
    )
