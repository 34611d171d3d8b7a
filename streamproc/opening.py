"""Opening: a task on its way from the assignment to its first record, beside those that are stepped meanwhile.

    committed offsets  ->  store, unlocked  ->  restore to the changelog's end  ->  task  ->  readers in place

In this order: offsets that are older than the state would count records twice, and what is read first is never the
newer. A task that is revoked on its way ends there; its store keeps what was replayed, and goes on from it next time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from streamproc.assembly import Assembly
from streamproc.clock import Clock
from streamproc.errors import PlanChanged, StateLost
from streamproc.failures import Failures
from streamproc.internal_topic import has_rows
from streamproc.jobs import Job, Jobs
from streamproc.log import Committed, Log, LogError, Partition
from streamproc.plan import Plan, TaskId, Topology
from streamproc.reader import InternalReader, SourceReader
from streamproc.restore import Restoring, restore
from streamproc.state.errors import StoreLocked
from streamproc.state.settled import holds_rows
from streamproc.state.store import Disk, Store
from streamproc.task import Task

logger = logging.getLogger("streamproc")

AT_ONCE: Final = 4
"""So many tasks are opened side by side; the others wait."""
OPENING_MS: Final = 5_000
"""So long a task waits for its store to be given back by a worker on the same disk."""
LOCKED_PAUSE_MS: Final = 50
WAITING_RECORDS: Final = 10_000
"""How many records are looked at at once for rows of an earlier plan."""


class Opened(NamedTuple):
    """A task that is ready to be stepped, the committed positions that it was opened on, and how it was restored."""

    task: Task
    committed: Mapping[Partition, Committed]
    restoring: Restoring


class Positions(Protocol):
    """Where a group is, and what there is to read. A `Source` is one."""

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        """The group's stable committed positions; partitions without one are left out."""

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The first offsets kept."""

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """Behind the last committed record (the last stable offset)."""


class Opener:
    """Opens tasks of a plan for one membership of its group."""

    def __init__(
        self,
        plan: Plan,
        topology: Topology,
        log: Log,
        source: Positions,
        disk: Disk,
        assembly: Assembly,
        *,
        clock: Clock,
        jobs: Jobs,
        exactly_once: bool,
        until_end: bool,
    ) -> None:
        self._plan = plan
        self._topology = topology
        self._log = log
        self._source = source
        self._disk = disk
        self._assembly = assembly
        self._clock = clock
        self._jobs = jobs
        self._exactly_once = exactly_once
        self._until_end = until_end
        self._stages = {stage.name: stage for stage in plan.stages}

    def restoring(self, task_id: TaskId) -> Restoring:
        """How far a task that is about to be opened is: nowhere."""
        changelog = Partition(self._plan.changelog_of(self._stages[task_id.stage]), task_id.number)
        return Restoring(changelog, self._clock)

    async def open(self, task_id: TaskId, restoring: Restoring) -> Opened:
        """The task, its state as of the committed offsets. Raises PlanChanged and StateLost.

        However this ends, no store stays open but that of a task returned.
        """
        stage = self._stages[task_id.stage]
        inputs = self._assembly.inputs(stage, task_id.number)
        found = await self._source.committed([*inputs, restoring.changelog] if stage.stateful else inputs)
        committed = {partition: at for partition, at in found.items() if partition in inputs}
        restoring.noted_before = restoring.changelog in found
        store = await self._unlocked(f"{stage.name}/{task_id.number}") if stage.stateful else None
        try:
            if store is not None:
                await restore(store, self._log, restoring, self._jobs)
                await self._check_state(task_id, store, committed)
            failures = Failures()
            task = self._assembly.task(
                stage, task_id.number, store, on_bad=failures.bad_record, on_failure=failures.failed
            )
            failures.attach(task)
            await self.place(task, committed)
            await self._check_waiting(task, committed)
        except BaseException:  # whoever comes next must find the store unlocked
            if store is not None:
                store.close()
            raise
        return Opened(task, committed, restoring)

    async def place(self, task: Task, committed: Mapping[Partition, Committed]) -> None:
        """The readers are where the group has committed, or at the first record."""
        new = [partition for partition in task.readers if partition not in committed]
        first = await self._source.first_offsets(new) if new else {}
        for partition, reader in task.readers.items():
            if partition in committed:
                self._check_partitions(partition.topic, committed[partition])
                reader.restore(committed[partition])
            else:
                reader.reset(first[partition])
        await self._wake(task)

    def _check_partitions(self, topic: str, committed: Committed) -> None:
        """A topic may have grown since this worker began, and others may have gone on from there: it is for them."""
        if self._topology.lacks(topic, committed):
            known = self._topology.partitions[topic]
            msg = (
                f"topic {topic!r} has gained partitions; this worker, which began when it had {known}, must begin anew"
            )
            raise LogError(msg)
        self._topology.check_partitions(self._plan.app, topic, committed)

    async def _wake(self, task: Task) -> None:
        """A recorded idle partition stays left out where there is nothing to read; in a run until the end nowhere."""
        idle = [reader for reader in task.readers.values() if isinstance(reader, SourceReader) and reader.idle]
        if idle:
            ends = await self._source.end_offsets([reader.partition for reader in idle])
            for reader in idle:
                if self._until_end or reader.position < ends[reader.partition]:
                    task.wake(reader)

    async def _unlocked(self, name: str) -> Store:
        """A store, once its last owner on this disk has given it back; one beside it, if that does not happen."""
        until_ms = self._clock.now_ms() + OPENING_MS
        while True:
            try:
                return self._disk.open(name)
            except StoreLocked as error:
                if self._clock.now_ms() >= until_ms:
                    logger.warning("%s Not given back for %d s: restoring beside it", error, OPENING_MS // 1_000)
                    return self._disk.open(name, beside=True)
            await self._jobs.pause(LOCKED_PAUSE_MS)

    async def _check_state(self, task_id: TaskId, store: Store, committed: Mapping[Partition, Committed]) -> None:
        """State and offsets are committed together: one without the other was deleted.

        At least once, offsets come last. And where they came while this was opened, the membership is over.
        """
        stage = self._stages[task_id.stage]
        app, changelog = self._plan.app, self._plan.changelog_of(stage)
        if holds_rows(store):
            inputs = self._assembly.inputs(stage, task_id.number)
            if self._exactly_once and not committed and not await self._source.committed(inputs):
                what = (
                    f"task {task_id.stage}/{task_id.number} has state, in topic {changelog!r}, and group {app!r} has "
                    "no offsets for it (Kafka forgets those of a group that nobody was in for "
                    "offsets.retention.minutes): its input would be counted again"
                )
                raise StateLost(what)
        elif any(msgspec.json.decode(at.metadata).get("state") for at in committed.values()):
            what = (
                f"group {app!r} has offsets for task {task_id.stage}/{task_id.number}, and its state is gone: topic "
                f"{changelog!r} has nothing of it"
            )
            raise StateLost(what)

    async def _check_waiting(self, task: Task, committed: Mapping[Partition, Committed]) -> None:
        """Rows that wait in a repartition topic must carry what this plan needs of them."""
        for partition, reader in task.readers.items():
            before = committed.get(partition)
            if before is None or not isinstance(reader, InternalReader) or not reader.may_lack(before):
                continue
            position = before.offset
            while (chunk := await self._log.read(partition, position, WAITING_RECORDS)).next_offset > position:
                if has_rows(chunk.columns):
                    msg = (
                        f"rows of an earlier plan wait in topic {partition.topic!r} without the clocks or origins that "
                        "this plan needs (a smaller grace, or a verb that orders records, came behind it): run the "
                        "earlier version with --until-end first, then this one"
                    )
                    raise PlanChanged(msg)
                position = chunk.next_offset


class Openings:
    """The tasks that a worker is opening; `restoring` says how far each of those under way is."""

    def __init__(self, opener: Opener, jobs: Jobs) -> None:
        self.restoring: dict[TaskId, Restoring] = {}
        self._opener = opener
        self._jobs = jobs
        self._waiting: list[TaskId] = []
        self._under_way: dict[TaskId, Job[None]] = {}
        self._opened: list[Opened] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._under_way) + len(self._opened)

    def add(self, tasks: Iterable[TaskId]) -> None:
        """These are to be opened."""
        self._waiting += tasks

    async def go_on(self, timeout_ms: int) -> list[Opened]:
        """The tasks that are open by now: as soon as one is, else after `timeout_ms`. Raises what an opening did."""
        free = AT_ONCE - len(self._under_way)
        starting, self._waiting = self._waiting[:free], self._waiting[free:]
        for task_id in starting:
            self.restoring[task_id] = self._opener.restoring(task_id)
            self._under_way[task_id] = self._jobs.start(self._open(task_id))
        if self._under_way:
            await self._jobs.wait(list(self._under_way.values()), timeout_ms)
        for task_id in [task_id for task_id, job in self._under_way.items() if job.done()]:
            del self.restoring[task_id]
            self._under_way.pop(task_id).result()
        opened, self._opened = self._opened, []
        return opened

    async def drop(self) -> None:
        """None of them is to be opened any more; their stores are given back."""
        self._waiting.clear()
        self.restoring.clear()
        under_way, self._under_way = list(self._under_way.values()), {}
        await self._jobs.end(under_way)
        opened, self._opened = self._opened, []
        for each in opened:
            each.task.close()

    async def _open(self, task_id: TaskId) -> None:
        opened = await self._opener.open(task_id, self.restoring[task_id])
        self._opened.append(opened)
