"""A door to a cluster, simulated or real, at which single requests and answers are lost, late, or others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, TypeVar

from streamproc.kafka.requests import Batch, Cluster, NoAnswer, Refused, Request
from streamproc.log import Columns, Partition

R = TypeVar("R")

Fate = Callable[[Cluster, Any, float], Awaitable[Any]]
"""What becomes of a request that has so many seconds: its answer, or what is raised."""


async def lost(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
    """It never arrives, and nobody says so."""
    await asyncio.sleep(timeout_s)
    raise NoAnswer(type(request).__name__, f"none within {timeout_s:g} s")


async def closed(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
    """It never arrives, as its connection breaks."""
    raise NoAnswer(type(request).__name__, "the connection was closed")


async def unanswered(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
    """It is done, and nobody says so."""
    began = asyncio.get_running_loop().time()
    await _done(cluster, request)
    return await lost(cluster, request, max(0.0, began + timeout_s - asyncio.get_running_loop().time()))


async def done_and_closed(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
    """It is done, and its connection breaks."""
    await _done(cluster, request)
    return await closed(cluster, request, timeout_s)


def late(seconds: float) -> Fate:
    """It arrives so much later, when nobody waits any more."""

    async def fate(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
        async def arrive() -> None:
            await asyncio.sleep(seconds)
            await _done(cluster, request)

        _on_their_way.add(task := asyncio.create_task(arrive()))
        task.add_done_callback(_on_their_way.discard)
        return await lost(cluster, request, timeout_s)

    return fate


def refused(code: int) -> Fate:
    """It is refused, and not done."""

    async def fate(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
        raise Refused(code, type(request).__name__)

    return fate


def answered(answer: Any) -> Fate:
    """It is answered so, and not done; a function makes the answer from the request."""

    async def fate(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
        return answer(request) if callable(answer) else answer

    return fate


_on_their_way: set[asyncio.Task[None]] = set()


async def _done(cluster: Cluster, request: Request[Any]) -> None:
    try:
        await cluster.send(request, 30)
    except (Refused, NoAnswer):
        return


Where = Callable[[Any], bool]


class _Rule:
    """Catches `times` requests of a kind that `where` accepts, after so many that pass."""

    def __init__(self, kind: type[Request[Any]], fate: Fate, where: Where, after: int, times: int) -> None:
        self.fate = fate
        self._kind, self._where = kind, where
        self._after, self._times = after, times

    def catches(self, request: Request[Any]) -> bool:
        if not isinstance(request, self._kind) or not self._where(request):
            return False
        self._after -= 1
        if self._after >= 0 or self._times == 0:
            return False
        self._times -= 1
        return True


class Meddled:
    """A `Cluster`; `sent` is all that was asked of it, in order.

    `before` is called with each request: what a test wants to happen at that moment.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.sent: list[Request[Any]] = []
        self.before: Callable[[Request[Any]], Awaitable[None]] | None = None
        self._cluster = cluster
        self._rules: list[_Rule] = []

    def meddle(
        self, kind: type[Request[Any]], fate: Fate, *, after: int = 0, times: int = 1, where: Where = lambda _: True
    ) -> None:
        """So many requests of a kind meet this fate, after so many that do not."""
        self._rules.append(_Rule(kind, fate, where, after, times))

    def heal(self) -> None:
        """From here on nothing is meddled with."""
        self.before = None
        self._rules.clear()

    def all(self, kind: type[R]) -> list[R]:
        return [request for request in self.sent if isinstance(request, kind)]

    async def send(self, request: Request[R], timeout_s: float) -> R:
        self.sent.append(request)
        if self.before is not None:
            await self.before(request)
        for rule in self._rules:
            if rule.catches(request):
                answer: R = await rule.fate(self._cluster, request, timeout_s)
                return answer
        return await self._cluster.send(request, timeout_s)

    def led_together(self, partitions: Collection[Partition]) -> Sequence[Sequence[Partition]]:
        return self._cluster.led_together(partitions)

    def pack(self, columns: Columns) -> Sequence[Batch]:
        return self._cluster.pack(columns)

    async def close(self) -> None:
        await self._cluster.close()
