"""Topics and features; the same of the simulated and the real cluster."""

from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DeleteTopics,
    DescribeTopics,
    ListOffsets,
    ListTopics,
    OffsetCommit,
    OffsetFetch,
    TopicState,
    TransactionVersion,
)
from streamproc.log import Committed, Partition
from streamproc.testing.simulation.topics import DEFAULTS
from tests.simulation.asking import (
    NEW,
    NO_PRODUCER,
    NOBODY,
    ask,
    create,
    eventually,
    fetch,
    produce,
    refused,
    rows,
    topics_of,
)
from tests.simulation.bench import Bench, on_both


@on_both
async def test_topics_come_and_go(bench: Bench) -> None:
    """Created once, listed, deleted; what is not there is gone already."""
    client = await bench.client("a")
    name, gone = bench.name("t"), bench.name("gone")
    await ask(client, CreateTopic(name, 3, {}))
    assert await refused(client, CreateTopic(name, 3, {})) == Code.TOPIC_ALREADY_EXISTS
    await eventually(client, ListTopics([name, gone]), {name: TopicState(3, {})})
    assert name in await topics_of(client)
    await ask(client, DeleteTopics([name, gone]))
    await eventually(client, ListTopics([name]), {})


@on_both
async def test_topics_that_cannot_be(bench: Bench) -> None:
    """Names, numbers of partitions and settings that Kafka does not take."""
    client = await bench.client("a")
    assert await refused(client, CreateTopic("no space", 1, {})) == Code.INVALID_TOPIC
    assert await refused(client, CreateTopic(bench.name("t"), 0, {})) == Code.INVALID_PARTITIONS
    assert await refused(client, CreateTopic(bench.name("t"), 1, {"retention": "1"})) == Code.INVALID_CONFIG


@on_both
async def test_the_configuration_of_a_topic(bench: Bench) -> None:
    """What was said, and Kafka's default where nothing was."""
    client = await bench.client("a")
    name = bench.name("t")
    await ask(client, CreateTopic(name, 2, {"cleanup.policy": "compact", "retention.ms": "-1"}))
    topic = (await ask(client, DescribeTopics([name]), NEW))[name]
    assert topic.partitions == 2
    expected = {**DEFAULTS, "cleanup.policy": "compact", "retention.ms": "-1"}
    assert {key: topic.config[key] for key in expected} == expected
    assert await refused(client, DescribeTopics([bench.name("gone")])) == Code.UNKNOWN_TOPIC_OR_PARTITION


@on_both
async def test_a_topic_made_anew_is_another_one(bench: Bench) -> None:
    """It begins at offset 0, and what groups had committed of it is forgotten."""
    client = await bench.client("a")
    [p] = await create(bench, client, "t")
    nobody = NOBODY._replace(group=bench.name("g"))
    await produce(client, None, NO_PRODUCER, {p: rows(["x"], at_ms=bench.now_ms)}, sequence=-1)
    await ask(client, OffsetCommit(nobody, {p: Committed(1, "")}))
    await ask(client, DeleteTopics([p.topic]))
    await eventually(client, ListTopics([p.topic]), {})
    await ask(client, CreateTopic(p.topic, 1, {}))
    assert await ask(client, ListOffsets([p], "high"), NEW) == {p: 0}
    assert (await fetch(client, p, 1)).code == Code.OFFSET_OUT_OF_RANGE
    assert await ask(client, OffsetFetch(nobody.group, [p])) == {}


@on_both
async def test_leaders_are_found_out(bench: Bench) -> None:
    """What is not known is a group of its own, until it was asked for and is there."""
    one, two = await bench.client("a"), await bench.client("b")
    [p] = await create(bench, one, "t")
    gone = Partition(bench.name("gone"), 0)
    await ask(two, ListOffsets([p], "high"))
    assert sorted(map(list, two.led_together([gone, p]))) == [[gone], [p]]
    assert two.led_together([p]) == [[p]]


@on_both
async def test_the_version_of_transactions(bench: Bench) -> None:
    """2 is KIP-890."""
    client = await bench.client("a")
    assert await ask(client, TransactionVersion()) == 2
