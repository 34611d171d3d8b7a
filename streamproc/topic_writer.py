"""Writing to output topics: the last step of a stage, and what processors send aside."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from streamproc.log import Partition, WireHeaders
from streamproc.operators.batch import EMPTY, Batch
from streamproc.operators.operator import Operator
from streamproc.outputs import Outputs
from streamproc.routing import Router
from streamproc.topic import Topic


class TopicWriter:
    """Encodes rows for one topic, by its declared types, and puts them into the epoch."""

    def __init__(self, topic: Topic[Any, Any], partitions: int, task: int, outputs: Outputs) -> None:
        self._topic = topic
        self._router = Router(partitions, task, topic.encode_key, on_wire=True)
        self._outputs = outputs

    def write(
        self,
        keys: Sequence[Any],
        values: Sequence[Any],
        timestamps: Sequence[int],
        headers: Sequence[WireHeaders | None] | None = None,
    ) -> None:
        """Add rows; none when one of them cannot be encoded."""
        encoded = self._topic.encode_values(values)
        self._outputs.add_routed(self._topic.name, self._router.split(keys), encoded, timestamps, headers)


class TopicWriters:
    """The writers of a task, made when a topic is first written to."""

    def __init__(
        self, outputs: Outputs, task: int, partitions_of: Callable[[str], int], *, read: Collection[str] = ()
    ) -> None:
        self._read = read
        self._outputs = outputs
        self._task = task
        self._partitions_of = partitions_of
        self._writers: dict[str, TopicWriter] = {}

    def of(self, topic: Topic[Any, Any]) -> TopicWriter:
        """The writer of a topic. Raises UnknownTopic where the log has none of that name."""
        writer = self._writers.get(topic.name)
        if writer is None:
            writer = TopicWriter(topic, self._partitions_of(topic.name), self._task, self._outputs)
            self._writers[topic.name] = writer
        return writer

    def chosen(self, topic: Topic[Any, Any]) -> TopicWriter:
        """The writer of a topic that is only known now, so that no stream of the app can have been chained to it."""
        if topic.name in self._read:
            msg = (
                f"a stream of this app reads topic {topic.name!r}, and would not see what is sent there by a function: "
                "name the topic in to=, so that the two become one plan"
            )
            raise ValueError(msg)
        return self.of(topic)

    def raw(self, topic: str, key: bytes | None, value: bytes | None, timestamp: int, headers: WireHeaders) -> None:
        """A record as it is, into partition task mod n (dead letters)."""
        partition = Partition(topic, self._task % self._partitions_of(topic))
        self._outputs.add(partition, [key], [value], [timestamp], [headers])


class SinkWriter(Operator):
    """Rows into a topic, or each into the topic that a function of its value names."""

    def __init__(self, topic: Topic[Any, Any] | Callable[[Any], Topic[Any, Any]], writers: TopicWriters) -> None:
        self._topic = topic
        self._writers = writers

    def process(self, batch: Batch, side: int = 0) -> Batch:
        if isinstance(self._topic, Topic):
            self._write(self._writers.of(self._topic), batch)
        else:
            by_topic: dict[str, tuple[Topic[Any, Any], list[int]]] = {}
            for i, topic in enumerate([self._topic(value) for value in batch.values]):
                by_topic.setdefault(topic.name, (topic, []))[1].append(i)
            for topic, rows in by_topic.values():
                self._write(self._writers.chosen(topic), batch.select(rows))
        return EMPTY

    def _write(self, writer: TopicWriter, batch: Batch) -> None:
        headers = None if batch.headers is None else [list(h.items()) if h else None for h in batch.headers]
        writer.write(batch.keys, batch.values, batch.timestamps, headers)
