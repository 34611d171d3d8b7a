"""One partition: batches and control markers at their offsets, and what may be read of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import NamedTuple

from streamproc.kafka.requests import Code, Fetched, Produced, Producer, Stamped
from streamproc.log import Columns
from streamproc.testing.simulation.batches import OVERHEAD_BYTES, PackedBatch
from streamproc.testing.simulation.producer_state import Producers

CONTROL_BYTES = OVERHEAD_BYTES + 17


class LogConfig(NamedTuple):
    """What of a topic's configuration the broker acts on. Times in ms; `retention` -1: for ever."""

    deletes: bool
    compacts: bool
    retention: int
    tombstones: int
    ahead: int
    batch_bytes: int
    segment_ms: int
    segment_bytes: int


def log_config(config: Mapping[str, str]) -> LogConfig:
    """As a topic's whole configuration says."""
    policy = config["cleanup.policy"].split(",")
    return LogConfig(
        "delete" in policy,
        "compact" in policy,
        int(config["retention.ms"]),
        int(config["delete.retention.ms"]),
        int(config["message.timestamp.after.max.ms"]),
        int(config["max.message.bytes"]),
        int(config["segment.ms"]),
        int(config["segment.bytes"]),
    )


class Outcome(Enum):
    """What became of the transaction that a batch is of; a batch without one is VISIBLE."""

    OPEN = 0
    VISIBLE = 1
    ABORTED = 2


class KeptBatch:
    """A batch as the log keeps it.

    first, last   its offsets
    offsets       of its records; None: all of first to last
    newest        the largest timestamp, in ms
    segment       the number of the file that it is in
    control       a marker: nothing that is read
    expires_at    when its tombstones, or the marker, may go; None: it was not compacted yet
    """

    __slots__ = ("columns", "control", "expires_at", "first", "last", "newest", "offsets", "outcome", "segment", "size")

    def __init__(
        self, first: int, columns: Columns, size: int, outcome: Outcome, newest: int, *, control: bool = False
    ) -> None:
        self.first = first
        self.last = first + max(1, len(columns)) - 1
        self.offsets: list[int] | None = [] if control else None
        self.columns = columns
        self.newest = newest
        self.segment = 0
        self.size = size
        self.outcome = outcome
        self.control = control
        self.expires_at: int | None = None

    def places(self) -> Sequence[int]:
        """The offset of each record."""
        return range(self.first, self.last + 1) if self.offsets is None else self.offsets


class _Segment:
    """The file that is written to: a new one is begun where it is full, or where time has gone too far in it."""

    def __init__(self) -> None:
        self._number = 0
        self._bytes = 0
        self._began = 0

    def take(self, batch: KeptBatch, config: LogConfig) -> None:
        """The batch is in this file, or in the next."""
        full = self._bytes + batch.size > config.segment_bytes or batch.newest - self._began > config.segment_ms
        if self._bytes and full:
            self._number += 1
            self._bytes = 0
        if not self._bytes:
            self._began = batch.newest
        self._bytes += batch.size
        batch.segment = self._number


class PartitionLog:
    """A partition of one replica: its high watermark is its end.

    start      the first offset kept
    end        behind the last record or marker
    watchers   told whenever there may be more to read
    """

    def __init__(self, config: LogConfig) -> None:
        self.config = config
        self.start = 0
        self.end = 0
        self.batches: list[KeptBatch] = []
        self.producers = Producers()
        self.watchers: dict[object, Callable[[], None]] = {}
        self._open: dict[int, list[KeptBatch]] = {}
        """The batches of open transactions, by producer id, in the order in which they began."""
        self._segment = _Segment()

    @property
    def last_stable(self) -> int:
        """Behind the last record all before which are decided."""
        for batches in self._open.values():
            return max(batches[0].first, self.start)
        return self.end

    def append(self, stamped: Stamped, now_ms: int, *, transactional: bool) -> Produced:
        """A batch, unless it was appended before or must not be. The transaction coordinator has agreed, if asked."""
        batch, producer, sequence = stamped
        assert isinstance(batch, PackedBatch), f"a batch of another cluster: {batch!r}"
        if refused := self._refuses(batch, now_ms):
            return refused
        if producer.id >= 0:
            before = self.producers.repeated(producer, sequence, batch.count)
            if before is not None:
                return Produced(Code.NONE, before)
            code = self.producers.check(producer, sequence, transactional=transactional)
            if code != Code.NONE:
                return Produced(code, -1, f"sequence {sequence} of {producer}")
            self.producers.appended(producer, sequence, batch.count, self.end, transactional=transactional)
        outcome = Outcome.OPEN if transactional else Outcome.VISIBLE
        kept = KeptBatch(self.end, batch.columns, batch.size, outcome, max(batch.columns.timestamps))
        if transactional:
            self._open.setdefault(producer.id, []).append(kept)
        self._add(kept)
        return Produced(Code.NONE, kept.first)

    def mark(self, producer: Producer, now_ms: int, *, commit: bool) -> None:
        """The transaction of this producer id is over; the marker is of the epoch behind it."""
        self.producers.end(producer)
        outcome = Outcome.VISIBLE if commit else Outcome.ABORTED
        for batch in self._open.pop(producer.id, ()):
            batch.outcome = outcome
        self._add(KeptBatch(self.end, Columns([], [], []), CONTROL_BYTES, outcome, now_ms, control=True))

    def read(self, offset: int, limit_bytes: int, *, committed: bool) -> Fetched:
        """Batches from the one that holds the offset on: one at least, then up to the limit, of one segment."""
        stable = self.last_stable
        if not self.start <= offset <= self.end:
            return Fetched(Code.OFFSET_OUT_OF_RANGE, (), Columns([], [], []), offset, self.end, stable, self.start)
        behind = stable if committed else self.end
        offsets: list[int] = []
        columns = Columns([], [], [])
        next_offset, size, segment = offset, 0, -1
        for batch in islice(self.batches, self._place(offset), None):
            if batch.first >= behind or (size and (size + batch.size > limit_bytes or batch.segment != segment)):
                break
            segment = batch.segment
            size += batch.size
            next_offset = batch.last + 1
            if not batch.control and not (committed and batch.outcome is Outcome.ABORTED):
                places = batch.places()
                first = bisect_left(places, offset)
                offsets.extend(places[first:])
                columns.extend(batch.columns.cut(first, len(places)) if first else batch.columns)
        return Fetched(Code.NONE, offsets, columns, next_offset, self.end, stable, self.start, size)

    def committed(self) -> Columns:
        """All records below the last stable offset that are not aborted."""
        columns, position = Columns([], [], []), self.start
        while position < self.last_stable:
            fetched = self.read(position, 1 << 30, committed=True)
            columns.extend(fetched.columns)
            position = fetched.next_offset
        return columns

    def purge(self, before: int) -> Code:
        """Records below the offset are gone (KIP-107); -1: all there are."""
        before = self.end if before == -1 else before
        if not 0 <= before <= self.end:
            return Code.OFFSET_OUT_OF_RANGE
        if before > self.start:
            self.start = before
            del self.batches[: self._place(before)]
            self._changed()
        return Code.NONE

    def _refuses(self, batch: PackedBatch, now_ms: int) -> Produced | None:
        limits = self.config
        if batch.size > limits.batch_bytes:
            return Produced(Code.MESSAGE_TOO_LARGE, -1, f"{batch.size} bytes are more than {limits.batch_bytes}")
        if limits.compacts and None in batch.columns.keys:
            return Produced(Code.INVALID_RECORD, -1, "a compacted topic takes no record without a key")
        newest = max(batch.columns.timestamps)
        if newest - now_ms > limits.ahead:
            return Produced(Code.INVALID_TIMESTAMP, -1, f"timestamp {newest} is too far ahead of {now_ms}")
        return None

    def _add(self, batch: KeptBatch) -> None:
        self._segment.take(batch, self.config)
        self.batches.append(batch)
        self.end = batch.last + 1
        self._changed()

    def _changed(self) -> None:
        for changed in self.watchers.values():
            changed()

    def _place(self, offset: int) -> int:
        """Where the first batch that ends at or behind an offset is."""
        return bisect_left(self.batches, offset, key=_last)


def _last(batch: KeptBatch) -> int:
    return batch.last
