"""The door to a Kafka cluster, on aiokafka's connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeVar

from streamproc.kafka import cluster_messages, group_messages, record_messages, transaction_messages
from streamproc.kafka.batches import PackedBatch, packed
from streamproc.kafka.bootstrap import addresses_of, reach
from streamproc.kafka.client_settings import client_settings
from streamproc.kafka.connections import Connections, Disconnected
from streamproc.kafka.directory import Coordinator, Directory, NotRouted
from streamproc.kafka.exchange import Anyone, Exchange, Leader, Sending, way_out
from streamproc.kafka.requests import (
    Cluster,
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
    NoAnswer,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Produce,
    Refused,
    Request,
    SyncGroup,
    TopicState,
    TransactionVersion,
    TxnOffsetCommit,
)
from streamproc.kafka.wire import TooOld
from streamproc.log import Columns, Partition

R = TypeVar("R")

_EXCHANGES: Final[Mapping[type[Request[Any]], Callable[[Any, Sending], Exchange[Any]]]] = {
    JoinGroup: group_messages.join_group,
    SyncGroup: group_messages.sync_group,
    Heartbeat: group_messages.heartbeat,
    LeaveGroup: group_messages.leave_group,
    OffsetFetch: group_messages.offset_fetch,
    OffsetCommit: group_messages.offset_commit,
    OffsetDelete: group_messages.offset_delete,
    DescribeGroup: group_messages.describe_group,
    DeleteGroup: group_messages.delete_group,
    TxnOffsetCommit: transaction_messages.txn_offset_commit,
    InitProducerId: transaction_messages.init_producer_id,
    EndTxn: transaction_messages.end_txn,
    Produce: record_messages.produce,
    Fetch: record_messages.fetch,
    ListOffsets: record_messages.list_offsets,
    DeleteRecords: record_messages.delete_records,
    ListTopics: cluster_messages.list_topics,
    DescribeTopics: cluster_messages.describe_configs,
    CreateTopic: cluster_messages.create_topic,
    DeleteTopics: cluster_messages.delete_topics,
    TransactionVersion: cluster_messages.transaction_version,
}

_LEADER_MOVED: Final = frozenset(
    {
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.KAFKA_STORAGE_ERROR,
    }
)
_COORDINATOR_MOVED: Final = frozenset({Code.COORDINATOR_NOT_AVAILABLE, Code.NOT_COORDINATOR})


class AiokafkaCluster:
    """A Kafka cluster, 2.8 or later; transactions need 4.0 (KIP-890)."""

    def __init__(self, connections: Connections, directory: Directory, compression: int) -> None:
        self._connections = connections
        self._directory = directory
        self._compression = compression
        self._requests = 0

    @classmethod
    async def connect(
        cls, brokers: str, settings: Mapping[str, Any] | None = None, *, request_timeout_s: float = 8.0
    ) -> AiokafkaCluster:
        """A cluster that answers; `brokers` are HOST:PORT,HOST:PORT, `settings` the setting `kafka`.

        Raises SettingsError, and Unreachable where no broker can be reached.
        """
        client = client_settings(settings or {})
        addresses = addresses_of(brokers)
        connections = Connections(client.connection, patience_s=request_timeout_s)
        directory = Directory(connections, addresses, patience_s=request_timeout_s, max_age_s=client.metadata_max_age_s)
        cluster = cls(connections, directory, client.compression)
        try:
            await reach(connections, directory, addresses, client, request_timeout_s)
        except BaseException:
            await cluster.close()
            raise
        connections.warn_of_outages()
        return cluster

    async def send(self, request: Request[R], timeout_s: float) -> R:
        """The answer: see `Cluster.send`."""
        if isinstance(request, DescribeTopics):
            answer: Any = await self._describe(request, timeout_s)
        else:
            answer = await self._exchange(request, timeout_s)
        found: R = answer
        return found

    def led_together(self, partitions: Collection[Partition]) -> Sequence[Sequence[Partition]]:
        """The partitions by leader: see `Cluster.led_together`."""
        return self._directory.led_together(partitions)

    def pack(self, columns: Columns) -> Sequence[PackedBatch]:
        """The records as batches."""
        return packed(columns, compression=self._compression)

    async def close(self) -> None:
        """Give the connections back."""
        await self._connections.close()
        await self._directory.close()

    # ------------------------------------------------------------------------------------ one request

    async def _exchange(self, request: Request[Any], timeout_s: float) -> Any:
        self._requests += 1
        deadline = asyncio.get_running_loop().time() + timeout_s
        exchange = _EXCHANGES[type(request)](request, Sending(max(1, round(timeout_s * 1000)), self._requests))
        try:
            answer = exchange.read(await self._answer(exchange, deadline))
        except Refused as error:
            if isinstance(exchange.to, Coordinator) and error.code in _COORDINATOR_MOVED:
                self._directory.forget(exchange.to)
            elif isinstance(exchange.to, Leader) and error.code in _LEADER_MOVED:
                self._directory.moved(exchange.to.partitions)
            raise
        except NotRouted as error:
            raise Refused(error.code, exchange.what, way_out(error.code, error.detail)) from error
        except TooOld as error:
            raise Refused(Code.UNSUPPORTED_VERSION, exchange.what, str(error)) from error
        except TimeoutError as error:
            raise NoAnswer(exchange.what, f"none came within {timeout_s:g} s") from error
        except Disconnected as error:
            raise NoAnswer(exchange.what, str(error)) from error
        self._heed(exchange, answer)
        return answer

    async def _answer(self, exchange: Exchange[Any], deadline: float) -> Any:
        to = exchange.to
        if isinstance(to, Anyone):
            return await self._directory.ask_anyone(exchange.send, deadline)
        if isinstance(to, Leader):
            address = await self._directory.leader(to.partitions, deadline)
        else:
            address = await self._directory.coordinator(to, deadline)
        try:
            return await self._connections.ask(address, exchange.send, deadline, exchange.lane)
        except (Disconnected, TimeoutError):
            self._directory.lost(address)
            raise

    def _heed(self, exchange: Exchange[Any], answer: Any) -> None:
        """What an answer says of single partitions may mean that another broker is to be asked."""
        refusals = exchange.refusals(answer)
        if isinstance(exchange.to, Coordinator):
            if not _COORDINATOR_MOVED.isdisjoint(refusals.values()):
                self._directory.forget(exchange.to)
        elif moved := [partition for partition, code in refusals.items() if code in _LEADER_MOVED]:
            self._directory.moved(moved)

    async def _describe(self, request: DescribeTopics, timeout_s: float) -> Mapping[str, TopicState]:
        """Two messages of Kafka."""
        configs = await self._exchange(request, timeout_s)
        listed = await self._exchange(ListTopics(request.names), timeout_s)
        for name in sorted(request.names):
            if name not in listed:
                raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"the request for the configuration of topic {name!r}")
        return {name: TopicState(listed[name].partitions, configs[name]) for name in sorted(request.names)}


def _fulfils(cluster: AiokafkaCluster) -> Cluster:
    """For the type checker."""
    return cluster
