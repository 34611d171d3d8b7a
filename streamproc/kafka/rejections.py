"""Refusals of what is to be written that would come again, and the way out of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from streamproc.kafka.requests import Code, Refused
from streamproc.log import Rejected

_WAYS_OUT: Final[Mapping[int, str]] = {
    Code.MESSAGE_TOO_LARGE: "raise max.message.bytes of the topic, or write smaller records",
    Code.RECORD_LIST_TOO_LARGE: "raise segment.bytes of the topic, or write smaller records",
    Code.INVALID_TIMESTAMP: (
        "a record's time is further from the broker's clock than the topic allows: raise its "
        "message.timestamp.after.max.ms, or message.timestamp.before.max.ms for old records"
    ),
    Code.INVALID_RECORD: "a compacted topic takes no record without a key: give it one, or change cleanup.policy",
    Code.UNKNOWN_TOPIC_OR_PARTITION: "the topic was deleted: create it again, or restart the app, which does",
    Code.OFFSET_METADATA_TOO_LARGE: "raise offset.metadata.max.bytes of the broker (streamproc keeps clocks in it)",
    Code.INVALID_TRANSACTION_TIMEOUT: (
        "lower the setting transaction_timeout, or raise transaction.max.timeout.ms of the broker"
    ),
    Code.TOPIC_AUTHORIZATION_FAILED: "allow the app's user Read on the topics it reads and Write on those it writes",
    Code.GROUP_AUTHORIZATION_FAILED: "allow the app's user Read on the group",
    Code.CLUSTER_AUTHORIZATION_FAILED: "allow the app's user IdempotentWrite on the cluster",
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "allow the app's user Write and Describe on its transactional ids",
}


def rejection(refused: Refused) -> Rejected | None:
    """What to raise for a refusal that would come again; None where trying again may help."""
    way_out = _WAYS_OUT.get(refused.code)
    return None if way_out is None else Rejected(f"{refused}: {way_out}")
