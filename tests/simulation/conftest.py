import time
from functools import partial

import pytest

from tests.kafka.server import KafkaServer
from tests.simulation.bench import RealBench, Runs, real, simulated

CLUSTERS = ["simulated", "kafka"]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture(params=CLUSTERS)
def runs(request: pytest.FixtureRequest) -> Runs:
    """Runs a scenario on one of the clusters."""
    if request.param == "simulated":
        return simulated
    return partial(real, partial(RealBench, request.getfixturevalue("kafka"), now_ms))


@pytest.fixture(params=CLUSTERS)
def runs_restarted(request: pytest.FixtureRequest) -> Runs:
    """The same, on a cluster of the test's own."""
    if request.param == "simulated":
        return simulated
    server: KafkaServer = request.getfixturevalue("own_kafka")
    return partial(real, partial(RealBench, server.bootstrap, now_ms, server))
