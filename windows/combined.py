"""Several aggregates as the fields of one result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter
from operator import itemgetter
from typing import Any, is_typeddict

from streamproc.windows.aggregate import Aggregate

_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Combined(Aggregate[Any, Any]):
    """An object of a class, each field one aggregate of the same records; the accumulator is the list of theirs.

    The class is a msgspec Struct, dataclass, attrs class, NamedTuple or TypedDict (or dict): anything called with its
    fields by name. TypeError where the names do not fit.
    """

    def __init__(self, into: Callable[..., Any], fields: Mapping[str, Aggregate[Any, Any]]) -> None:
        _check(into, fields)
        self._into = into
        self._names = tuple(fields)
        self._aggregates = tuple(fields.values())
        self.ordered = any(aggregate.ordered for aggregate in self._aggregates)
        self.invertible = all(aggregate.invertible for aggregate in self._aggregates)

    def column(self, values: Sequence[Any]) -> Sequence[tuple[Any, ...]]:
        plain = list(map(itemgetter(2), values)) if self.ordered else values
        columns = [aggregate.column(values if aggregate.ordered else plain) for aggregate in self._aggregates]
        return list(zip(*columns, strict=True))

    def initial(self) -> list[Any]:
        return [aggregate.initial() for aggregate in self._aggregates]

    def add(self, accumulator: list[Any], item: tuple[Any, ...]) -> list[Any]:
        for i, aggregate in enumerate(self._aggregates):
            accumulator[i] = aggregate.add(accumulator[i], item[i])
        return accumulator

    def add_rows(self, rows: dict[Any, Any], keys: Sequence[Any], items: Sequence[tuple[Any, ...]]) -> None:
        # Field by field, so that each aggregate's own loop runs.
        distinct = list(dict.fromkeys(keys))
        known = [key for key in distinct if key in rows]
        columns = []
        for i, (aggregate, column) in enumerate(zip(self._aggregates, zip(*items, strict=True), strict=False)):
            field = {key: rows[key][i] for key in known}
            aggregate.add_rows(field, keys, column)
            columns.append(map(field.__getitem__, distinct))
        rows.update(zip(distinct, map(list, zip(*columns, strict=True)), strict=True))

    def merge(self, parts: Iterable[list[Any]]) -> list[Any]:
        columns = zip(*parts, strict=True)
        return [aggregate.merge(column) for aggregate, column in zip(self._aggregates, columns, strict=True)]

    def remove(self, accumulator: list[Any], part: list[Any]) -> list[Any] | None:
        left = [aggregate.remove(accumulator[i], part[i]) for i, aggregate in enumerate(self._aggregates)]
        return (
            None if any(part is None for part in left) else left
        )  # all have the same records: if one is empty, all are

    def result(self, accumulator: list[Any]) -> Any:
        results = [aggregate.result(part) for aggregate, part in zip(self._aggregates, accumulator, strict=True)]
        return self._into(**dict(zip(self._names, results, strict=True)))

    def running(self) -> Aggregate[Any, Any]:
        running = [aggregate.running() for aggregate in self._aggregates]
        return Combined(self._into, dict(zip(self._names, running, strict=True)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={part!r}" for name, part in zip(self._names, self._aggregates, strict=True))
        return f"aggregate({fields})"


def _check(into: Callable[..., Any], fields: Mapping[str, Aggregate[Any, Any]]) -> None:
    name = getattr(into, "__name__", repr(into))
    if not fields:
        raise TypeError(f"aggregate({name}): give it fields: aggregate({name}, hits=agg.count())")
    for field, aggregate in fields.items():
        if not isinstance(aggregate, Aggregate):
            raise TypeError(f"aggregate({name}): {field}={aggregate!r} is no aggregate: {field}=agg.count()")
    taken = _fields_of(into)
    if taken is None:
        return
    required, possible = taken
    unknown = [field for field in fields if field not in possible]
    if unknown:
        raise TypeError(f"aggregate({name}): {name} has no field {_list(unknown)}; it has {_list(possible)}")
    missing = [field for field in required if field not in fields]
    if missing:
        raise TypeError(f"aggregate({name}): {name} needs {_list(missing)} as well: {missing[0]}=agg.count()")


def _fields_of(into: Any) -> tuple[list[str], list[str]] | None:
    """The required and all names that a class is called with; None where it takes any."""
    if is_typeddict(into):
        required = sorted(into.__required_keys__)
        return required, required + sorted(into.__optional_keys__)
    try:
        parameters = inspect.signature(into).parameters.values()
    except ValueError:
        return None  # built in, as dict is
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    named = [parameter for parameter in parameters if parameter.kind in _BY_NAME]
    return [p.name for p in named if p.default is Parameter.empty], [p.name for p in named]


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
