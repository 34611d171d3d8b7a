"""map: another value for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator


class Map(Operator):
    """Each value becomes f(value).

    >>> Map(str.upper).process(Batch([None], ["goal"], [0])).values
    ['GOAL']
    """

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def process(self, batch: Batch, side: int = 0) -> Batch:
        f = self.f  # not map(f, ...): a StopIteration of f would end the column
        return batch.with_values([f(value) for value in batch.values])
