"""A micro-batch as columns: what flows from operator to operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

Origin: TypeAlias = tuple[Any, ...]
Headers: TypeAlias = Mapping[str, bytes]

NEVER = -(1 << 62)
"""A watermark or clock before every timestamp: nothing is known yet."""
FOREVER = 1 << 62
"""A watermark behind every timestamp: the input has ended."""


class Batch:
    """Rows as parallel columns; row i is (keys[i], values[i], timestamps[i]).

    `timestamps` are event times in milliseconds since the epoch. Three columns are None where no row
    needs them: `clocks` (the source partition's clock when the record was read, for records that may
    be late somewhere downstream; None for the others), `origins` (where a row came from, comparable
    tuples: the tie-break of equal timestamps) and `headers`.
    An operator never changes a batch it was given; columns may be shared between batches.

    >>> Batch(["a", "b"], [1, 2], [10, 20]).select([1])
    Batch(keys=['b'], values=[2], timestamps=[20])
    """

    __slots__ = ("clocks", "headers", "keys", "origins", "timestamps", "values")

    def __init__(
        self,
        keys: Sequence[Any],
        values: Sequence[Any],
        timestamps: Sequence[int],
        clocks: Sequence[int | None] | None = None,
        origins: Sequence[Origin] | None = None,
        headers: Sequence[Headers | None] | None = None,
    ) -> None:
        self.keys = keys
        self.values = values
        self.timestamps = timestamps
        self.clocks = clocks
        self.origins = origins
        self.headers = headers

    def __len__(self) -> int:
        return len(self.timestamps)

    def __repr__(self) -> str:
        shown = [f"{name}={list(getattr(self, name))!r}" for name in ("keys", "values", "timestamps")]
        shown += [
            f"{name}={list(column)!r}"
            for name in ("clocks", "origins", "headers")
            if (column := getattr(self, name)) is not None
        ]
        return f"Batch({', '.join(shown)})"

    def select(self, rows: Sequence[int]) -> Batch:
        """The given rows, in the given order; a row may be named more than once."""
        return Batch(
            [self.keys[i] for i in rows],
            [self.values[i] for i in rows],
            [self.timestamps[i] for i in rows],
            None if self.clocks is None else [self.clocks[i] for i in rows],
            None if self.origins is None else [self.origins[i] for i in rows],
            None if self.headers is None else [self.headers[i] for i in rows],
        )

    def with_values(self, values: Sequence[Any]) -> Batch:
        """The same rows with other values."""
        return Batch(self.keys, values, self.timestamps, self.clocks, self.origins, self.headers)

    def with_keys(self, keys: Sequence[Any]) -> Batch:
        """The same rows with other keys."""
        return Batch(keys, self.values, self.timestamps, self.clocks, self.origins, self.headers)

    def without_clocks(self) -> Batch:
        """The same rows, none of which can be late any more."""
        return Batch(self.keys, self.values, self.timestamps, None, self.origins, self.headers)


EMPTY = Batch((), (), ())


def concat(batches: Sequence[Batch]) -> Batch:
    """All rows of the batches, in order; a column that any of them has is filled with None elsewhere."""
    batches = [batch for batch in batches if len(batch)]
    if len(batches) < 2:
        return batches[0] if batches else EMPTY

    def column(name: str, *, sparse: bool = False) -> list[Any] | None:
        parts = [getattr(batch, name) for batch in batches]
        if sparse and all(part is None for part in parts):
            return None
        return list(
            chain.from_iterable([None] * len(b) if p is None else p for p, b in zip(parts, batches, strict=True))
        )

    return Batch(
        column("keys") or [],
        column("values") or [],
        column("timestamps") or [],
        column("clocks", sparse=True),
        column("origins", sparse=True),
        column("headers", sparse=True),
    )
