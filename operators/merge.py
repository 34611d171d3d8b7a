"""merge: the rows of several streams as one."""

from __future__ import annotations

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Context, Operator


class Merge(Operator):
    """The rows of every side; the side shows in a row's origin, so that equal times still have an order."""

    def open(self, context: Context) -> None:
        self._keeps_origins = context.keeps_origins

    def process(self, batch: Batch, side: int = 0) -> Batch:
        if batch.origins is None:
            return batch
        # Where nothing behind sorts, rows of windows have none and records may: then none of the merged rows has one.
        origins = [(*origin, side) for origin in batch.origins] if self._keeps_origins else None
        return Batch(batch.keys, batch.values, batch.timestamps, batch.clocks, origins, batch.headers)
