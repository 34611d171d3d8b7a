"""What the leader of partitions answers: Produce, Fetch, ListOffsets, DeleteRecords."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from streamproc.clock import Clock
from streamproc.kafka.requests import (
    Code,
    DeleteRecords,
    Fetch,
    Fetched,
    ListOffsets,
    Produce,
    Produced,
    Refused,
)
from streamproc.log import Columns, Partition
from streamproc.testing.simulation.topics import Topics
from streamproc.testing.simulation.transactions import TransactionCoordinator
from streamproc.testing.simulation.waiting_fetch import WaitingFetch, says_something

POLICY_VIOLATION: Final = 44
CONCURRENT_BACKOFF_S: Final = 0.020
"""add.partitions.to.txn.retry.backoff.ms: how soon the leader asks the coordinator of a transaction again ..."""
CONCURRENT_MAX_S: Final = 0.100
"""add.partitions.to.txn.retry.backoff.max.ms: ... and for how long, before the producer is told."""


class Leader:
    """The leader of all partitions. Its answers may be futures; `restart` forgets who waits for one."""

    def __init__(self, topics: Topics, transactions: TransactionCoordinator, clock: Clock) -> None:
        self._topics = topics
        self._transactions = transactions
        self._clock = clock
        self._life = 0
        self._waiting: dict[WaitingFetch, None] = {}

    def restart(self) -> None:
        """Who waits for an answer is gone."""
        self._life += 1
        for waiting in self._waiting:
            waiting.forget()
        self._waiting.clear()

    # ------------------------------------------------------------------------------------ Produce

    def produce(self, request: Produce) -> Mapping[Partition, Produced] | asyncio.Future[Mapping[Partition, Produced]]:
        """KIP-890, version 12: partitions are added to the transaction, for which the last one must be over."""
        refused = self._admit(request)
        if Code.CONCURRENT_TRANSACTIONS not in refused.values():
            return self._append(request, refused)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Mapping[Partition, Produced]] = loop.create_future()
        life, give_up_at = self._life, loop.time() + CONCURRENT_MAX_S

        def again() -> None:
            if self._life != life:
                return
            refused = self._admit(request)
            if Code.CONCURRENT_TRANSACTIONS in refused.values() and loop.time() < give_up_at:
                loop.call_later(CONCURRENT_BACKOFF_S, again)
            else:
                answer.set_result(self._append(request, refused))

        loop.call_later(CONCURRENT_BACKOFF_S, again)
        return answer

    def _admit(self, request: Produce) -> dict[Partition, int]:
        """The partitions that may not be written to, and why; the others are part of the transaction, if any."""
        refused: dict[Partition, int] = {}
        to_add = []
        for partition, (_, producer, _) in request.batches.items():
            log = self._topics.log(partition)
            if log is None:
                refused[partition] = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif request.transactional_id is None or log.producers.is_open(producer):
                continue
            elif log.producers.is_old(producer):
                refused[partition] = Code.INVALID_PRODUCER_EPOCH
            else:
                to_add.append(partition)
        if to_add and request.transactional_id is not None:
            (producer,) = {stamped.producer for stamped in request.batches.values()}
            code = self._transactions.add(request.transactional_id, producer, to_add)
            if code != Code.NONE:
                refused.update(dict.fromkeys(to_add, code))
        return refused

    def _append(self, request: Produce, refused: Mapping[Partition, int]) -> dict[Partition, Produced]:
        now_ms = self._clock.now_ms()
        transactional = request.transactional_id is not None
        answers = {}
        for partition, stamped in request.batches.items():
            log = self._topics.log(partition)
            if partition in refused or log is None:
                answers[partition] = Produced(refused.get(partition, Code.UNKNOWN_TOPIC_OR_PARTITION), -1)
            else:
                answers[partition] = log.append(stamped, now_ms, transactional=transactional)
        return answers

    # ------------------------------------------------------------------------------------ Fetch

    def fetch(self, request: Fetch) -> Mapping[Partition, Fetched] | asyncio.Future[Mapping[Partition, Fetched]]:
        """At once where there is anything, or an error; else when there is, or after the wait."""
        found = self._read(request)
        if request.wait_ms <= 0 or says_something(request, found):
            return found
        logs = [log for partition in request.offsets if (log := self._topics.log(partition)) is not None]
        waiting = WaitingFetch(request, self._read, logs)
        self._waiting[waiting] = None
        waiting.answer.add_done_callback(lambda _: self._waiting.pop(waiting, None))
        return waiting.answer

    def _read(self, request: Fetch) -> dict[Partition, Fetched]:
        found = {}
        for partition, offset in request.offsets.items():
            log = self._topics.log(partition)
            if log is None:
                found[partition] = Fetched(Code.UNKNOWN_TOPIC_OR_PARTITION, (), Columns([], [], []), offset)
            else:
                found[partition] = log.read(offset, request.partition_bytes, committed=request.committed)
        return found

    # ------------------------------------------------------------------------------------ the others

    def list_offsets(self, request: ListOffsets) -> Mapping[Partition, int]:
        """One of the three ends of each partition."""
        ends = {}
        for partition in request.partitions:
            log = self._topics.log(partition)
            if log is None:
                raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"the {request.end} offset of {_name(partition)}")
            ends[partition] = {"first": log.start, "stable": log.last_stable, "high": log.end}[request.end]
        return ends

    def delete_records(self, request: DeleteRecords) -> None:
        """KIP-107; what can be deleted is, where another partition is refused too."""
        error = None
        for partition, before in request.before.items():
            log = self._topics.log(partition)
            if log is None:
                code: int = Code.UNKNOWN_TOPIC_OR_PARTITION
            elif not log.config.deletes:
                code = POLICY_VIOLATION
            else:
                code = log.purge(before)
            if code != Code.NONE and error is None:
                error = Refused(code, f"deleting records of {_name(partition)} before {before}")
        if error is not None:
            raise error


def _name(partition: Partition) -> str:
    return f"{partition.topic}/{partition.number}"
