"""Idle: source partitions that are read to their end and silent no longer hold time back. Live runs only.

A partition is waited for from the moment that another one's clock is ahead of its own, wherever that is read. When that
has lasted for `idle` it is left out, until its next record; or until no clock has moved for `idle`: then it is
waited for again, as behind a pause of all of them nobody knows which one is heard first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from streamproc.log import Log, Partition
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.reader import SourceReader

LOOKS: Final = 6
"""So often in the time of `idle` the clocks of partitions that others read are looked at."""


class IdleWatch:
    """Which partitions of a worker are to be left out, and which are to be waited for again.

    sources   all source partitions of the app
    idle_ms   FOREVER: nothing is ever idle
    """

    def __init__(self, log: Log, app: str, sources: Collection[Partition], idle_ms: int) -> None:
        self._log = log
        self._app = app
        self._sources = sources
        self._idle_ms = idle_ms
        self._waited: dict[Partition, int] = {}
        """Since when time waits for a partition."""
        self._left_out: dict[Partition, int] = {}
        """Since when a partition is left out, as far as is known here."""
        self._passed: dict[Partition, int] = {}
        """The newest clock when a partition was waited for again: it is nothing to wait for."""
        self._newest = NEVER
        self._moved_ms = 0
        self._look_at_ms = 0

    def begin_anew(self) -> None:
        """What was silent until now may not have been: across errors and rebalances nothing is known."""
        for known in (self._waited, self._left_out, self._passed):
            known.clear()

    def heard(self, partition: Partition) -> None:
        """A record came."""
        for known in (self._waited, self._left_out, self._passed):
            known.pop(partition, None)

    async def look(
        self, readers: Sequence[SourceReader], at_end: Collection[Partition], now_ms: int
    ) -> list[SourceReader]:
        """The readers that are to be left out, or, if they are, to be waited for again.

        `at_end`: the partitions of which the last poll saw the end.
        """
        if self._idle_ms == FOREVER or not any(reader.partition in at_end for reader in readers):
            return []
        await self._look_at_clocks(readers, now_ms)
        silent = [reader for reader in readers if not reader.idle and self._is_silent(reader, at_end, now_ms)]
        if silent:
            ends = await self._log.ends([reader.partition for reader in silent])  # what is open may become a record
            silent = [reader for reader in silent if reader.position >= ends[reader.partition]]
        return [
            *silent,
            *(reader for reader in readers if reader.idle and self._is_awaited_again(reader.partition, now_ms)),
        ]

    def _is_silent(self, reader: SourceReader, at_end: Collection[Partition], now_ms: int) -> bool:
        awaited = self._newest > max(reader.clock, self._passed.get(reader.partition, NEVER))
        if reader.partition not in at_end or not awaited:
            self._waited.pop(reader.partition, None)  # not known to be silent: pauses do not count
            return False
        return now_ms - self._waited.setdefault(reader.partition, now_ms) >= self._idle_ms

    def _is_awaited_again(self, partition: Partition, now_ms: int) -> bool:
        if now_ms - max(self._moved_ms, self._left_out.setdefault(partition, now_ms)) < self._idle_ms:
            return False
        self.heard(partition)
        self._passed[partition] = self._newest
        return True

    async def _look_at_clocks(self, readers: Sequence[SourceReader], now_ms: int) -> None:
        """The newest clock of all: those of partitions that others read are looked at now and then, as committed."""
        clocks = [reader.clock for reader in readers]
        if len(readers) < len(self._sources) and now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + self._idle_ms // LOOKS
            committed = await self._log.committed(self._app)
            clocks += [msgspec.json.decode(committed[p].metadata)["clock"] for p in self._sources if p in committed]
        if (newest := max(clocks)) > self._newest:
            self._newest, self._moved_ms = newest, now_ms
