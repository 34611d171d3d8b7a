"""What a Kafka request says in its first bytes: which API, of whom, about which transaction or group."""

import struct
from enum import IntEnum
from typing import Final, NamedTuple


class Api(IntEnum):
    """The APIs that clients use, by their keys."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_CONFIGS = 32
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    OFFSET_DELETE = 47


class _Versions(NamedTuple):
    """Of an API whose body begins with a transactional id or a group id."""

    flexible: int
    """From this version on strings are compact (KIP-482)."""
    first: int = 0
    last: int = 1 << 15


_BEGINS_WITH_ITS_SUBJECT: Final = {
    Api.PRODUCE: _Versions(flexible=9, first=3),
    Api.OFFSET_COMMIT: _Versions(flexible=8),
    Api.OFFSET_FETCH: _Versions(flexible=6, last=7),
    Api.FIND_COORDINATOR: _Versions(flexible=3, last=3),
    Api.JOIN_GROUP: _Versions(flexible=6),
    Api.HEARTBEAT: _Versions(flexible=4),
    Api.LEAVE_GROUP: _Versions(flexible=4),
    Api.SYNC_GROUP: _Versions(flexible=4),
    Api.INIT_PRODUCER_ID: _Versions(flexible=2),
    Api.ADD_PARTITIONS_TO_TXN: _Versions(flexible=3, last=3),
    Api.ADD_OFFSETS_TO_TXN: _Versions(flexible=3),
    Api.END_TXN: _Versions(flexible=3),
    Api.TXN_OFFSET_COMMIT: _Versions(flexible=3),
}


class Request(NamedTuple):
    """A request of a client, without its body."""

    api: int
    version: int
    correlation_id: int
    client_id: str | None
    client_port: int
    subject: str | None
    """The transactional id, or else the group, that it is about; None where neither stands first in its body."""


def request_of(frame: bytes, client_port: int) -> Request:
    """What the frame of a request says, from the API key on."""
    api, version, correlation_id, length = struct.unpack_from(">hhih", frame)
    body = 10 + max(length, 0)
    client_id = None if length < 0 else frame[10:body].decode()
    return Request(api, version, correlation_id, client_id, client_port, _subject(frame, body, api, version))


def _subject(frame: bytes, at: int, api: int, version: int) -> str | None:
    versions = _BEGINS_WITH_ITS_SUBJECT.get(api)  # type: ignore[call-overload]  # an int finds its Api
    if versions is None or not versions.first <= version <= versions.last:
        return None
    if version < versions.flexible:
        length = struct.unpack_from(">h", frame, at)[0]
        at += 2
    else:
        assert frame[at] == 0, "a request header with tagged fields"
        length = frame[at + 1] - 1  # a varint of one byte: ids are shorter than 127 bytes
        at += 2
    return None if length < 0 else frame[at : at + length].decode()


def correlation_id_of(frame: bytes) -> int:
    """Which request the frame of a reply answers."""
    found: int = struct.unpack_from(">i", frame)[0]
    return found
