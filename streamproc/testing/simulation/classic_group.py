"""A consumer group of the classic protocol, with static members (KIP-62, KIP-345).

Empty --join--> PreparingRebalance --all joined, or out of time--> CompletingRebalance --leader's sync--> Stable
                        ^------------- a join, a leave, a session that ends ----------------------------------'
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from streamproc.kafka.consumer_protocol import subscribed_topics
from streamproc.kafka.requests import (
    Code,
    DescribedMember,
    GroupMember,
    GroupState,
    Heartbeat,
    Joined,
    JoinGroup,
    LeaveGroup,
    Membership,
    Refused,
    SyncGroup,
)
from streamproc.testing.simulation.group_members import Member, Members, Written

EMPTY: Final = "Empty"
PREPARING: Final = "PreparingRebalance"
COMPLETING: Final = "CompletingRebalance"
STABLE: Final = "Stable"

NEW_MEMBER_JOIN_S: Final = 300.0
"""group.classic.new.member.join.timeout.ms: a first join is waited for so long, whatever its session."""


class ClassicGroup:
    """The members of a group and their generation. Requests that must wait are answered by futures.

    first_delay_s   how long the first members of an empty group wait for more (group.initial.rebalance.delay.ms)
    """

    def __init__(self, name: str, first_delay_s: float) -> None:
        self.name = name
        self.state = EMPTY
        self.generation = 0
        self._first_delay_s = first_delay_s
        self._leader = ""
        self._members = Members(name, self._session_over)
        self._pending: dict[str, asyncio.TimerHandle] = {}
        """Ids given to members without an instance, which are to come back with them (KIP-394)."""
        self._unsynced: set[str] = set()
        self._first = False
        """Whether the rebalance that goes on is the first of an empty group."""
        self._more_came = False
        self._join_timer: asyncio.TimerHandle | None = None
        self._sync_timer: asyncio.TimerHandle | None = None
        self._ids = 0
        self._written: tuple[int, str, list[Written]] = (0, "", [])

    # ------------------------------------------------------------------------------------ requests

    def join(self, client: str, request: JoinGroup) -> Joined | asyncio.Future[Joined]:
        """The next generation; the one that is, where nothing changes by it."""
        if request.member:
            return self._join_again(client, request)
        self._ids += 1
        member = f"{request.instance or client}-{self._ids}"
        if not request.instance:
            self._pending[member] = _later(request.session_ms / 1000, self._drop_pending, member)
            raise _refused(Code.MEMBER_ID_REQUIRED, request, member)
        before = self._members.holder(request.instance)
        if before:
            return self._replace(self._members[before], member, client, request)
        return self._add(member, client, request)

    def sync(self, request: SyncGroup) -> bytes | asyncio.Future[bytes]:
        """The member's assignment, as soon as the leader has said it."""
        member = self._check(request)
        if self.state == PREPARING:
            raise _refused(Code.REBALANCE_IN_PROGRESS, request)
        self._unsynced.discard(member.id)
        if not self._unsynced:
            _cancel(self._sync_timer)
        if self.state == STABLE:
            return member.assignment
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        member.syncing = answer
        if member.id == self._leader:
            self.state = STABLE
            for other in self._members:
                other.assignment = request.assignments.get(other.id, b"")
                if other.synced(other.assignment):
                    self._members.heard(other)
            self._write_down()
        return answer

    def heartbeat(self, request: Heartbeat) -> None:
        """The member lives; REBALANCE_IN_PROGRESS: it is to join again."""
        self._members.heard(self._check(request))
        if self.state == PREPARING:
            raise _refused(Code.REBALANCE_IN_PROGRESS, request)

    def leave(self, request: LeaveGroup) -> None:
        """The member is gone at once; without its member id, whoever has the instance id."""
        if request.member in self._pending:
            self._drop_pending(request.member)
            return
        member = request.member or self._members.holder(request.instance)
        code = self._members.code(member, request.instance)
        if code != Code.NONE:
            raise _refused(code, request)
        self._expel(self._members[member])

    def commit_code(self, membership: Membership, *, transactional: bool) -> Code:
        """Whether offsets may be committed under this membership; a commit outside of a transaction is a heartbeat."""
        _, generation, member, instance = membership
        if generation < 0 and self.state == EMPTY:
            return Code.NONE
        if generation >= 0 or member or instance:
            code = self._members.code(member, instance)
            if code == Code.NONE and generation != self.generation:
                code = Code.ILLEGAL_GENERATION
            if code != Code.NONE:
                return code
        elif not transactional:
            return Code.UNKNOWN_MEMBER_ID
        if not transactional and self.state == COMPLETING:
            return Code.REBALANCE_IN_PROGRESS
        if not transactional:
            self._members.heard(self._members[member])
        return Code.NONE

    def reads(self, topic: str) -> bool:
        """Whether a member has subscribed to the topic, or has said what the broker does not understand."""
        try:
            return any(topic in subscribed_topics(member.metadata) for member in self._members)
        except ValueError:
            return True

    def described(self) -> GroupState:
        """From outside."""
        members = [
            DescribedMember(m.id, m.instance, m.client, "/simulated", m.metadata, m.assignment) for m in self._members
        ]
        return GroupState(self.state, members)

    def restart(self, until: float) -> None:
        """Only what was written down is left; nobody waits any more, and each session begins anew."""
        for handle in (self._join_timer, self._sync_timer, *self._pending.values()):
            _cancel(handle)
        self._pending.clear()
        self._unsynced.clear()
        self.generation, self._leader, members = self._written
        self._members.load(members, until)
        self.state = STABLE if members else EMPTY

    # ------------------------------------------------------------------------------------ joining

    def _join_again(self, client: str, request: JoinGroup) -> Joined | asyncio.Future[Joined]:
        if request.member in self._pending:
            self._pending.pop(request.member).cancel()
            return self._add(request.member, client, request)
        code = self._members.code(request.member, request.instance)
        if code != Code.NONE:
            raise _refused(code, request)
        member = self._members[request.member]
        same = member.metadata == request.metadata
        if same and (self.state == COMPLETING or (self.state == STABLE and member.id != self._leader)):
            return self._generation(member)
        return self._wait_for_join(member, request)

    def _add(self, name: str, client: str, request: JoinGroup) -> asyncio.Future[Joined]:
        member = Member(name, client, request)
        self._members.add(member)
        self._leader = self._leader or name
        self._more_came = True
        self._members.heard(member, NEW_MEMBER_JOIN_S)
        return self._wait_for_join(member, request)

    def _replace(self, old: Member, name: str, client: str, request: JoinGroup) -> Joined | asyncio.Future[Joined]:
        """Another one holds the instance id from here on; in a stable group nobody else notices (KIP-345)."""
        old.joined(_refused(Code.FENCED_INSTANCE_ID, request))
        old.synced(_refused(Code.FENCED_INSTANCE_ID, request))
        member = Member(name, client, request)
        member.new = False
        member.assignment = old.assignment
        self._members.remove(old)
        self._members.add(member)
        self._members.heard(member)
        leader = self._leader
        if leader == old.id:
            self._leader = name
        if self.state == STABLE:
            self._write_down()
            # Told the leader's old name, it asks for its assignment as the others do.
            return Joined(self.generation, leader, name, [])
        return self._wait_for_join(member, request)

    def _wait_for_join(self, member: Member, request: JoinGroup) -> asyncio.Future[Joined]:
        answer: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        member.says(request)
        member.joining = answer
        if self.state == PREPARING:
            self._complete_if_all_joined()
        else:
            self._prepare()
        return answer

    def _generation(self, member: Member) -> Joined:
        leads = member.id == self._leader
        members = [GroupMember(m.id, m.instance, m.metadata) for m in self._members] if leads else []
        return Joined(self.generation, self._leader, member.id, members)

    # ------------------------------------------------------------------------------------ rebalances

    def _prepare(self) -> None:
        """All are to join again."""
        for member in self._members:
            if self.state == COMPLETING:
                member.assignment = b""
            if member.synced(Refused(Code.REBALANCE_IN_PROGRESS, f"SyncGroup of group {self.name!r}")):
                self._members.heard(member)
        _cancel(self._sync_timer)
        self._unsynced.clear()
        self._first = self.state == EMPTY
        self.state = PREPARING
        if self._first:
            self._more_came = False
            left = max(0.0, self._members.rebalance_s() - self._first_delay_s)
            self._join_timer = _later(self._first_delay_s, self._complete_first, self._first_delay_s, left)
        else:
            self._join_timer = _later(self._members.rebalance_s(), self._complete)
            self._complete_if_all_joined()

    def _complete_first(self, waited: float, left: float) -> None:
        """Members that come meanwhile extend the wait, up to the rebalance time-out."""
        if self._more_came and left > 0:
            self._more_came = False
            delay = min(self._first_delay_s, left)
            self._join_timer = _later(delay, self._complete_first, delay, max(0.0, left - waited))
        else:
            self._complete()

    def _complete_if_all_joined(self) -> None:
        all_joined = not self._pending and all(member.joining is not None for member in self._members)
        if self.state == PREPARING and not self._first and all_joined:
            self._complete()

    def _complete(self) -> None:
        """The next generation, without members that have not joined; static ones have until their session ends."""
        _cancel(self._join_timer)
        for member in [m for m in self._members if m.joining is None and not m.instance]:
            self._forget(member)
        if self._members and not self._elect():
            self._join_timer = _later(self._members.rebalance_s(), self._complete)
            return
        self.generation += 1
        self._first = False
        if not self._members:
            self.state = EMPTY
            self._write_down()
            return
        self.state = COMPLETING
        self._unsynced = {member.id for member in self._members}
        self._sync_timer = _later(self._members.rebalance_s(), self._expel_unsynced, self.generation)
        for member in self._members:
            self._members.heard(member)
            member.new = False
            member.joined(self._generation(member))

    def _elect(self) -> bool:
        """Whether somebody who has joined is the leader."""
        joined = [member.id for member in self._members if member.joining is not None]
        if joined and self._leader not in joined:
            self._leader = joined[0]
        return bool(joined)

    def _expel_unsynced(self, generation: int) -> None:
        if generation == self.generation and self._unsynced and self.state in (COMPLETING, STABLE):
            for member in [member for member in self._members if member.id in self._unsynced]:  # some were replaced
                self._forget(member)
            self._prepare()

    # ------------------------------------------------------------------------------------ members

    def _check(self, request: Heartbeat | SyncGroup) -> Member:
        code = self._members.code(request.member, request.instance)
        if code == Code.NONE and request.generation != self.generation:
            code = Code.ILLEGAL_GENERATION
        if code != Code.NONE:
            raise _refused(code, request)
        return self._members[request.member]

    def _session_over(self, member: Member) -> None:
        """Who waits for the others is not dead, unless it is new and was not heard of for very long."""
        if member.new or not member.waits:
            self._expel(member)

    def _expel(self, member: Member) -> None:
        member.joined(Refused(Code.UNKNOWN_MEMBER_ID, f"JoinGroup of group {self.name!r}"))
        self._forget(member)
        if self.state == PREPARING:
            self._complete_if_all_joined()
        else:
            self._prepare()

    def _forget(self, member: Member) -> None:
        self._members.remove(member)
        self._unsynced.discard(member.id)
        if self._leader == member.id:
            self._leader = next((other.id for other in self._members), "")

    def _drop_pending(self, name: str) -> None:
        self._pending.pop(name).cancel()
        self._complete_if_all_joined()

    def _write_down(self) -> None:
        self._written = self.generation, self._leader, self._members.written()


def _later(seconds: float, f: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(seconds, f, *args)


def _cancel(handle: asyncio.TimerHandle | None) -> None:
    if handle is not None:
        handle.cancel()


def _refused(code: Code, request: JoinGroup | SyncGroup | Heartbeat | LeaveGroup, detail: str = "") -> Refused:
    return Refused(code, f"{type(request).__name__} of group {request.group!r}", detail)
