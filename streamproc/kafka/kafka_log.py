"""`kafka://`: the Log protocol on a Kafka cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from streamproc.kafka.acknowledged import Acknowledged
from streamproc.kafka.assignment import tasks_of
from streamproc.kafka.calls import LATER_S, PATIENCE_S, Deadline
from streamproc.kafka.fetching import Fetcher
from streamproc.kafka.kafka_sink import KafkaSink
from streamproc.kafka.kafka_source import KafkaSource
from streamproc.kafka.leadership import transactional_id
from streamproc.kafka.membership import Member
from streamproc.kafka.offsets import UNKNOWN_S, Offsets
from streamproc.kafka.open_cluster import OpenCluster
from streamproc.kafka.requests import (
    Cluster,
    Code,
    CreateTopic,
    DeleteGroup,
    DeleteRecords,
    DeleteTopics,
    DescribeGroup,
    DescribeTopics,
    End,
    Fetch,
    LeaveGroup,
    ListTopics,
    NoAnswer,
    OffsetFetch,
    Refused,
    TransactionVersion,
)
from streamproc.kafka.timing import Timing
from streamproc.kafka.transaction import Transactions
from streamproc.log import Chunk, Committed, GroupView, Log, LogError, MemberView, Partition, Source, TaskInput, Topic

logger = logging.getLogger("streamproc")

KIP_890: Final = 2
"""The `transaction.version` that exactly-once needs."""
_NOT_ALLOWED: Final = (Code.TOPIC_AUTHORIZATION_FAILED, Code.CLUSTER_AUTHORIZATION_FAILED)


class KafkaLog:
    """A Kafka cluster as a log: one set of connections, any number of sources and sinks."""

    def __init__(self, cluster: Cluster, timing: Timing, *, fetch_bytes: int = 1 << 20) -> None:
        self._cluster = OpenCluster(cluster)
        self._timing = timing
        self._fetch_bytes = fetch_bytes
        self._offsets = Offsets(self._cluster, timing)
        self._ask = self._offsets.ask

    # ------------------------------------------------------------------------------------ topics

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        """All topics by name; the configuration of those to be described that exist, of others none."""
        while True:
            listed = await self._ask(ListTopics())
            wanted = [name for name in describe if name in listed]
            try:
                described = await self._ask(DescribeTopics(wanted)) if wanted else {}
            except Refused as error:
                if error.code != Code.UNKNOWN_TOPIC_OR_PARTITION:  # deleted meanwhile
                    raise
            else:
                known = {**listed, **described}
                return {name: Topic(known[name].partitions, known[name].config) for name in listed}

    async def create(self, name: str, *, partitions: int, config: Mapping[str, str]) -> None:
        """A topic of this name exists, and can be written to; one that is there is left as it is."""
        try:
            await self._ask(CreateTopic(name, partitions, config))
        except Refused as error:
            if error.code in _NOT_ALLOWED:
                msg = f"topic {name!r} cannot be created: {error}. Create it, or allow the app's user to create topics"
                raise LogError(msg) from error
            if error.code != Code.TOPIC_ALREADY_EXISTS:
                raise
        deadline = Deadline(PATIENCE_S)
        while (topic := (await self._ask(ListTopics([name]))).get(name)) is None:
            if deadline.over:
                msg = f"topic {name!r} was created, and Kafka does not list it: look at the logs of its brokers"
                raise LogError(msg)
            await asyncio.sleep(LATER_S)
        numbers = range(topic.partitions)
        await self._offsets.bounds("first", [Partition(name, number) for number in numbers], unknown_s=PATIENCE_S)

    # ------------------------------------------------------------------------------------ plain reads

    async def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` committed records from an offset, at once; possibly none, behind which the log may go on."""
        deadline, known_by = Deadline(PATIENCE_S), Deadline(UNKNOWN_S)
        request = Fetch({partition: offset}, 0, self._fetch_bytes)
        while True:
            [pieces] = await self._offsets.ask_leaders(lambda _: request, [partition])
            piece = pieces[partition]
            if piece.code == Code.NONE:
                chunk = Chunk(partition, piece.offsets, piece.next_offset, piece.columns)
                return chunk if len(piece.offsets) <= limit else chunk.cut(0, limit)
            if piece.code != Code.UNKNOWN_TOPIC_OR_PARTITION or known_by.over:
                error = await self._offsets.why_unreadable(partition, offset, piece.code)
                if error is not None:
                    raise error
            if deadline.over:
                raise Refused(piece.code, f"records of {partition.topic}/{partition.number}")
            await asyncio.sleep(LATER_S)

    async def bounds(self, end: End, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """The first offsets kept, the last stable ones, or the high watermarks. Raises UnknownTopic."""
        return await self._offsets.bounds(end, partitions)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The high watermarks."""
        return await self._offsets.bounds("high", partitions)

    # ------------------------------------------------------------------------------------ workers

    async def source(
        self, group: str, member: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b""
    ) -> KafkaSource:
        """Join a group as a static member of this instance id (KIP-345)."""
        joining = Member(self._cluster, group, member, tasks, self._timing, plan=plan, shared=shared)
        fetcher = Fetcher(self._cluster, self._offsets.why_unreadable, partition_bytes=self._fetch_bytes)
        joining.start()
        return KafkaSource(self._offsets, joining, fetcher, tasks)

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> KafkaSink:
        """Begin writing; with `exactly_once` under the member's transactional id, taken from whoever had it."""
        if source is not None and not (isinstance(source, KafkaSource) and source.offsets is self._offsets):
            msg = f"the source given for the sink of {member!r} is of another log: use the log that gave the source"
            raise LogError(msg)
        if not exactly_once:
            return KafkaSink(source, member, Acknowledged(self._cluster, self._timing))
        version = await self._ask(TransactionVersion())
        if version < KIP_890:
            msg = (
                f"this Kafka cluster has transaction.version {version}, and exactly-once needs {KIP_890} (KIP-890): "
                "run kafka-features.sh --bootstrap-server HOST:PORT upgrade --feature transaction.version=2 "
                "(Kafka 4.0 or later), or set guarantee=at_least_once"
            )
            raise LogError(msg)
        writer = Transactions(self._cluster, transactional_id(source.group if source else "send", member), self._timing)
        await writer.take(Deadline(PATIENCE_S))
        return KafkaSink(source, member, writer)

    # ------------------------------------------------------------------------------------ groups from outside

    async def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What a group has committed; what its members have open is not waited for."""
        return await self._ask(OffsetFetch(group, None, stable=False))

    async def group(self, group: str) -> GroupView:
        """Who is in a group, and has which tasks."""
        state = await self._ask(DescribeGroup(group))
        members = [MemberView(m.instance or m.member, m.host, tasks_of(m.assignment)) for m in state.members]
        return GroupView(state.state in ("PreparingRebalance", "CompletingRebalance"), members)

    async def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are deleted (KIP-107), or it is said why not: then a later purge may."""
        for partitions in self._cluster.led_together(sorted(before)):
            request = DeleteRecords({partition: before[partition] for partition in partitions})
            try:
                await self._cluster.send(request, self._timing.request_s)
            except (Refused, NoAnswer) as error:
                names = ", ".join(f"{topic}/{number}" for topic, number in partitions)
                logger.warning("what was read of %s is kept for now: %s", names, error)

    async def forget(self, group: str, topics: Collection[str]) -> None:
        """The group has committed nothing and there are none of these topics. Raises LogError while it has members."""
        view = await self.group(group)
        if view.members:
            names = ", ".join(sorted(member.name for member in view.members))
            msg = f"group {group!r} has members, {names}: stop them first"
            raise LogError(msg)
        try:
            await self._ask(DeleteGroup(group))
        except Refused as error:
            if error.code != Code.GROUP_ID_NOT_FOUND:
                raise
        await self._delete(topics)

    async def _delete(self, topics: Collection[str]) -> None:
        deadline = Deadline(PATIENCE_S)
        there = sorted((await self._ask(ListTopics(topics))).keys()) if topics else []
        if there:
            await self._ask(DeleteTopics(there))
        while there:
            if deadline.over:
                msg = f"Kafka has not deleted topics {', '.join(there)} yet, though it was told to: look again"
                raise LogError(msg)
            await asyncio.sleep(LATER_S)
            there = sorted((await self._ask(ListTopics(there))).keys())

    async def dismiss(self, group: str, member: str) -> None:
        """A member that is known to be dead leaves its group at once; one that is not in it has left."""
        try:
            await self._ask(LeaveGroup(group, "", member))
        except Refused as error:
            if error.code not in (Code.UNKNOWN_MEMBER_ID, Code.GROUP_ID_NOT_FOUND):
                raise

    async def close(self) -> None:
        """Give the connections back; whatever still goes on under this log ends with a LogError."""
        await self._cluster.close()


def _fulfils(log: KafkaLog) -> Log:
    """For the type checker."""
    return log
