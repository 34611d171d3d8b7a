"""A Fetch that found nothing: it waits for records, and for no longer than it was told to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping

from streamproc.kafka.requests import Code, Fetch, Fetched
from streamproc.log import Partition
from streamproc.testing.simulation.partition_log import PartitionLog


def says_something(request: Fetch, found: Mapping[Partition, Fetched]) -> bool:
    """Whether there is anything to read, or an error."""
    return any(f.code != Code.NONE or f.next_offset > request.offsets[p] for p, f in found.items())


class WaitingFetch:
    """Looks again whenever one of its partitions has changed.

    read     what the request finds now
    answer   what it found; never, where `forget` was called before
    """

    def __init__(
        self, request: Fetch, read: Callable[[Fetch], Mapping[Partition, Fetched]], logs: Collection[PartitionLog]
    ) -> None:
        self._request = request
        self._read = read
        self._logs = logs
        self._looks = False
        loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Mapping[Partition, Fetched]] = loop.create_future()
        self._end = loop.call_later(request.wait_ms / 1000, self._settle)
        for log in logs:
            log.watchers[self] = self._changed

    def forget(self) -> None:
        """Nobody waits for the answer any more."""
        self._end.cancel()
        for log in self._logs:
            log.watchers.pop(self, None)

    def _changed(self) -> None:
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look)  # when all partitions of the message have changed

    def _look(self) -> None:
        self._looks = False
        if says_something(self._request, self._read(self._request)):
            self._settle()

    def _settle(self) -> None:
        self.forget()
        if not self.answer.done():
            self.answer.set_result(self._read(self._request))
