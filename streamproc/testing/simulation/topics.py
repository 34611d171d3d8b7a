"""The topics of the simulated cluster: their partitions and their configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

from streamproc.clock import Clock
from streamproc.kafka.requests import Code, CreateTopic, Refused, TopicState
from streamproc.log import Partition
from streamproc.testing.simulation.partition_log import LogConfig, PartitionLog, log_config
from streamproc.testing.simulation.retention import Upkeep, compact, drop

DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": "86400000",
    "max.compaction.lag.ms": "9223372036854775807",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": "9223372036854775807",
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "segment.ms": "604800000",
}
"""A topic's configuration where nothing else is said; the broker acts on what `LogConfig` names."""
_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")


class Topics:
    """All topics, and the logs of their partitions.

    delay   draws how long, in seconds, until a new topic is known to others than its maker
    """

    def __init__(self, clock: Clock, delay: Callable[[], float]) -> None:
        self._clock = clock
        self._delay = delay
        self._new: dict[str, int] = {}
        """Topics that are not known yet, and when they will be, in ms of the clock."""
        self._topics: dict[str, TopicState] = {}
        self._logs: dict[Partition, PartitionLog] = {}
        self._upkeep: dict[Partition, Upkeep] = {}

    def log(self, partition: Partition) -> PartitionLog | None:
        """A partition's log, without what is too old by now; None where there is no such partition."""
        log = self._logs.get(partition)
        if log is None or self._is_new(partition.topic):
            return None
        self._upkeep[partition].look(self._clock.now_ms())
        return log

    def logs(self) -> Mapping[Partition, PartitionLog]:
        """All partitions, by topic and number."""
        return dict(sorted(self._logs.items()))

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._logs

    def described(self, names: Collection[str] | None) -> Mapping[str, TopicState]:
        """All topics or those of these names that exist, with their whole configuration."""
        wanted = self._topics if names is None else names
        return {name: self._topics[name] for name in wanted if name in self._topics and not self._is_new(name)}

    def create(self, request: CreateTopic) -> None:
        """A new topic."""
        name = request.name
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise Refused(Code.INVALID_TOPIC, f"topic {name!r}")
        if name in self._topics:
            raise Refused(Code.TOPIC_ALREADY_EXISTS, f"topic {name!r}")
        if request.partitions < 1:
            raise Refused(Code.INVALID_PARTITIONS, f"topic {name!r}", f"{request.partitions} partitions")
        for key in request.config:
            if key not in DEFAULTS:
                raise Refused(Code.INVALID_CONFIG, f"topic {name!r}", f"there is no setting {key!r}")
        topic = TopicState(request.partitions, {**DEFAULTS, **request.config})
        config = log_config(topic.config)
        self._topics[name] = topic
        self._new[name] = self._clock.now_ms() + round(self._delay() * 1000)
        for number in range(request.partitions):
            self._add(Partition(name, number), config)

    def grow(self, name: str, partitions: int) -> None:
        """The topic has so many partitions from now on (KIP-195)."""
        topic = self._topics[name]
        self._topics[name] = TopicState(partitions, topic.config)
        for number in range(topic.partitions, partitions):
            self._add(Partition(name, number), log_config(topic.config))

    def _add(self, partition: Partition, config: LogConfig) -> None:
        log = self._logs[partition] = PartitionLog(config)
        self._upkeep[partition] = Upkeep(log)

    def delete(self, names: Collection[str]) -> list[Partition]:
        """The topics are gone, and these partitions with them."""
        gone = [
            Partition(name, number)
            for name in names
            if name in self._topics
            for number in range(self._topics.pop(name).partitions)
        ]
        for partition in gone:
            del self._logs[partition], self._upkeep[partition]
        return gone

    def _is_new(self, name: str) -> bool:
        if self._new and self._new.get(name, 0) <= self._clock.now_ms():
            self._new.pop(name, None)
        return name in self._new

    def clean(self) -> None:
        """Everything that may be dropped or compacted is, now."""
        now_ms = self._clock.now_ms()
        for log in self._logs.values():
            if log.config.deletes:
                drop(log, now_ms)
            if log.config.compacts:
                compact(log, now_ms)
