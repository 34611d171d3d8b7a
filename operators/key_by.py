"""key_by: another key for each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator


class KeyBy(Operator):
    """The key of each row becomes f(value).

    >>> KeyBy(len).process(Batch([None], ["goal"], [0])).keys
    [4]
    """

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def process(self, batch: Batch, side: int = 0) -> Batch:
        return batch.with_keys([self.f(value) for value in batch.values])
