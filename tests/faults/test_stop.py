"""SIGTERM is answered within ten seconds, whatever the worker waits for; what it had open is read again."""

import asyncio
import math
import os
import signal
import time

import pytest

from tests.faults.inputs import visits
from tests.faults.outage import Outage
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(180)

PROMISED_S = 10.0
SLACK_S = 3.0
"""For a machine that has much else to do."""


async def leaves_in_time(worker: WorkerProcess) -> int:
    """Its exit code."""
    asked = time.monotonic()
    worker.signal(signal.SIGTERM)
    code = await worker.ended(3 * PROMISED_S)
    assert time.monotonic() - asked < PROMISED_S + SLACK_S, worker.words
    assert code in (0, 1), worker.words
    return code


@pytest.mark.parametrize(
    ("seconds", "fetches"),
    [
        pytest.param(math.inf, 1, id="that-gets-no-records"),
        pytest.param(0.5, 3, id="that-is-slow", marks=pytest.mark.long),
    ],
)
async def test_during_a_restore(scene: Scene, proxy: Proxy, seconds: float, fetches: int) -> None:
    """The records of the changelog do not come, or each fetch of them late: it leaves, and the next one restores."""
    await scene.fill(visits(6_000, takes_ms=10))
    worker = scene.worker()
    await scene.reached(0.6)
    worker.kill()
    scene.lose_disk("a")
    scene.broker = proxy.bootstrap
    late = proxy.delay(Api.FETCH, "reply", seconds)
    worker = scene.worker()
    for _ in range(fetches):
        await asyncio.to_thread(late.wait)
    assert await leaves_in_time(worker) == 0
    assert await scene.members() == []
    proxy.release(late)
    await scene.finished(scene.worker())


@pytest.mark.long
async def test_during_a_rebalance(scene: Scene) -> None:
    """Another member stands still, so that the group cannot be shared out anew."""
    await scene.fill(visits(8_000, takes_ms=20))
    still, leaves = await scene.sharing("a", "b")
    still.pause()
    joins = scene.worker("c")
    await leaves.said("changes, its tasks are to be given up")
    assert await leaves_in_time(leaves) == 0
    assert await leaves_in_time(joins) == 0
    still.go_on()
    await scene.finished(still)


@pytest.mark.long
@pytest.mark.parametrize("silently", [True, False], ids=["silent", "cut"])
async def test_a_network_that_is(scene: Scene, proxy: Proxy, silently: bool) -> None:
    """Silent, nothing is answered, not even the goodbye; cut, every connection is refused."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(6_000, takes_ms=10))
    worker = scene.worker()
    await scene.more_read()
    proxy.cut(silently=silently)
    await leaves_in_time(worker)
    proxy.heal()
    await scene.finished(scene.worker())


PATIENT = {"request_timeout": "30s", "transaction_timeout": "60s"}


@pytest.mark.long
@pytest.mark.parametrize("settings", [{}, PATIENT], ids=["impatient", "patient"])
async def test_a_broker_that_stands_still(own_scene: Scene, own_kafka: KafkaServer, settings: dict[str, str]) -> None:
    """It takes connections and answers nothing, however long it is waited for."""
    await own_scene.fill(visits(6_000, takes_ms=10))
    own_scene.settings |= settings
    worker = own_scene.worker()
    await own_scene.more_read()
    os.kill(own_kafka.pid, signal.SIGSTOP)
    await asyncio.sleep(0.5)
    await leaves_in_time(worker)
    os.kill(own_kafka.pid, signal.SIGCONT)
    await own_scene.finished(own_scene.worker())


@pytest.mark.long
async def test_a_broker_that_is_gone(outage: Outage) -> None:
    """It was there when the worker began."""
    (worker,) = await outage.working("a")
    async with outage.away(KafkaServer.stop, worker):
        await leaves_in_time(worker)
    await outage.scene.finished(outage.scene.worker())
