"""A cluster for a test, and short ways to ask it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.calls import PASSING, Deadline, call
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    Fetch,
    InitProducerId,
    Joined,
    JoinGroup,
    NoAnswer,
    Produce,
    Produced,
    Producer,
    Refused,
    Request,
    Stamped,
    SyncGroup,
)
from streamproc.log import Columns, Partition

R = TypeVar("R")

ANSWER_S = 10.0
SHORT_S = 0.3
"""For what is not answered."""
SETTLING = PASSING | {Code.UNKNOWN_TOPIC_OR_PARTITION}
"""What a broker says for a moment while something is new."""


@asynccontextmanager
async def opened(bootstrap: str, **settings: str) -> AsyncIterator[AiokafkaCluster]:
    cluster = await AiokafkaCluster.connect(bootstrap, settings, request_timeout_s=ANSWER_S)
    try:
        yield cluster
    finally:
        await cluster.close()


async def answered(cluster: AiokafkaCluster, request: Request[R]) -> R:
    """The answer, when what passes has passed."""
    return await call(cluster, request, Deadline(ANSWER_S), answer_s=ANSWER_S, passing=SETTLING)


async def refusal(cluster: AiokafkaCluster, request: Request[Any]) -> Refused:
    """How a request is refused, for good."""
    with pytest.raises(Refused) as raised:
        await call(cluster, request, Deadline(ANSWER_S), answer_s=ANSWER_S)
    return raised.value


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    while True:
        if await condition():
            return
        await asyncio.sleep(0.01)


async def produced(cluster: AiokafkaCluster, request: Produce) -> Mapping[Partition, Produced]:
    """What became of the batches; partitions whose leader is new say so for a moment."""
    while True:
        answer = await answered(cluster, request)
        if not any(one.code in SETTLING for one in answer.values()):
            return answer
        await asyncio.sleep(0.01)


def fresh(name: str) -> str:
    return f"{name}-{uuid4().hex[:8]}"


async def new_topic(cluster: AiokafkaCluster, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
    """Keeps records of any time."""
    name = fresh("topic")
    await answered(cluster, CreateTopic(name, partitions, {"retention.ms": "-1"} | dict(config or {})))
    return name


async def new_partition(cluster: AiokafkaCluster, config: Mapping[str, str] | None = None) -> Partition:
    return Partition(await new_topic(cluster, config=config), 0)


async def new_producer(cluster: AiokafkaCluster, transactional_id: str | None = None) -> Producer:
    return await answered(cluster, InitProducerId(transactional_id, 60_000))


async def joined(cluster: AiokafkaCluster, group: str, instance: str) -> Joined:
    """A member of a group of one."""
    member = await answered(cluster, JoinGroup(group, "", instance, 30_000, 30_000, b"says"))
    await answered(cluster, SyncGroup(group, member.generation, member.member, instance, {member.member: b"gets"}))
    return member


async def write(
    cluster: AiokafkaCluster,
    partition: Partition,
    *values: bytes | None,
    producer: Producer,
    transactional_id: str | None = None,
    sequence: int = 0,
    timestamp: int = 1,
    key: bytes | None = b"k",
) -> Produced:
    (batch,) = cluster.pack(Columns([key] * len(values), [*values], [timestamp] * len(values)))
    request = Produce(transactional_id, {partition: Stamped(batch, producer, sequence)})
    return (await produced(cluster, request))[partition]


async def values(cluster: AiokafkaCluster, partition: Partition, *, committed: bool = True) -> list[bytes | None]:
    """Those of the first segment."""
    piece = (await cluster.send(Fetch({partition: 0}, 0, 1 << 20, committed=committed), ANSWER_S))[partition]
    return piece.columns.values


async def no_answer(cluster: AiokafkaCluster, request: Request[Any], seconds: float = SHORT_S) -> str:
    with pytest.raises(NoAnswer) as raised:
        await cluster.send(request, seconds)
    return str(raised.value)


async def refusal_at_once(cluster: AiokafkaCluster, request: Request[Any]) -> Refused:
    with pytest.raises(Refused) as raised:
        await cluster.send(request, ANSWER_S)
    return raised.value


def outage(address: str, why: str) -> list[str]:
    """What is said of one."""
    begun = f"Kafka broker {address} cannot be reached: {why}. It is asked again"
    return [begun, f"Kafka broker {address} answers again"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
