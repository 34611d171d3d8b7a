"""A cluster to put scenarios to: the simulated one in virtual time, or a real broker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Protocol, TypeVar

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.requests import Cluster
from streamproc.testing.simulation.broker import BrokerSettings
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.virtual_time import VirtualClock, run
from tests.kafka.server import KafkaServer

NOW_MS = 1_700_000_000_000
"""When the simulated clusters of the tests begin."""
LIKE_THE_TESTS_BROKER = BrokerSettings(first_delay=0, session_min=100, look=500)


class Bench(Protocol):
    """Gives clients of a cluster, and names that nobody else uses on it."""

    @property
    def now_ms(self) -> int: ...

    def name(self, name: str) -> str: ...

    async def client(self, name: str) -> Cluster: ...

    async def restart(self) -> None: ...


class SimulatedBench:
    """A simulated cluster of the test's own."""

    def __init__(self) -> None:
        self.clock = VirtualClock(NOW_MS)
        self.cluster = SimulatedCluster(random.Random(1), self.clock, settings=LIKE_THE_TESTS_BROKER)

    @property
    def now_ms(self) -> int:
        return self.clock.now_ms()

    def name(self, name: str) -> str:
        return name

    async def client(self, name: str) -> Cluster:
        return self.cluster.client(name)

    async def restart(self) -> None:
        self.cluster.restart(2)
        await asyncio.sleep(2)


class RealBench:
    """A broker: one that tests share, or one that this test may restart."""

    _runs = count(random.randrange(2**31))

    def __init__(self, bootstrap: str, now_ms: Callable[[], int], server: KafkaServer | None = None) -> None:
        self._bootstrap = bootstrap
        self._server = server
        self._now_ms = now_ms
        self._clients: list[AiokafkaCluster] = []
        self._run = next(self._runs)

    @property
    def now_ms(self) -> int:
        return self._now_ms()

    def name(self, name: str) -> str:
        return f"{name}-{self._run}"

    async def client(self, name: str) -> Cluster:
        client = await AiokafkaCluster.connect(self._bootstrap)
        self._clients.append(client)
        return client

    async def restart(self) -> None:
        assert self._server is not None, "others use this broker, too"
        await asyncio.to_thread(self._server.restart)

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


Scenario = Callable[[Any], Awaitable[None]]
Runs = Callable[[Scenario], None]


def simulated(scenario: Scenario) -> None:
    """Runs a scenario in virtual time."""

    async def main() -> None:
        await scenario(SimulatedBench())

    run(main())


def real(make: Callable[[], RealBench], scenario: Scenario) -> None:
    """Runs a scenario on a real broker."""

    async def main() -> None:
        bench = make()
        try:
            await scenario(bench)
        finally:
            await bench.close()

    asyncio.run(main())


def on_both(scenario: Callable[[Bench], Awaitable[None]]) -> Callable[[Runs], None]:
    """A test of both clusters: what the simulated one answers is what the real one does."""

    def test(runs: Runs) -> None:
        runs(scenario)

    return _named(test, scenario)


def on_both_restarted(scenario: Callable[[Bench], Awaitable[None]]) -> Callable[[Runs], None]:
    """The same, of clusters that nobody else uses: the scenario may restart them."""

    def test(runs_restarted: Runs) -> None:
        runs_restarted(scenario)

    return _named(test, scenario)


def on_simulated(scenario: Callable[[SimulatedBench], Awaitable[None]]) -> Callable[[], None]:
    """A test of the simulated cluster alone: of what cannot be had of a real one at will."""

    def test() -> None:
        simulated(scenario)

    return _named(test, scenario)


T = TypeVar("T", bound=Callable[..., None])


def _named(test: T, scenario: Callable[..., Any]) -> T:
    test.__name__, test.__doc__, test.__module__ = scenario.__name__, scenario.__doc__, scenario.__module__
    return test
