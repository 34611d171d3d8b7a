"""The committed offsets of one group, and those that open transactions hold (KIP-447)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from streamproc.kafka.requests import Code, Producer, Refused
from streamproc.log import Committed, Partition
from streamproc.testing.simulation.producer_state import Producers

METADATA_CHARACTERS = 4_096
"""offset.metadata.max.bytes, which counts characters."""


class GroupOffsets:
    """What a group has committed, in the order in which it came.

    An offset of a transaction counts from its marker on, unless a later one was committed meanwhile.
    """

    def __init__(self) -> None:
        self.producers = Producers()
        self._committed: dict[Partition, tuple[int, Committed]] = {}
        self._pending: dict[int, dict[Partition, tuple[int, Committed]]] = {}
        """By producer id: the offsets of its open transaction."""
        self._number = 0

    def commit(self, offsets: Mapping[Partition, Committed]) -> dict[Partition, int]:
        """Offsets outside of a transaction; what is refused, and why."""
        return self._take(offsets, self._committed)

    def commit_in(self, producer: Producer, offsets: Mapping[Partition, Committed]) -> dict[Partition, int]:
        """Offsets of the open transaction of a producer."""
        self.producers.begin(producer)
        return self._take(offsets, self._pending.setdefault(producer.id, {}))

    def mark(self, producer: Producer, *, commit: bool) -> None:
        """The transaction of this producer id is over; the marker is of the epoch behind it."""
        self.producers.end(producer)
        for partition, pending in self._pending.pop(producer.id, {}).items():
            before = self._committed.get(partition)
            if commit and (before is None or before[0] < pending[0]):
                self._committed[partition] = pending

    def fetch(self, partitions: Sequence[Partition] | None, *, stable: bool) -> dict[Partition, Committed]:
        """What is committed; raises UNSTABLE_OFFSET_COMMIT where a transaction holds one of them, if asked to."""
        wanted = list(self._committed) if partitions is None else partitions
        if stable:
            for partition in wanted:
                if any(partition in pending for pending in self._pending.values()):
                    name = f"{partition.topic}/{partition.number}"
                    raise Refused(Code.UNSTABLE_OFFSET_COMMIT, f"the committed offset of {name}")
        return {partition: self._committed[partition][1] for partition in wanted if partition in self._committed}

    def delete(self, partitions: Collection[Partition]) -> None:
        """Nothing is committed of these partitions; what a transaction holds of them may still be."""
        for partition in partitions:
            self._committed.pop(partition, None)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are gone, and their offsets with them."""
        for partition in partitions:
            self._committed.pop(partition, None)
            for pending in self._pending.values():
                pending.pop(partition, None)

    def _take(
        self, offsets: Mapping[Partition, Committed], into: dict[Partition, tuple[int, Committed]]
    ) -> dict[Partition, int]:
        refused: dict[Partition, int] = {}
        for partition, committed in offsets.items():
            if len(committed.metadata) > METADATA_CHARACTERS:
                refused[partition] = Code.OFFSET_METADATA_TOO_LARGE
            else:
                self._number += 1
                into[partition] = self._number, committed
        return refused
