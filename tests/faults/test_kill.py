"""kill -9: at random moments, and at each step of a commit."""

import asyncio
import random

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Side

pytestmark = pytest.mark.timeout(180)


async def test_started_again_in_its_slot(scene: Scene) -> None:
    """Killed three times in the midst of it, a worker that is started again goes on as who it was."""
    rng = random.Random(1)
    await scene.fill(visits(8_000, takes_ms=20))
    worker = scene.worker()
    for _ in range(3):
        await scene.more_read()
        await asyncio.sleep(rng.random() * 0.3)
        worker.kill()
        worker = scene.worker()
    await scene.finished(worker)


async def test_another_takes_over(scene: Scene) -> None:
    """What a worker had that is never started again, others have when its session is over."""
    await scene.fill(visits(8_000, takes_ms=20))
    gone, stays = await scene.sharing("a", "b", session_timeout="1s")
    gone.kill()
    await scene.finished(stays)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
async def test_three_workers_killed_ten_times(scene: Scene, seed: int) -> None:
    """Any of three, now and then all of them, some without the disk that they had."""
    rng = random.Random(seed)
    await scene.fill(visits(20_000, seed=seed, takes_ms=20))
    workers = {machine: scene.worker(machine) for machine in "abc"}
    for _ in range(10):
        await scene.more_read()
        await asyncio.sleep(rng.random())
        dying = "abc" if rng.random() < 0.2 else rng.choice("abc")
        for machine in dying:
            workers[machine].kill()
        for machine in dying:
            if rng.random() < 0.2:
                scene.lose_disk(machine, slots=rng.random() < 0.5)
            workers[machine] = scene.worker(machine)
    await scene.finished(*workers.values())


STEPS = [(api, side) for api in (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN) for side in ("request", "reply")]
AT_END_TXN = [pytest.param(Api.END_TXN, side) for side in ("request", "reply")]
ALL_STEPS = [*AT_END_TXN, *(pytest.param(*step, marks=pytest.mark.long) for step in STEPS if step[0] != Api.END_TXN)]


@pytest.mark.parametrize(("api", "side"), ALL_STEPS)
async def test_at_a_step_of_a_commit(scene: Scene, proxy: Proxy, api: Api, side: Side) -> None:
    """Killed between two steps of a commit, and what it had sent last arrives when its successor is at work."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(5_000, takes_ms=5))
    rule = proxy.hold(api, side, nth=8)
    worker = scene.worker()
    await asyncio.to_thread(rule.wait)
    worker.kill()
    worker = scene.worker()
    await scene.more_read()
    proxy.release(rule)
    await scene.finished(worker)


@pytest.mark.long
@pytest.mark.parametrize(("api", "side"), STEPS)
async def test_at_a_step_of_a_commit_and_another_takes_over(scene: Scene, proxy: Proxy, api: Api, side: Side) -> None:
    """The same, and it is another worker, which is there already, that takes its tasks over."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(8_000, takes_ms=20))
    gone, stays = await scene.sharing("a", "b", session_timeout="1s")
    name = (await gone.said("called")).rpartition(" ")[2]
    rule = proxy.hold(api, side, where=lambda request: name in (request.subject or name))
    await asyncio.to_thread(rule.wait)
    gone.kill()
    await stays.works_on({8})
    proxy.release(rule)
    await scene.finished(stays)
