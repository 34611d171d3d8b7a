"""The broker goes away while an epoch is open, and comes back with its data."""

import asyncio
from typing import Any

import pytest

from streamproc.kafka.requests import EndTxn, Request
from tests.kafka.copying import TIMING
from tests.kafka.server import KafkaServer
from tests.kafka.stage import Stage
from tests.simulation.bench import RealBench
from tests.simulation.conftest import now_ms

PATIENT = TIMING._replace(session=60_000, rebalance=60_000, transaction=60_000)
"""Nothing is over while the broker starts."""


@pytest.mark.parametrize("how", ["killed", "stopped"])
async def test_an_epoch_that_is_open_when_the_broker_goes_away(own_kafka: KafkaServer, how: str) -> None:
    """Its records and offsets are written and its end is not: its commit needs no more than patience, and is whole.

    The worker keeps its membership; the epochs behind it go on as ever.
    """
    bench = RealBench(own_kafka.bootstrap, now_ms)
    stage = await Stage.set_up(bench)
    worker = await stage.alone("a", PATIENT)
    await worker.commit("first", at=1)
    membership = worker.source.membership

    async def go_away(request: Request[Any]) -> None:
        if isinstance(request, EndTxn) and len(worker.cluster.all(EndTxn)) == 2:
            await asyncio.to_thread(own_kafka.kill if how == "killed" else own_kafka.stop)

    worker.cluster.before = go_away
    commit = asyncio.create_task(worker.commit("second", at=2))
    while own_kafka.running:
        await asyncio.sleep(0.01)
    await asyncio.sleep(3 * PATIENT.request_s)
    assert not commit.done()
    await asyncio.to_thread(own_kafka.start)
    await commit
    await worker.commit("third", at=3)
    assert (await stage.out(), await stage.committed()) == (["first", "second", "third"], 3)
    assert worker.source.membership == membership
    assert await worker.source.poll([], 0) == []
    await stage.close()
    await bench.close()
