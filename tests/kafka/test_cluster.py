"""Every request of the door once on a real broker, what it is refused with."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.connections import Address
from streamproc.kafka.directory import Coordination, Coordinator
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DeleteGroup,
    DeleteRecords,
    DeleteTopics,
    DescribeGroup,
    DescribeTopics,
    EndTxn,
    Fetch,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    ListTopics,
    Membership,
    NoAnswer,
    OffsetCommit,
    OffsetFetch,
    Produce,
    Produced,
    Producer,
    Refused,
    Request,
    Stamped,
    SyncGroup,
    TopicState,
    TransactionVersion,
    TxnOffsetCommit,
)
from streamproc.log import Columns, Committed, Partition
from tests.kafka.opened import (
    ANSWER_S,
    answered,
    fresh,
    joined,
    new_partition,
    new_producer,
    new_topic,
    opened,
    produced,
    refusal,
    refusal_at_once,
    until,
    values,
    write,
)
from tests.kafka.server import HOST, KafkaServer, free_ports

NOBODY = Partition("no-such-topic", 0)


@pytest.fixture
async def cluster(kafka: str) -> AsyncIterator[AiokafkaCluster]:
    async with opened(kafka) as cluster:
        yield cluster


# ---------------------------------------------------------------------------------- topics


async def test_topics(cluster: AiokafkaCluster) -> None:
    """Created, listed, described, deleted."""
    name = fresh("topic")
    await cluster.send(CreateTopic(name, 3, {"retention.ms": "-1", "cleanup.policy": "compact"}), ANSWER_S)
    assert (await answered(cluster, ListTopics()))[name] == TopicState(3, {})
    assert await answered(cluster, ListTopics([name, "no-such-topic", "not a name"])) == {name: TopicState(3, {})}
    described = await answered(cluster, DescribeTopics([name]))
    assert described[name].partitions == 3
    assert described[name].config["retention.ms"] == "-1"
    assert described[name].config["max.message.bytes"] == "1048588"
    await cluster.send(DeleteTopics([name, "no-such-topic"]), ANSWER_S)

    async def gone() -> bool:
        return not await cluster.send(ListTopics([name]), ANSWER_S)

    await until(gone)
    await cluster.send(DeleteTopics([name]), ANSWER_S)


async def test_asking_for_a_topic_does_not_create_it(kafka_that_creates: str) -> None:
    """Not even where the broker creates what it is asked for: a wrong name must not become a topic."""
    async with opened(kafka_that_creates) as cluster:
        await refusal(cluster, ListOffsets([NOBODY], "high"))
        assert await cluster.send(ListTopics([NOBODY.topic]), ANSWER_S) == {}
        assert (await cluster.send(Fetch({NOBODY: 0}, 0, 1), ANSWER_S))[NOBODY].code == Code.UNKNOWN_TOPIC_OR_PARTITION
        behind = await new_partition(cluster)
        await answered(cluster, ListOffsets([behind], "high"))
        assert await cluster.send(ListTopics(), ANSWER_S) == {behind.topic: TopicState(1, {})}


@pytest.fixture
def kafka_that_creates(kafka_programs: None) -> Iterator[str]:
    with KafkaServer(settings={"auto.create.topics.enable": "true"}) as server:
        yield server.bootstrap


@pytest.mark.parametrize(
    ("request_", "code", "said"),
    [
        (CreateTopic("not a name", 1, {}), Code.INVALID_TOPIC, "'not a name' contains one or more characters"),
        (CreateTopic("t", 0, {}), Code.INVALID_PARTITIONS, "the creation of topic 't': INVALID_PARTITIONS (Number of"),
        (CreateTopic("t", 1, {"retention": "1"}), Code.INVALID_CONFIG, "Unknown topic config name: retention"),
        (DescribeTopics(["no-such-topic"]), Code.UNKNOWN_TOPIC_OR_PARTITION, "configuration of topic 'no-such-topic'"),
        (ListOffsets([NOBODY], "high"), Code.UNKNOWN_TOPIC_OR_PARTITION, "the high watermark of no-such-topic/0"),
        (DeleteRecords({NOBODY: 1}), Code.UNKNOWN_TOPIC_OR_PARTITION, "records of no-such-topic/0"),
        (DeleteGroup("no-such-group"), Code.GROUP_ID_NOT_FOUND, "the deletion of group 'no-such-group'"),
        (LeaveGroup("no-such-group", "", "i"), Code.UNKNOWN_MEMBER_ID, "of 'i' to leave group 'no-such-group'"),
        (Heartbeat("no-such-group", 1, "m", "i"), Code.UNKNOWN_MEMBER_ID, "the heartbeat of 'i' in group"),
        (SyncGroup("no-such-group", 1, "m", "i", {}), Code.UNKNOWN_MEMBER_ID, "of 'i' for what it is assigned"),
        (InitProducerId("x", 10**9), Code.INVALID_TRANSACTION_TIMEOUT, "the request for the producer id of 'x'"),
        (EndTxn("x", Producer(10**6, 0), commit=True), Code.INVALID_PRODUCER_ID_MAPPING, "the commit of the transact"),
    ],
    ids=str,
)
async def test_refused_with_what_is_said(
    cluster: AiokafkaCluster, request_: Request[Any], code: Code, said: str
) -> None:
    """A refusal names the request in words, with its subject, and what the broker has to say of it."""
    refused = await refusal(cluster, request_)
    assert refused.code == code
    assert said in str(refused)


async def test_a_topic_that_exists(cluster: AiokafkaCluster) -> None:
    """It is left as it is."""
    name = await new_topic(cluster, 2)
    assert (await refusal(cluster, CreateTopic(name, 3, {}))).code == Code.TOPIC_ALREADY_EXISTS
    assert await cluster.send(ListTopics([name]), ANSWER_S) == {name: TopicState(2, {})}


async def test_features(cluster: AiokafkaCluster) -> None:
    """A new cluster of Kafka 4 has KIP-890."""
    assert await cluster.send(TransactionVersion(), ANSWER_S) == 2


# ---------------------------------------------------------------------------------- leaders


async def test_led_together(cluster: AiokafkaCluster) -> None:
    """What one broker leads stands together, in order; so does what is not known, and sending for it makes it known."""
    topic = await new_topic(cluster, 3)
    partitions = [Partition(topic, number) for number in (2, 0, 1)]
    assert cluster.led_together([*partitions, NOBODY]) == [[*partitions, NOBODY]]
    ends = await answered(cluster, ListOffsets(partitions, "high"))
    assert ends == dict.fromkeys(partitions, 0)
    assert cluster.led_together([NOBODY, *partitions]) == [[NOBODY], partitions]
    assert cluster.led_together([]) == []


async def test_a_partition_that_does_not_exist(cluster: AiokafkaCluster) -> None:
    """Each answer says so where it says everything of a partition; a number too high is not another topic's matter."""
    topic = await new_topic(cluster)
    there, missing = Partition(topic, 0), Partition(topic, 1)
    await answered(cluster, ListOffsets([there], "high"))
    for partition in (missing, NOBODY):
        piece = (await cluster.send(Fetch({partition: 0}, 0, 1), ANSWER_S))[partition]
        assert piece.code == Code.UNKNOWN_TOPIC_OR_PARTITION
        (batch,) = cluster.pack(Columns([None], [b"v"], [1]))
        stamped = {partition: Stamped(batch, Producer(), 0)}
        assert (await cluster.send(Produce(None, stamped), ANSWER_S))[partition].code == Code.UNKNOWN_TOPIC_OR_PARTITION
    pieces = await cluster.send(Fetch({there: 0, missing: 0}, 0, 1), ANSWER_S)
    assert (pieces[there].code, pieces[missing].code) == (Code.NONE, Code.UNKNOWN_TOPIC_OR_PARTITION)


async def test_a_topic_that_is_made_anew(cluster: AiokafkaCluster) -> None:
    """Deleted and created again, with more partitions: nothing is remembered of the first."""
    topic = await new_topic(cluster, 1)
    first = Partition(topic, 0)
    await answered(cluster, ListOffsets([first], "high"))
    await cluster.send(DeleteTopics([topic]), ANSWER_S)

    async def gone() -> bool:
        return (await cluster.send(Fetch({first: 0}, 0, 1), ANSWER_S))[first].code != Code.NONE

    await until(gone)
    await answered(cluster, CreateTopic(topic, 2, {}))
    await answered(cluster, ListOffsets([Partition(topic, 0), Partition(topic, 1)], "high"))


async def test_a_leader_that_is_gone(cluster: AiokafkaCluster) -> None:
    """Nothing can be sent to it; then it is looked up who leads now."""
    partition = await new_partition(cluster)
    await answered(cluster, ListOffsets([partition], "high"))
    (port,) = free_ports(1)
    cluster._directory._leaders[partition] = Address(HOST, port)
    with pytest.raises(NoAnswer, match=f"to the request for the high watermark of .*: broker {HOST}:{port}: Connect"):
        await cluster.send(ListOffsets([partition], "high"), ANSWER_S)
    await answered(cluster, ListOffsets([partition], "high"))


async def test_a_coordinator_that_is_gone(cluster: AiokafkaCluster) -> None:
    """The same, of a group and of a transactional id."""
    group, name = fresh("group"), fresh("id")
    (port,) = free_ports(1)
    for coordinator in (Coordinator(Coordination.GROUP, group), Coordinator(Coordination.TRANSACTION, name)):
        cluster._directory._coordinators[coordinator] = Address(HOST, port)
    requests: list[Request[Any]] = [OffsetFetch(group, None), InitProducerId(name, 1_000)]
    for request in requests:
        with pytest.raises(NoAnswer, match=f"broker {HOST}:{port}: Connection refused"):
            await cluster.send(request, ANSWER_S)
        cluster._directory._coordinators[Coordinator(Coordination.TRANSACTION, name)] = Address(HOST, port)
    cluster._directory._coordinators.clear()
    assert await answered(cluster, OffsetFetch(group, None)) == {}


# ---------------------------------------------------------------------------------- records


async def test_records(cluster: AiokafkaCluster) -> None:
    """Written once, however often they are sent; in order, or refused; counted by their offsets."""
    partition = await new_partition(cluster)
    producer = await new_producer(cluster)
    assert await write(cluster, partition, b"a", b"b", producer=producer) == Produced(Code.NONE, 0)
    assert await write(cluster, partition, b"a", b"b", producer=producer) == Produced(Code.NONE, 0)
    assert (await write(cluster, partition, b"d", producer=producer, sequence=3)).code == Code.OUT_OF_ORDER_SEQUENCE
    assert await write(cluster, partition, b"c", producer=producer, sequence=2) == Produced(Code.NONE, 2)
    assert await values(cluster, partition) == [b"a", b"b", b"c"]
    assert await answered(cluster, ListOffsets([partition], "high")) == {partition: 3}
    await cluster.send(DeleteRecords({partition: 2}), ANSWER_S)
    assert await cluster.send(ListOffsets([partition], "first"), ANSWER_S) == {partition: 2}
    for offset in (0, 4):
        piece = (await cluster.send(Fetch({partition: offset}, 0, 1 << 20), ANSWER_S))[partition]
        assert (piece.code, piece.next_offset) == (Code.OFFSET_OUT_OF_RANGE, offset)
    piece = (await cluster.send(Fetch({partition: 2}, 0, 1 << 20), ANSWER_S))[partition]
    assert (piece.high_watermark, piece.last_stable, piece.start, piece.next_offset) == (3, 3, 2, 3)
    assert piece.size > 60
    refused = await refusal(cluster, DeleteRecords({partition: 9}))
    assert refused.code == Code.OFFSET_OUT_OF_RANGE


async def test_many_partitions_at_once(cluster: AiokafkaCluster) -> None:
    """One message is for all partitions of a leader, of several topics."""
    partitions = [
        Partition(topic, number) for topic in [await new_topic(cluster, 3) for _ in range(2)] for number in (0, 2)
    ]
    producer = await new_producer(cluster)
    batches = {}
    for number, partition in enumerate(partitions):
        (batch,) = cluster.pack(Columns([None] * (number + 1), [b"v"] * (number + 1), [1] * (number + 1)))
        batches[partition] = Stamped(batch, producer, 0)
    assert set((await produced(cluster, Produce(None, batches))).values()) == {Produced(Code.NONE, 0)}
    ends = await cluster.send(ListOffsets(partitions, "stable"), ANSWER_S)
    assert [ends[partition] for partition in partitions] == [1, 2, 3, 4]
    pieces = await cluster.send(Fetch(dict.fromkeys(partitions, 1), 0, 1 << 20), ANSWER_S)
    assert [len(pieces[partition].columns) for partition in partitions] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("config", "columns", "code", "said"),
    [
        ({"max.message.bytes": "1000"}, Columns([None], [b"v" * 2_000], [1]), Code.MESSAGE_TOO_LARGE, ""),
        ({}, Columns([None], [b"v"], [4_000_000_000_000]), Code.INVALID_TIMESTAMP, "is out of range"),
        ({"cleanup.policy": "compact"}, Columns([None], [b"v"], [1]), Code.INVALID_RECORD, "without key"),
    ],
)
async def test_records_that_are_refused(
    cluster: AiokafkaCluster, config: Mapping[str, str], columns: Columns, code: Code, said: str
) -> None:
    """Each partition has its own answer, with the broker's reason."""
    partition, good = await new_partition(cluster, config), await new_partition(cluster)
    producer = await new_producer(cluster)
    batches = {}
    for one, rows in ((partition, columns), (good, Columns([None], [b"v"], [1]))):
        (batch,) = cluster.pack(rows)
        batches[one] = Stamped(batch, producer, 0)
    answer = await produced(cluster, Produce(None, batches))
    assert answer[partition].code == code
    assert said in answer[partition].detail
    assert answer[good] == Produced(Code.NONE, 0)


async def test_a_compacted_topic_is_not_purged(cluster: AiokafkaCluster) -> None:
    """It would lose what it is kept for."""
    partition = await new_partition(cluster, {"cleanup.policy": "compact"})
    await write(cluster, partition, b"v", producer=await new_producer(cluster))
    refused = await refusal(cluster, DeleteRecords({partition: 1}))
    assert refused.code == Code.POLICY_VIOLATION
    assert "cleanup.policy" in str(refused)


async def test_what_is_sent_at_the_same_time_arrives_in_order(cluster: AiokafkaCluster) -> None:
    """A producer's messages to one broker never overtake one another, though each could have its own connection."""
    partition = await new_partition(cluster)
    producer = await new_producer(cluster)
    await write(cluster, partition, b"0", producer=producer)
    answers = await asyncio.gather(
        *(write(cluster, partition, b"%d" % number, producer=producer, sequence=number) for number in range(1, 40))
    )
    assert answers == [Produced(Code.NONE, number) for number in range(1, 40)]


# ---------------------------------------------------------------------------------- groups


async def test_a_member_of_a_group(cluster: AiokafkaCluster) -> None:
    """Joins, is assigned, beats, commits, is seen, leaves; then the group and its offsets can go."""
    group, partition = fresh("group"), await new_partition(cluster)
    member = await answered(cluster, JoinGroup(group, "", "one", 30_000, 30_000, b"says"))
    assert (member.generation, member.leader) == (1, member.member)
    assert [(one.member, one.instance, one.metadata) for one in member.members] == [(member.member, "one", b"says")]
    assert await cluster.send(SyncGroup(group, 1, member.member, "one", {member.member: b"gets"}), ANSWER_S) == b"gets"
    await cluster.send(Heartbeat(group, 1, member.member, "one"), ANSWER_S)
    offsets = {partition: Committed(5, "said beside it"), Partition(partition.topic, 7): Committed(6, "")}
    membership = Membership(group, 1, member.member, "one")
    refused = await cluster.send(OffsetCommit(membership, offsets), ANSWER_S)
    assert refused == {Partition(partition.topic, 7): Code.UNKNOWN_TOPIC_OR_PARTITION}
    expected = {partition: Committed(5, "said beside it")}
    assert await cluster.send(OffsetFetch(group, None), ANSWER_S) == expected
    assert await cluster.send(OffsetFetch(group, [*offsets, NOBODY]), ANSWER_S) == expected
    assert await cluster.send(OffsetFetch(group, []), ANSWER_S) == {}
    state = await cluster.send(DescribeGroup(group), ANSWER_S)
    (seen,) = state.members
    assert (state.state, seen.member, seen.instance) == ("Stable", member.member, "one")
    assert (seen.client, seen.metadata, seen.assignment) == ("streamproc", b"says", b"gets")
    assert (await refusal(cluster, DeleteGroup(group))).code == Code.NON_EMPTY_GROUP
    await cluster.send(LeaveGroup(group, "", "one"), ANSWER_S)
    assert (await refusal(cluster, LeaveGroup(group, "", "one"))).code == Code.UNKNOWN_MEMBER_ID
    assert (await cluster.send(DescribeGroup(group), ANSWER_S)).state == "Empty"
    await cluster.send(DeleteGroup(group), ANSWER_S)
    assert await cluster.send(DescribeGroup(group), ANSWER_S) == ("Dead", [])
    assert await cluster.send(OffsetFetch(group, None), ANSWER_S) == {}


async def test_memberships_that_are_over(cluster: AiokafkaCluster) -> None:
    """Another generation, another member, and a member that another one of its name has replaced (KIP-345)."""
    group, partition = fresh("group"), await new_partition(cluster)
    old = await joined(cluster, group, "one")
    new = await answered(cluster, JoinGroup(group, "", "one", 30_000, 30_000, b"says"))
    assert new.member != old.member
    transactional_id = fresh("id")
    producer = await new_producer(cluster, transactional_id)
    for generation, member, instance, code in (
        (new.generation, old.member, "one", Code.FENCED_INSTANCE_ID),
        (new.generation, old.member, "", Code.UNKNOWN_MEMBER_ID),
        (new.generation, "stranger", "", Code.UNKNOWN_MEMBER_ID),
        (new.generation + 1, new.member, "one", Code.ILLEGAL_GENERATION),
    ):
        assert (await refusal(cluster, Heartbeat(group, generation, member, instance))).code == code
        offsets = {partition: Committed(1, "")}
        membership = Membership(group, generation, member, instance)
        assert await cluster.send(OffsetCommit(membership, offsets), ANSWER_S) == {partition: code}
        request = TxnOffsetCommit(transactional_id, producer, membership, offsets)
        assert await answered(cluster, request) == {partition: code}
    assert await cluster.send(OffsetFetch(group, None), ANSWER_S) == {}


async def test_a_member_without_a_name(cluster: AiokafkaCluster) -> None:
    """It is told the member id to join with (KIP-394)."""
    group = fresh("group")
    with pytest.raises(Refused) as raised:
        await answered(cluster, JoinGroup(group, "", "", 30_000, 30_000, b""))
    assert raised.value.code == Code.MEMBER_ID_REQUIRED
    given: str = raised.value.args[2]
    member = await answered(cluster, JoinGroup(group, given, "", 30_000, 30_000, b""))
    assert member.member == given
    await cluster.send(LeaveGroup(group, given, ""), ANSWER_S)


async def test_whoever_waits_holds_back_nobody(cluster: AiokafkaCluster) -> None:
    """While a second member's join waits for the first, that one beats and commits, and others join elsewhere."""
    group, partition = fresh("group"), await new_partition(cluster)
    first = await joined(cluster, group, "one")
    join = asyncio.create_task(cluster.send(JoinGroup(group, "", "two", 30_000, 30_000, b""), 60))
    reading = asyncio.create_task(cluster.send(Fetch({partition: 0}, 30_000, 1 << 20), 60))

    async def changes() -> bool:
        return (await cluster.send(DescribeGroup(group), ANSWER_S)).state == "PreparingRebalance"

    await until(changes)
    beat = Heartbeat(group, 1, first.member, "one")
    assert (await refusal(cluster, beat)).code == Code.REBALANCE_IN_PROGRESS
    membership = Membership(group, 1, first.member, "one")
    assert await cluster.send(OffsetCommit(membership, {partition: Committed(1, "")}), ANSWER_S) == {}
    transactional_id = fresh("id")
    producer = await new_producer(cluster, transactional_id)
    await cluster.send(ListOffsets([partition], "high"), ANSWER_S)
    await joined(cluster, fresh("group"), "elsewhere")
    assert not join.done()
    assert not reading.done()
    await write(cluster, partition, b"v", producer=producer, transactional_id=transactional_id)
    await cluster.send(EndTxn(transactional_id, producer, commit=True), ANSWER_S)
    assert (await reading)[partition].columns.values == [b"v"]
    again = await cluster.send(JoinGroup(group, first.member, "one", 30_000, 30_000, b""), ANSWER_S)
    second = await join
    assert (again.generation, second.generation) == (2, 2)
    assert len(again.members) + len(second.members) == 2
    synced = asyncio.create_task(cluster.send(SyncGroup(group, 2, second.member, "two", {}), 60))
    assert await cluster.send(SyncGroup(group, 2, again.member, "one", {second.member: b"two's"}), ANSWER_S) == b""
    assert await synced == b"two's"


# ---------------------------------------------------------------------------------- transactions


async def test_a_transaction(cluster: AiokafkaCluster) -> None:
    """Records and offsets become visible together; the answer to its end is the next producer."""
    group, partition, name = fresh("group"), await new_partition(cluster), fresh("id")
    member = await joined(cluster, group, "one")
    membership = Membership(group, member.generation, member.member, "one")
    producer = await new_producer(cluster, name)
    await write(cluster, partition, b"v", producer=producer, transactional_id=name, timestamp=int(time.time() * 1000))
    offsets = {partition: Committed(5, "token")}
    assert await answered(cluster, TxnOffsetCommit(name, producer, membership, offsets)) == {}
    assert await values(cluster, partition) == []
    assert await values(cluster, partition, committed=False) == [b"v"]
    assert await cluster.send(ListOffsets([partition], "stable"), ANSWER_S) == {partition: 0}
    assert await cluster.send(ListOffsets([partition], "high"), ANSWER_S) == {partition: 1}
    assert (await refusal_at_once(cluster, OffsetFetch(group, [partition]))).code == Code.UNSTABLE_OFFSET_COMMIT
    assert await cluster.send(OffsetFetch(group, [partition], stable=False), ANSWER_S) == {}
    following = await cluster.send(EndTxn(name, producer, commit=True), ANSWER_S)
    assert following == Producer(producer.id, producer.epoch + 1)
    assert await answered(cluster, OffsetFetch(group, [partition])) == offsets

    async def visible() -> bool:
        return bool(await values(cluster, partition))

    await until(visible)
    await write(cluster, partition, b"no", producer=following, transactional_id=name)
    await answered(cluster, EndTxn(name, following, commit=False))
    assert await values(cluster, partition) == [b"v"]


async def test_producers_that_are_over(cluster: AiokafkaCluster) -> None:
    """Whoever takes the id aborts what was open and fences its holder, whose epoch then opens nothing."""
    partition, name = await new_partition(cluster), fresh("id")
    old = await new_producer(cluster, name)
    await write(cluster, partition, b"no", producer=old, transactional_id=name)
    new = await new_producer(cluster, name)
    assert new.id == old.id
    assert new.epoch > old.epoch
    for request in (EndTxn(name, old, commit=True), InitProducerId(name, 60_000, old)):
        assert (await refusal(cluster, request)).code == Code.PRODUCER_FENCED
    answer = await write(cluster, partition, b"no", producer=old, transactional_id=name, sequence=1)
    assert answer.code == Code.INVALID_PRODUCER_EPOCH
    assert await answered(cluster, InitProducerId(name, 60_000, new)) == Producer(new.id, new.epoch + 1)
    assert await values(cluster, partition) == []
