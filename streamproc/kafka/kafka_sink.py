"""The open epoch of a worker on Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from streamproc.kafka.committing import OldMembership
from streamproc.kafka.kafka_source import KafkaSource
from streamproc.kafka.requests import Membership
from streamproc.kafka.transaction import TakenOver
from streamproc.log import Columns, Committed, Fenced, LogError, Partition


class Writer(Protocol):
    """How a sink writes: in transactions, or acknowledged."""

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records."""

    async def commit(
        self, membership: Membership | None, offsets: Mapping[Partition, Committed]
    ) -> Mapping[Partition, int]:
        """Write what was added, then the offsets under this membership; nothing is left to write, however it ends."""

    def drop(self) -> None:
        """Forget what was added."""

    async def settle(self) -> None:
        """Nothing of an earlier commit becomes visible any more that is not."""

    def take_back(self) -> None:
        """The process is in its group again: what others took meanwhile is its own."""


class KafkaSink:
    """The Sink protocol: what was sent is committed under the membership that was in force when the epoch began."""

    def __init__(self, source: KafkaSource | None, member: str, writer: Writer) -> None:
        self._source = source
        self._member = member
        self._writer = writer
        self._begun: Membership | None = None
        self._returns = 0
        self._closed = False

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records to the epoch; the columns stay the caller's. Raises Fenced when the membership is over."""
        self._check()
        count = len(columns)
        if {len(columns.keys), len(columns.values), count if columns.headers is None else len(columns.headers)} != {
            count
        }:
            msg = f"the columns sent to {partition.topic}/{partition.number} differ in length: give one entry a record"
            raise LogError(msg)
        if self._source is not None and self._begun is None:
            self._begun = self._source.membership
        self._writer.send(partition, columns)

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        """Make the epoch visible; see `Sink.commit`."""
        self._check()
        try:
            membership = self._admit(offsets)
        except LogError:
            self._writer.drop()
            raise
        try:
            return await self._writer.commit(membership, offsets)
        except OldMembership as error:
            raise self._lost(error, error.code) from error
        except TakenOver as error:
            raise self._lost(error) from error

    async def abort(self) -> None:
        """Drop the epoch, and settle what is in doubt."""
        self._begun = None
        self._writer.drop()
        await self._writer.settle()

    async def close(self) -> None:
        """Drop the epoch."""
        if not self._closed:
            self._closed = True
            await self.abort()

    def _check(self) -> None:
        if self._closed:
            msg = f"the sink of {self._member!r} is closed: make another one with Log.sink"
            raise LogError(msg)

    def _admit(self, offsets: Mapping[Partition, Committed]) -> Membership | None:
        """The membership to commit under. Raises Fenced when it is not the one under which the epoch began."""
        begun, self._begun = self._begun, None
        source = self._source
        if source is None:
            if offsets:
                msg = f"{self._member!r} writes without a group and cannot commit offsets: make its sink with a source"
                raise LogError(msg)
            return None
        now = source.membership
        if begun is not None and begun != now:
            source.begin_anew()
            reason = f"the epoch was begun under generation {begun.generation} of group {now.group!r}, which is over"
            raise Fenced(reason)
        if source.returns != self._returns:
            self._returns = source.returns
            self._writer.take_back()
        return now

    def _lost(self, error: Fenced, *code: int) -> Fenced:
        return error if self._source is None else self._source.lost(error.args[0], *code)
