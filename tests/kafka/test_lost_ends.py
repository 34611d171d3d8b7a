"""The end of a transaction on a network that loses it, or its answer: frames of a real broker's, on their way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streamproc.log import LogError, Unknown
from tests.kafka.copying import TIMING
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Side
from tests.kafka.server import KafkaServer
from tests.kafka.stage import Stage, Worker
from tests.simulation.bench import RealBench
from tests.simulation.conftest import now_ms

SHORT = TIMING._replace(transaction=1_500)


@asynccontextmanager
async def behind(proxy: Proxy, server: KafkaServer) -> AsyncIterator[tuple[Stage, Worker]]:
    """A worker that reaches the broker through the proxy, and whoever looks at the topics without it."""
    direct, proxied = RealBench(server.bootstrap, now_ms), RealBench(proxy.bootstrap, now_ms)
    stage = await Stage.set_up(direct)
    stage.bench = proxied
    worker = await stage.alone("a", SHORT)
    await worker.commit("first", at=1)
    try:
        yield stage, worker
    finally:
        await stage.close()
        await proxied.close()
        await direct.close()


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
@pytest.mark.parametrize("side", ["request", "reply"])
async def test_one_is_lost(module_kafka: KafkaServer, proxy: Proxy, side: Side, silently: bool) -> None:
    """It is sent again, and the epoch is committed, once."""
    async with behind(proxy, module_kafka) as (stage, worker):
        lost = proxy.lose(Api.END_TXN, side, silently=silently)
        await worker.commit("second", at=2)
        assert len(lost.frames) == 1
        await worker.commit("third", at=3)
        assert (await stage.out(), await stage.committed()) == (["first", "second", "third"], 3)


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
@pytest.mark.parametrize("side", ["request", "reply"])
async def test_the_network_is_cut_for_longer_than_a_transaction(
    module_kafka: KafkaServer, proxy: Proxy, side: Side, silently: bool
) -> None:
    """Unknown; and when it is settled the epoch is committed if its end had come, else not, and stays what it is.

    An end that waits on a silent network may still come when the broker is reached again: then offset and records tell
    the same.
    """
    async with behind(proxy, module_kafka) as (stage, worker):
        ends = proxy.hold(Api.END_TXN, side, times=None)
        commit = asyncio.create_task(worker.commit("second", at=2))
        await asyncio.to_thread(ends.wait)
        proxy.cut(silently=silently)
        with pytest.raises(Unknown):
            await commit
        with pytest.raises(LogError, match="no answer"):
            await worker.sink.abort()
        proxy.heal()
        proxy.release(ends)
        await worker.sink.abort()
        found = (await worker.source.committed(stage.inputs[:1]))[stage.inputs[0]]
        done = found == (2, "a-2")
        assert done or found == (1, "a-1")
        assert done == (side == "reply") or (side, silently) == ("request", True)
        await worker.commit("third", at=3)
        assert await stage.out() == (["first", "second", "third"] if done else ["first", "third"])
        assert await stage.committed() == 3
