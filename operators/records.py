"""records: the whole record as the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Operator

K = TypeVar("K")
V = TypeVar("V")


class Record(NamedTuple, Generic[K, V]):
    """A record with all that came with it; `timestamp` is its event time in ms since the epoch.

    Of headers with the same name the last one wins: a record that came with several goes on with that one alone.
    """

    key: K
    value: V
    timestamp: int
    headers: Mapping[str, bytes]


class Records(Operator):
    """Each value becomes the `Record` it is part of."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        headers = [{} for _ in batch.timestamps] if batch.headers is None else [h or {} for h in batch.headers]
        rows = zip(batch.keys, batch.values, batch.timestamps, headers, strict=True)
        return batch.with_values(list(map(Record._make, rows)))
