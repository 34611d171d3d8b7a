"""A request of the door in Kafka's words: to whom it goes, what is sent, and how the answer is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from streamproc.kafka.connections import Lane
from streamproc.kafka.directory import Coordinator
from streamproc.kafka.requests import Code, Refused
from streamproc.log import Partition

R = TypeVar("R")
V = TypeVar("V")

NAMES: Final = 3
"""How many partitions a message names."""


class Anyone(Enum):
    """Any broker will do: it knows, or passes on to the controller."""

    BROKER = 0


class Leader(NamedTuple):
    """The broker that leads all of these partitions."""

    partitions: Collection[Partition]


Receiver: TypeAlias = Leader | Coordinator | Anyone


def no_refusals(_: Any) -> Mapping[Partition, int]:
    """Of an answer that has no errors of single partitions."""
    return {}


class Sending(NamedTuple):
    """What a message needs to know of the moment in which it is sent.

    turn   the number of the request, so that one partition after the other can come first
    """

    timeout_ms: int
    turn: int


class Exchange(NamedTuple, Generic[R]):
    """One request, and what becomes of its answer.

    what       names the request in messages
    send       anything with `prepare(versions)`: aiokafka's requests, or `wire.Message`
    read       the answer's content; raises Refused
    refusals   the errors of single partitions in what was read
    """

    what: str
    to: Receiver
    send: Any
    read: Callable[[Any], R]
    lane: Lane | None = None
    refusals: Callable[[R], Mapping[Partition, int]] = no_refusals


_WAYS_OUT: Final[Mapping[int, str]] = {
    Code.TOPIC_AUTHORIZATION_FAILED: "The client's user may not do this with the topic: kafka-acls.sh allows it",
    Code.GROUP_AUTHORIZATION_FAILED: "The client's user may not use the group: kafka-acls.sh allows it",
    Code.CLUSTER_AUTHORIZATION_FAILED: "The client's user may not do this on the cluster: kafka-acls.sh allows it",
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: (
        "The client's user may not use the transactional id: kafka-acls.sh allows it"
    ),
}


def way_out(code: int, detail: str | None = "") -> str:
    """What to say beside an error code: what the broker says, and what to do."""
    return ". ".join(filter(None, (detail, _WAYS_OUT.get(code))))


def check(code: int, what: str, detail: str | None = "") -> None:
    """Raises Refused, if it is an error."""
    if code:
        raise Refused(code, what, way_out(code, detail))


def checked(what: str) -> Callable[[Any], None]:
    """Reads an answer that says nothing but its error."""

    def read(answer: Any) -> None:
        check(answer.error_code, what)

    return read


def by_topic(rows: Mapping[Partition, V] | Iterable[tuple[Partition, V]]) -> list[tuple[str, list[tuple[int, V]]]]:
    """Rows as Kafka's messages have them; partitions of a topic that follow one another stand together.

    >>> by_topic({Partition("a", 0): 5, Partition("a", 1): 6, Partition("b", 0): 7})
    [('a', [(0, 5), (1, 6)]), ('b', [(0, 7)])]
    """
    topics: list[tuple[str, list[tuple[int, V]]]] = []
    for (topic, number), row in rows.items() if isinstance(rows, Mapping) else rows:
        if not topics or topics[-1][0] != topic:
            topics.append((topic, []))
        topics[-1][1].append((number, row))
    return topics


def named(partitions: Collection[Partition]) -> str:
    """Partitions in a message.

    >>> named([Partition("a", number) for number in range(5)])
    'a/0, a/1, a/2 and 2 more'
    """
    names = [f"{topic}/{number}" for topic, number in sorted(partitions)]
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return ", ".join(names[:NAMES]) + more
