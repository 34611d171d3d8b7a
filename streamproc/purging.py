"""Purging: what of internal topics was read and is committed may go, now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamproc.log import Log, Partition

PURGE_RECORDS: Final = 50_000
"""So many records of a partition must have been read and committed before they are purged."""


class Purging:
    """Up to where one worker has purged the partitions of internal topics; what was before it came is not known."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._purged: dict[Partition, int] = {}

    async def purge(self, committed: Mapping[Partition, int]) -> None:
        """Delete what is below these positions, where it is much. They are *known* to be committed, never in doubt."""
        before = {p: offset for p, offset in committed.items() if offset - self._purged.get(p, 0) >= PURGE_RECORDS}
        if before:
            await self._log.purge(before)
            self._purged.update(before)
