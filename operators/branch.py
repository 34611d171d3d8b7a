"""split and branch: one stream into several, each record into one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.filter import keep
from streamproc.operators.operator import Operator


class Choose(Operator):
    """Each value becomes (number of the first predicate it satisfies, value); one that satisfies none is left out."""

    def __init__(self, predicates: Sequence[Callable[[Any], Any]]) -> None:
        self.predicates = predicates

    def process(self, batch: Batch, side: int = 0) -> Batch:
        chosen = [next((i for i, p in enumerate(self.predicates) if p(value)), None) for value in batch.values]
        tagged = batch.with_values(list(zip(chosen, batch.values, strict=True)))
        return keep(tagged, [number is not None for number in chosen])


class Pick(Operator):
    """The values that `Choose` gave this number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def process(self, batch: Batch, side: int = 0) -> Batch:
        mine = keep(batch, [number == self.number for number, _ in batch.values])
        return mine.with_values([value for _, value in mine.values])
