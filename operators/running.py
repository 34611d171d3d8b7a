"""Running aggregates: one update for every record, in order of arrival."""

from __future__ import annotations

from typing import Any

from streamproc.operators.batch import Batch
from streamproc.operators.operator import Context, Operator
from streamproc.state.keys import identities
from streamproc.state.table import Table
from streamproc.windows.aggregate import Aggregate


class Running(Operator):
    """Each record becomes its key's aggregate of all records so far, itself included."""

    keyed = True
    stateful = True

    def __init__(self, aggregate: Aggregate[Any, Any]) -> None:
        self.aggregate = aggregate.running()
        self.signature = {"verb": "running", "aggregate": repr(aggregate)}

    def open(self, context: Context) -> None:
        self._table: Table[Any] = context.table()

    def process(self, batch: Batch, side: int = 0) -> Batch:
        items = self.aggregate.column(batch.values)
        keys = identities(batch.keys)
        results = self.aggregate.add_each(self._table.rows(keys), keys, items)
        self._table.changed(keys)
        return batch.with_values(results)
