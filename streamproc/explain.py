"""Explain: a plan as data, as text and as a Mermaid diagram; needs no log.

What holds of each step's rows (the law of time, ARCHITECTURE.md), found by going up from it:

    step                                              its rows are the same under any pace, if what it reads is, and
    windows, sessions, top, in_order                  (always)
    with_previous, map, filter, other plain steps     (always)
    running, deduplicate, counting, processors        its records come in one order: no re-key or merge since the
                                                      source or the last step that sorts
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from streamproc.counted import counted
from streamproc.graph import Node, Port, RepartitionNode, SinkNode, SourceNode
from streamproc.operators.counting import Counting
from streamproc.operators.deduplicate import Deduplicate
from streamproc.operators.merge import Merge
from streamproc.operators.operator import Operator
from streamproc.operators.process import Process
from streamproc.operators.running import Running
from streamproc.operators.top import Top
from streamproc.plan import Plan, Stage
from streamproc.policy import DeadLetter
from streamproc.signature import shown_signature
from streamproc.topic import Topic
from streamproc.type_hints import show
from streamproc.windows.duration import duration_text

Law: TypeAlias = Literal["same", "arrival", "author"]
"""same: under the law; arrival: its rows depend on the order in which records happen to arrive; author: an operator of
the user's own, of which its author must know."""

_BY_ARRIVAL: Final = (Running, Deduplicate, Counting, Process)
_KNOWN_STATEFUL: Final = "streamproc.operators."


class Input(msgspec.Struct, frozen=True):
    """A topic that a stage reads. `kind`: source, repartition, or chained (`of`: a topic of the app's own)."""

    topic: str
    kind: Literal["source", "repartition", "chained"]
    partitions: str
    value: str | None
    timestamp: str | None
    grace: str | None
    of: str | None


class Step(msgspec.Struct, frozen=True):
    """A step. `law` is of its rows, with the reason where they may differ; None where it only passes rows on."""

    name: str
    does: str
    stateful: bool
    on_error: str
    law: Law | None
    why: str | None


class Output(msgspec.Struct, frozen=True):
    """A topic that a stage writes; None: the one that a function of each value names."""

    topic: str | None
    by: str
    kind: Literal["output", "repartition"]


class StageView(msgspec.Struct, frozen=True):
    """A stage. `tasks` says how many there are, in terms of the partitions of sources."""

    name: str
    tasks: str
    reads: tuple[Input, ...]
    steps: tuple[Step, ...]
    writes: tuple[Output, ...]
    changelog: str | None


class PlanView(msgspec.Struct, frozen=True):
    """A plan as data; its JSON is the answer of `streamproc explain --json`."""

    app: str
    fingerprint: str
    stages: tuple[StageView, ...]
    dead_letters: tuple[str, ...]
    notes: tuple[str, ...]


def explained(plan: Plan, *, dead_letters: Iterable[str] = ()) -> PlanView:
    """What a plan does. Raises DefinitionError for one that cannot run, whatever the numbers of partitions."""
    plan.resolve(lambda _: 1)
    law = _Laws(plan)
    partitions = _Partitions(plan)
    stages = tuple(_stage(plan, stage, law, partitions) for stage in _in_flow_order(plan))
    return PlanView(plan.app, plan.fingerprint, stages, tuple(sorted(dead_letters)), tuple(_notes(plan)))


# -------------------------------------------------------------------------------------- stages


def _in_flow_order(plan: Plan) -> list[Stage]:
    """Stages behind those that feed them."""
    place = {node.id: i for i, node in enumerate(plan.nodes)}
    return sorted(plan.stages, key=lambda stage: min(place[node.id] for node in stage.inputs))


def _stage(plan: Plan, stage: Stage, law: _Laws, partitions: _Partitions) -> StageView:
    steps = tuple(_step(node, law) for node in stage.nodes if not isinstance(node.kind, SinkNode))
    sinks = [_output(node) for node in stage.nodes if isinstance(node.kind, SinkNode)]
    feeds = [Output(plan.topic_of(node), node.name, "repartition") for node in stage.feeds]
    return StageView(
        stage.name,
        partitions.of_stage(stage),
        tuple(_input(plan, node, partitions) for node in stage.inputs),
        steps,
        (*sinks, *feeds),
        plan.changelog_of(stage) if stage.stateful else None,
    )


def _input(plan: Plan, node: Node, partitions: _Partitions) -> Input:
    name, many = plan.topic_of(node), partitions.of_node(node)
    if isinstance(node.kind, SourceNode):
        topic = node.kind.topic
        return Input(name, "source", many, _type(topic), _timestamp(topic), _grace(topic), None)
    assert isinstance(node.kind, RepartitionNode)
    chained = node.kind.chained
    value = show(node.kind.value_type) if node.kind.value_type is not None else None
    if chained is None:
        return Input(name, "repartition", many, value, None, None, None)
    return Input(name, "chained", many, _type(chained), None, _grace(chained), chained.name)


def _step(node: Node, law: _Laws) -> Step:
    kind = node.kind
    assert isinstance(kind, Operator)
    found, why = law.of(node)
    policy = f"dead_letter({node.on_error.topic!r})" if isinstance(node.on_error, DeadLetter) else node.on_error
    return Step(node.name, _does(kind), kind.stateful, policy, found, why)


def _output(node: Node) -> Output:
    assert isinstance(node.kind, SinkNode)
    topic = node.kind.topic
    return Output(topic.name if isinstance(topic, Topic) else None, _named(topic), "output")


def _does(operator: Operator) -> str:
    """A step in a few words: its verb, then what its state depends on."""
    if isinstance(operator, Top):
        return f"{'top' if operator.final else 'top of each task'} n={operator.n}"
    signature = {"verb": _snake(type(operator).__name__), **operator.signature}
    if signature.get("grace_ms") == 0:
        del signature["grace_ms"]
    return shown_signature(signature)


def _snake(name: str) -> str:
    """FlatMap is flat_map."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")


def _named(topic: Topic[Any, Any] | Callable[..., Any]) -> str:
    return topic.name if isinstance(topic, Topic) else f"{getattr(topic, '__name__', 'f')}(value)"


def _type(topic: Topic[Any, Any]) -> str | None:
    return None if topic.value_type is Any else show(topic.value_type)


def _timestamp(topic: Topic[Any, Any]) -> str | None:
    named = topic.timestamp
    return named if named is None or isinstance(named, str) else f"{getattr(named, '__name__', 'f')}(value)"


def _grace(topic: Topic[Any, Any]) -> str | None:
    return None if not topic.grace_ms else duration_text(topic.grace_ms)


class _Partitions:
    """How many partitions and tasks there are, in words: the sources' numbers are known to a log alone."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def of_stage(self, stage: Stage) -> str:
        """As many tasks as the widest input has partitions."""
        return _widest(self.of_node(node) for node in stage.inputs)

    def of_node(self, node: Node) -> str:
        """Of the topic that an input node reads."""
        if isinstance(node.kind, SourceNode):
            return f"as {node.kind.topic.name}"
        assert isinstance(node.kind, RepartitionNode)
        if node.kind.partitions is not None:
            return str(node.kind.partitions)
        return _widest(self.of_stage(self._plan.stage_of[port.node]) for port in node.parents)


def _widest(numbers: Iterable[str]) -> str:
    found = sorted(set(numbers))
    named = [one.removeprefix("as ") for one in found if one.startswith("as ")]
    counts = [int(one) for one in found if one.isdigit()]
    wide = [one.removeprefix("as the widest of ") for one in found if one.startswith("as the widest of ")]
    if len(found) == 1:
        return found[0]
    several = sorted(
        {name for group in wide for name in group.split(", ")} | set(named) - {f"the widest of {g}" for g in wide}
    )
    if not several:
        return str(max(counts))
    if counts and max(counts) > 1:
        return f"as the widest of {', '.join(several)}, at least {max(counts)}"
    return f"as the widest of {', '.join(several)}" if len(several) > 1 else f"as {several[0]}"


# -------------------------------------------------------------------------------------- the law


class _Laws:
    """What holds of the rows of each step."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._found: dict[int, tuple[Law, str | None]] = {}
        self._disorder: dict[int, str | None] = {}
        self._by_id = {node.id: node for node in plan.nodes}
        for node in plan.nodes:
            self._disorder[node.id] = self._disorder_of(node)
            self._found[node.id] = self._law_of(node)

    def of(self, node: Node) -> tuple[Law | None, str | None]:
        """What is said of a step: of all with state, and of those that hand on what another's rows depend on."""
        law, why = self._found[node.id]
        stateful = isinstance(node.kind, Operator) and node.kind.stateful
        return (law, why) if stateful or law != "same" else (None, None)

    def _disorder_of(self, node: Node) -> str | None:
        """Why rows of one key come from this node in an order that is pace; None: they do not."""
        kind = node.kind
        if isinstance(kind, RepartitionNode):
            return f"the re-key to {self._plan.topic_of(node)}"
        if isinstance(kind, Merge):
            return f"the merge {node.name}"
        if isinstance(kind, Operator) and self._sorts(kind):
            return None
        return next((found for port in node.parents if (found := self._disorder[port.node])), None)

    def _sorts(self, operator: Operator) -> bool:
        return operator.stateful and not operator.record_wise and not isinstance(operator, Deduplicate)

    def _law_of(self, node: Node) -> tuple[Law, str | None]:
        for port in node.parents:
            law, _ = self._found[port.node]
            if law != "same":
                return law, f"what it reads from {self._name(port)} may differ"
        kind = node.kind
        if isinstance(kind, Operator) and kind.stateful:
            disorder = next((found for port in node.parents if (found := self._disorder[port.node])), None)
            if isinstance(kind, _BY_ARRIVAL) and disorder:
                return "arrival", f"behind {disorder}; in_order() before it sorts them"
            if not type(kind).__module__.startswith(_KNOWN_STATEFUL):
                return "author", "an operator of the app's own"
        return "same", None

    def _name(self, port: Port) -> str:
        return self._by_id[port.node].name


def _notes(plan: Plan) -> Iterable[str]:
    """What a reader of the plan would not see."""
    for node in plan.nodes:
        if isinstance(node.kind, RepartitionNode) and node.kind.chained is not None:
            yield (
                f"{node.kind.chained.name} is written and read by this app: its streams are one plan, through "
                f"{plan.topic_of(node)}. Records that others write to {node.kind.chained.name} are not read"
            )
    for node in plan.nodes:
        if isinstance(node.kind, SinkNode) and not isinstance(node.kind.topic, Topic):
            yield (
                f"{node.name} chooses the topic by each value: such topics are outputs only, and a stream of this app "
                "that reads one of them is not chained to it"
            )


# -------------------------------------------------------------------------------------- as text


def as_text(view: PlanView, *, style: Callable[..., str] = lambda text, **_: text) -> str:
    """A plan for people; `style(text, fg=, bold=, dim=)` colours a terminal."""
    internal = sum(one.kind != "source" for stage in view.stages for one in stage.reads)
    counts = [counted(len(view.stages), "stage"), counted(internal, "internal topic")]
    lines = [f"{style(view.app, bold=True)}  {style(', '.join(counts), dim=True)}"]
    for number, stage in enumerate(view.stages, 1):
        lines += ["", *_stage_lines(number, stage, style)]
    lines += ["", *_law_lines(view, style)]
    for topic in view.dead_letters:
        lines += ["", f"Records that fail go to {style(topic, fg='green')}, where their step says so."]
    for note in view.notes:
        lines += ["", f"Note: {note}."]
    return "\n".join(lines) + "\n"


def _stage_lines(number: int, stage: StageView, style: Callable[..., str]) -> Iterable[str]:
    tasks = f"{counted(int(stage.tasks), 'task')}" if stage.tasks.isdigit() else f"tasks: {_plural_as(stage.tasks)}"
    yield f"{style(f'Stage {number}', bold=True)}  {style(stage.name, fg='cyan', bold=True)}  {style(tasks, dim=True)}"
    for one in stage.reads:
        words = _input_words(one)
        yield f"  reads   {style(one.topic, fg='green')}" + (f"  {style(words, dim=True)}" if words else "")
    width = max((len(step.name) for step in stage.steps), default=0)
    for step in stage.steps:
        said = [step.does] if step.stateful or step.does not in step.name else []
        said += [] if step.on_error == "fail" else [f"on_error={step.on_error}"]
        colour = {"fg": "magenta"} if step.stateful else {"dim": True}
        named = f"{step.name:<{width}}  {style('  '.join(said), **colour)}" if said else step.name
        yield f"          {named}"
    for output in stage.writes:
        kind = style("  internal", dim=True) if output.kind == "repartition" else ""
        yield f"  writes  {style(output.topic or output.by, fg='green')}{kind}"
    if stage.changelog:
        yield f"  state   {style(stage.changelog, fg='magenta')}"


def _input_words(one: Input) -> str:
    words = [one.value] if one.value else []
    words += [f"time {one.timestamp}"] if one.timestamp else []
    words += [f"grace {one.grace}"] if one.grace else []
    words += [f"{one.of} inside this app"] if one.of else []
    words += ["internal"] if one.kind == "repartition" else []
    return ", ".join(words)


_LAWS: Final = (
    ("same", "green", "The same under any batching, pace, number of workers, restarts"),
    ("arrival", "yellow", "As records happen to arrive"),
    ("author", "yellow", "As their authors say"),
)


def _law_lines(view: PlanView, style: Callable[..., str]) -> Iterable[str]:
    steps = [step for stage in view.stages for step in stage.steps]
    width = max((len(step.name) for step in steps if step.law), default=0)
    for law, colour, heading in _LAWS:
        found = [step for step in steps if step.law == law]
        if found:
            yield style(heading, fg=colour, bold=True)
            for step in found:
                yield f"  {step.name:<{width}}  {style(step.why or step.does, dim=True)}"
    if not any(step.law for step in steps):
        yield "No step keeps state: each record becomes the same output under any batching, pace and restarts."


def _plural_as(tasks: str) -> str:
    return tasks if tasks.startswith("as the widest") else f"{tasks} has partitions"


# -------------------------------------------------------------------------------------- as a diagram


def as_mermaid(view: PlanView) -> str:
    """A plan as a Mermaid flowchart: topics are cylinders, stages boxes."""
    lines = ["flowchart LR"]
    topics: dict[str, str] = {}

    def topic(name: str, *, internal: bool) -> str:
        if name not in topics:
            topics[name] = f"t{len(topics)}"
            lines.append(f"  {topics[name]}[({_quoted(name)})]" + (":::internal" if internal else ""))
        return topics[name]

    for number, stage in enumerate(view.stages):
        label = "<br/>".join(_escaped(text) for text in (stage.name, *(step.name for step in stage.steps)))
        lines.append(f'  s{number}["{label}"]' + (":::state" if stage.changelog else ""))
        lines += [f"  {topic(one.topic, internal=one.kind != 'source')} --> s{number}" for one in stage.reads]
        lines += [
            f"  s{number} --> {topic(one.topic or one.by, internal=one.kind == 'repartition')}" for one in stage.writes
        ]
    lines += ["  classDef internal stroke-dasharray: 4 3", "  classDef state stroke-width: 3px"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
