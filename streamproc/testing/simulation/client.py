"""The door of one process to the simulated cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, TypeVar

from streamproc.kafka.requests import (
    Batch,
    CreateTopic,
    DeleteRecords,
    Fetch,
    ListOffsets,
    ListTopics,
    NoAnswer,
    Produce,
    Request,
)
from streamproc.log import Columns, Partition
from streamproc.testing.simulation.batches import pack
from streamproc.testing.simulation.network import Exchange, Link, Network
from streamproc.testing.simulation.process import Process

R = TypeVar("R")


class SimulatedClient:
    """A `Cluster`: what it sends goes through the process's door, over the network, to the broker.

    Topics become known to it as to a real client: when it lists or creates them, or sends for their partitions.
    """

    def __init__(self, network: Network, process: Process) -> None:
        self.process = process
        self._network = network
        self.link: Link = network.link(process)
        self._known: dict[str, int] = {}
        """Topics, and of how many partitions."""
        self._closed = False

    async def send(self, request: Request[R], timeout_s: float) -> R:
        """The answer; raises Refused, NoAnswer, and Crash when the process is dead."""
        return await self.process.wait(type(request).__name__, self._send, request, timeout_s)

    def led_together(self, partitions: Collection[Partition]) -> Sequence[Sequence[Partition]]:
        """One broker leads all partitions that are known."""
        groups: tuple[list[Partition], list[Partition]] = ([], [])
        for partition in partitions:
            groups[not self._knows(partition)].append(partition)
        return [group for group in groups if group]

    def pack(self, columns: Columns) -> Sequence[Batch]:
        """The records as batches."""
        return pack(columns)

    async def close(self) -> None:
        """Whoever waits gets NoAnswer."""
        self._closed = True
        for exchange in list(self.link.waiting):
            exchange.fail("the client was closed")

    async def _send(self, request: Request[R], timeout_s: float) -> R:
        what = type(request).__name__
        if self._closed:
            raise NoAnswer(what, "the client was closed")
        unknown = {partition.topic: None for partition in _led(request) if not self._knows(partition)}
        if unknown:  # what is still unknown then is asked of anyone, who will say so
            lists = ListTopics(list(unknown))
            self._learn(lists, await self._exchange(lists, timeout_s))
        answer = await self._exchange(request, timeout_s)
        self._learn(request, answer)
        return answer

    def _knows(self, partition: Partition) -> bool:
        return partition.number < self._known.get(partition.topic, 0)

    async def _exchange(self, request: Request[R], timeout_s: float) -> R:
        self.process.check()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        exchange = Exchange(request, answer)
        why = f"none within {timeout_s:g} s"
        alarm = loop.call_later(timeout_s, partial(self.process.deliver, partial(exchange.fail, why), alarm=True))
        self.link.waiting[exchange] = None
        self._network.carry(self.link, exchange)
        try:
            return await self.process.until(answer)
        finally:
            alarm.cancel()
            del self.link.waiting[exchange]

    def _learn(self, request: Request[Any], answer: Any) -> None:
        if isinstance(request, ListTopics):
            self._known.update((name, topic.partitions) for name, topic in answer.items())
        elif isinstance(request, CreateTopic):
            self._known[request.name] = request.partitions


def _led(request: Request[Any]) -> Collection[Partition]:
    """The partitions whose leader must be known before the request can be sent."""
    if isinstance(request, Produce):
        return request.batches
    if isinstance(request, Fetch):
        return request.offsets
    if isinstance(request, ListOffsets):
        return request.partitions
    if isinstance(request, DeleteRecords):
        return request.before
    return ()
