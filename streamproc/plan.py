"""The plan: an app's graph cut into stages where a key changes, as validated data.

    source topic --> | stage 0: tasks 0..n | --> repartition topic --> | stage 1: tasks 0..m | --> output topic

A stage is the operators that one task runs on one batch; a task is a stage on one partition number of its inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streamproc.counted import counted
from streamproc.errors import DefinitionError, PlanChanged
from streamproc.graph import Graph, Node, Port, RepartitionNode, SinkNode, SourceNode
from streamproc.log import Committed
from streamproc.operators.batch import FOREVER
from streamproc.operators.operator import Operator
from streamproc.topic import Topic

DENSE = -1
"""A floor below every delay: the clock of every record is needed."""


class TaskId(NamedTuple):
    """A task: a stage on one partition number."""

    stage: str
    number: int


class Stage(msgspec.Struct, frozen=True, eq=False):
    """The nodes that run together, parents first, and what they read and feed.

    inputs  sources and repartition nodes whose topics the stage reads
    feeds   repartition nodes of other stages (or its own) whose topics it writes
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    feeds: tuple[Node, ...]

    @property
    def stateful(self) -> bool:
        """Whether its tasks have a store: for operators' tables, or for the marks of what feeds them."""
        return any(
            isinstance(node.kind, RepartitionNode) or (isinstance(node.kind, Operator) and node.kind.stateful)
            for node in (*self.nodes, *self.inputs)
        )

    @property
    def signature(self) -> dict[str, Any]:
        """What must not change while there is state of the stage, by name."""
        return {
            node.name: dict(node.kind.signature)
            for node in self.nodes
            if isinstance(node.kind, Operator) and node.kind.stateful
        }


class Plan:
    """An app's stages.

    `floors` and `keeps_origins` are by node id (`streamproc.operators.Context`). `graces` are floors without what
    timers need: below which delay a clock does not travel through a repartition topic.
    """

    def __init__(self, app: str, graph: Graph) -> None:
        graph.chain()
        self.app = app
        self.nodes = graph.ordered()
        self._children = _children(self.nodes)
        self.floors, self.graces, self.keeps_origins = self._needs()
        self.stages = self._stages()
        self.stage_of = {node.id: stage for stage in self.stages for node in (*stage.inputs, *stage.nodes)}
        self.resolve(lambda _: 1)  # a stage that feeds itself is an error now, not at the start

    @property
    def sources(self) -> list[Topic[Any, Any]]:
        """The topics that the app reads and does not write."""
        return [node.kind.topic for node in self.nodes if isinstance(node.kind, SourceNode)]

    @property
    def read_topics(self) -> set[str]:
        """The names of the topics that streams read, chained ones too."""
        chained = [
            n.kind.chained for n in self.nodes if isinstance(n.kind, RepartitionNode) and n.kind.chained is not None
        ]
        return {topic.name for topic in (*self.sources, *chained)}

    @property
    def sinks(self) -> list[Topic[Any, Any]]:
        """The topics that the app is known to write."""
        topics = [node.kind.topic for node in self.nodes if isinstance(node.kind, SinkNode)]
        return list({topic.name: topic for topic in topics if isinstance(topic, Topic)}.values())

    def topic_of(self, node: Node) -> str:
        """The name of the topic that an input node reads."""
        if isinstance(node.kind, SourceNode):
            return node.kind.topic.name
        assert isinstance(node.kind, RepartitionNode)
        return f"{self.app}-{node.kind.name}-repartition"

    def changelog_of(self, stage: Stage) -> str:
        """The name of a stage's changelog topic."""
        return f"{self.app}-{stage.name}-changelog"

    @property
    def fingerprint(self) -> str:
        """Changes when stored state or internal topics would no longer mean the same."""
        content = [
            (stage.name, stage.signature, [self.topic_of(node) for node in (*stage.inputs, *stage.feeds)])
            for stage in self.stages
        ]
        return hashlib.sha256(repr(content).encode()).hexdigest()[:12]

    # ------------------------------------------------------------------------------------ the time law

    def _needs(self) -> tuple[dict[int, int], dict[int, int], dict[int, bool]]:
        """By node id: up to which delay a row needs no clock, and whether rows need origins. Each node once."""
        graces: dict[Port, int] = {}
        dense: dict[Port, bool] = {}
        sorts: dict[int, bool] = {}
        for node in reversed(self.nodes):
            ports = (Port(node.id), Port(node.id, late=True))
            for port in ports:
                children = self._children.get(port, ())
                graces[port] = min((_grace(graces, child, side) for child, side in children), default=FOREVER)
                dense[port] = any(_dense(dense, child) for child, _ in children)
            below = [child for port in ports for child, _ in self._children.get(port, ())]
            own = isinstance(node.kind, Operator) and node.kind.sorts
            sorts[node.id] = own or any(sorts[child.id] for child in below)
        floors = {node.id: DENSE if dense[Port(node.id)] else graces[Port(node.id)] for node in self.nodes}
        return floors, {node.id: graces[Port(node.id)] for node in self.nodes}, sorts

    # ------------------------------------------------------------------------------------ stages

    def _stages(self) -> list[Stage]:
        component = {node.id: node.id for node in self.nodes}
        for node in self.nodes:
            if not isinstance(node.kind, (SourceNode, RepartitionNode)):
                for port in node.parents:
                    joined, gone = component[node.id], component[port.node]
                    component = {n: joined if c == gone else c for n, c in component.items()}
        stages = []
        for number in dict.fromkeys(component.values()):
            members = [node for node in self.nodes if component[node.id] == number]
            inputs = [node for node in members if isinstance(node.kind, (SourceNode, RepartitionNode))]
            inside = {node.id for node in members}
            feeds = [
                node
                for node in self.nodes
                if isinstance(node.kind, RepartitionNode) and any(port.node in inside for port in node.parents)
            ]
            nodes = [node for node in members if node not in inputs]
            stages.append(Stage(_stage_name(inputs), tuple(nodes), tuple(inputs), tuple(feeds)))
        for stage in stages:
            if any(other.name == stage.name for other in stages if other is not stage):
                msg = f"a source topic and a re-key are both named {stage.name!r}: name the re-key with name='...'"
                raise DefinitionError(msg)
        return stages

    def resolve(
        self, partitions_of: Callable[[str], int], there: Callable[[str], int | None] = lambda _: None
    ) -> Topology:
        """Fix the numbers of partitions and tasks, given those of the source topics.

        An internal topic whose number nothing else says keeps the one that it has, if it is `there`: the state behind
        it is where its keys are, whatever has become of the sources.
        """
        partitions: dict[str, int] = {}
        tasks: dict[str, int] = {}
        waiting = list(self.stages)
        while waiting:
            for stage in waiting:
                feeding = {node.id: [self.stage_of[port.node] for port in node.parents] for node in stage.inputs}
                if all(feeder.name in tasks for feeders in feeding.values() for feeder in feeders):
                    break
            else:
                msg = f"stages feed each other in a circle: {', '.join(stage.name for stage in waiting)}"
                raise DefinitionError(msg)
            waiting.remove(stage)
            for node in stage.inputs:
                name = self.topic_of(node)
                if isinstance(node.kind, SourceNode):
                    partitions[name] = partitions_of(name)
                else:
                    assert isinstance(node.kind, RepartitionNode)
                    widest = max(tasks[feeder.name] for feeder in feeding[node.id])
                    partitions[name] = node.kind.partitions or there(name) or widest
            tasks[stage.name] = max(partitions[self.topic_of(node)] for node in stage.inputs)
            self._check_copartitioned(stage, partitions)
        return Topology(partitions, tasks, frozenset(filter(self._may_grow, partitions)))

    def _may_grow(self, topic: str) -> bool:
        """Whether a topic may gain partitions: nothing that reads it directly keeps state by its partitions."""
        return not any(stage.stateful and topic in map(self.topic_of, stage.inputs) for stage in self.stages)

    def _check_copartitioned(self, stage: Stage, partitions: Mapping[str, int]) -> None:
        counts = {self.topic_of(node): partitions[self.topic_of(node)] for node in stage.inputs}
        keyed = [node.name for node in stage.nodes if node.checks_key]
        if keyed and len(set(counts.values())) > 1:
            shown = ", ".join(f"{name} has {count}" for name, count in counts.items())
            msg = (
                f"{keyed[0]} works by key on topics with different numbers of partitions ({shown}), so equal keys "
                "would not meet: key_by(...) before it, or give the topics the same number"
            )
            raise DefinitionError(msg)


class Topology(NamedTuple):
    """How many partitions each topic that is read has, and how many tasks each stage.

    growing   the topics that may have more than when they were last read
    """

    partitions: Mapping[str, int]
    tasks: Mapping[str, int]
    growing: frozenset[str] = frozenset()

    @property
    def fingerprint(self) -> str:
        """Changes with any of the numbers."""
        content = repr((sorted(self.partitions.items()), sorted(self.tasks.items())))
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    def check_partitions(self, app: str, topic: str, committed: Committed) -> bool:
        """Whether a topic has gained partitions since an offset of it was committed.

        Raises PlanChanged where their number has changed and must not.
        """
        before, now = _partitions_at(committed), self.partitions[topic]
        if before == now:
            return False
        if topic not in self.growing or before is None or before > now:
            had = "no known number of partitions" if before is None else counted(before, "partition")
            msg = (
                f"topic {topic!r} had {had} when app {app!r} last ran and has {now} now: keyed state "
                "would no longer be where its keys are. Run under another App name, or: streamproc reset MODULE:APP"
            )
            raise PlanChanged(msg)
        return True

    def lacks(self, topic: str, committed: Committed) -> bool:
        """Whether an offset of the topic was committed by a worker that knew more partitions of it."""
        return (_partitions_at(committed) or 0) > self.partitions[topic]


def _partitions_at(committed: Committed) -> int | None:
    """How many partitions the topic had when an offset of it was committed."""
    found: int | None = msgspec.json.decode(committed.metadata).get("partitions")
    return found


def _children(nodes: Iterable[Node]) -> dict[Port, list[tuple[Node, int]]]:
    """Who reads a port, and on which side."""
    children: dict[Port, list[tuple[Node, int]]] = {}
    for node in nodes:
        for side, port in enumerate(node.parents):
            children.setdefault(port, []).append((node, side))
    return children


def _grace(graces: Mapping[Port, int], child: Node, side: int) -> int:
    """The smallest grace by which a row that a child takes, still a record, may be judged late, there or below."""
    kind = child.kind
    if isinstance(kind, RepartitionNode):
        return graces[Port(child.id)]
    if not isinstance(kind, Operator) or kind.retimes:
        return FOREVER
    own = kind.graces[side] if kind.graces else FOREVER
    passed_on = graces[Port(child.id)] if kind.record_wise else FOREVER
    return min(own, passed_on, graces[Port(child.id, late=True)])


def _dense(dense: Mapping[Port, bool], child: Node) -> bool:
    """Whether timers need the clock of every row that a child takes; behind a re-key they go by the row's own time."""
    kind = child.kind
    if not isinstance(kind, Operator) or kind.retimes:
        return False
    return kind.dense_clock or (kind.record_wise and dense[Port(child.id)]) or dense[Port(child.id, late=True)]


def _stage_name(inputs: Sequence[Node]) -> str:
    """A stage is named by its first input, so that its changelog keeps its name when streams are added."""
    first = min(inputs, key=lambda node: node.id).kind
    return first.topic.name if isinstance(first, SourceNode) else first.name  # type: ignore[union-attr]
