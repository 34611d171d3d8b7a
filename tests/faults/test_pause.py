"""SIGSTOP: a process that stands still while the others go on, and then goes on itself, knowing nothing of it."""

import asyncio
import random

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Side

pytestmark = pytest.mark.timeout(180)


async def two(scene: Scene) -> tuple[WorkerProcess, WorkerProcess]:
    """Two workers that share the tasks, and whose sessions are over after a second."""
    one, other = await scene.sharing("a", "b", session_timeout="1s")
    return one, other


async def test_past_its_session(scene: Scene) -> None:
    """Others have its tasks when it goes on: it is told, drops what it had open, and takes part again."""
    await scene.fill(visits(8_000, takes_ms=20))
    paused, other = await two(scene)
    paused.pause()
    await other.works_on({8})
    await scene.more_read()
    paused.go_on()
    await scene.finished(paused, other)
    assert any("its epoch was dropped" in message for message in paused.messages()), paused.words


@pytest.mark.long
async def test_past_its_session_on_one_disk(scene: Scene) -> None:
    """The other one cannot have the stores that it still holds, and makes its own beside them."""
    await scene.fill(visits(10_000, takes_ms=20))
    paused, other = await scene.sharing("a", "a", session_timeout="1s")
    paused.pause()
    await other.said("restoring beside it")
    await other.works_on({8})
    await scene.more_read()
    paused.go_on()
    await scene.finished(paused, other)


@pytest.mark.long
async def test_alone_past_its_session_and_its_transaction(scene: Scene) -> None:
    """Nobody has taken its tasks: it takes them again."""
    await scene.fill(visits(8_000, takes_ms=20))
    worker = scene.worker(session_timeout="1s", transaction_timeout="1s")
    for _ in range(3):
        await scene.more_read()
        worker.pause()
        await asyncio.sleep(2)
        worker.go_on()
    await scene.finished(worker)


@pytest.mark.long
async def test_all_at_once(scene: Scene) -> None:
    """A machine that was suspended: all of its workers wake up with sessions and transactions that are over."""
    await scene.fill(visits(12_000, takes_ms=20))
    workers = await scene.sharing("a", "b", "c", session_timeout="1s", transaction_timeout="1s")
    for worker in workers:
        worker.pause()
    await asyncio.sleep(3)
    for worker in workers:
        worker.go_on()
    await scene.finished(*workers)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
async def test_at_random(scene: Scene, seed: int) -> None:
    """Ten pauses of any of three workers, about as long as a session."""
    rng = random.Random(seed)
    await scene.fill(visits(20_000, seed=seed, takes_ms=20))
    workers = [scene.worker(machine, session_timeout="1s", transaction_timeout="2s") for machine in "abc"]
    for _ in range(10):
        await scene.more_read()
        worker = rng.choice(workers)
        if worker.running:
            worker.pause()
            await asyncio.sleep(rng.uniform(0.3, 2))
            worker.go_on()
    await scene.finished(*workers)


@pytest.mark.long
@pytest.mark.parametrize("api", [Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN])
@pytest.mark.parametrize("side", ["request", "reply"])
async def test_at_a_step_of_a_commit(scene: Scene, proxy: Proxy, api: Api, side: Side) -> None:
    """A zombie: its commit stands still between two steps, its tasks go to another, then the commit goes on."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(8_000, takes_ms=20))
    paused, other = await two(scene)
    name = (await paused.said("called")).rpartition(" ")[2]
    rule = proxy.hold(api, side, where=lambda request: name in (request.subject or name))
    await asyncio.to_thread(rule.wait)
    paused.pause()
    await other.works_on({8})
    await scene.more_read()
    proxy.release(rule)
    paused.go_on()
    await scene.finished(paused, other)
