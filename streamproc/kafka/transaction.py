"""An epoch as one Kafka transaction, written down in the order in which it happens (KIP-98, KIP-447, KIP-890).

    send       records wait in this process
    commit  1. Produce          the broker has them, invisible; it adds their partitions to the transaction
            2. TxnOffsetCommit  the group coordinator checks the membership under which they were read, and takes the
                                offsets as part of the transaction
            3. EndTxn           decided: from the moment that the coordinator writes it down all is visible or will be;
                                its answer is the producer epoch of the next transaction

Dies before 3 arrives: the transaction is aborted by whoever takes the transactional id next (this slot restarted, the
leader of the group fencing it), else by the broker when its time is over. Dies behind it: all of it is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Final

from streamproc.kafka.calls import LATER_S, PASSING, Deadline, call, pause_s
from streamproc.kafka.committing import commit_offsets
from streamproc.kafka.producing import Outbox
from streamproc.kafka.rejections import rejection
from streamproc.kafka.requests import (
    Cluster,
    Code,
    EndTxn,
    InitProducerId,
    Membership,
    NoAnswer,
    Producer,
    Refused,
    TxnOffsetCommit,
)
from streamproc.kafka.timing import Timing
from streamproc.log import Aborted, Columns, Committed, Fenced, LogError, Partition, Unknown

_OLD_PRODUCER: Final = frozenset({Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_EPOCH})
"""How the broker says that the producer's epoch was raised: by the transaction's time-out, or by another holder."""
_BUSY: Final = frozenset({Code.CONCURRENT_TRANSACTIONS, Code.COORDINATOR_LOAD_IN_PROGRESS})
"""How the coordinator says that it has not looked at an EndTxn."""
_NOT_ENDED: Final = _OLD_PRODUCER | {
    Code.INVALID_TXN_STATE,
    Code.INVALID_PRODUCER_ID_MAPPING,
    Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    Code.TRANSACTION_ABORTABLE,
}
"""How it says that it has, and does not do what was asked. Behind any other error it may have been written down."""


class TakenOver(Fenced):
    """Another process has the transactional id: this one was taken for gone, or there are two of one name."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(f"transactional id {transactional_id!r} was taken over")


class Transactions:
    """The transactions of one transactional id, one open at a time."""

    def __init__(self, cluster: Cluster, transactional_id: str, timing: Timing) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._timing = timing
        self._outbox = Outbox(cluster, transactional_id, timing.request_s)
        self._producer = Producer()
        self._settled = False
        """Whether nothing is open under the id. Not so at first: an earlier holder may have died."""
        self._taken_over = False

    def send(self, partition: Partition, columns: Columns) -> None:
        """Add records."""
        self._outbox.add(partition, columns)

    async def commit(
        self, membership: Membership | None, offsets: Mapping[Partition, Committed]
    ) -> Mapping[Partition, int]:
        """Make records and offsets visible together; returns the offset behind the last record of each partition.

        Raises Fenced, Aborted, Rejected and Unknown as `Sink.commit` does; then `settle` comes next.
        """
        if not self._outbox and not offsets:
            return {}
        deadline = Deadline(self._timing.transaction / 1000)
        try:
            if not self._settled:
                await self.take(deadline)
            self._settled = False
            ends = await self._outbox.flush(self._producer, deadline)
            if membership is not None:
                request = partial(TxnOffsetCommit, self._id, self._producer, membership)
                await commit_offsets(self._cluster, request, offsets, deadline, answer_s=self._timing.request_s)
        except Refused as error:
            raise await self._why(error) from error
        except NoAnswer as error:
            reason = f"{error} within the {self._timing.transaction / 1000:g} s that a transaction may take"
            raise Aborted(reason) from error
        finally:
            self._outbox.clear()
        await self._end(deadline)
        return ends

    def drop(self) -> None:
        """Drop what was not sent."""
        self._outbox.clear()

    async def settle(self) -> None:
        """Nothing is open any more, and what was in doubt is decided. Raises LogError while the broker cannot say."""
        if not self._settled:
            with suppress(TakenOver):  # who took the id over has aborted what was open; `commit` tells of it
                await self.take(Deadline(self._timing.request_s))

    async def take(self, deadline: Deadline) -> None:
        """Raise the producer's epoch (KIP-360): the broker finishes what was decided and aborts what is open.

        The first time it takes the id from whoever had it; later ones find out whether somebody has: TakenOver.
        """
        if self._taken_over:
            raise TakenOver(self._id)
        request = InitProducerId(self._id, self._timing.transaction, self._producer)
        try:
            self._producer = await call(self._cluster, request, deadline, answer_s=self._timing.request_s)
        except Refused as error:
            if error.code in _OLD_PRODUCER:
                self._taken_over = True
                raise TakenOver(self._id) from error
            if error.code == Code.UNKNOWN_SERVER_ERROR:  # the last epoch of a producer id cannot be raised by naming it
                self._producer = Producer()
            if (rejected := rejection(error)) is not None:
                raise rejected from error
            raise
        self._begin_anew()

    def take_back(self) -> None:
        """The group has taken this process in again: from here on the id is its own, whoever took it over.

        Mostly that was the leader of a generation without it, and it does not know yet.
        """
        self._producer, self._taken_over, self._settled = Producer(), False, False

    async def _end(self, deadline: Deadline) -> None:
        """EndTxn until it is answered. Once it may have been done, a refusal may be of a transaction that is over."""
        request = EndTxn(self._id, self._producer, commit=True)
        doubt: LogError | None = None
        while True:
            try:
                self._producer = await self._cluster.send(request, self._timing.request_s)
            except NoAnswer as error:
                doubt = error
                if deadline.over:
                    raise Unknown(str(error)) from error
                await asyncio.sleep(LATER_S)
            except Refused as error:
                if error.code not in _BUSY | _NOT_ENDED:
                    doubt = error
                if error.code in PASSING and not deadline.over:
                    await asyncio.sleep(pause_s(error.code))
                elif doubt is None:
                    raise await self._why(error) from error
                else:
                    raise Unknown(str(error) if doubt is error else f"{doubt}; then {error}") from error
            else:
                self._begin_anew()
                return

    def _begin_anew(self) -> None:
        self._outbox.number_anew()
        self._settled = True

    async def _why(self, refused: Refused) -> LogError:
        """What a refusal means for the epoch, of which nothing is visible."""
        if refused.code in _OLD_PRODUCER:  # by the time-out, if the id is still ours
            try:
                await self.take(Deadline(self._timing.request_s))
            except TakenOver as error:
                return error
            except LogError as error:
                return Aborted(f"{refused}; then {error}")
        return rejection(refused) or Aborted(str(refused))
