"""flat_map: any number of values for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator


class FlatMap(Operator):
    """Each value becomes the values of f(value), with its key and time.

    >>> FlatMap(str.split).process(Batch(["k"], ["a b"], [5]))
    Batch(keys=['k', 'k'], values=['a', 'b'], timestamps=[5, 5])
    """

    def __init__(self, f: Callable[[Any], Iterable[Any]]) -> None:
        self.f = f

    def process(self, batch: Batch, side: int = 0) -> Batch:
        f = self.f
        parts = [part if type(part := f(value)) is list else _listed(part) for value in batch.values]
        counts = list(map(len, parts))

        def column(values: Sequence[Any] | None) -> list[Any] | None:
            return None if values is None else list(chain.from_iterable(map(repeat, values, counts)))

        origins = batch.origins
        return Batch(
            column(batch.keys) or [],
            list(chain.from_iterable(parts)),
            column(batch.timestamps) or [],
            column(batch.clocks),
            None if origins is None else [(*o, i) for o, n in zip(origins, counts, strict=True) for i in range(n)],
            column(batch.headers),
        )


def _listed(part: Any) -> list[Any]:
    if part is None or isinstance(part, (str, bytes, set, frozenset, Mapping)) or hasattr(part, "_fields"):
        hint = "an empty list for no value" if part is None else "a list of the values, in their order"
        msg = f"a flat_map function returns the values as an iterable, not {type(part).__name__}: return {hint}"
        raise TypeError(msg)
    return list(part)
