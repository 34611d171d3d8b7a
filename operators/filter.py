"""filter and drop_none: some of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator


class Filter(Operator):
    """The rows whose value satisfies f.

    >>> Filter(lambda n: n > 1).process(Batch([None] * 3, [1, 2, 3], [0, 0, 0])).values
    [2, 3]
    """

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def process(self, batch: Batch, side: int = 0) -> Batch:
        return keep(batch, [self.f(value) for value in batch.values])


class DropNone(Operator):
    """The rows whose value is not None."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        return keep(batch, [value is not None for value in batch.values])


def keep(batch: Batch, chosen: Sequence[Any]) -> Batch:
    """The rows whose entry in `chosen` is true."""

    def column(values: Sequence[Any] | None) -> list[Any] | None:
        return None if values is None else list(compress(values, chosen))

    return Batch(
        list(compress(batch.keys, chosen)),
        list(compress(batch.values, chosen)),
        list(compress(batch.timestamps, chosen)),
        column(batch.clocks),
        column(batch.origins),
        column(batch.headers),
    )
