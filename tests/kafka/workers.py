"""Workers without records, and the two worlds in which they live: a simulated cluster in virtual time, and a broker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from streamproc.clock import ManualClock
from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.membership import Member
from streamproc.kafka.requests import Cluster, LeaveGroup, Membership
from streamproc.kafka.timing import Timing
from streamproc.log import Assigned, Fenced, LogError, Partition, Revoked, TaskInput
from streamproc.testing.simulation.broker import AS_SHIPPED
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.faults import CALM, Faults

TASKS = tuple(TaskInput("count", number, (Partition("tweets", number),)) for number in range(8))
AT_ONCE = Timing(session=90_000, heartbeat=100, rebalance=90_000, transaction=10_000, request=1_000)
"""What waits for a session to end takes longer than a test has."""
TIMING = Timing(session=2_000, heartbeat=100, rebalance=2_500, transaction=10_000, request=1_000)
PATIENCE_S = 30.0


class World(Protocol):
    """A cluster, and its clients, one a process."""

    async def client(self, name: str) -> Cluster: ...

    async def close(self) -> None: ...


class Simulated:
    def __init__(self, seed: int = 1, faults: Faults = CALM) -> None:
        settings = AS_SHIPPED._replace(first_delay=0, session_min=100)
        self.cluster = SimulatedCluster(random.Random(seed), ManualClock(0), faults, settings=settings)

    async def client(self, name: str) -> Cluster:
        return self.cluster.client(name)

    async def close(self) -> None: ...


class Real:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._clients: list[Cluster] = []

    async def client(self, name: str) -> Cluster:
        client = await AiokafkaCluster.connect(self._bootstrap)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


class Worker:
    """Does what its membership tells it, and keeps what it was told.

    tasks      the numbers of those that it may work on now
    history    the tasks of each membership
    events     what it was told: the membership of an Assigned, "revoked", "fenced"
    ended      what ended it for good
    """

    def __init__(self, member: Member, client: Cluster) -> None:
        self.member = member
        self.client = client
        self.tasks: frozenset[int] | None = None
        self.shared = b""
        self.events: list[Membership | str] = []
        self.history: list[tuple[Membership, frozenset[int]]] = []
        self.ended: LogError | None = None
        self.last_commit: Callable[[], Coroutine[Any, Any, None]] = nothing
        self._loop = asyncio.create_task(self._run())

    @property
    def name(self) -> str:
        return self.member.instance

    @property
    def generations(self) -> list[int]:
        return [event.generation for event in self.events if isinstance(event, Membership)]

    async def leave(self) -> None:
        self.kill(and_member=False)
        await self.member.leave()

    def kill(self, *, and_member: bool = True) -> None:
        """It is gone, and says nothing: what it had is waited for until its session ends."""
        self._loop.cancel()
        self.tasks = None
        if and_member:
            self.member._cancel()

    async def _run(self) -> None:
        self.member.start()
        while self.ended is None:
            await self.member.changed.wait()
            try:
                self.member.check()
                event = self.member.event()
                if isinstance(event, Assigned):
                    self.tasks, self.shared = frozenset(number for _, number in event.tasks), event.shared
                    self.events.append(self.member.membership)
                    self.history.append((self.member.membership, self.tasks))
                elif isinstance(event, Revoked):
                    self.events.append("revoked")
                    await self.last_commit()
                    self.tasks = None
                    self.member.release()
            except Fenced as error:
                self.tasks = None
                self.events.append("fenced")
                if type(error) is not Fenced:
                    self.ended = error
                self.member.event()
            except LogError as error:
                self.tasks, self.ended = None, error


async def nothing() -> None:
    """There is nothing to commit."""


class Group:
    """The workers of one group in one world."""

    def __init__(self, world: World, name: str, timing: Timing = TIMING) -> None:
        self.world = world
        self.name = name
        self.timing = timing
        self.workers: list[Worker] = []

    async def start(self, instance: str, *, tasks: Sequence[TaskInput] = TASKS, **settings: Any) -> Worker:
        client = await self.world.client(instance)
        worker = Worker(Member(client, self.name, instance, tasks, self.timing, **settings), client)
        self.workers.append(worker)
        return worker

    async def expel(self, instance: str) -> None:
        """Remove a member from outside, as one that is known to be dead."""
        client = await self.world.client("expels")
        await client.send(LeaveGroup(self.name, "", instance), 5)

    async def shared_out(self, *workers: Worker, patience_s: float = PATIENCE_S) -> dict[str, frozenset[int]]:
        """What each has, when these have all tasks, each of them one owner, in one generation."""

        def done() -> bool:
            have = [number for worker in workers for number in worker.tasks or ()]
            told = {worker.member._told.generation for worker in workers if worker.member._told}
            return (
                sorted(have) == [task.number for task in TASKS]
                and all(worker.tasks is not None for worker in workers)
                and len(told) == 1
            )

        await until(done, lambda: f"{[(w.name, w.tasks, w.events, w.ended) for w in workers]}", patience_s)
        return {worker.name: worker.tasks or frozenset() for worker in workers}

    async def close(self) -> None:
        for worker in self.workers:
            await worker.leave()
        await self.world.close()


async def until(true: Callable[[], bool], what: Callable[[], str] = str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that is promised."""
    try:
        async with asyncio.timeout(patience_s):
            while not true():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what()) from None
