"""Versions of Kafka's messages that aiokafka lacks, on its own protocol types.

KIP-345  Heartbeat v3, LeaveGroup v3, OffsetCommit v7, DescribeGroups v4: the group instance id
KIP-360  InitProducerId v4: the caller's producer id and epoch; whoever is fenced is told PRODUCER_FENCED (KIP-588)
KIP-447  OffsetFetch v7: stable offsets alone
KIP-464  CreateTopics v4: replicated as the broker's default says
KIP-584  ApiVersions v3: the features of the cluster
KIP-890  Produce v12, TxnOffsetCommit v5, EndTxn v5: the broker adds partitions and groups to the transaction

Each level of a flexible version (KIP-482) ends in tagged fields: of a request `NO_TAGS`, of a response what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from aiokafka.protocol.api import RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Array,
    Boolean,
    Bytes,
    CompactArray,
    CompactBytes,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

NO_TAGS: Final[Mapping[int, bytes]] = {}

_TAGS: Final = ("tags", TaggedFields)
_TEXT: Final = String("utf-8")
_COMPACT_TEXT: Final = CompactString("utf-8")


class TooOld(Exception):
    """The broker does not know the version that is needed of a message."""


class Message:
    """What a connection sends: of one message the first version that the broker knows.

    A version is written in terms of its fields, those of `struct`.
    """

    def __init__(self, *structs: Any) -> None:
        self._structs = structs

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Any:
        """The version for a broker that knows these (lowest and highest by API key). Raises TooOld."""
        wanted = self._structs[0]
        lowest, highest = versions.get(wanted.API_KEY, (0, -1))
        for struct in self._structs:
            if lowest <= struct.API_VERSION <= highest:
                return struct
        name = type(wanted).__name__.partition("Request")[0]
        knows = f"versions {lowest} to {highest} of it" if highest >= lowest else "no version of it"
        msg = f"{name} is needed in version {wanted.API_VERSION}, and the broker knows {knows}"
        raise TooOld(msg)


def _api(name: str, key: int, version: int, *, request: Schema, response: Schema, flexible: bool = False) -> Any:
    """A request's type; its response's type is its RESPONSE_TYPE."""
    answer = type(
        f"{name}Response_v{version}", (Response,), {"API_KEY": key, "API_VERSION": version, "SCHEMA": response}
    )
    fields = {
        "API_KEY": key,
        "API_VERSION": version,
        "FLEXIBLE_VERSION": flexible,
        "SCHEMA": request,
        "RESPONSE_TYPE": answer,
    }
    return type(f"{name}Request_v{version}", (RequestStruct,), fields)


# Records.

_PRODUCE: Final[Mapping[str, Schema]] = {
    "request": Schema(
        ("transactional_id", _COMPACT_TEXT),
        ("acks", Int16),
        ("timeout_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT_TEXT),
                ("partitions", CompactArray(("partition", Int32), ("records", CompactBytes), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
    "response": Schema(
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT_TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("base_offset", Int64),
                        ("log_append_time_ms", Int64),
                        ("log_start_offset", Int64),
                        (
                            "record_errors",
                            CompactArray(("batch_index", Int32), ("message", _COMPACT_TEXT), _TAGS),
                        ),
                        ("error_message", _COMPACT_TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("throttle_time_ms", Int32),
        _TAGS,
    ),
}
ProduceV12: Final = _api("Produce", 0, 12, **_PRODUCE, flexible=True)
ProduceV9: Final = _api("Produce", 0, 9, **_PRODUCE, flexible=True)
"""The same fields; in a transaction it would be refused, or hang: the partitions had to be added before."""

# Groups.

OffsetCommitV7: Final = _api(
    "OffsetCommit",
    8,
    7,
    request=Schema(
        ("group", _TEXT),
        ("generation", Int32),
        ("member", _TEXT),
        ("instance", _TEXT),
        (
            "topics",
            Array(
                ("topic", _TEXT),
                (
                    "partitions",
                    Array(("partition", Int32), ("offset", Int64), ("leader_epoch", Int32), ("metadata", _TEXT)),
                ),
            ),
        ),
    ),
    response=Schema(
        ("throttle_time_ms", Int32),
        ("topics", Array(("topic", _TEXT), ("partitions", Array(("partition", Int32), ("error_code", Int16))))),
    ),
)

OffsetFetchV7: Final = _api(
    "OffsetFetch",
    9,
    7,
    request=Schema(
        ("group", _COMPACT_TEXT),
        ("topics", CompactArray(("topic", _COMPACT_TEXT), ("partitions", CompactArray(Int32)), _TAGS)),
        ("require_stable", Boolean),
        _TAGS,
    ),
    response=Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT_TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _COMPACT_TEXT),
                        ("error_code", Int16),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        ("error_code", Int16),
        _TAGS,
    ),
    flexible=True,
)

HeartbeatV3: Final = _api(
    "Heartbeat",
    12,
    3,
    request=Schema(("group", _TEXT), ("generation", Int32), ("member", _TEXT), ("instance", _TEXT)),
    response=Schema(("throttle_time_ms", Int32), ("error_code", Int16)),
)

LeaveGroupV3: Final = _api(
    "LeaveGroup",
    13,
    3,
    request=Schema(("group", _TEXT), ("members", Array(("member", _TEXT), ("instance", _TEXT)))),
    response=Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("members", Array(("member", _TEXT), ("instance", _TEXT), ("error_code", Int16))),
    ),
)

DescribeGroupsV4: Final = _api(
    "DescribeGroups",
    15,
    4,
    request=Schema(("groups", Array(_TEXT)), ("include_authorized_operations", Boolean)),
    response=Schema(
        ("throttle_time_ms", Int32),
        (
            "groups",
            Array(
                ("error_code", Int16),
                ("group", _TEXT),
                ("state", _TEXT),
                ("protocol_type", _TEXT),
                ("protocol", _TEXT),
                (
                    "members",
                    Array(
                        ("member", _TEXT),
                        ("instance", _TEXT),
                        ("client_id", _TEXT),
                        ("client_host", _TEXT),
                        ("metadata", Bytes),
                        ("assignment", Bytes),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
    ),
)

OffsetDeleteV0: Final = _api(
    "OffsetDelete",
    47,
    0,
    request=Schema(
        ("group", _TEXT),
        ("topics", Array(("topic", _TEXT), ("partitions", Array(Int32)))),
    ),
    response=Schema(
        ("error_code", Int16),
        ("throttle_time_ms", Int32),
        ("topics", Array(("topic", _TEXT), ("partitions", Array(("partition", Int32), ("error_code", Int16))))),
    ),
)

DeleteGroupsV1: Final = _api(
    "DeleteGroups",
    42,
    1,
    request=Schema(("groups", Array(_TEXT))),
    response=Schema(("throttle_time_ms", Int32), ("results", Array(("group", _TEXT), ("error_code", Int16)))),
)

# Transactions.

_PRODUCER_RESPONSE: Final = Schema(
    ("throttle_time_ms", Int32), ("error_code", Int16), ("producer_id", Int64), ("producer_epoch", Int16), _TAGS
)

InitProducerIdV4: Final = _api(
    "InitProducerId",
    22,
    4,
    request=Schema(
        ("transactional_id", _COMPACT_TEXT),
        ("timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        _TAGS,
    ),
    response=_PRODUCER_RESPONSE,
    flexible=True,
)

EndTxnV5: Final = _api(
    "EndTxn",
    26,
    5,
    request=Schema(
        ("transactional_id", _COMPACT_TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("committed", Boolean),
        _TAGS,
    ),
    response=_PRODUCER_RESPONSE,
    flexible=True,
)

TxnOffsetCommitV5: Final = _api(
    "TxnOffsetCommit",
    28,
    5,
    request=Schema(
        ("transactional_id", _COMPACT_TEXT),
        ("group", _COMPACT_TEXT),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("generation", Int32),
        ("member", _COMPACT_TEXT),
        ("instance", _COMPACT_TEXT),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT_TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _COMPACT_TEXT),
                        _TAGS,
                    ),
                ),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
    response=Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _COMPACT_TEXT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            ),
        ),
        _TAGS,
    ),
    flexible=True,
)

# The cluster.

CreateTopicsV4: Final = _api(
    "CreateTopics",
    19,
    4,
    request=Schema(
        (
            "topics",
            Array(
                ("topic", _TEXT),
                ("partitions", Int32),
                ("replication_factor", Int16),
                ("assignments", Array(("partition", Int32), ("replicas", Array(Int32)))),
                ("configs", Array(("name", _TEXT), ("value", _TEXT))),
            ),
        ),
        ("timeout_ms", Int32),
        ("validate_only", Boolean),
    ),
    response=Schema(
        ("throttle_time_ms", Int32),
        ("topics", Array(("topic", _TEXT), ("error_code", Int16), ("error_message", _TEXT))),
    ),
)

ApiVersionsV3: Final = _api(
    "ApiVersions",
    18,
    3,
    request=Schema(("client_software_name", _COMPACT_TEXT), ("client_software_version", _COMPACT_TEXT), _TAGS),
    response=Schema(
        ("error_code", Int16),
        ("api_versions", CompactArray(("api_key", Int16), ("lowest", Int16), ("highest", Int16), _TAGS)),
        ("throttle_time_ms", Int32),
        _TAGS,
    ),
    flexible=True,
)
# A broker that does not know the version answers by the oldest one, and so the header is always that.
ApiVersionsV3.parse_response_header = lambda _, buffer: ResponseHeader_v0.decode(buffer)

_FINALIZED_FEATURES_TAG: Final = 2
_FINALIZED_FEATURES: Final = CompactArray(("name", _COMPACT_TEXT), ("highest", Int16), ("lowest", Int16), _TAGS)


def finalized_features(tags: Mapping[int, bytes]) -> Mapping[str, int]:
    r"""The levels of the features of the cluster, from the tagged fields of ApiVersions v3 (KIP-584).

    >>> finalized_features({2: b"\x02\x05txns\x00\x02\x00\x02\x00"})
    {'txns': 2}
    """
    if _FINALIZED_FEATURES_TAG not in tags:
        return {}
    rows = _FINALIZED_FEATURES.decode(BytesIO(tags[_FINALIZED_FEATURES_TAG]))
    return {name: highest for name, highest, *_ in rows}
