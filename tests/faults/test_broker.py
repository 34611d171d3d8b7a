"""The broker goes away and comes back, with transactions open in it.

It goes at a moment at which nothing is decided and not yet written to all partitions: every worker's EndTxn is held
up before. For a broker of a cluster of one that is started again forgets, now and then, to finish what it had decided
before (seen with Kafka 4.3.0: "Couldn't find leader endpoint for partitions ... these partitions are likely deleted
already and hence can be skipped"). What such a transaction wrote stays invisible then, and a group's offsets in doubt,
until the producer's next transaction there ends: no client can be right on that.
"""

import asyncio

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Rule
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(180)


async def working(scene: Scene, proxy: Proxy, *machines: str) -> list[WorkerProcess]:
    """So many workers that have tasks, and have committed some of it."""
    scene.broker = proxy.bootstrap
    scene.settings["transaction_timeout"] = "60s"  # as above: what is over meanwhile is decided at its start
    await scene.fill(visits(8_000, takes_ms=20))
    return await scene.sharing(*machines)


async def opened(proxy: Proxy, *workers: WorkerProcess) -> Rule:
    """Each of these has a transaction open that it wants to end, and cannot."""
    ends = proxy.hold(Api.END_TXN, "request", times=None)
    of = set[str | None]()
    while len(of) < len(workers):
        of.add((await asyncio.to_thread(ends.wait)).subject)
    return ends


async def test_killed(own_scene: Scene, own_proxy: Proxy, own_kafka: KafkaServer) -> None:
    """As in a power failure: what was not committed is read again."""
    workers = await working(own_scene, own_proxy, "a", "b")
    ends = await opened(own_proxy, *workers)
    await asyncio.to_thread(own_kafka.kill)
    own_proxy.release(ends)
    await asyncio.to_thread(own_kafka.start)
    await own_scene.finished(*workers)


@pytest.mark.long
async def test_stopped(own_scene: Scene, own_proxy: Proxy, own_kafka: KafkaServer) -> None:
    """In order: it says goodbye to its clients, which look for it until it is there again."""
    workers = await working(own_scene, own_proxy, "a", "b")
    ends = await opened(own_proxy, *workers)
    await asyncio.to_thread(own_kafka.stop)
    own_proxy.release(ends)
    await asyncio.to_thread(own_kafka.start)
    await own_scene.finished(*workers)


@pytest.mark.long
async def test_away_for_longer_than_a_session(own_scene: Scene, own_proxy: Proxy, own_kafka: KafkaServer) -> None:
    """The workers wait for it, and say so."""
    workers = await working(own_scene, own_proxy, "a", "b")
    ends = await opened(own_proxy, *workers)
    await asyncio.to_thread(own_kafka.kill)
    own_proxy.release(ends)
    for worker in workers:
        await worker.said("no turn of the worker has ended (commit under way")
    await asyncio.to_thread(own_kafka.start)
    await own_scene.finished(*workers)


@pytest.mark.long
async def test_killed_three_times(own_scene: Scene, own_proxy: Proxy, own_kafka: KafkaServer) -> None:
    """And the worker too, the second time and the third."""
    (worker,) = await working(own_scene, own_proxy, "a")
    for turn in range(3):
        ends = await opened(own_proxy, worker)
        await asyncio.to_thread(own_kafka.kill)
        if turn:
            worker.kill()
        own_proxy.release(ends)
        await asyncio.to_thread(own_kafka.start)
        if turn:
            worker = own_scene.worker("a")
        await own_scene.more_read()
    await own_scene.finished(worker)
