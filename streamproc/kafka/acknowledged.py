"""At least once: records are acknowledged one after the other, offsets move when all are. No transaction."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from streamproc.kafka.calls import Deadline, call
from streamproc.kafka.committing import commit_offsets
from streamproc.kafka.producing import Outbox
from streamproc.kafka.rejections import rejection
from streamproc.kafka.requests import Cluster, InitProducerId, Membership, NoAnswer, OffsetCommit, Producer, Refused
from streamproc.kafka.timing import Timing
from streamproc.log import Aborted, Columns, Committed, Partition


class Acknowledged:
    """Epochs without a transaction. One that fails may be visible in part, and is read and written again."""

    def __init__(self, cluster: Cluster, timing: Timing) -> None:
        self._cluster = cluster
        self._timing = timing
        self._outbox = Outbox(cluster, None, timing.request_s)
        self._producer: Producer | None = None

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records."""
        self._outbox.add(partition, columns)

    async def commit(
        self, membership: Membership | None, offsets: Mapping[Partition, Committed]
    ) -> Mapping[Partition, int]:
        """Every record is acknowledged, then the offsets move. Raises Fenced, Aborted and Rejected."""
        deadline = Deadline(self._timing.transaction / 1000)
        ends: Mapping[Partition, int] = {}
        # What fails may still arrive: what comes again must not be taken for it, so that it has another producer id.
        producer, self._producer = self._producer, None
        try:
            if self._outbox:
                producer = producer or await self._new_producer(deadline)
                ends = await self._outbox.flush(producer, deadline)
            if membership is not None:
                request = partial(OffsetCommit, membership)
                await commit_offsets(self._cluster, request, offsets, deadline, answer_s=self._timing.request_s)
        except Refused as error:
            raise rejection(error) or Aborted(str(error)) from error
        except NoAnswer as error:
            raise Aborted(str(error)) from error
        finally:
            self._outbox.clear()
        self._producer = producer
        return ends

    def drop(self) -> None:
        """Drop what was not sent."""
        self._outbox.clear()

    async def settle(self) -> None:
        """Nothing is open: what was sent is visible."""

    def take_back(self) -> None:
        """There is no id that could be taken over."""

    async def _new_producer(self, deadline: Deadline) -> Producer:
        self._outbox.number_anew()
        request = InitProducerId(None, self._timing.transaction)
        return await call(self._cluster, request, deadline, answer_s=self._timing.request_s)
