"""Records packed for Produce: in a simulation, columns with an estimate of their size."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from streamproc.log import Columns

BATCH_BYTES = 900_000
"""A batch is no larger than this, unless it is of one record."""
OVERHEAD_BYTES = 61
"""The header of a batch."""
_RECORD_BYTES = 12


class PackedBatch(msgspec.Struct, frozen=True):
    """A `Batch`: the records themselves."""

    columns: Columns
    count: int
    size: int


def pack(columns: Columns, limit: int = BATCH_BYTES) -> Sequence[PackedBatch]:
    """The records as batches of `limit` bytes at most, or of one record.

    >>> [batch.count for batch in pack(Columns([None] * 3, [b"x" * 100] * 3, [0] * 3), limit=300)]
    [2, 1]
    """
    sizes = [
        _RECORD_BYTES + len(key or b"") + len(value or b"")
        for key, value in zip(columns.keys, columns.values, strict=True)
    ]
    if columns.headers is not None:
        for row, headers in enumerate(columns.headers):
            sizes[row] += sum(len(name) + len(value) + 2 for name, value in headers or ())
    batches = []
    start, total = 0, OVERHEAD_BYTES
    for row, size in enumerate(sizes):
        if total + size > limit and row > start:
            batches.append(PackedBatch(columns.cut(start, row), row - start, total))
            start, total = row, OVERHEAD_BYTES
        total += size
    if start < len(sizes):
        batches.append(PackedBatch(columns.cut(start, len(sizes)), len(sizes) - start, total))
    return batches
