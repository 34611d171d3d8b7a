"""The group coordinator: memberships and committed offsets of all groups."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from streamproc.kafka.requests import (
    Code,
    GroupState,
    Heartbeat,
    Joined,
    JoinGroup,
    LeaveGroup,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Producer,
    Refused,
    SyncGroup,
    TxnOffsetCommit,
)
from streamproc.log import Committed, Partition
from streamproc.testing.simulation.classic_group import EMPTY, ClassicGroup
from streamproc.testing.simulation.group_offsets import GroupOffsets
from streamproc.testing.simulation.topics import Topics
from streamproc.testing.simulation.transactions import TransactionCoordinator

SESSION_MAX_MS: Final = 1_800_000
"""group.max.session.timeout.ms"""


class _Group:
    """A group: who is in it, and what it has committed."""

    __slots__ = ("members", "offsets")

    def __init__(self, members: ClassicGroup) -> None:
        self.members = members
        self.offsets = GroupOffsets()


class GroupCoordinator:
    """The coordinator of all groups.

    session_min_ms   group.min.session.timeout.ms
    """

    def __init__(
        self, topics: Topics, transactions: TransactionCoordinator, *, first_delay_ms: int, session_min_ms: int
    ) -> None:
        self._topics = topics
        self._transactions = transactions
        self._first_delay_s = first_delay_ms / 1000
        self._session_min_ms = session_min_ms
        self._groups: dict[str, _Group] = {}

    def restart(self, until: float) -> None:
        """What was written down is left."""
        for group in self._groups.values():
            group.members.restart(until)

    # ------------------------------------------------------------------------------------ memberships

    def join(self, client: str, request: JoinGroup) -> Joined | asyncio.Future[Joined]:
        """See `ClassicGroup.join`."""
        what = f"JoinGroup of group {request.group!r}"
        if not request.group:
            raise Refused(Code.INVALID_GROUP_ID, what)
        if not self._session_min_ms <= request.session_ms <= SESSION_MAX_MS:
            raise Refused(Code.INVALID_SESSION_TIMEOUT, what, f"{request.session_ms} ms")
        if request.member and request.group not in self._groups:
            raise Refused(Code.UNKNOWN_MEMBER_ID, what)
        return self._group(request.group).members.join(client, request)

    def sync(self, request: SyncGroup) -> bytes | asyncio.Future[bytes]:
        """See `ClassicGroup.sync`."""
        return self._members(request).sync(request)

    def heartbeat(self, request: Heartbeat) -> None:
        """See `ClassicGroup.heartbeat`."""
        self._members(request).heartbeat(request)

    def leave(self, request: LeaveGroup) -> None:
        """See `ClassicGroup.leave`."""
        self._members(request).leave(request)

    def describe(self, name: str) -> GroupState:
        """From outside; Dead where there is no such group."""
        group = self._groups.get(name)
        return group.members.described() if group is not None else GroupState("Dead", [])

    def delete(self, name: str) -> None:
        """The group is gone, if nobody is in it."""
        group = self._groups.get(name)
        if group is None:
            raise Refused(Code.GROUP_ID_NOT_FOUND, f"deleting group {name!r}")
        if group.members.state != EMPTY:
            raise Refused(Code.NON_EMPTY_GROUP, f"deleting group {name!r}")
        del self._groups[name]

    # ------------------------------------------------------------------------------------ offsets

    def fetch(self, request: OffsetFetch) -> Mapping[Partition, Committed]:
        """What a group has committed; nothing, where there is no such group."""
        group = self._groups.get(request.group)
        return group.offsets.fetch(request.partitions, stable=request.stable) if group is not None else {}

    def commit(self, request: OffsetCommit) -> Mapping[Partition, int]:
        """What was refused of offsets outside of a transaction."""
        refused, known = self._known(request.offsets)
        group = self._committing(request.membership.group, request.membership.generation)
        code = (
            group.members.commit_code(request.membership, transactional=False)
            if group is not None
            else Code.ILLEGAL_GENERATION
        )
        if group is None or code != Code.NONE:
            return {**refused, **dict.fromkeys(known, code)}
        return {**refused, **group.offsets.commit(known)}

    def delete_offsets(self, request: OffsetDelete) -> Mapping[Partition, int]:
        """What was not forgotten: offsets of topics that do not exist, or that a member reads."""
        group = self._groups.get(request.group)
        if group is None:
            raise Refused(Code.GROUP_ID_NOT_FOUND, f"the deletion of offsets of group {request.group!r}")
        refused: dict[Partition, int] = {}
        for partition in request.partitions:
            if partition not in self._topics:
                refused[partition] = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif group.members.reads(partition.topic):
                refused[partition] = Code.GROUP_SUBSCRIBED_TO_TOPIC
        group.offsets.delete([partition for partition in request.partitions if partition not in refused])
        return refused

    def commit_in_transaction(self, request: TxnOffsetCommit) -> Mapping[Partition, int]:
        """What was refused of offsets of a transaction: first the producer is looked at, then the membership."""
        refused, known = self._known(request.offsets)
        if not known:
            return refused
        producer, membership = request.producer, request.membership
        group = self._committing(membership.group, membership.generation)
        code = self._admit(group, request)
        if code == Code.NONE:
            code = (
                group.members.commit_code(membership, transactional=True)
                if group is not None
                else Code.ILLEGAL_GENERATION
            )
        if group is None or code != Code.NONE:
            return {**refused, **dict.fromkeys(known, code)}
        return {**refused, **group.offsets.commit_in(producer, known)}

    def mark(self, name: str, producer: Producer, *, commit: bool) -> None:
        """The transaction of a producer id, which may hold offsets of the group, is over."""
        group = self._groups.get(name)
        if group is not None:
            group.offsets.mark(producer, commit=commit)

    def forget(self, partitions: Collection[Partition]) -> None:
        """These partitions are gone."""
        for group in self._groups.values():
            group.offsets.forget(partitions)

    def _admit(self, group: _Group | None, request: TxnOffsetCommit) -> Code:
        """The offsets of the group are part of the producer's transaction; else why not."""
        producer = request.producer
        if group is not None:
            if group.offsets.producers.is_old(producer):
                return Code.INVALID_PRODUCER_EPOCH
            if group.offsets.producers.is_open(producer):
                return Code.NONE
        return self._transactions.add(request.transactional_id, producer, [request.membership.group])

    def _known(self, offsets: Mapping[Partition, Committed]) -> tuple[dict[Partition, int], dict[Partition, Committed]]:
        """Refused partitions, which do not exist, and the others."""
        refused: dict[Partition, int] = {p: Code.UNKNOWN_TOPIC_OR_PARTITION for p in offsets if p not in self._topics}
        return refused, {p: committed for p, committed in offsets.items() if p not in refused}

    def _committing(self, name: str, generation: int) -> _Group | None:
        """The group; it comes into being by a commit of somebody who is no member."""
        return self._group(name) if generation < 0 else self._groups.get(name)

    def _members(self, request: SyncGroup | Heartbeat | LeaveGroup) -> ClassicGroup:
        group = self._groups.get(request.group)
        if group is None:
            raise Refused(Code.UNKNOWN_MEMBER_ID, f"{type(request).__name__} of group {request.group!r}")
        return group.members

    def _group(self, name: str) -> _Group:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(ClassicGroup(name, self._first_delay_s))
        return group
