"""Who leads which partition, and who coordinates which group and transactional id."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from streamproc.kafka.connections import Address, Connections, Disconnected
from streamproc.kafka.requests import Code
from streamproc.log import Partition


class Coordination(IntEnum):
    """What a coordinator is of."""

    GROUP = 0
    TRANSACTION = 1


class Coordinator(NamedTuple):
    """The coordinator of a group or of a transactional id."""

    kind: Coordination
    key: str


class NotRouted(Exception):
    """There is nobody to send to: a code of Kafka's protocol, and a detail."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail


class Directory:
    """What the cluster said last of brokers, leaders and coordinators, and the way to ask it again.

    bootstrap     asked too when no other broker answers
    patience_s    for one look-up
    max_age_s     after which leaders are looked up anew, even if nothing says that they moved
    """

    def __init__(
        self, connections: Connections, bootstrap: Sequence[Address], *, patience_s: float, max_age_s: float
    ) -> None:
        self._connections = connections
        self._bootstrap = bootstrap
        self._patience_s = patience_s
        self._max_age_s = max_age_s
        self._looked_up_at = 0.0
        self._brokers: Sequence[Address] = ()
        self._topics: set[str] = set()
        """Whose leaders are looked up."""
        self._partitions: set[Partition] = set()
        """Those that exist."""
        self._leaders: dict[Partition, Address] = {}
        self._coordinators: dict[Coordinator, Address] = {}
        self._look_up: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------------------ any broker

    @property
    def brokers(self) -> Sequence[Address]:
        """As the cluster says, where clients reach them."""
        return self._brokers

    async def ask_anyone(self, request: Any, deadline: float) -> Any:
        """The answer of the first broker that can be reached. Raises Disconnected and TimeoutError."""
        addresses = self._anyone()
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            now = asyncio.get_running_loop().time()
            try:
                return await self._connections.ask(address, request, now + (deadline - now) / left)
            except Disconnected as error:
                if error.sent or left == 1:
                    raise
        raise AssertionError("there is a bootstrap address")

    def _anyone(self) -> Sequence[Address]:
        """Those first that are likely to answer; else not the same first in every process."""
        first = os.getpid() % max(1, len(self._brokers))
        brokers = [*self._brokers[first:], *self._brokers[:first]]
        brokers += [address for address in self._bootstrap if address not in brokers]
        return sorted(brokers, key=self._connections.silent)

    # ------------------------------------------------------------------------------------ leaders

    def led_together(self, partitions: Iterable[Partition]) -> Sequence[Sequence[Partition]]:
        """The partitions by leader; those without one together, and those of which nothing is known."""
        groups: dict[Address | bool, list[Partition]] = {}
        for partition in partitions:
            key = self._leaders.get(partition) or partition in self._partitions
            groups.setdefault(key, []).append(partition)
        return list(groups.values())

    async def leader(self, partitions: Collection[Partition], deadline: float) -> Address:
        """The leader of all of these partitions, looked up where it is not known.

        Where the cluster says that none of them exists (or may not say) it is any broker, which tells why.
        Raises NotRouted, Disconnected, TimeoutError.
        """
        if not all(partition in self._leaders for partition in partitions):
            await self._learn({partition.topic for partition in partitions}, deadline)
        elif asyncio.get_running_loop().time() > self._looked_up_at + self._max_age_s:
            self.look_up()
        leaders = {self._leaders.get(partition) for partition in partitions if partition in self._partitions}
        if len(leaders) > 1:
            raise NotRouted(Code.LEADER_NOT_AVAILABLE, "the partitions have different leaders now")
        leader = leaders.pop() if leaders else self._anyone()[0]
        if leader is None:
            raise NotRouted(Code.LEADER_NOT_AVAILABLE, "there is no leader now")
        return leader

    def moved(self, partitions: Iterable[Partition]) -> None:
        """Whoever led them says that it does not."""
        for partition in partitions:
            self._leaders.pop(partition, None)
        self.look_up()

    def look_up(self) -> asyncio.Task[None]:
        """Brokers and leaders are asked for; one look-up at a time."""
        if self._look_up is None or self._look_up.done():
            self._look_up = asyncio.get_running_loop().create_task(self._ask_for_leaders())
            self._look_up.add_done_callback(_looked_at)
        return self._look_up

    async def _learn(self, topics: Collection[str], deadline: float) -> None:
        if self._look_up is not None and not self._topics.issuperset(topics):
            await _wait(self._look_up, deadline)  # it began without them
        self._topics.update(topics)
        look_up = self.look_up()
        await _wait(look_up, deadline)
        look_up.result()

    async def _ask_for_leaders(self) -> None:
        request = MetadataRequest(sorted(self._topics), allow_auto_topic_creation=False)
        now = asyncio.get_running_loop().time()
        self.heed(await self.ask_anyone(request, now + self._patience_s))
        self._looked_up_at = now

    def heed(self, answer: Any) -> None:
        """Brokers and leaders are as this answer to a Metadata request says. Raises NotRouted: it names no brokers."""
        if not answer.brokers:
            raise NotRouted(Code.LEADER_NOT_AVAILABLE, "the broker that was asked knows no brokers yet")
        brokers = {node: Address(host, port) for node, host, port, *_ in answer.brokers}
        self._brokers = [brokers[node] for node in sorted(brokers)]
        self._partitions = set()
        self._leaders = {}
        for _, topic, _, partitions in answer.topics:
            for _, number, leader, *_ in partitions:
                self._partitions.add(Partition(topic, number))
                if leader in brokers:
                    self._leaders[Partition(topic, number)] = brokers[leader]

    # ------------------------------------------------------------------------------------ coordinators

    async def coordinator(self, of: Coordinator, deadline: float) -> Address:
        """Looked up where it is not known. Raises NotRouted, Disconnected, TimeoutError."""
        if of not in self._coordinators:
            answer = await self.ask_anyone(FindCoordinatorRequest(of.key, of.kind), deadline)
            if answer.error_code:
                raise NotRouted(answer.error_code, answer.error_message or "its coordinator was looked for")
            self._coordinators[of] = Address(answer.host, answer.port)
        return self._coordinators[of]

    def forget(self, coordinator: Coordinator) -> None:
        """Whoever coordinated says that it does not."""
        self._coordinators.pop(coordinator, None)

    # ------------------------------------------------------------------------------------ both

    def lost(self, address: Address) -> None:
        """A broker did not answer: others may lead and coordinate in its place."""
        for coordinator in [of for of, where in self._coordinators.items() if where == address]:
            del self._coordinators[coordinator]
        self.look_up()

    async def close(self) -> None:
        """Nothing is looked up any more. The connections are closed."""
        if self._look_up is not None:
            await asyncio.wait((self._look_up,))


async def _wait(task: asyncio.Task[None], deadline: float) -> None:
    """For a task of many: it goes on if its time is over here."""
    await asyncio.wait((task,), timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
    if not task.done():
        raise TimeoutError


def _looked_at(look_up: asyncio.Task[None]) -> None:
    """A look-up that fails is not an error that was forgotten: whoever needs what it would have found looks up anew."""
    if not look_up.cancelled():
        look_up.exception()
