"""The broker stands still, its connections open: SIGSTOP. Workers wait, say so, and hold no more than before."""

import asyncio
import os
import signal
import subprocess

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(180)

SPARE_KB = 16_000
"""What a Python process may take between two looks, whatever it does."""


def resident_kb(worker: WorkerProcess) -> int:
    """What it has in memory now."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(worker.process.pid)], capture_output=True, check=True)
    return int(told.stdout)


@pytest.mark.long
async def test_memory_is_bounded(own_scene: Scene, own_kafka: KafkaServer) -> None:
    """In the midst of a backlog of many times that size the worker reads ahead so far, and not on and on."""
    scene = own_scene
    await scene.fill(visits(30_000, takes_ms=1))
    (worker,) = await scene.sharing("a", session_timeout="6s", transaction_timeout="30s")
    before = resident_kb(worker)
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        await worker.said("the worker is stuck")
        await asyncio.sleep(3)
        assert worker.running
        assert resident_kb(worker) < before + SPARE_KB
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)
    await scene.finished(worker)
