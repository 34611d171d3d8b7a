"""The broker: it answers requests one after the other, and what it holds outlasts every client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from streamproc.clock import Clock
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DeleteGroup,
    DeleteRecords,
    DeleteTopics,
    DescribeGroup,
    DescribeTopics,
    EndTxn,
    Fetch,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    ListTopics,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Produce,
    Producer,
    Refused,
    Request,
    SyncGroup,
    TopicState,
    TransactionVersion,
    TxnOffsetCommit,
)
from streamproc.testing.simulation.group_coordinator import GroupCoordinator
from streamproc.testing.simulation.leader import Leader
from streamproc.testing.simulation.topics import Topics
from streamproc.testing.simulation.transactions import Target, TransactionCoordinator


class BrokerSettings(NamedTuple):
    """Settings of the broker, by default as Kafka 4.3 has them. Times in ms.

    first_delay           group.initial.rebalance.delay.ms
    session_min           group.min.session.timeout.ms
    look                  transaction.abort.timed.out.transaction.cleanup.interval.ms
    transaction_version   the finalized feature; what the broker does is that of 2
    """

    first_delay: int = 3_000
    session_min: int = 6_000
    look: int = 10_000
    transaction_version: int = 2


AS_SHIPPED: Final = BrokerSettings()


class Broker:
    """One broker: leader of all partitions, coordinator of all groups and transactional ids. Delays are drawn.

    An answer is a value, a future of one, or Refused.
    """

    def __init__(
        self,
        clock: Clock,
        settings: BrokerSettings,
        *,
        marker_delay: Callable[[], float],
        new_delay: Callable[[], float],
    ) -> None:
        self._clock = clock
        self.topics = Topics(clock, new_delay)
        self.transactions = TransactionCoordinator(self._mark, marker_delay, look_ms=settings.look)
        self.groups = GroupCoordinator(
            self.topics,
            self.transactions,
            first_delay_ms=settings.first_delay,
            session_min_ms=settings.session_min,
        )
        self.leader = Leader(self.topics, self.transactions, clock)
        groups, transactions, leader = self.groups, self.transactions, self.leader
        self._handlers: dict[type[Request[Any]], Callable[[Any], Any]] = {
            SyncGroup: groups.sync,
            Heartbeat: groups.heartbeat,
            LeaveGroup: groups.leave,
            OffsetFetch: groups.fetch,
            OffsetCommit: groups.commit,
            OffsetDelete: groups.delete_offsets,
            TxnOffsetCommit: groups.commit_in_transaction,
            DescribeGroup: lambda request: groups.describe(request.group),
            DeleteGroup: lambda request: groups.delete(request.group),
            InitProducerId: transactions.init_producer_id,
            EndTxn: transactions.end,
            Produce: leader.produce,
            Fetch: leader.fetch,
            ListOffsets: leader.list_offsets,
            DeleteRecords: leader.delete_records,
            ListTopics: self._list_topics,
            DescribeTopics: self._describe_topics,
            CreateTopic: self.topics.create,
            DeleteTopics: self._delete_topics,
            TransactionVersion: lambda _: settings.transaction_version,
        }

    def handle(self, client: str, request: Request[Any]) -> Any | asyncio.Future[Any]:
        """The answer to a client's request, which is done when this returns, or when the future does."""
        if isinstance(request, JoinGroup):
            return self.groups.join(client, request)
        return self._handlers[type(request)](request)

    def restart(self, until: float) -> None:
        """The broker begins again at this time of the loop, from what it has written down; nobody waits any more."""
        self.transactions.restart(until)
        self.groups.restart(until)
        self.leader.restart()

    def _mark(self, target: Target, producer: Producer, commit: bool) -> None:  # noqa: FBT001 # a callback's
        if isinstance(target, str):
            self.groups.mark(target, producer, commit=commit)
        elif (log := self.topics.log(target)) is not None:
            log.mark(producer, self._clock.now_ms(), commit=commit)

    def _list_topics(self, request: ListTopics) -> dict[str, TopicState]:
        topics = self.topics.described(request.names)
        return {name: TopicState(topic.partitions, {}) for name, topic in topics.items()}

    def _describe_topics(self, request: DescribeTopics) -> dict[str, TopicState]:
        topics = self.topics.described(request.names)
        for name in request.names:
            if name not in topics:
                raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"topic {name!r}")
        return dict(topics)

    def _delete_topics(self, request: DeleteTopics) -> None:
        self.groups.forget(self.topics.delete(request.names))
