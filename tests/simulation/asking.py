"""Requests in short, as scenarios need them: what passes is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from streamproc.kafka.requests import (
    Cluster,
    Code,
    CreateTopic,
    EndTxn,
    Fetch,
    Fetched,
    InitProducerId,
    Joined,
    JoinGroup,
    ListOffsets,
    ListTopics,
    Membership,
    OffsetFetch,
    Produce,
    Produced,
    Producer,
    Refused,
    Request,
    Stamped,
    SyncGroup,
    TxnOffsetCommit,
)
from streamproc.log import Columns, Committed, Partition
from tests.simulation.bench import Bench

R = TypeVar("R")

ANSWER_S = 30.0
PASSES = frozenset(
    {
        Code.CONCURRENT_TRANSACTIONS,
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.NOT_COORDINATOR,
    }
)
NEW = PASSES | {Code.UNKNOWN_TOPIC_OR_PARTITION}
"""What is said of a topic that was made a moment ago, and passes."""
NOBODY = Membership("", -1, "", "")
NO_PRODUCER = Producer()


async def ask(client: Cluster, request: Request[R], passes: Collection[int] = PASSES) -> R:
    """The answer, when what passes has passed."""
    while True:
        try:
            return await client.send(request, ANSWER_S)
        except Refused as error:
            if error.code not in passes:
                raise
        await asyncio.sleep(0.01)


async def eventually(client: Cluster, request: Request[R], answer: R) -> None:
    """The answer is this one, once the brokers have heard of what was changed."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            if await ask(client, request) == answer:
                return
            await asyncio.sleep(0.01)


async def refused(client: Cluster, request: Request[Any]) -> int:
    """The code by which a request is refused."""
    with pytest.raises(Refused) as caught:
        await ask(client, request)
    return caught.value.code


async def create(bench: Bench, client: Cluster, topic: str, partitions: int = 1, **config: str) -> list[Partition]:
    """The partitions of a new topic; dots of settings are written as underscores."""
    name = bench.name(topic)
    await ask(client, CreateTopic(name, partitions, {key.replace("_", "."): value for key, value in config.items()}))
    found = [Partition(name, number) for number in range(partitions)]
    await ask(client, ListOffsets(found, "high"), NEW)
    return found


async def topics_of(client: Cluster) -> list[str]:
    """All topics, as they were made."""
    topics = await ask(client, ListTopics())
    return list(topics)


def rows(values: Sequence[str], *, at_ms: int, keys: Sequence[str | None] | None = None) -> Columns:
    """Records of these values."""
    named: list[bytes | None] = [key.encode() if key else None for key in keys] if keys else [None] * len(values)
    return Columns(named, [value.encode() or None for value in values], [at_ms] * len(values))


async def produce(
    client: Cluster,
    transactional_id: str | None,
    producer: Producer,
    batches: Mapping[Partition, Columns],
    sequence: int = 0,
) -> Mapping[Partition, Produced]:
    """What became of one batch for each partition, when the last transaction is over."""
    packed = {p: Stamped(client.pack(columns)[0], producer, sequence) for p, columns in batches.items()}
    while True:
        answer = await ask(client, Produce(transactional_id, packed))
        if not any(part.code in PASSES for part in answer.values()):
            return answer
        await asyncio.sleep(0.01)


async def begin(
    client: Cluster, transactional_id: str, producer: Producer = NO_PRODUCER, timeout_ms: int = 15_000
) -> Producer:
    """The producer of a transactional id."""
    return await ask(client, InitProducerId(transactional_id, timeout_ms, producer))


async def end(client: Cluster, transactional_id: str, producer: Producer, *, commit: bool = True) -> Producer:
    """Ends the transaction; answers the producer of the next."""
    return await ask(client, EndTxn(transactional_id, producer, commit))


async def commit_offset(
    client: Cluster,
    transactional_id: str,
    producer: Producer,
    membership: Membership,
    partition: Partition,
    offset: int,
) -> int:
    """Commits an offset in the transaction; the code by which it was refused, or NONE."""
    request = TxnOffsetCommit(transactional_id, producer, membership, {partition: Committed(offset, "token")})
    while True:
        code = (await ask(client, request)).get(partition, Code.NONE)
        if code not in PASSES:
            return code
        await asyncio.sleep(0.01)


async def read(client: Cluster, partition: Partition, offset: int = 0, *, committed: bool = True) -> list[bytes | None]:
    """The values that may be read of a partition, from an offset on to its end."""
    values: list[bytes | None] = []
    while True:
        piece = await fetch(client, partition, offset, committed=committed)
        assert piece.code == Code.NONE
        if piece.next_offset == offset:
            return values
        values += piece.columns.values
        offset = piece.next_offset


async def fetch(
    client: Cluster, partition: Partition, offset: int, *, wait_ms: int = 0, committed: bool = True
) -> Fetched:
    """One piece of a partition."""
    return (await ask(client, Fetch({partition: offset}, wait_ms, 1 << 20, committed)))[partition]


async def settled(client: Cluster, *partitions: Partition) -> None:
    """All transactions of the partitions are over, and their markers there."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            stable = [await ask(client, ListOffsets([partition], "stable")) for partition in partitions]
            high = [await ask(client, ListOffsets([partition], "high")) for partition in partitions]
            if stable == high:
                return
            await asyncio.sleep(0.01)


async def stable_offset(client: Cluster, group: str, partition: Partition) -> int | None:
    """The committed offset of a partition, when no transaction holds it."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            try:
                committed = await ask(client, OffsetFetch(group, [partition]))
            except Refused as error:
                if error.code != Code.UNSTABLE_OFFSET_COMMIT:
                    raise
                await asyncio.sleep(0.01)
            else:
                return committed[partition].offset if partition in committed else None


# ---------------------------------------------------------------------------------------- groups in short

SESSION_MS = 10_000
REBALANCE_MS = 10_000


def joining(
    group: str, instance: str, member: str = "", *, session_ms: int = SESSION_MS, rebalance_ms: int = REBALANCE_MS
) -> JoinGroup:
    """A member's wish to join."""
    return JoinGroup(group, member, instance, session_ms, rebalance_ms, instance.encode())


async def join(
    client: Cluster,
    group: str,
    instance: str,
    member: str = "",
    *,
    session_ms: int = SESSION_MS,
    rebalance_ms: int = REBALANCE_MS,
) -> Membership:
    """A member of a stable group. The leader assigns to each instance its own name."""
    joined = await ask(client, joining(group, instance, member, session_ms=session_ms, rebalance_ms=rebalance_ms))
    return await sync(client, group, instance, joined)


async def join_two(
    one: Cluster, two: Cluster, group: str, *, session_ms: int = SESSION_MS
) -> tuple[Membership, Membership]:
    """Members "w1", who leads, and "w2", whose session this is, of a stable group."""
    alone = await join(one, group, "w1")
    second = asyncio.create_task(join(two, group, "w2", session_ms=session_ms))
    await asyncio.sleep(0.2)
    return await join(one, group, "w1", alone.member), await second


async def sync(client: Cluster, group: str, instance: str, joined: Joined) -> Membership:
    """The membership of one who joined, when the leader has shared out."""
    assignments = {m.member: m.instance.encode() for m in joined.members}
    assigned = await ask(client, SyncGroup(group, joined.generation, joined.member, instance, assignments))
    assert assigned == instance.encode()
    return Membership(group, joined.generation, joined.member, instance)
