"""Status: how an app stands on a log, seen from outside: who has its tasks, and how far they are.

What can be known without asking the workers:

    owner        of a task, as the group's coordinator says
    state        working: its owner has committed for it; opening: it has not yet (it restores, or has just come)
    lag          committed records that the group has not read. A short one is counted; of a long one it is the distance
                 of the offsets, in which the log's own records (the ends of transactions) and marks count too
    behind       how much later the newest of a source's last records is than what was read: in event time
    event time   the clock that is committed: the largest event time read
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from streamproc.app import App
from streamproc.graph import Node, SourceNode
from streamproc.internal_topic import count_rows
from streamproc.log import Committed, GroupView, Log, OffsetOutOfRange, Partition, UnknownTopic
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.plan import Plan, Stage
from streamproc.reader import SourceReader
from streamproc.slot import SlotView, seen_slots

COUNTED: Final = 1_000
"""A lag up to this is counted."""
TAIL: Final = 100
"""So many records at the end of a source's partition say how late it is."""


class TaskStatus(msgspec.Struct, frozen=True):
    """A task. `behind_ms` and `event_time` are of sources; None: not known, or nothing was read."""

    stage: str
    number: int
    owner: str | None
    state: Literal["working", "opening", "ended", "no owner"]
    lag: int
    behind_ms: int | None
    event_time: int | None


class StageStatus(msgspec.Struct, frozen=True):
    """A stage over its tasks: the sum of their lags, the largest `behind_ms`, the smallest event time."""

    name: str
    lag: int
    behind_ms: int | None
    event_time: int | None
    tasks: tuple[TaskStatus, ...]


class MemberStatus(msgspec.Struct, frozen=True):
    """A worker. `slot` and `pid` are known of those on this machine and state directory."""

    name: str
    host: str
    tasks: tuple[str, ...]
    slot: int | None = None
    pid: int | None = None


class Status(msgspec.Struct, frozen=True):
    """How an app stands. `problems` is empty when every task has an owner, and the group is at rest."""

    app: str
    broker: str
    plan: str
    changing: bool
    members: tuple[MemberStatus, ...]
    stages: tuple[StageStatus, ...]
    problems: tuple[str, ...]


async def status_of(app: App, log: Log, broker: str, state_folder: Path, *, ahead_ms: int) -> Status:
    """How the app stands on the log; nothing is changed. Raises UnknownTopic."""
    plan = app.plan
    topics = await log.topics()
    for source in plan.sources:
        if source.name not in topics:
            raise UnknownTopic(source.name, topics)
    counts = {name: topic.partitions for name, topic in topics.items()}
    topology = plan.resolve(counts.__getitem__, counts.get)
    committed = await log.committed(app.name)
    slots = seen_slots(state_folder)
    members = _members(await log.group(app.name), slots, broker, topology.tasks)
    owners = {task: member.name for member in members for task in member.tasks}
    inputs = {
        Partition(plan.topic_of(node), number)
        for stage in plan.stages
        for node in stage.inputs
        if plan.topic_of(node) in topics
        for number in range(topics[plan.topic_of(node)].partitions)
    }
    look = _Look(plan, log, await log.ends(sorted(inputs)), committed, ahead_ms)
    stages = []
    for stage in plan.stages:
        tasks = [
            await look.task(stage, number, owners.get(f"{stage.name}/{number}"))
            for number in range(topology.tasks[stage.name])
        ]
        stages.append(_stage(stage.name, tasks))
    changing = (await log.group(app.name)).changing
    problems = _problems(members, stages, changing=changing)
    return Status(app.name, broker, plan.fingerprint, changing, members, tuple(stages), problems)


class _Look:
    """Looks at the tasks of a plan on a log."""

    def __init__(
        self,
        plan: Plan,
        log: Log,
        ends: Mapping[Partition, int],
        committed: Mapping[Partition, Committed],
        ahead_ms: int,
    ) -> None:
        self._plan = plan
        self._log = log
        self._ends = ends
        self._committed = committed
        self._ahead_ms = ahead_ms

    async def task(self, stage: Stage, number: int, owner: str | None) -> TaskStatus:
        """A task as it stands."""
        lag, behind, times, stored = 0, [], [], []
        for node in stage.inputs:
            partition = Partition(self._plan.topic_of(node), number)
            if partition not in self._ends:  # internal topics are made by the first worker
                continue
            waits = await self._waiting(partition)
            lag += waits
            metadata = self._metadata(partition)
            stored.append(metadata)
            if isinstance(node.kind, SourceNode):
                clock = metadata.get("clock", NEVER)
                times += [clock] if clock > NEVER else []
                behind += [late] if (late := await self._behind(node, partition, clock, waits)) is not None else []
        return TaskStatus(
            stage.name, number, owner, _state(owner, stored), lag, max(behind, default=None), min(times, default=None)
        )

    def _metadata(self, partition: Partition) -> dict[str, Any]:
        committed = self._committed.get(partition)
        stored: dict[str, Any] = {} if committed is None else msgspec.json.decode(committed.metadata)
        return stored

    async def _waiting(self, partition: Partition) -> int:
        """The records behind the committed position, or behind the first one kept."""
        end = self._ends[partition]
        committed = self._committed.get(partition)
        position = 0 if committed is None else committed.offset
        try:
            chunk = await self._log.read(partition, position, COUNTED)
        except OffsetOutOfRange as error:
            if position > error.end:
                return 0
            position = error.start
            chunk = await self._log.read(partition, position, COUNTED)
        if end - position > COUNTED:
            return end - position
        count = 0
        while chunk.next_offset > position:
            count, position = count + count_rows(chunk.columns), chunk.next_offset
            chunk = await self._log.read(partition, position, COUNTED)
        return count

    async def _behind(self, node: Node, partition: Partition, clock: int, waits: int) -> int | None:
        if waits == 0:
            return 0 if clock > NEVER else None
        assert isinstance(node.kind, SourceNode)
        reader = SourceReader(
            partition,
            node.kind.topic,
            node.id,
            floor=FOREVER,
            keeps_origins=False,
            ahead_ms=self._ahead_ms,
            on_bad=lambda chunk, place, error: None,
        )
        try:
            reader.read(await self._log.read(partition, max(0, self._ends[partition] - TAIL), TAIL))
        except OffsetOutOfRange as error:
            reader.read(await self._log.read(partition, error.start, TAIL))
        return max(0, reader.clock - clock) if min(reader.clock, clock) > NEVER else None


def _state(
    owner: str | None, stored: Sequence[Mapping[str, Any]]
) -> Literal["working", "opening", "ended", "no owner"]:
    if owner is None:
        return "no owner"
    if not stored or any(metadata.get("member") != owner for metadata in stored):
        return "opening"
    return "ended" if all(metadata.get("ended") for metadata in stored) else "working"


def _stage(name: str, tasks: Sequence[TaskStatus]) -> StageStatus:
    return StageStatus(
        name,
        sum(task.lag for task in tasks),
        max((task.behind_ms for task in tasks if task.behind_ms is not None), default=None),
        min((task.event_time for task in tasks if task.event_time is not None), default=None),
        tuple(tasks),
    )


def _members(
    view: GroupView, slots: Sequence[SlotView], broker: str, tasks: Mapping[str, int]
) -> tuple[MemberStatus, ...]:
    """The group's members. Who is in the group of a local log is known in its process alone: but it has a slot."""
    if broker.startswith("local://"):
        every = tuple(f"{stage}/{number}" for stage, count in sorted(tasks.items()) for number in range(count))
        held = [slot for slot in slots if slot.pid is not None]
        return tuple(MemberStatus(slot.name, socket.gethostname(), every, slot.number, slot.pid) for slot in held)
    here = {slot.name: slot for slot in slots}
    found = []
    for member in sorted(view.members):
        slot = here.get(member.name)
        names = tuple(f"{stage}/{number}" for stage, number in sorted(member.tasks))
        place = (None, None) if slot is None else (slot.number, slot.pid)
        found.append(MemberStatus(member.name, member.host.lstrip("/"), names, *place))  # Kafka says /127.0.0.1
    return tuple(found)


def _problems(members: Sequence[MemberStatus], stages: Sequence[StageStatus], *, changing: bool) -> tuple[str, ...]:
    if not members:
        return ("no worker runs",)
    if changing:
        return ("the group is sharing out its tasks",)
    known = {f"{task.stage}/{task.number}" for stage in stages for task in stage.tasks}
    others = sorted({task for member in members for task in member.tasks} - known)
    ownerless = [
        f"held by {task.stage}/{task.number}: no owner"
        for stage in stages
        for task in stage.tasks
        if task.owner is None
    ]
    plan = [f"the workers run another plan than this one: they have {', '.join(others)}"] if others else []
    return (*plan, *ownerless)
