"""Two aggregates whose results show all that went in: nothing lost, doubled or out of order stays hidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streamproc.windows.aggregate import Aggregate
from streamproc.windows.results import WindowResult
from tests.operators.harness import NODE, TASK, Row


class Bag(Aggregate[Any, list[Any]]):
    """The values, sorted: the order of contributions does not matter. The accumulator is {value: how often}."""

    def __init__(self, *, invertible: bool = False) -> None:
        self.invertible = invertible

    def __repr__(self) -> str:
        return "bag"

    def initial(self) -> dict[Any, int]:
        return {}

    def add(self, accumulator: dict[Any, int], item: Any) -> dict[Any, int]:
        accumulator[item] = accumulator.get(item, 0) + 1
        return accumulator

    def merge(self, parts: Iterable[dict[Any, int]]) -> dict[Any, int]:
        merged: dict[Any, int] = {}
        for part in parts:
            for item, count in part.items():
                merged[item] = merged.get(item, 0) + count
        return merged

    def remove(self, accumulator: dict[Any, int], part: dict[Any, int]) -> dict[Any, int] | None:
        for item, count in part.items():
            accumulator[item] -= count
            if not accumulator[item]:
                del accumulator[item]
        return accumulator or None

    def result(self, accumulator: dict[Any, int]) -> list[Any]:
        return sorted(item for item, count in accumulator.items() for _ in range(count))


class InOrder(Aggregate[Any, list[Any]]):
    """The values by (timestamp, origin)."""

    ordered = True

    def __repr__(self) -> str:
        return "in order"

    def initial(self) -> list[Any]:
        return []

    def add(self, accumulator: list[Any], item: Any) -> list[Any]:
        accumulator.append(item)
        return accumulator

    def merge(self, parts: Iterable[list[Any]]) -> list[Any]:
        return [item for part in parts for item in part]

    def result(self, accumulator: list[Any]) -> list[Any]:
        return [value for _, _, value in sorted(accumulator, key=lambda item: item[:2])]

    def running(self) -> Arrived:
        return Arrived()


class Arrived(InOrder):
    """The values in order of arrival."""

    ordered = False

    def result(self, accumulator: list[Any]) -> list[Any]:
        return list(accumulator)


class Picky(Bag):
    """A bag whose user function refuses a value: on the way in, or when a result is made."""

    def __init__(self, *, at_column: Any = None, at_result: Any = None) -> None:
        super().__init__()
        self.at_column, self.at_result = at_column, at_result

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        if self.at_column in values:
            raise ValueError(self.at_column)
        return values

    def result(self, accumulator: dict[Any, int]) -> list[Any]:
        if self.at_result in accumulator:
            raise ValueError(self.at_result)
        return super().result(accumulator)


def rows_of_windows(
    windows: Mapping[tuple[int, int, bytes], Sequence[Row]], aggregate: Aggregate[Any, list[Any]]
) -> list[Row]:
    """What one of these aggregates gives for the rows of each (end, start, key), as they close."""
    found = []
    for end, start, key in sorted(windows):
        some = sorted(
            windows[end, start, key],
            key=lambda row: (row.timestamp, row.origin) if aggregate.ordered else row.value,
        )
        value = WindowResult(some[0].key, start, end, [row.value for row in some])
        found.append(Row(some[0].key, value, end - 1, None, (NODE, end, start, key, TASK)))
    return found
