"""The source gains partitions: while workers run, and before they are started again."""

import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from msgspec import structs

from streamproc.murmur2 import partition_of
from tests.faults.app import GROWING
from tests.faults.inputs import visits
from tests.faults.oracle import Given
from tests.faults.scene import Scene
from tests.faults.worker_process import FINAL
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(180)

BEFORE, AFTER = 4, 6
LATER_MS = 60_000
"""Records of a new partition that are as old as what was read before are late, and rightly so: these are later."""


@pytest.fixture
async def growing(tmp_path: Path, module_kafka: KafkaServer) -> AsyncIterator[Scene]:
    """Without the output that has state by the partitions of the source."""
    async with Scene(tmp_path, module_kafka.bootstrap, partitions=BEFORE, outputs=GROWING) as scene:
        yield scene


async def grow(scene: Scene) -> None:
    """The source has more partitions, which are empty."""
    admin = AIOKafkaAdminClient(bootstrap_servers=scene.direct)
    await admin.start()
    try:
        await admin.create_partitions({scene.topic("visits"): NewPartitions(AFTER)})
    finally:
        await admin.close()
    scene.source += [[] for _ in range(BEFORE, AFTER)]


def later(given: Sequence[Given]) -> tuple[list[list[Given]], list[list[Given]]]:
    """By partition: for old ones, of some of the users that are there; for new ones, of users that come with them."""
    old: list[list[Given]] = [[] for _ in range(AFTER)]
    new: list[list[Given]] = [[] for _ in range(AFTER)]
    for user, before in given:
        visit = structs.replace(before, at=before.at + LATER_MS)
        if partition_of(user.encode(), 3):
            old[partition_of(user.encode(), BEFORE)].append(Given(user, visit))
        else:
            new[BEFORE + partition_of(user.encode(), AFTER - BEFORE)].append(Given(f"new-{user}", visit))
    return old, new


async def test_while_workers_run(growing: Scene) -> None:
    """They read on what they have; what is in the new ones is read when all of them have been started again."""
    given = visits(4_000)
    await growing.fill(given[:1_000])
    workers = {machine: growing.worker(machine, until_end=False) for machine in "ab"}
    await growing.reached(1)
    await grow(growing)
    await growing.fill(given[1_000:2_000])
    await growing.reached(1)
    old, new = later(given[2_000:])
    await growing.add(new)
    for machine in list(workers):
        workers[machine].signal(signal.SIGTERM)
        await growing.ended(workers[machine])
        workers[machine] = growing.worker(machine, until_end=False)
    await growing.add(old)
    await growing.reached(1)
    for worker in workers.values():
        worker.signal(signal.SIGTERM)
    await growing.ended(*workers.values())
    await growing.finished(growing.worker("a"))


@pytest.mark.long
async def test_between_two_runs(growing: Scene) -> None:
    """What is in the new ones is read from its beginning; the worker says that they are there."""
    given = visits(4_000)
    await growing.fill(given[:2_000])
    worker = growing.worker(until_end=False)
    await growing.reached(1)
    worker.kill()
    await grow(growing)
    for parts in later(given[2_000:]):
        await growing.add(parts)
    worker = growing.worker()
    await worker.said("has gained partitions 4, 5")
    await growing.finished(worker, growing.worker("b"))


@pytest.mark.long
async def test_state_by_partition(scene: Scene) -> None:
    """Where state is kept by the source's partitions the app says that it cannot go on, and writes nothing."""
    await scene.fill(visits(3_000))
    await scene.ended(scene.worker())
    await grow(scene)
    worker = scene.worker()
    assert await worker.ended() == FINAL
    assert f"topic {scene.topic('visits')!r} had 4 partitions" in worker.messages()[-1]
    assert await scene.wrong() == []
