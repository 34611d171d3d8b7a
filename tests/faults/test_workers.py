"""Workers that come, go, lose what they had, or are two of one name."""

import asyncio
import random
import shutil
import signal

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import FINAL

pytestmark = pytest.mark.timeout(180)


async def test_joins_and_leaves(scene: Scene) -> None:
    """Under load: one, two, three, two, one, and another one."""
    await scene.fill(visits(8_000, takes_ms=40))
    first = scene.worker("a")
    await first.works_on({8})
    second = scene.worker("b")
    await second.works_on({4})
    third = scene.worker("c")
    await third.works_on({2, 3})
    for worker in (second, first):
        await scene.more_read()
        worker.signal(signal.SIGTERM)
        await scene.ended(worker)
    await scene.midway()
    await scene.finished(scene.worker("b"), third)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
async def test_comings_and_goings_at_random(scene: Scene, seed: int) -> None:
    """Of any of four, every half second, in order and by kill -9."""
    rng = random.Random(seed)
    await scene.fill(visits(24_000, seed=seed, takes_ms=20))
    living = {"a": scene.worker("a")}
    for _ in range(16):
        await asyncio.sleep(0.5)
        machine = rng.choice("abcd")
        worker = living.pop(machine, None)
        if worker is None or not worker.running:
            living[machine] = scene.worker(machine)
        elif rng.random() < 0.5:
            worker.kill()
        else:
            worker.signal(signal.SIGTERM)
            assert await worker.ended() in (0, -signal.SIGTERM), worker.words  # it may not have begun to listen
    await scene.finished(*living.values(), scene.worker("e"))


@pytest.mark.long
async def test_a_rolling_restart(scene: Scene) -> None:
    """As a deployment does it: each of three is stopped and started again, one behind the other."""
    await scene.fill(visits(8_000, takes_ms=40))
    workers = dict(zip("abc", await scene.sharing("a", "b", "c"), strict=True))
    for machine in "abc":
        workers[machine].signal(signal.SIGTERM)
        await scene.ended(workers[machine])
        workers[machine] = scene.worker(machine)
        await workers[machine].works_on({2, 3})
    await scene.midway()
    await scene.finished(*workers.values())


@pytest.mark.parametrize(
    ("how", "what"),
    [
        pytest.param("stores", signal.SIGKILL),
        pytest.param("stores", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param("all", signal.SIGKILL, marks=pytest.mark.long),
        pytest.param("all", signal.SIGTERM, marks=pytest.mark.long),
    ],
)
async def test_a_lost_disk(scene: Scene, how: str, what: signal.Signals) -> None:
    """Deleted while its worker is down, with its name in the group or without."""
    await scene.fill(visits(8_000, takes_ms=20))
    stays, goes = await scene.sharing("a", "b", session_timeout="1s")
    goes.signal(what)
    await goes.ended()
    scene.lose_disk("b", slots=how == "all")
    await scene.finished(stays, scene.worker("b", session_timeout="1s"))


async def test_a_copied_state_directory(scene: Scene) -> None:
    """Two machines with one name: the one that was there is told that it is replaced; the other works."""
    await scene.fill(visits(8_000, takes_ms=20))
    first = scene.worker("a")
    await scene.more_read()
    shutil.copytree(scene.folder / "a" / scene.run.group / "@slots", scene.folder / "b" / scene.run.group / "@slots")
    second = scene.worker("b")
    assert await first.ended() == FINAL
    said = first.messages()[-1]
    assert "another worker joined as" in said
    assert f"kept in a/{scene.run.group}/@slots/0" in said
    await scene.finished(second)


@pytest.mark.long
async def test_a_copied_state_directory_among_others(scene: Scene) -> None:
    """Stores and all, and a third worker that has nothing to do with it and goes on."""
    await scene.fill(visits(8_000, takes_ms=40))
    first, third = await scene.sharing("a", "c")
    first.kill()
    shutil.copytree(scene.folder / "a", scene.folder / "b")
    first = scene.worker("a")
    await first.works_on({4})
    second = scene.worker("b")
    assert await first.ended() == FINAL
    assert "another worker joined as" in first.messages()[-1]
    await scene.finished(second, third)
