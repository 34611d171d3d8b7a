"""What a partition knows of the producers that write to it: epochs and sequence numbers (KIP-98, KIP-890)."""

from __future__ import annotations

from typing import NamedTuple

from streamproc.kafka.requests import Code, Producer

REMEMBERED = 5
"""Of so many batches of a producer a repetition is recognised."""
SEQUENCES = 2**31
"""Behind the last sequence number comes 0."""


class Appended(NamedTuple):
    """A batch that was appended: its sequence numbers, and its first offset."""

    first: int
    last: int
    offset: int


class _Entry:
    """A producer id: the epoch last seen, its latest batches, and whether a transaction of it is open here."""

    __slots__ = ("batches", "epoch", "open")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[Appended] = []
        self.open = False


class Producers:
    """The producers of one partition, or of the offsets of one group."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}

    def is_old(self, producer: Producer) -> bool:
        """Whether a later epoch of its id was seen here."""
        entry = self._entries.get(producer.id)
        return entry is not None and producer.epoch < entry.epoch

    def is_open(self, producer: Producer) -> bool:
        """Whether a transaction of it is open here: then the coordinator need not be asked."""
        entry = self._entries.get(producer.id)
        return entry is not None and entry.open and entry.epoch == producer.epoch

    def repeated(self, producer: Producer, first: int, count: int) -> int | None:
        """The offset at which the same batch was appended before, if it was."""
        entry = self._entries.get(producer.id)
        if entry is not None and entry.epoch == producer.epoch:
            last = (first + count - 1) % SEQUENCES
            for batch in entry.batches:
                if batch.first == first and batch.last == last:
                    return batch.offset
        return None

    def check(self, producer: Producer, first: int, *, transactional: bool) -> Code:
        """Whether a batch that is no repetition may be appended; the coordinator has agreed, if it had to."""
        entry = self._entries.get(producer.id)
        if entry is None:  # nothing is known of it: a transaction begins at 0, others anywhere
            return Code.OUT_OF_ORDER_SEQUENCE if transactional and first != 0 else Code.NONE
        if producer.epoch < entry.epoch:
            return Code.INVALID_PRODUCER_EPOCH
        if entry.open and not transactional:
            return Code.INVALID_TXN_STATE
        goes_on = producer.epoch == entry.epoch and entry.batches
        expected = (entry.batches[-1].last + 1) % SEQUENCES if goes_on else 0
        return Code.NONE if first == expected else Code.OUT_OF_ORDER_SEQUENCE

    def appended(self, producer: Producer, first: int, count: int, offset: int, *, transactional: bool) -> None:
        """A batch was appended."""
        entry = self._of(producer)
        entry.batches.append(Appended(first, (first + count - 1) % SEQUENCES, offset))
        del entry.batches[:-REMEMBERED]
        entry.open = entry.open or transactional

    def begin(self, producer: Producer) -> None:
        """A transaction of it is open here, by something that has no sequence number."""
        self._of(producer).open = True

    def end(self, producer: Producer) -> None:
        """The transaction that was open here is over: a marker came, with the epoch after it."""
        self._of(producer).open = False

    def last_offsets(self) -> frozenset[int]:
        """The first offset of the latest batch of each: compaction leaves it, be it empty."""
        return frozenset(entry.batches[-1].offset for entry in self._entries.values() if entry.batches)

    def _of(self, producer: Producer) -> _Entry:
        entry = self._entries.get(producer.id)
        if entry is None:
            entry = self._entries[producer.id] = _Entry(producer.epoch)
        elif entry.epoch != producer.epoch:
            entry.epoch = producer.epoch
            entry.batches.clear()
        return entry
