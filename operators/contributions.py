"""What an aggregate is given of the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamproc.operators.batch import Batch
from streamproc.windows.aggregate import Aggregate


def items_of(aggregate: Aggregate[Any, Any], batch: Batch) -> Sequence[Any]:
    """One item a row, for `Aggregate.add`; calls the user's function and touches no state.

    Where order matters, a row's value comes with its timestamp and origin.
    """
    if aggregate.ordered:
        return aggregate.column(list(zip(batch.timestamps, batch.origins or (), batch.values, strict=True)))
    return aggregate.column(batch.values)
