"""Restore lag: how far the stores that are being restored are, told to whoever looks on from outside of the group.

While a store is restored the group has an offset in its changelog: where the store is. What is left to restore is then
the group's lag there, which every tool for Kafka shows; beside the offset is who restores, from where and to where.

    begins     a second later, if it is not through by then: the offset is there
    goes on    it moves, once a second
    is through it is at the end; then it is deleted (KIP-496), or the lag would grow with each epoch

Nobody reads on from these offsets, and nobody waits for them: one that was refused or not answered is noted again, and
one that an earlier owner has left is deleted by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from streamproc.clock import Clock
from streamproc.jobs import Job, Jobs
from streamproc.log import Committed, LogError, Partition, Rejected, Source
from streamproc.restore import Restoring

logger = logging.getLogger("streamproc")

EACH_MS: Final = 1_000
"""Between two notes, and from the beginning of a restore to the first."""


class RestoreNote(msgspec.Struct, frozen=True):
    """What is beside an offset in a changelog: the member that restores, and the offsets where it began and ends."""

    restores: str
    begin: int
    end: int

    def restored(self, offset: int) -> int:
        """What of `to_restore` is restored, when the store is at the offset."""
        return min(max(0, offset - self.begin), self.to_restore)

    @property
    def to_restore(self) -> int:
        """The records to restore, as a lag is counted: by offsets."""
        return self.end - self.begin


def note_of(committed: Committed) -> RestoreNote | None:
    """What is said of a restore; None: it is a position that a group reads on from.

    >>> note_of(Committed(5, '{"restores":"host-0","begin":0,"end":20}'))
    RestoreNote(restores='host-0', begin=0, end=20)
    >>> note_of(Committed(5, '{"plan":"9a3b"}'))
    """
    try:
        return msgspec.json.decode(committed.metadata, type=RestoreNote)
    except msgspec.DecodeError:
        return None


def positions(committed: Mapping[Partition, Committed]) -> dict[Partition, Committed]:
    """What a group reads on from, of all that it has committed."""
    return {partition: at for partition, at in committed.items() if note_of(at) is None}


class RestoreLag:
    """Keeps the offsets of one member's restores; `go_on` is called in each turn and waits for nothing.

    reads   topics that the group reads: the offsets there are its positions
    """

    def __init__(self, source: Source, member: str, reads: Collection[str], *, clock: Clock, jobs: Jobs) -> None:
        self._source = source
        self._member = member
        self._reads = reads
        self._clock = clock
        self._jobs = jobs
        self._noted: set[Partition] = set()
        """Changelogs in which the group may have an offset, of stores that are restored."""
        self._through: dict[Partition, Restoring] = {}
        """The same, of stores that are there."""
        self._final: set[Partition] = set()
        """Those of them whose offset is known to be at the end."""
        self._job: Job[None] | None = None
        self._due_ms = 0

    def opened(self, restoring: Restoring) -> None:
        """A store is there; what the group, or an earlier owner, has noted of it is to go."""
        changelog = restoring.changelog
        if (restoring.noted_before or changelog in self._noted) and changelog.topic not in self._reads:
            self._through[changelog] = restoring
        self._noted.discard(changelog)

    async def go_on(self, restoring: Collection[Restoring]) -> None:
        """Note, if it is time to, how far these are."""
        if self._job is not None:
            await self._jobs.wait([self._job], 0)
            if not self._job.done():
                return
            job, self._job = self._job, None
            job.result()
        if not (restoring or self._through) or (now_ms := self._clock.now_ms()) < self._due_ms:
            return
        slow = {each.changelog: each for each in restoring if self._is_slow(each, now_ms)}
        for changelog in slow:
            self._noted.add(changelog)
            self._forget(changelog)
        if slow or self._through:
            self._due_ms = now_ms + EACH_MS
            notes = {changelog: self._noted_as(each) for changelog, each in (slow | self._through).items()}
            last = self._through.keys() - self._final
            self._job = self._jobs.start(self._note(notes | dict.fromkeys(sorted(self._final)), last))

    def keep(self, changelogs: Collection[Partition]) -> None:
        """The stores of all others are another's to tell of."""
        self._noted.intersection_update(changelogs)
        for changelog in [changelog for changelog in self._through if changelog not in changelogs]:
            self._forget(changelog)

    async def end(self) -> None:
        """Nothing is under way any more."""
        if self._job is not None:
            job, self._job = self._job, None
            await self._jobs.end([job])

    def _is_slow(self, restoring: Restoring, now_ms: int) -> bool:
        """Whether it is under way, and has been for long enough to be told of."""
        return (
            restoring.position < restoring.end
            and now_ms - restoring.began_ms >= EACH_MS
            and restoring.changelog.topic not in self._reads
        )

    def _noted_as(self, restoring: Restoring) -> Committed:
        note = RestoreNote(self._member, restoring.begin, restoring.end)
        return Committed(restoring.position, msgspec.json.encode(note).decode())

    async def _note(self, notes: Mapping[Partition, Committed | None], last: Collection[Partition]) -> None:
        """Note it; `last` are those of stores that are there, whose notes are to be deleted next."""
        gone = [changelog for changelog, at in notes.items() if at is None]
        try:
            await self._source.note(notes)
        except Rejected as error:
            logger.debug("how far restores are may not be noted: %s", error)
            for changelog in (*gone, *last):
                self._forget(changelog)
        except LogError as error:
            logger.debug("how far restores are is noted later: %s", error)
        else:
            for changelog in gone:
                self._forget(changelog)
            self._final.update(self._through.keys() & last)

    def _forget(self, changelog: Partition) -> None:
        self._through.pop(changelog, None)
        self._final.discard(changelog)
