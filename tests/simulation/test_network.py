"""What goes wrong between a client and the broker, one kind at a time."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    EndTxn,
    Fetch,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    ListOffsets,
    ListTopics,
    NoAnswer,
    OffsetFetch,
    Produce,
    Refused,
    Request,
    Stamped,
    TxnOffsetCommit,
)
from streamproc.log import Committed, Partition
from streamproc.testing.simulation.faults import CALM, ROUGH, Faults
from tests.simulation.asking import (
    NO_PRODUCER,
    NOBODY,
    ask,
    begin,
    commit_offset,
    create,
    end,
    join,
    produce,
    read,
    rows,
    settled,
    stable_offset,
    topics_of,
)
from tests.simulation.bench import SimulatedBench, on_simulated


def now() -> float:
    return asyncio.get_running_loop().time()


@on_simulated
async def test_a_request_that_is_lost_is_not_done(bench: SimulatedBench) -> None:
    """Its client learns nothing, when its time is over."""
    client = bench.cluster.client("a")
    bench.cluster.faults = Faults(lost=1)
    with pytest.raises(NoAnswer, match="none within 7 s"):
        await client.send(CreateTopic("t", 1, {}), 7)
    assert now() == pytest.approx(7)
    bench.cluster.faults = CALM
    assert await topics_of(client) == []


@on_simulated
async def test_a_request_whose_answer_is_lost_is_done(bench: SimulatedBench) -> None:
    """Its client learns nothing, either."""
    client = bench.cluster.client("a")
    bench.cluster.faults = Faults(unanswered=1)
    with pytest.raises(NoAnswer):
        await client.send(CreateTopic("t", 1, {}), 7)
    bench.cluster.faults = CALM
    assert await topics_of(client) == ["t"]


@on_simulated
async def test_a_connection_that_breaks_is_noticed_at_once(bench: SimulatedBench) -> None:
    """Whatever the client waits for has no answer; of what was under way some is done, and some is not."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    waits = [asyncio.create_task(client.send(Fetch({p: 0}, 60_000, 100), 70)) for _ in range(3)]
    await asyncio.sleep(1)
    bench.cluster.faults = Faults(closed=1)
    with pytest.raises(NoAnswer, match="closed"):
        await client.send(ListTopics(), 7)
    for wait in waits:
        with pytest.raises(NoAnswer, match="closed"):
            await wait
    began, done = now(), 0
    for number in range(40):
        bench.cluster.faults = Faults(closed=1)
        with suppress(NoAnswer):
            await client.send(CreateTopic(f"t{number}", 1, {}), 7)
        bench.cluster.faults = CALM
        await asyncio.sleep(0.05)
        done += f"t{number}" in await topics_of(client)
    assert 0 < done < 40
    assert now() - began < 7


@on_simulated
async def test_a_late_request_comes_after_later_ones(bench: SimulatedBench) -> None:
    """It is done though it was given up: here the epoch is raised once more than anyone knows."""
    client = bench.cluster.client("a")
    first = await begin(client, "x")
    bench.cluster.faults = Faults(late=1, late_ms=(10_000, 10_000))
    with pytest.raises(NoAnswer):
        await client.send(InitProducerId("x", 15_000), 1)
    bench.cluster.faults = CALM
    second = await begin(client, "x", first)
    assert second.epoch == first.epoch + 1
    await asyncio.sleep(20)
    with pytest.raises(Refused) as caught:
        await client.send(EndTxn("x", second, commit=False), 5)
    assert caught.value.code == Code.PRODUCER_FENCED


@on_simulated
async def test_a_slow_answer_may_come_too_late(bench: SimulatedBench) -> None:
    """What was asked is done long before."""
    client = bench.cluster.client("a")
    bench.cluster.faults = Faults(slow=1, late_ms=(10_000, 10_000))
    with pytest.raises(NoAnswer):
        await client.send(CreateTopic("t", 1, {}), 5)
    bench.cluster.faults = CALM
    assert await topics_of(client) == ["t"]
    await asyncio.sleep(20)


@on_simulated
async def test_what_comes_twice_counts_once(bench: SimulatedBench) -> None:
    """Records, offsets and ends of transactions, repeated behind later ones: nothing is doubled, lost or undone."""
    client = bench.cluster.client("a")
    [source] = await create(bench, client, "in")
    [p] = await create(bench, client, "out")
    bench.cluster.faults = Faults(repeated=1, late_ms=(0, 300))
    producer = await begin(client, "x")
    nobody = NOBODY._replace(group="g")
    kept = []
    for number in range(60):
        try:
            await produce(client, "x", producer, {p: rows([f"{number}"], at_ms=bench.now_ms)})
            await commit_offset(client, "x", producer, nobody, source, number)
            producer = await end(client, "x", producer)
        except Refused as error:  # an InitProducerId that came again has fenced it
            if error.code not in (Code.PRODUCER_FENCED, Code.INVALID_TXN_STATE):
                raise
            producer = await begin(client, "x")
        else:
            kept.append(b"%d" % number)
    bench.cluster.faults = CALM
    await asyncio.sleep(5)
    await settled(client, p)
    assert await read(client, p) == kept
    assert await stable_offset(client, "g", source) == int(kept[-1])
    answers = {(effect.request, effect.answer) for effect in bench.cluster.effects}
    assert {request for request, answer in answers if answer == "repeated"} >= {"Produce", "TxnOffsetCommit"}
    assert ("EndTxn", "PRODUCER_FENCED") in answers


@on_simulated
async def test_leaders_and_coordinators_move(bench: SimulatedBench) -> None:
    """Nothing is done; where the answer has no place for an error of the whole, each partition has it."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    membership = await join(client, "g", "w1")
    producer = await begin(client, "x")
    batch = client.pack(rows(["x"], at_ms=bench.now_ms))[0]
    bench.cluster.faults = Faults(moved=1)
    seen: Counter[int] = Counter()
    for _ in range(60):
        asked: list[Request[Any]] = [
            JoinGroup("g", membership.member, "w1", 10_000, 10_000, b"w1"),
            Heartbeat(*membership),
            OffsetFetch("g", [p]),
            InitProducerId("x", 15_000, producer),
            ListOffsets([p], "high"),
        ]
        for request in asked:
            with pytest.raises(Refused) as caught:
                await client.send(request, 5)
            seen[caught.value.code] += 1
        offsets = await client.send(TxnOffsetCommit("x", producer, membership, {p: Committed(1, "")}), 5)
        seen[offsets[p]] += 1
        led_ones: list[Request[Any]] = [Produce("x", {p: Stamped(batch, producer, 0)}), Fetch({p: 0}, 0, 100)]
        for led in led_ones:
            try:
                answer = await client.send(led, 5)
            except Refused as error:
                seen[error.code] += 1
            else:
                seen[answer[p].code] += 1
    assert set(seen) == {
        Code.NOT_COORDINATOR,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.LEADER_NOT_AVAILABLE,
    }
    bench.cluster.faults = CALM
    assert await ask(client, ListOffsets([p], "high")) == {p: 0}
    assert await begin(client, "x", producer) == (producer.id, producer.epoch + 1)


@on_simulated
async def test_a_transaction_finds_the_last_one_still_being_ended(bench: SimulatedBench) -> None:
    """CONCURRENT_TRANSACTIONS of all that begins or ends one."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    producer = await begin(client, "x")
    bench.cluster.faults = Faults(crowded=1)
    for request in (InitProducerId("x", 15_000, producer), EndTxn("x", producer, commit=False)):
        with pytest.raises(Refused) as caught:
            await client.send(request, 5)
        assert caught.value.code == Code.CONCURRENT_TRANSACTIONS
    batch = client.pack(rows(["x"], at_ms=bench.now_ms))[0]
    answer = await client.send(Produce("x", {p: Stamped(batch, producer, 0)}), 5)
    assert answer[p].code == Code.CONCURRENT_TRANSACTIONS
    answer = await client.send(Produce(None, {p: Stamped(batch, NO_PRODUCER, -1)}), 5)
    assert answer[p].code == Code.NONE


@on_simulated
async def test_a_client_that_is_cut_off(bench: SimulatedBench) -> None:
    """Nothing of it passes meanwhile; of what it sent some comes afterwards. Others notice nothing."""
    client, other = bench.cluster.client("a"), bench.cluster.client("b")
    bench.cluster.cut(client, 60)
    for number in range(20):
        with pytest.raises(NoAnswer):
            await client.send(CreateTopic(f"t{number}", 1, {}), 1)
    assert await topics_of(other) == []
    await asyncio.sleep(60)
    assert 0 < len(await topics_of(other)) < 20


@on_simulated
async def test_a_broker_that_stops_for_a_while(bench: SimulatedBench) -> None:
    """What comes meanwhile is done afterwards, in the order in which it came; nobody was disconnected."""
    client = bench.cluster.client("a")
    bench.cluster.stall(10)
    makes = [asyncio.create_task(client.send(CreateTopic(f"t{number}", 1, {}), 20)) for number in range(5)]
    await asyncio.sleep(9)
    assert not any(task.done() for task in makes)
    await asyncio.gather(*makes)
    assert 10 < now() < 11
    with pytest.raises(NoAnswer):
        bench.cluster.stall(10)
        await client.send(CreateTopic("late", 1, {}), 5)
    await asyncio.sleep(10)
    assert await topics_of(client) == ["t0", "t1", "t2", "t3", "t4", "late"]


@on_simulated
async def test_a_broker_that_restarts(bench: SimulatedBench) -> None:
    """All connections break; until it is back none is to be had; then its coordinators load, and all is as it was."""
    client = bench.cluster.client("a")
    [p] = await create(bench, client, "out")
    producer = await begin(client, "x")
    await produce(client, "x", producer, {p: rows(["x"], at_ms=bench.now_ms)})
    waits = asyncio.create_task(client.send(Fetch({p: 0}, 60_000, 100), 70))
    await asyncio.sleep(1)
    bench.cluster.restart(5)
    with pytest.raises(NoAnswer, match="went down"):
        await waits
    with pytest.raises(NoAnswer, match="refused"):
        await client.send(ListTopics(), 20)
    assert now() < 5
    await asyncio.sleep(5)
    assert await ask(client, ListOffsets([p], "high")) == {p: 1}
    assert await end(client, "x", producer) == (producer.id, producer.epoch + 1)
    assert "COORDINATOR_LOAD_IN_PROGRESS" in {effect.answer for effect in bench.cluster.effects}
    await settled(client, p)
    assert await read(client, p) == [b"x"]


@on_simulated
async def test_requests_of_one_kind_keep_their_order(bench: SimulatedBench) -> None:
    """As on a connection: what was sent first arrives first, whatever each takes."""
    client = bench.cluster.client("a")
    bench.cluster.faults = Faults(way_ms=(0.1, 1_000))
    makes = [asyncio.create_task(client.send(CreateTopic(f"t{number}", 1, {}), 20)) for number in range(30)]
    await asyncio.gather(*makes)
    assert await topics_of(client) == [f"t{number}" for number in range(30)]


def test_all_faults_are_drawn() -> None:
    """About as often as they should be."""
    rng = random.Random(1)
    drawn = Counter(ROUGH.draw(rng) for _ in range(200_000))
    for name in ("lost", "unanswered", "closed", "late", "slow", "repeated", "moved", "crowded", "cut", "stalled"):
        assert drawn[name] / 200_000 == pytest.approx(getattr(ROUGH, name), rel=0.5), name
    assert drawn["restarted"] > 0
    assert drawn[""] > 180_000


@on_simulated
async def test_a_new_topic_is_not_known_at_once(bench: SimulatedBench) -> None:
    """Its maker may be told so, too, for a while."""
    client = bench.cluster.client("a")
    bench.cluster.faults = Faults(new_ms=(500, 500))
    await client.send(CreateTopic("t", 1, {}), 5)
    p = Partition("t", 0)
    with pytest.raises(Refused) as caught:
        await client.send(ListOffsets([p], "high"), 5)
    assert caught.value.code == Code.UNKNOWN_TOPIC_OR_PARTITION
    with pytest.raises(Refused) as caught:
        await client.send(CreateTopic("t", 1, {}), 5)
    assert caught.value.code == Code.TOPIC_ALREADY_EXISTS
    await asyncio.sleep(0.5)
    assert await client.send(ListOffsets([p], "high"), 5) == {p: 0}
