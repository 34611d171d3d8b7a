"""The end of the input: where a run until the end stops, and whether it is over.

One snapshot is for the whole group: the first member's, told to all others (`Assigned.shared`). Were each to take its
own, a task that moves would find records behind the end that it had before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from streamproc.log import Chunk, Committed, Log, LogError, Partition
from streamproc.operators.batch import NEVER
from streamproc.plan import Plan
from streamproc.reader import InternalReader
from streamproc.task import Task

LOOK_MS: Final = 1_000
"""So often a worker whose tasks have ended looks whether those of others have."""


class EndOfInput(msgspec.Struct, frozen=True):
    """Where a run until the end stops: one snapshot of the sources' end offsets, for the whole group.

    run       tells this snapshot from others, so that an end of an earlier run is not taken for one of this
    until_ms  the sources' clocks go on to this instant before they end (timers of tests)
    """

    offsets: Mapping[Partition, int]
    run: int
    until_ms: int = NEVER

    def of(self, partition: Partition) -> int:
        """Where a source's partition ends; one that is not in the snapshot has nothing for this run."""
        return self.offsets.get(partition, 0)

    def cut(self, chunk: Chunk) -> Chunk:
        """The records of a source's chunk that are of this run."""
        end = self.of(chunk.partition)
        if chunk.next_offset <= end:
            return chunk
        cut = chunk.cut(0, sum(offset < end for offset in chunk.offsets))
        cut.next_offset = end
        return cut

    def reached_by(self, task: Task) -> bool:
        """Whether a task has read all that it is to read in this run."""
        return all(
            reader.ended(self.run) if isinstance(reader, InternalReader) else reader.position >= self.of(partition)
            for partition, reader in task.readers.items()
        )


class _Shared(msgspec.Struct, frozen=True):
    """An end as the members of a group tell it; None: the input has none, the run goes on until it is stopped."""

    end: tuple[list[tuple[str, int, int]], int, int] | None


def encode_end(end: EndOfInput | None) -> bytes:
    """What a worker would have its group agree on."""
    if end is None:
        return msgspec.json.encode(_Shared(None))
    offsets = [(*partition, offset) for partition, offset in sorted(end.offsets.items())]
    return msgspec.json.encode(_Shared((offsets, end.run, end.until_ms)))


def agreed_end(shared: bytes, own: EndOfInput | None, *, app: str) -> EndOfInput | None:
    """The end that the group has agreed on. Raises LogError for a worker that would have none where the group has one.

    >>> first = EndOfInput({Partition("tweets", 0): 7}, run=1)
    >>> agreed_end(encode_end(first), EndOfInput({Partition("tweets", 0): 9}, run=2), app="trending") == first
    True
    """
    agreed = msgspec.json.decode(shared, type=_Shared).end
    if (agreed is None) != (own is None):
        how = ("until the end of its input", "without") if own is None else ("without an end", "with")
        msg = (
            f"the workers of app {app!r} that are there run {how[0]}, and this one was started {how[1]} --until-end: "
            "start it like them, or when they have ended (one that was killed has when its session is over)"
        )
        raise LogError(msg)
    if agreed is None:
        return None
    offsets, run, until_ms = agreed
    return EndOfInput({Partition(topic, number): offset for topic, number, offset in offsets}, run, until_ms)


class EndWatch:
    """Whether a run to the end is `over`: all tasks of the plan have committed that they have ended, wherever they are.

    Nobody leaves before: tasks that have ended would move, and be opened elsewhere.
    """

    def __init__(self, log: Log, plan: Plan, partitions: Collection[Partition]) -> None:
        self.over = False
        self._log = log
        self._plan = plan
        self._partitions = partitions
        self._look_at_ms = 0

    async def look(self, end: EndOfInput) -> bool:
        """Whether it is over now."""
        if not self.over:
            committed = await self._log.committed(self._plan.app)
            self.over = all(self._has_ended(committed.get(partition), end) for partition in self._partitions)
        return self.over

    async def look_now_and_then(self, end: EndOfInput, *, now_ms: int) -> None:
        """The same, but not sooner than `LOOK_MS` behind the last time."""
        if now_ms >= self._look_at_ms:
            self._look_at_ms = now_ms + LOOK_MS
            await self.look(end)

    def _has_ended(self, committed: Committed | None, end: EndOfInput) -> bool:
        if committed is None:
            return False
        stored = msgspec.json.decode(committed.metadata)
        return bool(stored.get("ended") == end.run and stored["plan"] == self._plan.fingerprint)
