"""What a log may answer to a commit instead of doing it, drawn by a seed; and what of an epoch is visible when.

An epoch that is not decided is neither visible nor gone, until somebody asks who must wait for it: its worker by
`Sink.abort`, whoever reads the stable offsets of its partitions, another sink of the same name. And one that is
committed reaches the partitions one by one: its changelog rows may be read some looks later than its offsets.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from streamproc.in_process import InProcessLog, InProcessSink
from streamproc.log import Aborted, Chunk, Columns, Committed, LogError, Partition, Rejected, Unknown


class _Undecided(NamedTuple):
    log: InProcessLog
    records: Mapping[Partition, Columns]
    group: str
    offsets: Mapping[Partition, Committed]
    committed: bool


class Doubts:
    """The fates of the commits of a world.

    rate       chance that one is not simply done, or that an `abort` is not answered
    happened   how many were not
    """

    def __init__(self, rng: random.Random, rate: float) -> None:
        self.rate = rate
        self.happened = 0
        self._rng = rng
        self._notes_rng = random.Random(repr(rng.getstate()))
        self._undecided: dict[tuple[str, str], _Undecided] = {}
        self._hidden: dict[Partition, tuple[int, int]] = {}
        """From which offset on a partition's records cannot be read yet, and for how many looks."""

    async def commit(
        self, sink: InProcessSink, offsets: Mapping[Partition, Committed], *, dies: Callable[[], None]
    ) -> Mapping[Partition, int]:
        """As `Sink.commit`; or the process `dies` meanwhile.

        Without offsets nothing fences it: Kafka checks the member with the offsets alone.
        """
        if not offsets:
            return self._write(_Undecided(sink._log, self._take(sink), "", {}, committed=True))
        if self._rng.random() >= self.rate:
            before = dict(sink._epoch)
            self._hide(sink._log, before)
            return await sink.commit(offsets)
        self.happened += 1
        sink._source.admit(sink._begun)  # type: ignore[union-attr] # workers have one
        fate = self._rng.choice(("aborted", "lost", "lost but committed", "undecided", "undecided, and it dies"))
        undecided = _Undecided(
            sink._log, self._take(sink), sink.name[0], dict(offsets), committed=self._rng.random() < 0.5
        )
        if fate == "aborted":
            raise Aborted
        if fate == "lost but committed":
            self._write(undecided)
        elif fate.startswith("undecided"):
            self._undecided[sink.name] = undecided
            if fate != "undecided":
                dies()
        raise Unknown

    async def abort(self, sink: InProcessSink) -> None:
        """As `Sink.abort`."""
        if self._rng.random() < self.rate:
            self.happened += 1
            raise LogError("no answer")
        self.decide(sink.name)
        await sink.abort()

    async def note(self, source: Any, offsets: Mapping[Partition, Committed | None]) -> None:
        """As `Source.note`: refused, done without an answer, or done."""
        rng = self._notes_rng
        fate = rng.choice(("refused", "no answer")) if rng.random() < self.rate else "done"
        if fate == "refused":
            raise rng.choice((LogError, Rejected))(fate)
        await source.note(offsets)
        if fate == "no answer":
            raise LogError(fate)

    def most(self) -> int:
        """How many records one look gives."""
        return self._rng.choice((1, 5, 10_000)) if self.rate else 10_000

    def decide(self, name: tuple[str, str]) -> None:
        """What a sink of this name has left undecided is decided."""
        undecided = self._undecided.pop(name, None)
        if undecided is not None and undecided.committed:
            self._write(undecided)

    def stable(self, partitions: Collection[Partition]) -> None:
        """What is undecided of these offsets is decided."""
        for name, undecided in list(self._undecided.items()):
            if not undecided.offsets.keys().isdisjoint(partitions):
                self.decide(name)

    def last_stable(self, partition: Partition, end: int) -> int:
        """Up to where a partition can be read; each look brings the rest nearer."""
        if partition not in self._hidden:
            return end
        offset, looks = self._hidden[partition]
        if looks > 0:
            self._hidden[partition] = (offset, looks - 1)
            return offset
        del self._hidden[partition]
        return end

    def visible(self, chunk: Chunk, offset: int) -> Chunk:
        """What of a chunk read from an offset can be read now."""
        stable = self.last_stable(chunk.partition, chunk.next_offset)
        if chunk.next_offset <= stable:
            return chunk
        cut = chunk.cut(0, sum(at < stable for at in chunk.offsets))
        cut.next_offset = max(offset, stable)
        return cut

    def _take(self, sink: InProcessSink) -> Mapping[Partition, Columns]:
        epoch, sink._epoch, sink._begun = sink._epoch, {}, None
        return epoch

    def _write(self, epoch: _Undecided) -> Mapping[Partition, int]:
        self._hide(epoch.log, epoch.records)
        records = epoch.log.records()
        records.write(epoch.records, epoch.group, epoch.offsets)
        epoch.log.wake()
        return {partition: records.bounds(partition)[1] for partition in epoch.records}

    def _hide(self, log: InProcessLog, partitions: Collection[Partition]) -> None:
        """What is about to be written to changelogs is not to be read at once."""
        for partition in partitions:
            if partition.topic.endswith("-changelog") and self._rng.random() < self.rate:
                self._hidden.setdefault(partition, (log.bounds(partition)[1], self._rng.choice((1, 2, 5))))
