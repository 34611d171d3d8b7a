"""What a broker drops of a partition by itself: what is too old, and what compaction leaves out (KIP-534)."""

from __future__ import annotations

from streamproc.compaction import Compacted
from streamproc.testing.simulation.partition_log import KeptBatch, Outcome, PartitionLog

RETENTION_CHECK_MS = 300_000
"""log.retention.check.interval.ms"""
CLEANER_BACKOFF_MS = 15_000
"""log.cleaner.backoff.ms"""


class Upkeep:
    """Looks after one partition when it is used: nothing shows what was dropped before anyone looked.

    A broker works by segments, and a segment waits until it is full, or for its newest record or marker to be too old:
    here what is due goes at the next look.
    """

    def __init__(self, log: PartitionLog) -> None:
        self._log = log
        self._next_drop = 0
        self._next_compaction = 0
        self._compacted = Compacted()

    def look(self, now_ms: int) -> None:
        """Do what is due."""
        log = self._log
        if log.config.deletes and now_ms >= self._next_drop:
            self._next_drop = now_ms + RETENTION_CHECK_MS
            drop(log, now_ms)
        if log.config.compacts and now_ms >= self._next_compaction:
            self._next_compaction = now_ms + CLEANER_BACKOFF_MS
            if self._compacted.is_due(log.start, log.end, 0):
                self._compacted = compact(log, now_ms)


def drop(log: PartitionLog, now_ms: int) -> None:
    """The oldest batches are gone, with their markers, while their timestamps are older than the topic's retention."""
    if log.config.retention < 0:
        return
    horizon = now_ms - log.config.retention
    count, before = 0, log.start
    for batch in log.batches:
        if batch.newest >= horizon and not batch.control:
            break
        count += 1
        before = batch.last + 1
    if count:
        log.purge(before)


def compact(log: PartitionLog, now_ms: int) -> Compacted:
    """Of each key the last record is left, below what is not decided and the last batch, which is still written to.

    Tombstones and markers go `delete.retention.ms` after the first compaction that met them.
    """
    behind = log.last_stable
    last: dict[bytes | None, int] = {}
    clean = 0
    for batch in log.batches[:-1]:
        if batch.last >= behind:
            break
        clean += 1
        if batch.outcome is not Outcome.ABORTED:
            last.update(zip(batch.columns.keys, batch.places(), strict=True))
    needed = log.producers.last_offsets()
    kept = []
    for batch in log.batches[:clean]:
        expired = batch.expires_at is not None and now_ms >= batch.expires_at
        if batch.expires_at is None:
            batch.expires_at = now_ms + log.config.tombstones
        _clean(batch, last, expired=expired)
        if len(batch.columns) or batch.first in needed or (batch.control and not expired):
            kept.append(batch)
    log.batches[:clean] = kept
    end = kept[-1].last + 1 if kept else log.start
    return Compacted(max(end, log.start), sum(len(batch.columns) for batch in kept))


def _clean(batch: KeptBatch, last: dict[bytes | None, int], *, expired: bool) -> None:
    """Leave the records that are the last of their keys, and tombstones until they expire."""
    places, columns = batch.places(), batch.columns
    if batch.outcome is Outcome.ABORTED:
        rows = []
    else:
        rows = [
            row
            for row, (key, value) in enumerate(zip(columns.keys, columns.values, strict=True))
            if last[key] == places[row] and (value is not None or not expired)
        ]
    if len(rows) < len(columns):
        batch.offsets = [places[row] for row in rows]
        batch.columns = columns.pick(rows)
