"""Restore: a store brought up to the end of its changelog, from wherever it is.

log:  read n+1 | read n+2 | ...          what comes next is on its way
store:           write n  | write n+1    rows and position in one write: killed anywhere, it goes on from there
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from streamproc.clock import Clock
from streamproc.errors import StateLost
from streamproc.jobs import Job, Jobs
from streamproc.log import Chunk, Log, OffsetOutOfRange, Partition
from streamproc.state.errors import StoreError
from streamproc.state.settled import settle, settled_ms
from streamproc.state.store import Store

logger = logging.getLogger("streamproc")

RESTORE_RECORDS = 20_000
"""Rows a write: a write holds the interpreter for about 10 ms."""


TOMBSTONES_MS = 7 * 86_400_000
"""How long a changelog keeps a deletion (`delete.retention.ms`) before compaction may drop it."""

SAID_EACH_MS: Final = 5_000
"""A restore that takes longer says so, each time so much has passed."""
PAUSE_MS: Final = 20
"""How long a transaction that is open at the end of the changelog is given before it is looked at again."""


class Restoring(msgspec.Struct):
    """How far a store is on its way to the end of its changelog.

    begin, position, end   offsets: where it was, is and will be
    records                replayed so far
    noted_before           the group has an offset in the changelog, of an earlier restore (`streamproc.restore_lag`)
    """

    changelog: Partition
    clock: Clock
    begin: int = 0
    position: int = 0
    end: int = 0
    records: int = 0
    began_ms: int = 0
    said_ms: int = 0
    noted_before: bool = False

    @property
    def share(self) -> float:
        """What has been replayed of what there is to replay, 0 to 1."""
        return 1.0 if self.end <= self.begin else (self.position - self.begin) / (self.end - self.begin)

    @property
    def records_a_second(self) -> float:
        """Since it began."""
        return 1_000 * self.records / max(1, self.clock.now_ms() - self.began_ms)

    def start(self, position: int, end: int) -> None:
        """It begins here."""
        self.begin, self.position, self.end = position, position, end
        self.began_ms = self.said_ms = self.clock.now_ms()

    def moved(self, position: int, records: int) -> None:
        """So many records were replayed, up to here."""
        self.position = position
        self.records += records
        if self._is_due():
            logger.info(
                "restoring from %s/%d: %.0f %%, %s records, %s a second",
                *self.changelog,
                100 * self.share,
                f"{self.records:,}",
                f"{self.records_a_second:,.0f}",
            )

    def waits(self, offset: int, since_ms: int) -> None:
        """Nothing can be read here though the changelog goes on."""
        if self._is_due():
            logger.warning(
                "restoring: waits for an open transaction in %s/%d at offset %d, for %d s now",
                *self.changelog,
                offset,
                (self.clock.now_ms() - since_ms) // 1_000,
            )

    def _is_due(self) -> bool:
        due = self.clock.now_ms() - self.said_ms >= SAID_EACH_MS
        if due:
            self.said_ms = self.clock.now_ms()
        return due


async def restore(store: Store, log: Log, progress: Restoring, jobs: Jobs) -> None:
    """Replay what the changelog holds behind the store's position.

    To the high watermark, taken after the committed offsets were read: so the state is never older than they are. The
    last stable offset would not do: a transaction's markers reach partitions one by one, the offsets' before the
    changelog's. What is open there is waited for.
    A store that has stood still for half of the time that deletions are kept is rebuilt whole: it may have missed some,
    and keys that were deleted would be there again. On its way to the end it is as old as it was: what it has not read
    may be of that time. Raises StateLost where what it needs of the changelog is gone.
    """
    changelog = progress.changelog
    end = (await log.ends([changelog]))[changelog]
    position = store.position or 0
    if position > end:
        msg = (
            f"it is at {position} of its changelog, which ends at {end}: the topic was made anew under it. "
            "Delete the state directory to begin from the changelog as it is"
        )
        raise StoreError(f"of {changelog.topic}/{changelog.number}", msg)
    settled = settled_ms(store)
    rebuilt = position > 0 and (settled is None or abs(progress.clock.now_ms() - settled) > TOMBSTONES_MS // 2)
    if rebuilt:
        position = 0
    progress.start(position, end)
    since_ms = progress.began_ms if settled is None or not position else settled
    reading: Job[Chunk] | None = None
    try:
        while position < end:
            chunk = await (reading or _read(log, position, progress, jobs))
            reading = None
            if chunk.next_offset < end:
                reading = jobs.start(_read(log, chunk.next_offset, progress, jobs))
                await jobs.pause(0)  # the request leaves before the write holds the interpreter
            if rebuilt:  # not before: what is there is all there is, should the changelog's beginning be gone
                store.clear()
                rebuilt = False
            columns = chunk.columns
            changes = {key: value for key, value in zip(columns.keys, columns.values, strict=True) if key is not None}
            position = chunk.next_offset
            settle(store, changes, position, now_ms=since_ms if position < end else progress.began_ms)
            progress.moved(position, len(columns))
    finally:
        if reading is not None:
            await jobs.end([reading])


async def _read(log: Log, offset: int, progress: Restoring, jobs: Jobs) -> Chunk:
    """The next records before the end; behind an open transaction once it is decided."""
    since_ms = progress.clock.now_ms()
    while True:
        try:
            chunk = await log.read(progress.changelog, offset, min(RESTORE_RECORDS, progress.end - offset))
        except OffsetOutOfRange as error:
            if offset > error.end:
                raise
            topic, number = progress.changelog
            what = (
                f"the store is at offset {offset} of its changelog {topic}/{number}, whose records begin at "
                f"{error.start}: what is between was deleted (cleanup.policy of the topic must be compact alone), and "
                "the state would miss it"
            )
            raise StateLost(what) from error
        if chunk.next_offset > offset:
            return chunk
        progress.waits(offset, since_ms)
        await jobs.pause(PAUSE_MS)
