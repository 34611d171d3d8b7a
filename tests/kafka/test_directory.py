"""Leaders and coordinators that move, told by brokers that answer by a script."""

import asyncio
from typing import Any

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.connections import Address, Connections, Lane
from streamproc.kafka.directory import Directory
from streamproc.kafka.requests import (
    Code,
    Fetch,
    Heartbeat,
    Membership,
    OffsetCommit,
    OffsetFetch,
)
from streamproc.kafka.wire import HeartbeatV3, Message, ProduceV9, ProduceV12, TooOld
from streamproc.log import Committed, Partition
from tests.kafka.opened import ANSWER_S, SHORT_S, refusal_at_once

NOBODY = Partition("no-such-topic", 0)


class Brokers(Connections):
    """Two brokers in place of their connections: they answer by the script."""

    def __init__(self) -> None:
        super().__init__({}, patience_s=SHORT_S)
        self.asked: list[tuple[int, str]] = []
        self.leader = self.coordinator = 1
        self.codes: list[int] = []
        self.look_ups = asyncio.Event()
        """Clear: they are not answered."""
        self.look_ups.set()

    async def ask(self, address: Address, request: Any, deadline: float, lane: Lane | None = None) -> Any:
        struct = request.prepare(dict.fromkeys(range(99), (0, 99)))
        name = type(struct).__name__.partition("Request")[0]
        self.asked.append((address.port, name))
        if name == "Metadata":
            await self.look_ups.wait()
            brokers = [(1, "kafka", 1, None), (2, "kafka", 2, None)]
            leaders = {"t": [self.leader, -1, 2], "other": [2]}
            topics: list[Any] = [
                (0, topic, False, [(0, number, leader, [], [], []) for number, leader in enumerate(leaders[topic])])
                for topic in struct.topics
                if topic in leaders
            ]
            return struct.RESPONSE_TYPE(0, brokers, "", 1, topics)
        if name == "FindCoordinator":
            return struct.RESPONSE_TYPE(0, 0, None, self.coordinator, "kafka", self.coordinator)
        if name == "Fetch":
            rows = [(number, self.codes.pop(0), 0, 0, 0, None, -1, b"") for number, *_ in struct.topics[0][1]]
            return struct.RESPONSE_TYPE(0, 0, 0, [(struct.topics[0][0], rows)])
        if name == "OffsetFetch":
            return struct.RESPONSE_TYPE(0, [], self.codes.pop(0), {})
        if name == "OffsetCommit":
            return struct.RESPONSE_TYPE(0, [("t", [(0, self.codes.pop(0))])])
        return struct.RESPONSE_TYPE(0, self.codes.pop(0))


def scripted() -> tuple[AiokafkaCluster, Brokers]:
    brokers = Brokers()
    directory = Directory(brokers, [Address("kafka", 1)], patience_s=SHORT_S, max_age_s=1_000)
    return AiokafkaCluster(brokers, directory, 0), brokers


LED, LEADERLESS, LED_BY_TWO = Partition("t", 0), Partition("t", 1), Partition("t", 2)


async def test_leaders_that_move() -> None:
    """A broker that says that it does not lead is not asked again; who leads is looked up, and asked."""
    cluster, brokers = scripted()
    for code in (Code.NOT_LEADER_OR_FOLLOWER, Code.LEADER_NOT_AVAILABLE, Code.KAFKA_STORAGE_ERROR):
        brokers.leader, brokers.asked, brokers.codes = 1, [], [Code.NONE, code, Code.NONE]
        cluster.led_together([LED])
        assert (await cluster.send(Fetch({LED: 0}, 0, 1), ANSWER_S))[LED].code == Code.NONE
        brokers.leader = 2
        assert (await cluster.send(Fetch({LED: 0}, 0, 1), ANSWER_S))[LED].code == code
        assert (await cluster.send(Fetch({LED: 0}, 0, 1), ANSWER_S))[LED].code == Code.NONE
        assert [port for port, name in brokers.asked if name == "Fetch"] == [1, 1, 2]
        cluster._directory.moved([LED])
    await cluster.close()


async def test_leaders_that_there_are_none_of() -> None:
    """Refused, and looked up at each try; so are partitions sent together that have come to different leaders."""
    cluster, brokers = scripted()
    for partitions, said in (([LEADERLESS], "there is no leader now"), ([LED, LED_BY_TWO], "have different leaders")):
        brokers.asked = []
        for _ in range(2):
            refused = await refusal_at_once(cluster, Fetch(dict.fromkeys(partitions, 0), 0, 1))
            assert refused.code == Code.LEADER_NOT_AVAILABLE
            assert said in str(refused)
    assert cluster.led_together([LED, LEADERLESS, LED_BY_TWO, NOBODY]) == [[LED], [LEADERLESS], [LED_BY_TWO], [NOBODY]]
    await cluster.close()


async def test_coordinators_that_move() -> None:
    """Whether the whole answer says so or that of a partition."""
    membership = Membership("g", 1, "m", "i")
    for code in (Code.NOT_COORDINATOR, Code.COORDINATOR_NOT_AVAILABLE):
        cluster, brokers = scripted()
        brokers.codes = [Code.NONE, code, Code.NONE, code, Code.NONE]
        await cluster.send(Heartbeat("g", 1, "m", "i"), ANSWER_S)
        brokers.coordinator = 2
        assert (await refusal_at_once(cluster, Heartbeat("g", 1, "m", "i"))).code == code
        await cluster.send(Heartbeat("g", 1, "m", "i"), ANSWER_S)
        brokers.coordinator = 1
        commit = OffsetCommit(membership, {LED: Committed(1, "")})
        assert await cluster.send(commit, ANSWER_S) == {LED: code}
        assert await cluster.send(commit, ANSWER_S) == {}
        asked = [port for port, name in brokers.asked if name in ("Heartbeat", "OffsetCommit")]
        assert asked == [1, 1, 2, 2, 1]
        assert sum(name == "FindCoordinator" for _, name in brokers.asked) == 3
        await cluster.close()


async def test_no_offsets_are_not_an_error_s_offsets() -> None:
    """An answer that is an error of the whole has no partitions: it does not say that nothing was committed."""
    cluster, brokers = scripted()
    brokers.codes = [Code.NOT_COORDINATOR, Code.NONE]
    assert (await refusal_at_once(cluster, OffsetFetch("g", None))).code == Code.NOT_COORDINATOR
    assert await cluster.send(OffsetFetch("g", None), ANSWER_S) == {}
    assert sum(name == "FindCoordinator" for _, name in brokers.asked) == 2
    await cluster.close()


async def test_a_look_up_under_way() -> None:
    """Whoever asks for the same topic waits for it; whoever asks for another, for the next one."""
    cluster, brokers = scripted()
    brokers.look_ups.clear()
    brokers.codes = [Code.NONE] * 3
    other = Partition("other", 0)
    fetches = [Fetch({LED: 0}, 0, 1), Fetch({LED: 0}, 0, 1), Fetch({other: 0}, 0, 1)]
    sends = [asyncio.create_task(cluster.send(fetch, ANSWER_S)) for fetch in fetches]
    await asyncio.sleep(0)
    brokers.look_ups.set()
    await asyncio.gather(*sends)
    assert sorted(port for port, name in brokers.asked if name == "Fetch") == [1, 1, 2]
    assert sum(name == "Metadata" for _, name in brokers.asked) == 2
    await cluster.close()


async def test_leaders_are_looked_up_now_and_then() -> None:
    """Also when nothing says that they moved."""
    brokers = Brokers()
    cluster = AiokafkaCluster(brokers, Directory(brokers, [Address("kafka", 1)], patience_s=SHORT_S, max_age_s=0), 0)
    brokers.codes = [Code.NONE] * 2
    await cluster.send(Fetch({LED: 0}, 0, 1), ANSWER_S)
    await cluster.send(Fetch({LED: 0}, 0, 1), ANSWER_S)
    await asyncio.sleep(0)
    assert sum(name == "Metadata" for _, name in brokers.asked) == 2
    await cluster.close()


@pytest.mark.parametrize(("lowest", "highest"), [(0, 2), (4, 9)])
def test_a_broker_of_another_time(lowest: int, highest: int) -> None:
    """It is said what is needed and what there is."""
    with pytest.raises(TooOld, match=f"Heartbeat is needed in version 3, and the broker knows versions {lowest} to"):
        Message(HeartbeatV3("g", 1, "m", "i")).prepare({12: (lowest, highest)})
    with pytest.raises(TooOld, match="the broker knows no version of it"):
        Message(HeartbeatV3("g", 1, "m", "i")).prepare({})


def test_the_newest_version_that_both_know() -> None:
    """Records outside of transactions go to older brokers too."""
    versions = [version(None, -1, 1, [], {}) for version in (ProduceV12, ProduceV9)]
    assert Message(*versions).prepare({0: (0, 12)}) is versions[0]
    assert Message(*versions).prepare({0: (0, 11)}) is versions[1]
