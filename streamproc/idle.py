"""Idle: source partitions read to their end and silent no longer hold time back. Live runs only."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streamproc.log import Partition
from streamproc.operators.batch import NEVER
from streamproc.reader import SourceReader


class IdleWatch:
    """Since when each partition has been silent. None: nothing is ever idle."""

    def __init__(self, idle_ms: int | None) -> None:
        self._idle_ms = idle_ms
        self._since: dict[Partition, int] = {}

    def begin_anew(self) -> None:
        """What was silent until now may not have been: across errors and rebalances nothing is known."""
        self._since.clear()

    def heard(self, partition: Partition, now_ms: int) -> None:
        """A record came."""
        self._since[partition] = now_ms

    def silent(
        self, readers: Iterable[SourceReader], caught_up: Collection[Partition], now_ms: int
    ) -> list[SourceReader]:
        """The readers that may now be idle: a poll at their position gave nothing, for long enough.

        One that never had a record is so at once. The caller checks that they are at their end.
        """
        if self._idle_ms is None:
            return []
        found = []
        for reader in readers:
            if reader.idle:
                continue
            if reader.partition not in caught_up:
                self._since[reader.partition] = now_ms  # not known to be silent: pauses do not count
            elif reader.clock == NEVER or now_ms - self._since.setdefault(reader.partition, now_ms) >= self._idle_ms:
                found.append(reader)
        return found
