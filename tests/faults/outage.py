"""The broker goes away and comes back, with transactions open in it.

It goes at a moment at which nothing is decided and not yet written to all partitions: every worker's EndTxn is held
up before. For a broker of a cluster of one that is started again forgets, now and then, to finish what it had decided
before (seen with Kafka 4.3.0: "Couldn't find leader endpoint for partitions ... these partitions are likely deleted
already and hence can be skipped"). What such a transaction wrote stays invisible then, and a group's offsets in doubt,
until the producer's next transaction there ends: no client can be right on that.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.frames import Api
from tests.kafka.proxy import Proxy
from tests.kafka.server import KafkaServer


@dataclass(frozen=True)
class Outage:
    """A scene, its broker, which may go away, and the network between them."""

    scene: Scene
    proxy: Proxy
    kafka: KafkaServer

    async def working(self, *machines: str) -> list[WorkerProcess]:
        """So many workers that have tasks, and have committed some of it."""
        self.scene.broker = self.proxy.bootstrap
        self.scene.settings["transaction_timeout"] = "60s"  # none is over, and so decided, while the broker is away
        await self.scene.fill(visits(8_000, takes_ms=20))
        return await self.scene.sharing(*machines)

    @asynccontextmanager
    async def away(self, goes: Callable[[KafkaServer], None], *workers: WorkerProcess) -> AsyncIterator[None]:
        """The broker goes when each of these has a transaction open that it wants to end; it comes back behind this."""
        ends = self.proxy.hold(Api.END_TXN, "request", times=None)
        wanting = set[str | None]()
        while len(wanting) < len(workers):
            wanting.add((await asyncio.to_thread(ends.wait)).subject)
        await asyncio.to_thread(goes, self.kafka)
        self.proxy.release(ends)
        yield
        await asyncio.to_thread(self.kafka.start)
