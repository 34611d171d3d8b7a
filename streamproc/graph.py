"""The graph that stream functions draw: nodes with their parents, in order of definition."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from streamproc.errors import DefinitionError
from streamproc.operators.operator import Operator
from streamproc.policy import OnError, checked_policy
from streamproc.topic import Topic


class Port(NamedTuple):
    """Where a node's input comes from: the rows that a node gives, or the records it found late."""

    node: int
    late: bool = False


class SourceNode(msgspec.Struct, frozen=True):
    """The records of a topic that other programs write."""

    topic: Topic[Any, Any]


class RepartitionNode(msgspec.Struct, frozen=True):
    """Rows through an internal topic, to the task that their key belongs to.

    name        of the topic, without the app's name
    partitions  None: as many as the widest stage that feeds it has tasks
    value_type  the declared type of the values, where it is known
    chained     the user's topic that this edge stands for (its rows are on the wire as there); None: a re-key
    """

    name: str
    partitions: int | None = None
    value_type: Any = None
    chained: Topic[Any, Any] | None = None


class SinkNode(msgspec.Struct, frozen=True):
    """Rows into an output topic, or into the one that a function of the value names."""

    topic: Topic[Any, Any] | Callable[[Any], Topic[Any, Any]]


Kind: TypeAlias = SourceNode | RepartitionNode | SinkNode | Operator


class Node(msgspec.Struct, eq=False):
    """A vertex of the graph.

    stream       the stream function that defined it
    step         its name in there; (stream, step) names state and topics, so it must last
    on_error     what happens to a record on which it fails
    checks_key   whether a record without a key is an error here
    """

    id: int
    stream: str
    step: str
    kind: Kind
    parents: tuple[Port, ...]
    on_error: OnError
    checks_key: bool = False

    @property
    def name(self) -> str:
        """The name in messages, state and topics."""
        return f"{self.stream}.{self.step}"


_STEP = re.compile(r"[\w.<>-]+")
"""Names of steps name tables too, whose parts '/' and zero bytes divide."""


class Graph:
    """Nodes in order of definition; the order of ids."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._sources: dict[str, Node] = {}
        self._steps: dict[tuple[str, str], Node] = {}
        self._repartitions: dict[tuple[Port, int | None], Node] = {}

    def add(
        self,
        stream: str,
        step: str,
        kind: Kind,
        parents: Sequence[Port],
        *,
        on_error: OnError,
        checks_key: bool = False,
        lasting: bool = False,
    ) -> Node:
        """A new node. `lasting`: its name is the name of state or of a topic, so it may not be numbered."""
        if not _STEP.fullmatch(step):
            msg = f"stream function {stream!r}: {step!r} is no name for a step: use letters, digits, '.', '_' and '-'"
            raise DefinitionError(msg)
        taken = self._steps.get((stream, step))
        if taken is not None and (lasting or _lasts(taken)):
            msg = f"stream function {stream!r} has two steps named {step!r}: give one another name, name='...'"
            raise DefinitionError(msg)
        if taken is not None:
            step = next(s for n in range(2, len(self.nodes) + 3) if (stream, s := f"{step}-{n}") not in self._steps)
        try:
            policy = checked_policy(on_error)
        except DefinitionError as error:
            raise DefinitionError(f"{stream}.{step}: {error}") from error
        node = Node(len(self.nodes), stream, step, kind, tuple(parents), policy, checks_key)
        self.nodes.append(node)
        self._steps[stream, step] = node
        return node

    def source(self, topic: Topic[Any, Any], *, on_error: OnError) -> Node:
        """The one node that reads a topic, however many streams do."""
        node = self._sources.get(topic.name)
        if node is None:
            node = self.add(topic.name, "source", SourceNode(topic), (), on_error=on_error)
            self._sources[topic.name] = node
        elif isinstance(node.kind, SourceNode) and node.kind.topic is not topic:
            msg = f"topic {topic.name!r} is declared twice: call app.topic once and use what it returns"
            raise DefinitionError(msg)
        return node

    def repartition(
        self, parent: Port, stream: str, step: str, *, partitions: int | None, value_type: Any, on_error: OnError
    ) -> Node:
        """The re-key of a stream: made once, however often the stream is used.

        A second one of the same name is numbered. Where that moves a number to another re-key, the steps behind it do
        not fit what is stored, and the start is refused: nothing is ever read by the wrong step.
        """
        node = self._repartitions.get((parent, partitions))
        if node is None:
            names = (step, *(f"{step}-{n}" for n in range(2, len(self.nodes) + 3)))
            name = next(name for name in names if (stream, f"{name}-repartition") not in self._steps)
            kind = RepartitionNode(f"{stream}-{name}", partitions, value_type)
            node = self.add(stream, f"{name}-repartition", kind, (parent,), on_error=on_error, lasting=True)
            self._repartitions[parent, partitions] = node
        return node

    def chain(self) -> None:
        """Join streams that a topic of the app connects: the edge becomes an internal topic with marks."""
        for name, source in self._sources.items():
            writers = [
                port
                for node in self.nodes
                if isinstance(node.kind, SinkNode)
                and isinstance(node.kind.topic, Topic)
                and node.kind.topic.name == name
                for port in node.parents
            ]
            if writers and isinstance(source.kind, SourceNode):
                topic = source.kind.topic
                if topic.timestamp is not None:
                    msg = (
                        f"topic {name!r} is written by a stream of this app: its records keep the time they were "
                        "given, so timestamp= must not be set on it"
                    )
                    raise DefinitionError(msg)
                source.kind = RepartitionNode(name, topic.partitions, chained=topic)
                source.parents = tuple(writers)

    def ordered(self) -> list[Node]:
        """The nodes, parents first."""
        done: dict[int, Node] = {}
        waiting = list(self.nodes)
        while waiting:
            ready = [node for node in waiting if all(port.node in done for port in node.parents)]
            if not ready:
                names = ", ".join(node.name for node in waiting)
                msg = f"these steps feed themselves: {names}. A stream cannot read a topic that it writes"
                raise DefinitionError(msg)
            done.update((node.id, node) for node in ready)
            waiting = [node for node in waiting if node.id not in done]
        return list(done.values())


def _lasts(node: Node) -> bool:
    return isinstance(node.kind, RepartitionNode) or (isinstance(node.kind, Operator) and node.kind.stateful)
