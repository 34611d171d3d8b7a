"""Bugs to plant in what stands above the door to Kafka, by name: each is one rule of exactly-once, forgotten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from streamproc import launch as launch_module
from streamproc import restore as restore_module
from streamproc.epoch_writer import EpochWriter
from streamproc.kafka import fetching, leadership, transaction
from streamproc.kafka.assignment import Decision, decide
from streamproc.kafka.calls import Deadline
from streamproc.kafka.fetching import Fetcher
from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.kafka_sink import KafkaSink
from streamproc.kafka.kafka_source import KafkaSource
from streamproc.kafka.membership import Member
from streamproc.kafka.offsets import Offsets
from streamproc.kafka.producing import Outbox
from streamproc.kafka.requests import (
    Code,
    Fetch,
    Heartbeat,
    JoinGroup,
    Membership,
    NoAnswer,
    OffsetFetch,
    Produced,
    Producer,
    Refused,
    TxnOffsetCommit,
)
from streamproc.kafka.session import Session
from streamproc.kafka.transaction import Transactions
from streamproc.log import Committed, Fenced, Partition, Replaced
from streamproc.opening import Opener
from streamproc.plan import TaskId
from streamproc.reader import InternalReader
from streamproc.state.store import Store
from streamproc.state.table import Table
from streamproc.task import Sealed
from streamproc.worker import Worker
from tests.bugs import Bugs
from tests.law.planted import BUGS as BUGS_OF_THE_LAW

BUGS = Bugs(
    (name, BUGS_OF_THE_LAW[name])
    for name in (
        "a task is kept though another worker had it",
        "a transaction without offsets",
        "an Unknown is taken for aborted",
        "an Unknown is taken for committed",
        "disk before log",
        "no replay of the changelog",
    )
)
"""Those of the law that do not depend on its own doors are planted here, too."""
bug = BUGS.bug


# ------------------------------------------------------------------------------------ memberships


@bug("offsets are committed without a membership")
def _(patch: pytest.MonkeyPatch) -> None:
    """D1: generation -1 and no member are accepted always: nobody is fenced."""
    real = KafkaSink._admit

    def admit(self: KafkaSink, offsets: Mapping[Partition, Committed]) -> Membership | None:
        membership = real(self, offsets)
        return None if membership is None else Membership(membership.group, -1, "", "")

    patch.setattr(KafkaSink, "_admit", admit)


@bug("the membership is read at commit time")
def _(patch: pytest.MonkeyPatch) -> None:
    """Who was expelled joins again by itself, as stock clients do, and commits what it has under the new generation."""
    real_live, real_admit = Member._live, KafkaSink._admit
    members: dict[str, Member] = {}

    async def live(self: Member) -> None:
        while True:
            await real_live(self)
            if not isinstance(self._ended, Fenced) or isinstance(self._ended, Replaced):
                return
            self._ended = None
            self.changed.clear()

    def admit(self: KafkaSink, offsets: Mapping[Partition, Committed]) -> Membership | None:
        if self._source is not None:
            members[self._member] = self._source._member
        return real_admit(self, offsets)

    def commit(transactional_id: str, producer: Producer, membership: Membership, offsets: Any) -> TxnOffsetCommit:
        return TxnOffsetCommit(transactional_id, producer, members[membership.instance]._joined, offsets)

    patch.setattr(Member, "_live", live)
    patch.setattr(KafkaSink, "_admit", admit)
    patch.setattr(transaction, "TxnOffsetCommit", commit)


@bug("heartbeats without the instance id")
def _(patch: pytest.MonkeyPatch) -> None:
    """D8: who was replaced takes itself for expelled, and takes its place back."""
    real = Session.beat

    async def beat(self: Session, membership: Membership) -> bool:
        sends = self._cluster.send

        class WithoutInstance:
            async def send(self, request: Heartbeat, timeout_s: float) -> None:
                stripped = Heartbeat(request.group, request.generation, request.member, "")
                return await sends(stripped, timeout_s)

        cluster, self._cluster = self._cluster, WithoutInstance()  # type: ignore[assignment]
        try:
            return await real(self, membership)
        finally:
            self._cluster = cluster

    patch.setattr(Session, "beat", beat)


@bug("the leader fences a live member")
def _(patch: pytest.MonkeyPatch) -> None:
    def decided(members: Mapping[str, Any]) -> Decision:
        found = decide(members)
        return found._replace(gone=sorted({member.instance for member in members.values()}.union(found.gone)))

    patch.setattr(leadership, "decide", decided)


@bug("a first join that takes long is given up")
def _(patch: pytest.MonkeyPatch) -> None:
    """Sent again it takes the place of the first; if the others have a generation by then, another one begins."""
    real = Session._patience_s

    def patience_s(self: Session, message: Any) -> float:
        return self._session_s / 3 if isinstance(message, JoinGroup) else real(self, message)

    patch.setattr(Session, "_patience_s", patience_s)


@bug("who comes back does not take back its id")
def _(patch: pytest.MonkeyPatch) -> None:
    """It finds out by its first commit that it was fenced, and joins once more: all others have to do that, too."""
    real = Transactions.take_back

    def take_back(self: Transactions) -> None:
        if self._taken_over:
            real(self)

    patch.setattr(Transactions, "take_back", take_back)


@bug("the gone are not fenced")
def _(patch: pytest.MonkeyPatch) -> None:
    """C1: what they have open holds up everyone until its time-out."""
    patch.setattr(leadership, "decide", lambda members: decide(members)._replace(gone=[]))


# ------------------------------------------------------------------------------------ transactions


@bug("a failed epoch is not aborted")
def _(patch: pytest.MonkeyPatch) -> None:
    """D2: what it has written becomes visible with the next one."""
    real_end, real_settle = Transactions._end, Transactions.settle

    async def end(self: Transactions, deadline: Deadline) -> None:
        self.__dict__["tried"] = True
        await real_end(self, deadline)
        self.__dict__["tried"] = False

    async def settle(self: Transactions) -> None:
        if self.__dict__.get("tried"):
            await real_settle(self)
            self.__dict__["tried"] = False
        self._settled = True

    patch.setattr(Transactions, "_end", end)
    patch.setattr(Transactions, "settle", settle)


@bug("a refused batch is ignored")
def _(patch: pytest.MonkeyPatch) -> None:
    """D3: the commit goes on without it."""

    def refused(self: Outbox, partition: Partition, answer: Produced, deadline: Deadline) -> float:
        self._acknowledged(partition, answer)
        return 0.0

    patch.setattr(Outbox, "_refused", refused)


@bug("a batch without an answer is sent under another number")
def _(patch: pytest.MonkeyPatch) -> None:
    """What had arrived, though its answer was lost, is there twice."""
    real = Outbox._send

    async def send(self: Outbox, partitions: Sequence[Partition], *args: Any) -> Mapping[Partition, int]:
        ends = await real(self, partitions, *args)
        if not ends:
            for partition in partitions:
                self._sequences[partition] = (
                    self._sequences.get(partition, 0) + self._queues[partition].batches[0].count
                )
        return ends

    patch.setattr(Outbox, "_send", send)


@bug("numbers go on behind an epoch")
def _(patch: pytest.MonkeyPatch) -> None:
    """Each epoch has another producer epoch, whose sequences begin at 0."""
    patch.setattr(Outbox, "number_anew", lambda self: None)


@bug("outputs in a transaction of their own")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Transactions.commit

    async def commit(
        self: Transactions, membership: Membership | None, offsets: Mapping[Partition, Committed]
    ) -> Mapping[Partition, int]:
        ends = await real(self, None, {})
        await real(self, membership, offsets)
        return ends

    patch.setattr(Transactions, "commit", commit)


@bug("after an abort the tables are not rolled back")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "abort", Table.savepoint)


# ------------------------------------------------------------------------------------ reading


@bug("offsets are read unstable")
def _(patch: pytest.MonkeyPatch) -> None:
    """D4: those before a transaction that is decided and not told yet."""

    async def stable(self: Offsets, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        return await self.ask(OffsetFetch(group, partitions, stable=False)) if partitions else {}

    patch.setattr(Offsets, "stable", stable)


@bug("a coordinator that moved has no offsets")
def _(patch: pytest.MonkeyPatch) -> None:
    """D5: an error of the whole answer is taken for an empty one."""
    real = Offsets.stable

    async def stable(self: Offsets, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        try:
            return (
                await self._cluster.send(OffsetFetch(group, partitions), self._timing.request_s) if partitions else {}
            )
        except Refused as error:
            if error.code in (Code.NOT_COORDINATOR, Code.COORDINATOR_LOAD_IN_PROGRESS, Code.COORDINATOR_NOT_AVAILABLE):
                return {}
        except NoAnswer:
            pass
        return await real(self, group, partitions)

    patch.setattr(Offsets, "stable", stable)


@bug("what is out of range is read from the beginning")
def _(patch: pytest.MonkeyPatch) -> None:
    """D10: without a word."""

    async def look_into(self: Fetcher, partition: Partition, offset: int, code: int, looking: Any) -> None:
        if code == Code.OFFSET_OUT_OF_RANGE and self._release(partition, looking):
            pieces = await self._cluster.send(Fetch({partition: 0}, 0, 1), 1)
            self.seek(partition, pieces[partition].start)

    patch.setattr(Fetcher, "_look_into", look_into)


@bug("what is out of range is believed at once")
def _(patch: pytest.MonkeyPatch) -> None:
    """Who stands still for long finds that others have purged what it was to read: that is no reason to stop them."""

    async def confirm(self: KafkaSource) -> None:
        """It is said."""

    patch.setattr(KafkaSource, "_confirm", confirm)


@bug("aborted records are read")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fetching, "Fetch", partial(Fetch, committed=False))


# ------------------------------------------------------------------------------------ silence


@bug("a partition is idle though a transaction is open at its end")
def _(patch: pytest.MonkeyPatch) -> None:
    """A9: what is in it may yet be committed."""
    _patch_ends(patch, lambda self, partitions: self.bounds("stable", partitions))


@bug("a partition is idle as it was at its end before")
def _(patch: pytest.MonkeyPatch) -> None:
    """A9: the wall clock goes on while a worker stands still, and so do the partitions."""

    async def reached(_: KafkaLog, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    _patch_ends(patch, reached)


def _patch_ends(
    patch: pytest.MonkeyPatch,
    ends_of_sources: Callable[[KafkaLog, Sequence[Partition]], Awaitable[Mapping[Partition, int]]],
) -> None:
    real = KafkaLog.ends

    async def ends(self: KafkaLog, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        of_changelogs = all(partition.topic.endswith("-changelog") for partition in partitions)
        return await (real if of_changelogs else ends_of_sources)(self, partitions)

    patch.setattr(KafkaLog, "ends", ends)


# ------------------------------------------------------------------------------------ state


@bug("restore to the last stable offset")
def _(patch: pytest.MonkeyPatch) -> None:
    """B1: a transaction's markers reach the offsets before the changelog."""

    async def ends(self: KafkaLog, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        of_changelogs = all(partition.topic.endswith("-changelog") for partition in partitions)
        return await self.bounds("stable" if of_changelogs else "high", partitions)

    patch.setattr(KafkaLog, "ends", ends)


@bug("a store older than the tombstones is caught up")
def _(patch: pytest.MonkeyPatch) -> None:
    """B2: keys that were deleted meanwhile are there again."""
    patch.setattr(restore_module, "TOMBSTONES_MS", 1 << 60)


@bug("changelogs keep event time, and no longer than outputs")
def _(patch: pytest.MonkeyPatch) -> None:
    """B3: of old data they forget windows that are open."""
    real = EpochWriter.send
    patch.setattr(launch_module, "CHANGELOG", {"cleanup.policy": "compact,delete", "retention.ms": "604800000"})
    patch.setattr(EpochWriter, "send", lambda self, sink, sealed, *, now_ms: real(self, sink, sealed, now_ms=0))


@bug("a locked store ends the worker")
def _(patch: pytest.MonkeyPatch) -> None:
    """B12: its last owner may only have been slow to give it back, or stand still for ever."""

    async def unlocked(self: Opener, name: str) -> Store:
        return self._disk.open(name)

    patch.setattr(Opener, "_unlocked", unlocked)


@bug("purged before the outcome is known")
def _(patch: pytest.MonkeyPatch) -> None:
    """B8: what was not committed is to be read again, and is gone."""
    real = Worker._write

    async def write(self: Worker, sealed: Mapping[TaskId, Sealed]) -> Mapping[Partition, int] | None:
        await self._purge(sealed)
        return await real(self, sealed)

    patch.setattr(Worker, "_write", write)


@bug("a new source partition is read at once")
def _(patch: pytest.MonkeyPatch) -> None:
    """B10: its old records meet windows that have closed."""
    real = InternalReader.set_vector

    def set_vector(self: InternalReader, vector: Sequence[Sequence[Any]], *, closed_to: int) -> None:
        real(self, vector, closed_to=closed_to)
        self.closed_to = closed_to

    patch.setattr(InternalReader, "set_vector", set_vector)
