"""Assembly: from the plan's stage to a task with its readers, operators and writers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

from streamproc.graph import Node, Port, RepartitionNode, SinkNode, SourceNode
from streamproc.internal_topic import RepartitionWriter
from streamproc.log import Chunk, Partition
from streamproc.operators.operator import Operator
from streamproc.outputs import Outputs
from streamproc.plan import Plan, Stage, TaskId, Topology
from streamproc.reader import InternalReader, Reader, SourceReader
from streamproc.routing import Router
from streamproc.row_decoder import ChainedRows, RekeyedRows, RowDecoder
from streamproc.state.codec import Codec
from streamproc.state.store import Store
from streamproc.step import Failure, Step
from streamproc.task import Feed, Task
from streamproc.topic_writer import SinkWriter, TopicWriters


class Assembly:
    """Makes the tasks of one plan for one worker."""

    def __init__(
        self, plan: Plan, topology: Topology, codec: Codec, *, partitions_of: Callable[[str], int], ahead_ms: int
    ) -> None:
        self._plan = plan
        self._topology = topology
        self._codec = codec
        self._partitions_of = partitions_of
        self._ahead_ms = ahead_ms

    def inputs(self, stage: Stage, number: int) -> tuple[Partition, ...]:
        """The partitions that a task reads."""
        topics = [self._plan.topic_of(node) for node in stage.inputs]
        return tuple(Partition(topic, number) for topic in topics if number < self._topology.partitions[topic])

    def task(
        self,
        stage: Stage,
        number: int,
        store: Store | None,
        *,
        on_bad: Callable[[Node, Chunk, int, Exception], None],
        on_failure: Callable[[Failure], None],
    ) -> Task:
        """A task, open on its store."""
        outputs = Outputs()
        writers = TopicWriters(outputs, number, self._partitions_of, read=self._plan.read_topics)
        feeds = [self._feed(stage, node) for node in stage.feeds]
        task = Task(
            TaskId(stage.name, number),
            self._readers(stage, number, on_bad),
            [*self._steps(stage, writers), *(self._writer(stage, node, number, outputs) for node in stage.feeds)],
            feeds,
            outputs,
            writers=writers,
            on_failure=on_failure,
        )
        task.open(
            store,
            self._codec,
            floors=self._plan.floors,
            keeps_origins=self._plan.keeps_origins,
            schema=stage.signature,
            ahead_ms=self._ahead_ms,
        )
        return task

    def _readers(
        self, stage: Stage, number: int, on_bad: Callable[[Node, Chunk, int, Exception], None]
    ) -> Mapping[int, Reader]:
        readers: dict[int, Reader] = {}
        for node in stage.inputs:
            topic = self._plan.topic_of(node)
            if number < self._topology.partitions[topic]:
                readers[node.id] = self._reader(node, Partition(topic, number), on_bad)
        return readers

    def _reader(
        self, node: Node, partition: Partition, on_bad: Callable[[Node, Chunk, int, Exception], None]
    ) -> Reader:
        keeps_origins = self._plan.keeps_origins[node.id]
        if isinstance(node.kind, SourceNode):
            return SourceReader(
                partition,
                node.kind.topic,
                node.id,
                floor=self._plan.floors[node.id],
                keeps_origins=keeps_origins,
                ahead_ms=self._ahead_ms,
                on_bad=lambda chunk, place, error: on_bad(node, chunk, place, error),
            )
        assert isinstance(node.kind, RepartitionNode)
        feeders = [self._plan.stage_of[port.node] for port in node.parents]
        edges = [(stage.name, task) for stage in feeders for task in range(self._topology.tasks[stage.name])]
        decoder: RowDecoder
        if node.kind.chained is not None:
            decoder = ChainedRows(node.kind.chained)
        else:
            decoder = RekeyedRows(self._codec.keys.decode, self._values(node.kind).decode_column)
        return InternalReader(
            partition,
            edges,
            decoder,
            grace_ms=self._plan.graces[node.id],
            keeps_origins=keeps_origins,
            on_bad=lambda chunk, place, error: on_bad(node, chunk, place, error),
        )

    def _steps(self, stage: Stage, writers: TopicWriters) -> list[Step]:
        steps = []
        for node in stage.nodes:
            operator = SinkWriter(node.kind.topic, writers) if isinstance(node.kind, SinkNode) else node.kind
            assert isinstance(operator, Operator)
            steps.append(Step(node, copy(operator), [(port, side) for side, port in enumerate(node.parents)]))
        return steps

    def _feed(self, stage: Stage, node: Node) -> Feed:
        topic = self._plan.topic_of(node)
        return Feed(topic, self._topology.partitions[topic], tuple(port for port, _ in self._ports(stage, node)))

    def _writer(self, stage: Stage, node: Node, number: int, outputs: Outputs) -> Step:
        assert isinstance(node.kind, RepartitionNode)
        topic = self._plan.topic_of(node)
        chained = node.kind.chained
        encode_key_of = chained.encode_key if chained is not None else self._encoded_key
        encode_values = chained.encode_values if chained is not None else self._values(node.kind).encode_column
        writer = RepartitionWriter(
            topic,
            Router(self._topology.partitions[topic], number, encode_key_of),
            encode_values,
            outputs,
            keeps_origins=self._plan.keeps_origins[node.id],
            several=len(node.parents) > 1,
        )
        return Step(node, writer, self._ports(stage, node))

    def _encoded_key(self, key: Any) -> bytes | None:
        return None if key is None else self._codec.keys.encode(key)

    def _ports(self, stage: Stage, node: Node) -> list[tuple[Port, int]]:
        """The ports of this stage that feed a repartition topic, with their sides among all that do."""
        return [(port, side) for side, port in enumerate(node.parents) if self._plan.stage_of[port.node] is stage]

    def _values(self, kind: RepartitionNode) -> Any:
        """The codec of a repartition topic's values: without self-description where their type is declared."""
        return self._codec.typed(kind.value_type) if kind.value_type is not None else self._codec
