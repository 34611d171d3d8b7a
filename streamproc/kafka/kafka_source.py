"""A worker's membership of a group on Kafka, and what it reads under it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from streamproc.kafka.calls import Deadline
from streamproc.kafka.fetching import Fetcher
from streamproc.kafka.membership import Member
from streamproc.kafka.offsets import Offsets
from streamproc.kafka.requests import Code, Membership
from streamproc.log import Assigned, Chunk, Committed, Event, Fenced, OffsetOutOfRange, Partition, TaskInput

_NONE: Final = -1
"""No generation: the next is not the one behind it."""


class KafkaSource:
    """The Source protocol: the member says what may be read, the fetcher has read it already.

    returns   how often it was told its tasks when others may have taken what was its own meanwhile
    """

    def __init__(self, offsets: Offsets, member: Member, fetcher: Fetcher, tasks: Sequence[TaskInput]) -> None:
        self.offsets = offsets
        self.group = member.group
        self.returns = 0
        self._member = member
        self._fetcher = fetcher
        self._inputs = {(task.stage, task.number): task.partitions for task in tasks}
        self._generation = 0
        """The one it was told last, and is in for all that it knows."""
        self._placing: asyncio.Task[None] | None = None
        """Looks up where partitions begin that nobody has sought."""

    async def poll(self, partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
        """A membership event alone, or chunks. Never waits longer than `timeout_ms`, whatever the group does (D9)."""
        deadline = Deadline(timeout_ms / 1000)
        await asyncio.sleep(0)  # what has arrived is looked at, however busy the worker
        while True:
            self._check()
            event = self._member.event()
            if event is not None:
                if isinstance(event, Assigned):
                    self._assign(event)
                return [event]
            try:
                chunks: list[Event] = [*self._take(partitions)] if self._member.holds else []
            except OffsetOutOfRange:  # it may have stood still: whoever went on from here has purged what was read
                await self._confirm()
                raise
            if chunks or deadline.over:
                return chunks
            await self._something_new(deadline)

    def seek(self, partition: Partition, offset: int) -> None:
        """The next chunk of the partition begins at the offset."""
        self._fetcher.seek(partition, offset)

    def at_end(self, partitions: Collection[Partition]) -> Collection[Partition]:
        """Those that had nothing more to read when Kafka was last asked."""
        return self._fetcher.at_end(partitions)

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        """Stable committed positions (KIP-447)."""
        return await self.offsets.stable(self.group, partitions)

    async def note(self, offsets: Mapping[Partition, Committed | None]) -> None:
        """Offsets for whoever looks on (OffsetCommit, and KIP-496 for those that are to be gone)."""
        membership = self._member.told
        if membership is None:
            reason = f"{self._member.instance!r} has no tasks of group {self.group!r} now"
            raise Fenced(reason)
        kept = {partition: at for partition, at in offsets.items() if at is not None}
        await self.offsets.note(membership, kept, [partition for partition in offsets if partition not in kept])

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The first offsets kept."""
        return await self.offsets.bounds("first", partitions)

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The last stable offsets."""
        return await self.offsets.bounds("stable", partitions)

    async def release(self) -> None:
        """Answer a `Revoked`: join the next generation."""
        self._member.release()

    async def leave(self) -> None:
        """Leave the group (KIP-345: with the instance id, so that it is not waited for)."""
        self._forget()
        await self._fetcher.close()
        await self._member.leave()

    async def fail(self, reason: str) -> None:
        """Stop the group."""
        self._forget()
        await self._member.fail(reason)

    @property
    def unanswered_s(self) -> float:
        """For how long Kafka has not answered though it was asked for records."""
        return self._fetcher.unanswered_s

    @property
    def held_up(self) -> Mapping[Partition, int]:
        """The partitions that a transaction which is open holds up, and from which offset on."""
        return self._fetcher.held_up

    @property
    def outvoted(self) -> bool:
        """Whether it has no tasks because most workers of the group run another plan."""
        return self._member.outvoted

    # For the sink that commits under this membership.

    @property
    def membership(self) -> Membership:
        """As of the last `Assigned` that was told; raises Fenced when that is over."""
        try:
            return self._member.membership
        except Fenced:
            self._forget()
            raise

    def lost(self, reason: str, code: int = Code.NONE) -> Fenced:
        """A commit was refused, by the group's coordinator with this code: the membership is over. What to raise."""
        self._forget()
        return self._member.lost(reason, code)

    def begin_anew(self) -> None:
        """The worker drops what it has and is told its tasks once more."""
        self._forget()
        self._member.tell_again()

    # ------------------------------------------------------------------------------------ what is read

    def _check(self) -> None:
        try:
            self._member.check()
        except Fenced:
            self._forget()
            raise

    async def _confirm(self) -> None:
        try:
            await self._member.confirm()
        except Fenced:
            self._forget()
            raise

    def _assign(self, assigned: Assigned) -> None:
        """What stays is read on, unless others may have had it in a generation that this member was not told."""
        generation = self._member.membership.generation
        if generation != self._generation + 1:
            self._forget()
            self.returns += 1
        self._generation = generation
        self._keep({partition for task in assigned.tasks for partition in self._inputs[task]})

    def _forget(self) -> None:
        """Every partition begins at its committed position again, in whatever generation that will be."""
        self._generation = _NONE
        self._keep(())

    def _keep(self, partitions: Collection[Partition]) -> None:
        self._fetcher.keep(partitions)
        if self._placing is not None:  # what it has found out may be of partitions that are another's now
            self._placing.cancel()
            self._placing = None

    def _take(self, partitions: Sequence[Partition]) -> list[Chunk]:
        if self._placing is not None and self._placing.done():
            placed, self._placing = self._placing, None
            placed.result()
        new = [partition for partition in partitions if partition not in self._fetcher]
        if new and self._placing is None:
            self._placing = asyncio.create_task(self._place(new))
            self._placing.add_done_callback(self._placed)
        return self._fetcher.take(partitions)

    async def _place(self, partitions: Sequence[Partition]) -> None:
        committed = await self.committed(partitions)
        first = await self.first_offsets([partition for partition in partitions if partition not in committed])
        for partition in partitions:
            if partition not in self._fetcher:  # it was not sought meanwhile
                at = committed.get(partition)
                self._fetcher.seek(partition, first[partition] if at is None else at.offset)

    def _placed(self, placing: asyncio.Task[None]) -> None:
        """A poll that waits goes on: what it met is raised there, if it is still wanted."""
        if not placing.cancelled():
            placing.exception()
            self._fetcher.arrived.set()

    async def _something_new(self, deadline: Deadline) -> None:
        events = [self._member.changed, self._fetcher.arrived] if self._member.holds else [self._member.changed]
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=deadline.left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
