"""A deployment: another version of the app takes the place of the one that works, worker by worker."""

import signal

import pytest

from tests.faults.app import COPIES, OUTPUTS, Run
from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.topics import read, rows_of

pytestmark = pytest.mark.timeout(180)


async def test_a_rolling_restart_of_two_versions(scene: Scene) -> None:
    """The group serves the version of most of its members, and each task is in one version's hands at a time."""
    before, after = scene.run, Run(scene.run.name, (*OUTPUTS, COPIES))
    await scene.fill(visits(8_000, takes_ms=40))
    workers = dict(zip("abc", await scene.sharing("a", "b", "c"), strict=True))
    scene.run = after
    for machine in "abc":
        workers[machine].signal(signal.SIGTERM)
        await scene.ended(workers[machine])
        workers[machine] = scene.worker(machine)
        await scene.more_read()
    await workers["c"].works_on({2, 3})
    await scene.midway()
    scene.run = before
    await scene.finished(*workers.values())
    copied = [row for rows in rows_of(await read(scene.direct, scene.topic(COPIES), 4)).values() for row in rows]
    assert copied
    assert len(set(map(repr, copied))) == len(copied)
