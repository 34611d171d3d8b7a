"""Groups at their coordinators: who is in them, and what they have committed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

from streamproc.kafka.directory import Coordination, Coordinator
from streamproc.kafka.exchange import Exchange, Sending, by_topic, check, checked
from streamproc.kafka.requests import (
    Code,
    DeleteGroup,
    DescribedMember,
    DescribeGroup,
    GroupMember,
    GroupState,
    Heartbeat,
    Joined,
    JoinGroup,
    LeaveGroup,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    SyncGroup,
)
from streamproc.kafka.wire import (
    NO_TAGS,
    DeleteGroupsV1,
    DescribeGroupsV4,
    HeartbeatV3,
    LeaveGroupV3,
    Message,
    OffsetCommitV7,
    OffsetDeleteV0,
    OffsetFetchV7,
)
from streamproc.log import Committed, Partition

_PROTOCOL_TYPE: Final = "consumer"
"""Kafka's own tools look at groups of this type alone."""
_PROTOCOL: Final = "streamproc"
_NO_EPOCH: Final = -1
_NO_OFFSET: Final = -1


def join_group(request: JoinGroup, _: Sending) -> Exchange[Joined]:
    """KIP-394: MEMBER_ID_REQUIRED, to those without an instance id, has the member id to use as its detail."""
    what = f"the request of {_name(request)} to join group {request.group!r}"

    def read(answer: Any) -> Joined:
        check(answer.error_code, what, answer.member_id if answer.error_code == Code.MEMBER_ID_REQUIRED else "")
        members = [GroupMember(member, instance or "", metadata) for member, instance, metadata in answer.members]
        return Joined(answer.generation_id, answer.leader_id, answer.member_id, members)

    message = JoinGroupRequest(
        request.group,
        request.session_ms,
        request.rebalance_ms,
        request.member,
        request.instance or None,
        _PROTOCOL_TYPE,
        [(_PROTOCOL, request.metadata)],
    )
    return Exchange(what, _coordinator(request.group), message, read)


def sync_group(request: SyncGroup, _: Sending) -> Exchange[bytes]:
    """Answered when the leader has given the assignments."""
    what = f"the request of {_name(request)} for what it is assigned in group {request.group!r}"

    def read(answer: Any) -> bytes:
        check(answer.error_code, what)
        return answer.member_assignment or b""

    message = SyncGroupRequest(
        request.group, request.generation, request.member, request.instance or None, list(request.assignments.items())
    )
    return Exchange(what, _coordinator(request.group), message, read)


def heartbeat(request: Heartbeat, _: Sending) -> Exchange[None]:
    """REBALANCE_IN_PROGRESS says that the group changes."""
    what = f"the heartbeat of {_name(request)} in group {request.group!r}"
    message = HeartbeatV3(request.group, request.generation, request.member, request.instance or None)
    return Exchange(what, _coordinator(request.group), Message(message), checked(what))


def leave_group(request: LeaveGroup, _: Sending) -> Exchange[None]:
    """One member leaves."""
    what = f"the request of {_name(request)} to leave group {request.group!r}"

    def read(answer: Any) -> None:
        check(answer.error_code, what)
        for _, _, code in answer.members:
            check(code, what)

    message = LeaveGroupV3(request.group, [(request.member, request.instance or None)])
    return Exchange(what, _coordinator(request.group), Message(message), read)


def offset_fetch(request: OffsetFetch, _: Sending) -> Exchange[Mapping[Partition, Committed]]:
    """The error of the whole answer comes with no partitions at all: read first, it is not taken for `no offsets`."""
    what = f"the request for the offsets of group {request.group!r}"

    def read(answer: Any) -> Mapping[Partition, Committed]:
        check(answer.error_code, what)
        committed = {}
        for topic, partitions, _ in answer.topics:
            for number, offset, _, metadata, code, _ in partitions:
                check(code, what, f"{topic}/{number}")
                if offset != _NO_OFFSET:
                    committed[Partition(topic, number)] = Committed(offset, metadata or "")
        return committed

    topics = None
    if request.partitions is not None:
        rows = by_topic(dict.fromkeys(request.partitions))
        topics = [(topic, [number for number, _ in numbers], NO_TAGS) for topic, numbers in rows]
    message = OffsetFetchV7(request.group, topics, request.stable, NO_TAGS)
    return Exchange(what, _coordinator(request.group), Message(message), read)


def offset_commit(request: OffsetCommit, _: Sending) -> Exchange[Mapping[Partition, int]]:
    """KIP-345: with the instance id, so that a replaced member is told FENCED_INSTANCE_ID."""
    membership = request.membership
    topics = [
        (topic, [(number, offset, _NO_EPOCH, metadata) for number, (offset, metadata) in rows])
        for topic, rows in by_topic(request.offsets)
    ]
    message = OffsetCommitV7(
        membership.group, membership.generation, membership.member, membership.instance or None, topics
    )
    return Exchange(
        f"the offsets of group {membership.group!r}",
        _coordinator(membership.group),
        Message(message),
        _read_refused,
        refusals=dict,
    )


def offset_delete(request: OffsetDelete, _: Sending) -> Exchange[Mapping[Partition, int]]:
    """It needs no membership: offsets that a group reads on from are safe, as it subscribes to their topics."""
    what = f"the deletion of offsets of group {request.group!r}"

    def read(answer: Any) -> Mapping[Partition, int]:
        check(answer.error_code, what)
        return _read_refused(answer)

    rows = by_topic(dict.fromkeys(request.partitions))
    message = OffsetDeleteV0(request.group, [(topic, [number for number, _ in numbers]) for topic, numbers in rows])
    return Exchange(what, _coordinator(request.group), Message(message), read, refusals=dict)


def _read_refused(answer: Any) -> Mapping[Partition, int]:
    return {
        Partition(topic, number): code for topic, partitions in answer.topics for number, code in partitions if code
    }


def describe_group(request: DescribeGroup, _: Sending) -> Exchange[GroupState]:
    """Dead, where there is none of this name."""
    what = f"the request for the members of group {request.group!r}"

    def read(answer: Any) -> GroupState:
        ((code, _, state, _, _, members, _),) = answer.groups
        check(code, what)
        return GroupState(
            state,
            [
                DescribedMember(member, instance or "", client, host, metadata or b"", assignment or b"")
                for member, instance, client, host, metadata, assignment in members
            ],
        )

    return Exchange(what, _coordinator(request.group), Message(DescribeGroupsV4([request.group], False)), read)


def delete_group(request: DeleteGroup, _: Sending) -> Exchange[None]:
    """Its offsets go with it (KIP-229)."""
    what = f"the deletion of group {request.group!r}"

    def read(answer: Any) -> None:
        for _, code in answer.results:
            check(code, what)

    return Exchange(what, _coordinator(request.group), Message(DeleteGroupsV1([request.group])), read)


def _coordinator(group: str) -> Coordinator:
    return Coordinator(Coordination.GROUP, group)


def _name(request: JoinGroup | SyncGroup | Heartbeat | LeaveGroup) -> str:
    return repr(request.instance or request.member) if request.instance or request.member else "a new member"
