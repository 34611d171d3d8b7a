"""A cluster that was closed says so, to whoever asks and to whoever waits: nothing is asked again for ever."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from streamproc.kafka.requests import Batch, Cluster, NoAnswer, Request
from streamproc.log import Columns, LogError, Partition

R = TypeVar("R")


class OpenCluster:
    """A `Cluster`; behind `close` every answer is a LogError that nobody takes for an outage."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._closed = False

    async def send(self, request: Request[R], timeout_s: float) -> R:
        """The answer; see `Cluster.send`."""
        self._check()
        try:
            return await self._cluster.send(request, timeout_s)
        except NoAnswer:
            self._check()
            raise

    def led_together(self, partitions: Collection[Partition]) -> Sequence[Sequence[Partition]]:
        """The partitions by leader."""
        return self._cluster.led_together(partitions)

    def pack(self, columns: Columns) -> Sequence[Batch]:
        """The records as batches."""
        return self._cluster.pack(columns)

    async def close(self) -> None:
        """Give the connections back; a second call does nothing."""
        if not self._closed:
            self._closed = True
            await self._cluster.close()

    def _check(self) -> None:
        if self._closed:
            msg = "the log is closed: open it again to go on"
            raise LogError(msg)
