"""The members of a group: what each said of itself, whether it waits, and until when it counts as alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

from streamproc.kafka.requests import Code, Joined, JoinGroup, Refused


class Member:
    """A member. `joining` and `syncing` wait for the answers to its requests; `new`: no generation had it yet."""

    __slots__ = (
        "assignment",
        "client",
        "id",
        "instance",
        "joining",
        "metadata",
        "new",
        "rebalance_ms",
        "session",
        "session_ms",
        "syncing",
    )

    def __init__(self, member: str, client: str, request: JoinGroup) -> None:
        self.id = member
        self.instance = request.instance
        self.client = client
        self.assignment = b""
        self.joining: asyncio.Future[Joined] | None = None
        self.syncing: asyncio.Future[bytes] | None = None
        self.session: asyncio.TimerHandle | None = None
        self.new = True
        self.says(request)

    def says(self, request: JoinGroup) -> None:
        """What it joins with, this time."""
        self.metadata = request.metadata
        self.session_ms = request.session_ms
        self.rebalance_ms = request.rebalance_ms

    @property
    def waits(self) -> bool:
        """For the others."""
        return self.joining is not None or self.syncing is not None

    def joined(self, answer: Joined | Refused) -> None:
        """Answer its join, if it waits for one."""
        future, self.joining = self.joining, None
        if future is not None and not future.done():
            if isinstance(answer, Refused):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def synced(self, answer: bytes | Refused) -> bool:
        """Answer its sync, if it waits for one; whether it did."""
        future, self.syncing = self.syncing, None
        if future is None or future.done():
            return False
        if isinstance(answer, Refused):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return True


class Written(NamedTuple):
    """What the coordinator has written down of a member."""

    client: str
    request: JoinGroup
    assignment: bytes


class Members:
    """The members of one group by id, in the order in which they came, and who holds which instance id.

    expired   told of a member that was not heard of for its session
    """

    def __init__(self, group: str, expired: Callable[[Member], None]) -> None:
        self._group = group
        self._expired = expired
        self._by_id: dict[str, Member] = {}
        self._holders: dict[str, str] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __getitem__(self, member: str) -> Member:
        return self._by_id[member]

    def holder(self, instance: str) -> str:
        """The member that has an instance id; '' if none has."""
        return self._holders.get(instance, "")

    def code(self, member: str, instance: str) -> Code:
        """Whether this is a member, and the one that has the instance id, if it says that it has one."""
        if instance:
            holder = self.holder(instance)
            if holder != member:
                return Code.FENCED_INSTANCE_ID if holder else Code.UNKNOWN_MEMBER_ID
        return Code.NONE if member in self._by_id else Code.UNKNOWN_MEMBER_ID

    def add(self, member: Member) -> None:
        """Another one; it has its instance id from now on."""
        self._by_id[member.id] = member
        if member.instance:
            self._holders[member.instance] = member.id

    def remove(self, member: Member) -> None:
        """It is out of the group."""
        if member.session is not None:
            member.session.cancel()
        del self._by_id[member.id]
        if self._holders.get(member.instance) == member.id:
            del self._holders[member.instance]

    def heard(self, member: Member, session_s: float | None = None) -> None:
        """Its session begins anew; `session_s` where it is another one than it asked for."""
        if member.session is not None:
            member.session.cancel()
        loop = asyncio.get_running_loop()
        member.session = loop.call_later(session_s or member.session_ms / 1000, self._expired, member)

    def rebalance_s(self) -> float:
        """The longest that one of them has for joining again."""
        return max((member.rebalance_ms for member in self), default=0) / 1000

    def written(self) -> list[Written]:
        """What is to be written down of them."""
        return [
            Written(
                m.client,
                JoinGroup(self._group, m.id, m.instance, m.session_ms, m.rebalance_ms, m.metadata),
                m.assignment,
            )
            for m in self
        ]

    def load(self, written: list[Written], until: float) -> None:
        """These are the members, whose sessions begin at this time of the loop; nobody waits any more."""
        for member in list(self):
            self.remove(member)
        for client, request, assignment in written:
            member = Member(request.member, client, request)
            member.new = False
            member.assignment = assignment
            self.add(member)
            self.heard(member, until - asyncio.get_running_loop().time() + request.session_ms / 1000)
