"""The simulated cluster: one durable broker, its clients, and what may befall them."""

from __future__ import annotations

import random

from streamproc.clock import Clock
from streamproc.testing.simulation.broker import AS_SHIPPED, Broker, BrokerSettings
from streamproc.testing.simulation.client import SimulatedClient
from streamproc.testing.simulation.faults import CALM, Faults
from streamproc.testing.simulation.network import Effect, Network, Witness
from streamproc.testing.simulation.process import Process


class SimulatedCluster:
    """A Kafka 4.3 cluster of one broker, in memory, in the virtual time of `virtual_time.run`.

    All that happens is a function of the generator's seed and of what the clients do.

    >>> from streamproc.kafka.requests import CreateTopic, ListTopics
    >>> from streamproc.testing.simulation.virtual_time import VirtualClock, run
    >>> async def topics() -> list[str]:
    ...     client = SimulatedCluster(random.Random(1), VirtualClock(0)).client("worker-1")
    ...     await client.send(CreateTopic("tweets", 4, {}), 1)
    ...     return list(await client.send(ListTopics(), 1))
    >>> run(topics())
    ['tweets']
    """

    def __init__(
        self,
        rng: random.Random,
        clock: Clock,
        faults: Faults = CALM,
        *,
        settings: BrokerSettings = AS_SHIPPED,
    ) -> None:
        self._rng = rng
        self.broker = Broker(
            clock,
            settings,
            marker_delay=lambda: self.faults.marker(rng),
            new_delay=lambda: self.faults.seconds(rng, "new"),
        )
        self._network = Network(self.broker, rng, faults)

    @property
    def faults(self) -> Faults:
        """How often what goes wrong, from now on."""
        return self._network.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._network.faults = faults

    @property
    def effects(self) -> list[Effect]:
        """What has reached the broker, in order: the history of the run."""
        return self._network.effects

    @property
    def witness(self) -> Witness:
        """Who is told of what happens."""
        return self._network.witness

    @witness.setter
    def witness(self, witness: Witness) -> None:
        self._network.witness = witness

    def client(self, name: str, process: Process | None = None) -> SimulatedClient:
        """The door of a process: of a new one, or of one that has other doors, too."""
        return SimulatedClient(self._network, process or Process(name))

    def stall(self, seconds: float) -> None:
        """The broker stops for a time."""
        self._network.stall(seconds)

    def restart(self, seconds: float) -> None:
        """The broker is gone for a time, with all connections; what it has written down stays."""
        self._network.restart(seconds)

    def cut(self, client: SimulatedClient, seconds: float) -> None:
        """A client and the broker are cut off from one another for a time."""
        self._network.cut(client.link, seconds)

    def clean(self) -> None:
        """The broker drops and compacts now what it would at its next look."""
        self.broker.topics.clean()
