"""The cluster, at any broker: topics and their configuration, and what the cluster can."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka.protocol.admin import DeleteTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamproc.kafka.exchange import NAMES, Anyone, Exchange, Sending, check
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DeleteTopics,
    DescribeTopics,
    ListTopics,
    TopicState,
    TransactionVersion,
)
from streamproc.kafka.wire import NO_TAGS, ApiVersionsV3, CreateTopicsV4, Message, finalized_features

_BROKERS_DEFAULT: Final = -1
_TOPIC: Final = 2
"""The kind of resource whose configuration is described."""
_FEATURE: Final = "transaction.version"
_NO_TOPIC: Final = frozenset({Code.UNKNOWN_TOPIC_OR_PARTITION, Code.INVALID_TOPIC})


def list_topics(request: ListTopics, _: Sending) -> Exchange[Mapping[str, TopicState]]:
    """Topics of the cluster's own (`__consumer_offsets`) are listed where they are asked for by name."""
    names = None if request.names is None else sorted(request.names)
    what = "the request for all topics" if names is None else f"the request for {_named(names)}"

    def read(answer: Any) -> Mapping[str, TopicState]:
        found = {}
        for code, topic, internal, partitions in answer.topics:
            if code in _NO_TOPIC or internal and names is None:
                continue
            check(code, f"the request for topic {topic!r}")
            found[topic] = TopicState(len(partitions), {})
        return found

    return Exchange(what, Anyone.BROKER, MetadataRequest(names, allow_auto_topic_creation=False), read)


def describe_configs(request: DescribeTopics, _: Sending) -> Exchange[Mapping[str, Mapping[str, str]]]:
    """The configuration alone: values that are secret or not set are left out."""
    what = f"the request for the configuration of {_named(request.names)}"

    def read(answer: Any) -> Mapping[str, Mapping[str, str]]:
        found = {}
        for code, message, _, topic, entries in answer.resources:
            check(code, what, message)
            found[topic] = {name: value for name, value, *_ in entries if value is not None}
        return found

    resources = [(_TOPIC, name, None) for name in sorted(request.names)]
    return Exchange(what, Anyone.BROKER, DescribeConfigsRequest(resources), read)


def create_topic(request: CreateTopic, sending: Sending) -> Exchange[None]:
    """Replicated as the broker's default says (KIP-464)."""
    what = f"the creation of topic {request.name!r}"

    def read(answer: Any) -> None:
        for _, code, message in answer.topics:
            check(code, what, message)

    no_assignments: list[Any] = []
    topic = (request.name, request.partitions, _BROKERS_DEFAULT, no_assignments, list(request.config.items()))
    return Exchange(what, Anyone.BROKER, Message(CreateTopicsV4([topic], sending.timeout_ms, False)), read)


def delete_topics(request: DeleteTopics, sending: Sending) -> Exchange[None]:
    """The first error of a topic is raised."""
    what = f"the deletion of {_named(request.names)}"

    def read(answer: Any) -> None:
        for topic, code in answer.topic_error_codes:
            if code != Code.UNKNOWN_TOPIC_OR_PARTITION:
                check(code, f"the deletion of topic {topic!r}")

    return Exchange(what, Anyone.BROKER, DeleteTopicsRequest(sorted(request.names), sending.timeout_ms), read)


def transaction_version(_request: TransactionVersion, _: Sending) -> Exchange[int]:
    """A finalized feature (KIP-584)."""
    what = "the request for the features of the cluster"

    def read(answer: Any) -> int:
        check(answer.error_code, what)
        return finalized_features(answer.tags).get(_FEATURE, 0)

    return Exchange(what, Anyone.BROKER, Message(ApiVersionsV3("streamproc", "0", NO_TAGS)), read)


def _named(topics: Collection[str]) -> str:
    names = sorted(topics)
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return f"topic{'s' * (len(names) > 1)} {', '.join(map(repr, names[:NAMES]))}{more}"
