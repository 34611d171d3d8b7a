"""A world: an app's workers as processes that crash, stop and come back, on machines, over a simulated cluster."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Mapping
from typing import Final

from streamproc.app import App
from streamproc.kafka.requests import CreateTopic
from streamproc.launch import KEPT
from streamproc.log import Columns, Partition
from streamproc.testing.simulation.broker import AS_SHIPPED, BrokerSettings
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.history import History, heard
from streamproc.testing.simulation.outsider import Outsider
from streamproc.testing.simulation.processes import Processes
from streamproc.testing.simulation.trouble import Trouble
from streamproc.testing.simulation.virtual_time import VirtualClock
from streamproc.testing.simulation.weather import CALM, Weather

START_MS: Final = 1_760_000_000_000
"""What the clocks of a world show at first."""
ENDS_S: Final = 600.0
"""So long after its trouble a run has ended, or never does: the longest wait, for a dead member's first join, is 300 s.
"""
REST_S: Final = 400.0
"""Between two runs: so long the group still counts members that are dead, and goes by what they have agreed on."""
LOOK_S: Final = 0.25
DAY_S: Final = 86_400.0


class Hangs(Exception):
    """A run does not end."""


class World:
    """One cluster, and the workers of one app. To be used within `virtual_time.run`.

    history   all that happened
    alarms    what workers said of a broken law, and errors that nobody caught
    """

    def __init__(
        self,
        app: App,
        rng: random.Random,
        weather: Weather = CALM,
        *,
        workers: int = 3,
        broker: BrokerSettings = AS_SHIPPED,
        history: History | None = None,
    ) -> None:
        self.app = app
        self.history = History() if history is None else history
        self.alarms: list[str] = []
        self.clock = VirtualClock(START_MS)
        self.cluster = SimulatedCluster(rng, self.clock, settings=broker)
        self.cluster.witness = self.history.note
        self.processes = Processes(app, self.cluster, self.history, rng, weather, START_MS)
        self._outsider = Outsider(self.cluster.broker, rng)
        self._rng = rng
        self._weather = weather
        self._workers = workers

    def create(self, topic: str, partitions: int) -> None:
        """A topic of the user, kept for ever."""
        self.cluster.broker.topics.create(CreateTopic(topic, partitions, KEPT))

    def grow(self, topic: str, partitions: int) -> None:
        """A topic of the user gets more partitions."""
        self.cluster.broker.topics.grow(topic, partitions)

    def append(
        self, records: Mapping[Partition, Columns], *, batch_records: int = 100, in_transactions: bool = False
    ) -> None:
        """Another program writes records; see `Outsider.append`."""
        self._outsider.append(
            records, self.clock.now_ms(), batch_records=batch_records, in_transactions=in_transactions
        )

    async def run_to_end(self, *, slot: int = 0) -> None:
        """Workers run to the end of the input as it is now; at first those of this slot and the next.

        Raises what ended one that should not have ended, and Hangs.
        """
        trouble_s = self._weather.trouble_s
        await self._run(self._all_done(), slot, until_end=True, trouble_s=trouble_s, within_s=trouble_s + ENDS_S)

    async def run_for(self, seconds: float, *, slot: int = 0) -> None:
        """Workers run for so long, then each is asked to stop. Raises as `run_to_end` does."""
        trouble_s = min(seconds, self._weather.trouble_s)
        await self._run(self._all_left(seconds), slot, until_end=False, trouble_s=trouble_s, within_s=seconds + ENDS_S)

    async def pass_days(self, days: int) -> None:
        """Nobody works, and the broker drops and compacts what it may."""
        self.history.note("outside", f"{days} days pass")
        for _ in range(days):
            await asyncio.sleep(DAY_S)
            self.cluster.clean()

    async def contents(self) -> Mapping[Partition, Columns]:
        """All committed records of all topics, in order; what is open at first is waited for."""
        logs = self.cluster.broker.topics.logs()
        for log in logs.values():
            while log.last_stable < log.end:  # noqa: ASYNC110 - a partition tells nobody
                await asyncio.sleep(LOOK_S)
        return {partition: log.committed() for partition, log in logs.items()}

    # ------------------------------------------------------------------------------------ a run

    async def _run(
        self, until: Coroutine[None, None, None], first: int, *, until_end: bool, trouble_s: float, within_s: float
    ) -> None:
        processes = self.processes
        trouble = Trouble(processes, self.cluster, self._weather, self._rng, most=self._workers)
        processes.on_gone = trouble.bury
        with heard(self.history, self.alarms):
            if processes.slots:
                await asyncio.sleep(REST_S)
            processes.begin(until_end=until_end)
            while len(processes.slots) < first + self._workers:
                processes.new_slot()
            for slot in processes.slots[first : first + self._workers]:
                processes.start(slot)
            events = asyncio.create_task(trouble.last(trouble_s), name="trouble")
            try:
                async with asyncio.timeout(within_s) as limit:
                    await until
            except TimeoutError:
                if limit.expired():
                    raise Hangs(f"not ended after {within_s:g} s: {'; '.join(map(str, processes.slots))}") from None
                raise
            finally:
                trouble.end()
                lives = [slot.life for slot in processes.alive if slot.life is not None]
                for slot in processes.alive:
                    processes.kill(slot)
                await asyncio.wait([events, *lives])
                events.result()

    async def _all_done(self) -> None:
        """Until every process that there is has ended as it should; where none is left, one comes back."""
        processes = self.processes
        while processes.alive or not any(slot.done for slot in processes.slots):
            if not processes.alive:
                processes.start(self._rng.choice(processes.slots))
            await self._look()

    async def _all_left(self, seconds: float) -> None:
        """For so long, and until all have stopped."""
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            await self._look()
        while self.processes.alive:
            for slot in self.processes.alive:
                self.processes.leave(slot)
            await self._look()

    async def _look(self) -> None:
        """A moment later; nothing has failed."""
        self.processes.check()
        await asyncio.sleep(LOOK_S)
