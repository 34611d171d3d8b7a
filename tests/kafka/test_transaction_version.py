"""A cluster that was upgraded from Kafka 3, and whose transactions are as they were."""

from collections.abc import Iterator

import pytest

from streamproc.kafka.requests import InitProducerId
from streamproc.log import Committed, LogError
from tests.kafka.server import KafkaServer
from tests.kafka.stage import Stage
from tests.simulation.bench import RealBench
from tests.simulation.conftest import now_ms


@pytest.fixture
def upgraded(kafka_programs: None) -> Iterator[KafkaServer]:
    with KafkaServer(features={"transaction.version": 1}) as server:
        yield server


async def test_a_broker_without_kip_890_is_refused_with_the_way_out(upgraded: KafkaServer) -> None:
    """Nothing is asked of it that a transaction is begun by; at least once works there."""
    bench = RealBench(upgraded.bootstrap, now_ms)
    stage = await Stage.set_up(bench)
    worker = await stage.worker()
    with pytest.raises(LogError, match=r"transaction.version 1, and exactly-once needs 2 .*kafka-features.sh"):
        await worker.join()
    assert not worker.cluster.all(InitProducerId)
    assert await worker.assigned() == {0, 1}
    worker.sink = await worker.log.sink(worker.source, "a", exactly_once=False)
    worker.send("x")
    await worker.sink.commit({stage.inputs[0]: Committed(1, "")})
    assert (await stage.out(), await stage.committed()) == (["x"], 1)
    await stage.close()
    await bench.close()
