"""A network that fails between a client and a broker, and brokers that do."""

import asyncio
import os
import signal
from typing import Any

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.requests import (
    Code,
    Fetch,
    Heartbeat,
    ListOffsets,
    ListTopics,
    NoAnswer,
    OffsetFetch,
    Produce,
    Produced,
    Request,
    Stamped,
    TransactionVersion,
)
from streamproc.log import Columns
from tests.kafka.frames import Api
from tests.kafka.opened import (
    ANSWER_S,
    SHORT_S,
    answered,
    fresh,
    joined,
    new_partition,
    new_producer,
    no_answer,
    opened,
    outage,
    produced,
    until,
    values,
    warnings,
    write,
)
from tests.kafka.proxy import Proxy
from tests.kafka.server import KafkaServer


async def settled(cluster: AiokafkaCluster) -> bool:
    """Whether no answer is on its way that nobody waits for."""
    return not cluster._connections._abandoned


async def test_a_late_answer_meets_nobody(proxy: Proxy) -> None:
    """What is asked behind a time-out gets its own answer, whatever comes of the first."""
    async with opened(proxy.bootstrap) as cluster:
        first, second = await new_partition(cluster), await new_partition(cluster)
        await answered(cluster, ListOffsets([first, second], "high"))
        held = proxy.hold(Api.LIST_OFFSETS, "reply")
        said = await no_answer(cluster, ListOffsets([first], "high"))
        assert said == (
            f"no answer from Kafka to the request for the high watermark of {first.topic}/0: none came within 0.3 s"
        )
        assert await cluster.send(ListOffsets([second], "high"), ANSWER_S) == {second: 0}
        proxy.release(held)
        for one in (second, first, second):
            assert await cluster.send(ListOffsets([one], "high"), ANSWER_S) == {one: 0}


async def test_cancelled(proxy: Proxy) -> None:
    """Whoever is cancelled leaves a connection that others use as soon as its answer has come, and not before."""
    async with opened(proxy.bootstrap) as cluster:
        partition = await new_partition(cluster)
        await answered(cluster, ListOffsets([partition], "high"))
        held = proxy.hold(Api.FETCH, "reply")
        before = len(proxy.requests)
        fetch = asyncio.create_task(cluster.send(Fetch({partition: 0}, 1, 1 << 20), ANSWER_S))

        async def sent() -> bool:
            return any(request.api == Api.FETCH for request in proxy.requests[before:])

        await until(sent)
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert await cluster.send(ListOffsets([partition], "high"), ANSWER_S) == {partition: 0}
        proxy.release(held)
        await until(lambda: settled(cluster))
        before = len(proxy.requests)
        await asyncio.gather(*(cluster.send(ListOffsets([partition], "high"), ANSWER_S) for _ in range(2)))
        assert all(request.api != Api.API_VERSIONS for request in proxy.requests[before:]), "a connection was wasted"


async def test_cancelled_a_hundred_times(proxy: Proxy) -> None:
    """At any moment of connecting, asking and waiting: nothing is left behind, and nothing is confused."""
    async with opened(proxy.bootstrap) as cluster:
        partition = await new_partition(cluster)
        await answered(cluster, ListOffsets([partition], "first"))
        for number in range(100):
            task = asyncio.create_task(cluster.send(Fetch({partition: 0}, 5, 1 << 20), ANSWER_S))
            await asyncio.sleep(number * 0.0001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert await cluster.send(ListOffsets([partition], "first"), ANSWER_S) == {partition: 0}
        await until(lambda: settled(cluster))
        assert not cluster._connections._taken
        assert not cluster._connections._connecting


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_connection_breaks(proxy: Proxy, side: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asked is told; the next request is answered by a new connection."""
    async with opened(proxy.bootstrap) as cluster:
        partition = await new_partition(cluster)
        await answered(cluster, ListOffsets([partition], "high"))
        proxy.lose(Api.LIST_OFFSETS, side)
        said = await no_answer(cluster, ListOffsets([partition], "high"), ANSWER_S)
        assert said.endswith(f"broker {proxy.bootstrap}: it closed the connection")
        assert await cluster.send(ListOffsets([partition], "high"), ANSWER_S) == {partition: 0}
    assert warnings(caplog) == outage(proxy.bootstrap, "it closed the connection")


async def test_a_network_that_is_cut_silently(proxy: Proxy) -> None:
    """Connections that look alive are not tried one after the other: the first that is silent speaks for all."""
    async with opened(proxy.bootstrap) as cluster:
        partition = await new_partition(cluster)
        await answered(cluster, ListOffsets([partition], "high"))
        await asyncio.gather(*(cluster.send(ListOffsets([partition], "high"), ANSWER_S) for _ in range(4)))
        proxy.cut(silently=True)
        await no_answer(cluster, ListOffsets([partition], "high"))
        assert not any(cluster._connections._free.values())
        await no_answer(cluster, ListOffsets([partition], "high"))
        proxy.heal()
        await answered(cluster, ListOffsets([partition], "high"))


async def test_a_produced_answer_is_lost(proxy: Proxy) -> None:
    """The batch was written; sent again with the same sequence it is known by its number."""
    async with opened(proxy.bootstrap) as cluster:
        partition = await new_partition(cluster)
        producer = await new_producer(cluster)
        assert (await write(cluster, partition, b"a", producer=producer)).offset == 0
        (batch,) = cluster.pack(Columns([None], [b"b"], [1]))
        request = Produce(None, {partition: Stamped(batch, producer, 1)})
        proxy.lose(Api.PRODUCE, "reply", silently=True)
        assert f"to records for {partition.topic}/0: none came" in await no_answer(cluster, request)
        assert await produced(cluster, request) == {partition: Produced(Code.NONE, 1)}
        assert await values(cluster, partition) == [b"a", b"b"]


async def test_closed_while_others_wait(proxy: Proxy) -> None:
    """Each of them is told, whether it waits for an answer, a connection or its turn."""
    cluster = await AiokafkaCluster.connect(proxy.bootstrap, request_timeout_s=ANSWER_S)
    partition = await new_partition(cluster)
    producer = await new_producer(cluster)
    await write(cluster, partition, b"v", producer=producer)
    proxy.cut(silently=True)
    try:
        sends = [asyncio.create_task(no_answer(cluster, Fetch({partition: 0}, 30_000, 1), 60)) for _ in range(3)]
        (batch,) = cluster.pack(Columns([None], [b"b"], [1]))
        produce = Produce(None, {partition: Stamped(batch, producer, 1)})
        sends += [asyncio.create_task(no_answer(cluster, produce, 60)) for _ in range(3)]
        sends += [asyncio.create_task(no_answer(cluster, OffsetFetch(fresh("g"), None), 60)) for _ in range(3)]
        await asyncio.sleep(0.05)
        await cluster.close()
        for said in await asyncio.gather(*sends):
            assert said.endswith("the connections were closed")
    finally:
        proxy.heal()
    assert (await no_answer(cluster, ListTopics())).endswith("the connections were closed")


async def test_an_outage(module_kafka: KafkaServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is said once when it begins and once when it is over, however many ask and however often."""
    async with opened(module_kafka.bootstrap) as cluster:
        partition = await new_partition(cluster)
        group = fresh("group")
        member = await joined(cluster, group, "one")
        requests: list[Request[Any]] = [
            ListOffsets([partition], "high"),
            Heartbeat(group, member.generation, member.member, "one"),
            ListTopics(),
            TransactionVersion(),
        ]
        module_kafka.kill()
        try:
            for _ in range(3):
                for said in await asyncio.gather(*(no_answer(cluster, request, ANSWER_S) for request in requests)):
                    assert said.startswith("no answer from Kafka to the ")
        finally:
            module_kafka.restart()
        for request in requests:
            await answered(cluster, request)
    begun, over = warnings(caplog)
    assert begun.startswith(f"Kafka broker {module_kafka.bootstrap} cannot be reached: ")
    assert over == f"Kafka broker {module_kafka.bootstrap} answers again"


async def test_a_broker_that_stands_still(module_kafka: KafkaServer, caplog: pytest.LogCaptureFixture) -> None:
    """It takes connections and answers nothing: no request waits longer than it was told to."""
    async with opened(module_kafka.bootstrap) as cluster:
        partition = await new_partition(cluster)
        await answered(cluster, ListOffsets([partition], "high"))

        async def still() -> bool:
            try:
                await cluster.send(ListTopics(), SHORT_S)
            except NoAnswer:
                return True
            return False

        os.kill(module_kafka.pid, signal.SIGSTOP)
        try:
            await until(still)  # its threads do not stop all at once
            for _ in range(3):
                await asyncio.gather(
                    no_answer(cluster, ListOffsets([partition], "high")),
                    no_answer(cluster, OffsetFetch(fresh("g"), None)),
                    no_answer(cluster, ListTopics()),
                )
        finally:
            os.kill(module_kafka.pid, signal.SIGCONT)
        await answered(cluster, ListOffsets([partition], "high"))
    assert warnings(caplog) == outage(module_kafka.bootstrap, "it does not answer")
