"""Status: how an app stands on a log, seen from outside: who has its tasks, and how far they are.

What can be known without asking the workers:

    owner        of a task, as the group's coordinator says: a worker that was killed, too, until its session is over
    gone         such a worker of this machine: it has a slot in the state directory, and no process holds that
    state        working: its owner has committed for it; restoring: its owner says so (`streamproc.restore_lag`);
                 opening: neither (it has just come, has not committed anything yet, or waits until others are restored)
    lag          committed records that the group has not read. A short one is counted; of a long one it is the distance
                 of the offsets, in which the log's own records (the ends of transactions) and marks count too
    behind       how much later the newest of a source's last records is than what was read: in event time
    event time   the clock that is committed: the largest event time read
    held up      a source's partition that has records which cannot be read, as a transaction is open before them
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from streamproc.app import App
from streamproc.graph import Node, SourceNode
from streamproc.held_up import held_up, way_out
from streamproc.internal_topic import count_rows
from streamproc.log import Committed, GroupView, Log, OffsetOutOfRange, Partition, UnknownTopic
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.plan import Plan, Stage
from streamproc.reader import SourceReader
from streamproc.restore_lag import note_of
from streamproc.slot import SlotView, seen_slots

COUNTED: Final = 1_000
"""A lag up to this is counted."""
TAIL: Final = 100
"""So many records at the end of a source's partition say how late it is."""
HELD_UP_S: Final = 2.0
"""A transaction that is open for less holds nothing up."""


State = Literal["working", "restoring", "opening", "ended", "no owner"]


class TaskStatus(msgspec.Struct, frozen=True):
    """A task. `behind_ms` and `event_time` are of sources; None: not known, or nothing was read.

    restored, to_restore   records of its changelog, as offsets count them, while it is restoring; else None
    held_up                a transaction is open on a partition of its source: how far behind it is cannot be known
    """

    stage: str
    number: int
    owner: str | None
    state: State
    lag: int
    behind_ms: int | None
    event_time: int | None
    restored: int | None = None
    to_restore: int | None = None
    held_up: bool = False


class StageStatus(msgspec.Struct, frozen=True):
    """A stage over its tasks: the sum of their lags, the largest `behind_ms`, the smallest event time.

    `behind_ms` is None where a task is held up.
    """

    name: str
    lag: int
    behind_ms: int | None
    event_time: int | None
    tasks: tuple[TaskStatus, ...]
    held_up: bool = False


class MemberStatus(msgspec.Struct, frozen=True):
    """A worker. `slot` is known of those on this machine and state directory; `pid` too, of those that live."""

    name: str
    host: str
    tasks: tuple[str, ...]
    slot: int | None = None
    pid: int | None = None

    @property
    def gone(self) -> bool:
        """Whether its process is known to have died without leaving the group."""
        return self.slot is not None and self.pid is None


class Status(msgspec.Struct, frozen=True):
    """How an app stands. `problems`: tasks without a living owner, a group that changes, a source held up."""

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
    tasks = {
        stage: [
            await look.task(stage, number, owners.get(f"{stage.name}/{number}"))
            for number in range(topology.tasks[stage.name])
        ]
        for stage in plan.stages
    }
    changing = (await log.group(app.name)).changing
    held = await look.held_up()
    stages = [
        _stage(stage.name, [look.known_of(stage, task, held) for task in found]) for stage, found in tasks.items()
    ]
    told = [f"{held_up(*at)}. {way_out(*at, broker)}" for at in held.items()]
    problems = (*_problems(members, stages, changing=changing), *told)
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
        self._stopped: dict[Partition, int] = {}
        """The sources' partitions that gave nothing more before their end, and where."""

    async def held_up(self) -> Mapping[Partition, int]:
        """Of the sources of the tasks that were looked at: the partitions that still give nothing, and where."""
        if not self._stopped:
            return {}
        await asyncio.sleep(HELD_UP_S)
        again = [(partition, at, await self._log.read(partition, at, 1)) for partition, at in self._stopped.items()]
        return {partition: at for partition, at, chunk in again if chunk.next_offset == at}

    def known_of(self, stage: Stage, task: TaskStatus, held: Collection[Partition]) -> TaskStatus:
        """The task, without what cannot be known of it where partitions are held up."""
        partitions = {Partition(self._plan.topic_of(node), task.number) for node in stage.inputs}
        if partitions.isdisjoint(held):
            return task
        return msgspec.structs.replace(task, behind_ms=None, held_up=True)

    async def task(self, stage: Stage, number: int, owner: str | None) -> TaskStatus:
        """A task as it stands."""
        lag, behind, times, stored = 0, [], [], []
        for node in stage.inputs:
            partition = Partition(self._plan.topic_of(node), number)
            if partition not in self._ends:  # internal topics are made by the first worker
                continue
            waits, position = await self._waiting(partition)
            lag += waits
            if position < self._ends[partition] and isinstance(node.kind, SourceNode):
                self._stopped[partition] = position
            metadata = self._metadata(partition)
            stored.append(metadata)
            if isinstance(node.kind, SourceNode):
                clock = metadata.get("clock", NEVER)
                times += [clock] if clock > NEVER else []
                behind += [late] if (late := await self._behind(node, partition, clock, waits)) is not None else []
        restored, to_restore = self._restored(stage, number, owner)
        state = "restoring" if to_restore else _state(owner, stored)
        late, read_to = max(behind, default=None), min(times, default=None)
        return TaskStatus(stage.name, number, owner, state, lag, late, read_to, restored, to_restore)

    def _restored(self, stage: Stage, number: int, owner: str | None) -> tuple[int, int] | tuple[None, None]:
        """How many records the owner has restored, of how many; None: it does not say, or is through."""
        committed = self._committed.get(Partition(self._plan.changelog_of(stage), number))
        note = None if committed is None else note_of(committed)
        if committed is None or note is None or note.restores != owner:
            return None, None
        restored = note.restored(committed.offset)
        return (restored, note.to_restore) if restored < note.to_restore else (None, None)

    def _metadata(self, partition: Partition) -> dict[str, Any]:
        committed = self._committed.get(partition)
        stored: dict[str, Any] = {} if committed is None else msgspec.json.decode(committed.metadata)
        return stored

    async def _waiting(self, partition: Partition) -> tuple[int, int]:
        """The records behind the committed position, or behind the first one kept; and as far as it can be read."""
        end = self._ends[partition]
        committed = self._committed.get(partition)
        position = 0 if committed is None else committed.offset
        try:
            chunk = await self._log.read(partition, position, COUNTED)
        except OffsetOutOfRange as error:
            if position > error.end:
                return 0, position
            position = error.start
            chunk = await self._log.read(partition, position, COUNTED)
        if end - position > COUNTED:
            return end - position, position if chunk.next_offset == position else end
        count = 0
        while chunk.next_offset > position:
            count, position = count + count_rows(chunk.columns), chunk.next_offset
            chunk = await self._log.read(partition, position, COUNTED)
        return count, position

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


def _state(owner: str | None, stored: Sequence[Mapping[str, Any]]) -> State:
    if owner is None:
        return "no owner"
    if not stored or any(metadata.get("member") != owner for metadata in stored):
        return "opening"
    return "ended" if all(metadata.get("ended") for metadata in stored) else "working"


def _stage(name: str, tasks: Sequence[TaskStatus]) -> StageStatus:
    held = any(task.held_up for task in tasks)
    return StageStatus(
        name,
        sum(task.lag for task in tasks),
        None if held else max((task.behind_ms for task in tasks if task.behind_ms is not None), default=None),
        min((task.event_time for task in tasks if task.event_time is not None), default=None),
        tuple(tasks),
        held,
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
    gone = [
        f"{member.name} is gone: no process has slot {member.slot}. Its tasks wait until it is started again, or its "
        "session is over"
        for member in members
        if member.gone
    ]
    return (*plan, *gone, *ownerless)
