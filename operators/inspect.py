"""inspect: look at values as they pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator


class Inspect(Operator):
    """f sees each value; the rows go on as they are. After a crash f sees a value again."""

    def __init__(self, f: Callable[[Any], Any]) -> None:
        self.f = f

    def process(self, batch: Batch, side: int = 0) -> Batch:
        for value in batch.values:
            self.f(value)
        return batch
