"""Worker: the asynchronous edge. It moves chunks from the log into tasks, and whole epochs from tasks into the log.

One epoch, and what happens if the process dies behind each step:

 1. poll, step      nothing is visible; a restart reads again from the committed offsets.
 2. seal            the same: the epoch is in memory alone.
 3. commit          outputs, marks, changelog rows and offsets become visible together, or none of them does.
 4. settle          dies before: the store is behind its changelog; a restart replays the tail (`streamproc.restore`).
 5. purge           now and then: what of an internal topic was read and is committed is deleted. Dies before: a later
                    epoch purges more.

Log first, disk second, never the reverse: what is on disk was committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from streamproc.assembly import Assembly
from streamproc.clock import Clock
from streamproc.collection import collection_paused
from streamproc.errors import PlanChanged, RecordError
from streamproc.failures import Failures
from streamproc.idle import IdleWatch
from streamproc.internal_topic import Mark, has_rows, mark_columns
from streamproc.log import (
    Assigned,
    Chunk,
    Columns,
    Committed,
    Fenced,
    Log,
    LogError,
    Partition,
    Replaced,
    Revoked,
    Source,
    TaskInput,
)
from streamproc.operators.batch import NEVER
from streamproc.pacing import readable
from streamproc.plan import Plan, Stage, TaskId, Topology
from streamproc.reader import InternalReader, SourceReader
from streamproc.restore import restore
from streamproc.settings import Settings
from streamproc.state.codec import Codec
from streamproc.state.errors import StoreError, StoreLocked
from streamproc.state.store import Disk
from streamproc.task import Sealed, Task
from streamproc.windows.duration import duration_ms

logger = logging.getLogger("streamproc")

PURGE_RECORDS: Final = 50_000
"""So many records of a partition of an internal topic must have been read and committed before they are purged."""
OPENING_MS: Final = 2_000
"""So long a task waits for its store to be given back by a worker on the same disk."""


WAITING_RECORDS: Final = 10_000
"""How many records are looked at at once for rows of an earlier plan."""


class EndOfInput(msgspec.Struct, frozen=True):
    """Where a run until the end stops: one snapshot of the sources' end offsets, for the whole group.

    run       tells this snapshot from others, so that an end of an earlier run is not taken for one of this
    until_ms  the sources' clocks go on to this instant before they end (timers of tests)
    """

    offsets: Mapping[Partition, int]
    run: int
    until_ms: int = NEVER


class Worker:
    """A member of an app's group: owns tasks, steps them, commits their epochs; `turn` is called in a loop."""

    def __init__(
        self,
        plan: Plan,
        topology: Topology,
        log: Log,
        disk: Disk,
        codec: Codec,
        *,
        settings: Settings,
        clock: Clock,
        member: str,
        partitions_of: Callable[[str], int],
        end: EndOfInput | None = None,
    ) -> None:
        self._plan = plan
        self._topology = topology
        self._log = log
        self._disk = disk
        self._settings = settings
        self._clock = clock
        self._member = member
        self._end = end
        self._ahead_ms = duration_ms(settings.ahead)
        self._epoch_ms = duration_ms(settings.epoch_interval)
        self._drift_ms = duration_ms(settings.drift)
        self._assembly = Assembly(plan, topology, codec, partitions_of=partitions_of, ahead_ms=self._ahead_ms)
        self._stages = {stage.name: stage for stage in plan.stages}
        self._tasks: dict[TaskId, Task] = {}
        self._owners: dict[Partition, Task] = {}
        self._to_open: list[TaskId] = []
        """Tasks that came and whose stores are still with their last owner."""
        self._open_by_ms = 0
        self._known: dict[Partition, Committed] = {}
        """What is committed for the partitions of these tasks, as far as this worker knows."""
        self._purged: dict[Partition, int] = {}
        """Up to where this worker has purged internal topics; what was purged before it came is not known."""
        self._caught_up: set[Partition] = set()
        self._careful_to: dict[TaskId, dict[Partition, int]] = {}
        """Tasks to be stepped record by record, and up to where."""
        self._idle = IdleWatch(None if settings.idle is None or end is not None else duration_ms(settings.idle))
        self._epoch = 0
        self._epoch_began_ms = 0
        self._epoch_records = 0
        self.late: dict[str, int] = {}
        """Late records so far, by step."""
        self.skipped: dict[str, int] = {}
        """Records left out by the error policy so far, by step."""
        self._polled: set[Partition] = set()

    # ------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Join the group."""
        inputs = [
            TaskInput(stage.name, number, self._assembly.inputs(stage, number))
            for stage in self._plan.stages
            for number in range(self._topology.tasks[stage.name])
        ]
        self._source: Source = await self._log.source(self._plan.app, self._member, inputs)
        self._sink = await self._log.sink(self._source, self._member)
        self._epoch_began_ms = self._clock.now_ms()

    async def turn(self, timeout_ms: int) -> bool:
        """One round: what the log has, steps, perhaps a commit. False when there was nothing to do for `timeout_ms`."""
        try:
            return await self._turn(timeout_ms)
        except Replaced:
            raise
        except Fenced as error:
            logger.warning("%s: %s", self._member, error)
            await self._sink.abort()
            self._drop_tasks()
            return True

    async def stop(self) -> None:
        """Commit what was read, leave the group, give everything back."""
        try:
            if self._tasks:
                await self._commit()
                if any(task.dirty for task in self._tasks.values()) or self._careful_to:
                    logger.warning("%s: the last epoch failed, so its records will be read again", self._member)
        except Fenced as error:
            logger.warning("%s: %s", self._member, error)
        finally:
            await self._sink.abort()
            self._drop_tasks()
        await self._source.leave()
        await self._sink.close()

    async def abandon(self) -> None:
        """Leave without committing: the open epoch is dropped."""
        await self._sink.abort()
        self._drop_tasks()
        await self._source.leave()
        await self._sink.close()

    @property
    def done(self) -> bool:
        """Whether every task this worker has is at the end of the input, and that is committed."""
        run = self._end.run if self._end else None
        return not self._to_open and all(task.ended_run == run and not task.dirty for task in self._tasks.values())

    @property
    def tasks(self) -> Mapping[TaskId, Task]:
        """The tasks this worker has."""
        return self._tasks

    # ------------------------------------------------------------------------------------ a turn

    async def _turn(self, timeout_ms: int) -> bool:
        due_in_ms = max(0, self._epoch_began_ms + self._epoch_ms - self._clock.now_ms())
        dirty = any(task.dirty for task in self._tasks.values())
        events = await self._source.poll(self._readable(), min(timeout_ms, due_in_ms) if dirty else timeout_ms)
        chunks = []
        for event in events:
            if isinstance(event, Revoked):
                self._to_open.clear()
                await self._commit()
                await self._source.release()
            elif isinstance(event, Assigned):
                await self._assign([TaskId(*task) for task in event.tasks])
            else:
                chunks.append(event)
        if self._to_open:
            await self._open_tasks()
        if chunks or not events:
            self._caught_up = (self._caught_up | self._polled) - {chunk.partition for chunk in chunks}
        for chunk in sorted(chunks, key=lambda chunk: self._owners[chunk.partition].readers[chunk.partition].clock):
            if not await self._step(chunk):
                return True
        moved = await self._watch_idle() or await self._finish()
        nothing_more = self._end is not None and not events
        await self._commit_if_due(at_once=nothing_more)
        return bool(events) or moved or dirty

    def _readable(self) -> Sequence[Partition]:
        """The partitions to read next: none too far ahead of one that has more to read."""
        ends = {} if self._end is None else self._end.offsets
        over = {p for p, task in self._owners.items() if p in ends and task.readers[p].position >= ends[p]}
        found = readable(self._plan, self._tasks.values(), self._caught_up | over, self._drift_ms)
        self._polled = set(found) - over
        return [p for p in found if p not in over]

    async def _step(self, chunk: Chunk) -> bool:
        """Take a chunk; False when its epoch had to be dropped."""
        task = self._owners[chunk.partition]
        if self._end is not None and chunk.partition in self._end.offsets:
            chunk = _cut(chunk, self._end.offsets[chunk.partition])
        if len(chunk.offsets):
            self._idle.heard(chunk.partition, self._clock.now_ms())
        self._epoch_records += len(chunk.offsets)
        return await self._guarded(task, lambda: task.step(chunk))

    async def _guarded(self, task: Task, work: Callable[[], None]) -> bool:
        """Let a task work. When a function of the user raises, drop the epoch; read it again record by record."""
        try:
            with collection_paused():
                work()
        except (StoreError, LogError, RecordError):
            raise
        except Exception as error:
            if task.flow.careful:
                raise
            logger.info("%s/%s: %r in a batch; reading again record by record", *task.id, error)
            self._careful_to[task.id] = {partition: reader.position for partition, reader in task.readers.items()}
            await self._abort()
            return False
        return True

    async def _finish(self) -> bool:
        """In a run until the end: tasks whose input has ended close what is open."""
        moved = False
        if self._end is not None:
            run = self._end.run
            for task in self._tasks.values():
                if task.ended_run != run and self._input_ended(task):
                    moved = True
                    until_ms = self._end.until_ms
                    if not await self._guarded(task, partial(task.finish, run, until_ms=until_ms)):
                        break
        return moved

    def _input_ended(self, task: Task) -> bool:
        assert self._end is not None
        return all(
            reader.ended(self._end.run)
            if isinstance(reader, InternalReader)
            else reader.position >= self._end.offsets[reader.partition]
            for reader in task.readers.values()
        )

    async def _watch_idle(self) -> bool:
        """Leave source partitions out of the minimum that are read to their end and silent."""
        silent = self._idle.silent(self._source_readers(), self._caught_up, self._clock.now_ms())
        if not silent:
            return False
        ends = await self._source.end_offsets([reader.partition for reader in silent])
        moved = False
        for reader in silent:
            if reader.position >= ends[reader.partition]:
                reader.idle = moved = True
                task = self._owners[reader.partition]
                if not await self._guarded(task, task.advance):
                    break
        return moved

    def _source_readers(self) -> Iterable[SourceReader]:
        return (r for task in self._tasks.values() for r in task.readers.values() if isinstance(r, SourceReader))

    # ------------------------------------------------------------------------------------ epochs

    async def _commit_if_due(self, *, at_once: bool) -> None:
        if not any(task.dirty for task in self._tasks.values()):
            self._epoch_began_ms = self._clock.now_ms()
            return
        written = sum(task.output_count for task in self._tasks.values())
        if (
            self._clock.now_ms() >= self._epoch_began_ms + self._epoch_ms
            or max(self._epoch_records, written) >= self._settings.epoch_records
            or at_once
        ):
            await self._commit()

    async def _commit(self) -> None:
        """Steps 2 to 5 of an epoch."""
        if any(task.dirty for task in self._tasks.values()):
            sealed: dict[TaskId, Sealed] = {}
            for task_id, task in self._tasks.items():  # a value that the codec cannot hold shows here
                if not await self._guarded(task, lambda: sealed.update({task_id: task.seal()})):  # noqa: B023
                    return
            self._send(sealed)
            offsets = self._offsets(sealed)
            ends = await self._sink.commit(offsets)
            self._known.update(offsets)
            for task_id, task in self._tasks.items():
                stage = self._stages[task_id.stage]
                position = ends.get(Partition(self._plan.changelog_of(stage), task_id.number))
                cache_bytes = self._settings.cache_bytes // len(self._tasks)
                task.settle(sealed[task_id], position, cache_bytes=cache_bytes, now_ms=self._clock.now_ms())
            self._after_commit()
            await self._purge(offsets)
        self._epoch_began_ms = self._clock.now_ms()
        self._epoch_records = 0

    async def _purge(self, committed: Mapping[Partition, Committed]) -> None:
        """Delete what was read of internal topics, up to offsets that are known to be committed, never beyond."""
        before = {
            partition: position.offset
            for partition, position in committed.items()
            if position.offset - self._purged.get(partition, 0) >= PURGE_RECORDS
            and isinstance(self._owners[partition].readers[partition], InternalReader)
        }
        if before:
            await self._log.purge(before)
            self._purged.update(before)

    def _send(self, sealed: Mapping[TaskId, Sealed]) -> None:
        now_ms = self._clock.now_ms()
        marks: dict[str, list[Mark]] = {}
        for task_id, epoch in sealed.items():
            for partition, columns in epoch.outputs.items():
                self._sink.send(partition, columns)
            for topic, mark in epoch.marks.items():
                marks.setdefault(topic, []).append(mark)
            if epoch.changes:
                changelog = Partition(self._plan.changelog_of(self._stages[task_id.stage]), task_id.number)
                count = len(epoch.changes)
                self._sink.send(changelog, Columns(list(epoch.changes), list(epoch.changes.values()), [now_ms] * count))
        for topic, said in marks.items():  # behind the rows that they speak of
            for number in range(self._topology.partitions[topic]):
                self._sink.send(Partition(topic, number), mark_columns(said, now_ms))

    def _offsets(self, sealed: Mapping[TaskId, Sealed]) -> dict[Partition, Committed]:
        self._epoch += 1
        token = {"plan": self._plan.fingerprint, "member": self._member, "epoch": self._epoch}
        return {
            partition: Committed(
                position,
                msgspec.json.encode(
                    {**metadata, "partitions": self._topology.partitions[partition.topic], **token}
                ).decode(),
            )
            for epoch in sealed.values()
            for partition, (position, metadata) in epoch.positions.items()
        }

    def _after_commit(self) -> None:
        for task in self._tasks.values():
            until = self._careful_to.get(task.id, {})
            if task.flow.careful and all(
                task.readers[partition].position >= offset for partition, offset in until.items()
            ):
                task.flow.careful = False
                del self._careful_to[task.id]
            self._report(task)

    def _report(self, task: Task) -> None:
        """Late records and alarms are said once an epoch, by step, not once a record."""
        for name, count in task.flow.late.items():
            self.late[name] = self.late.get(name, 0) + count
            logger.warning("%s: %s records were late (%s so far)", name, count, self.late[name])
        task.flow.late.clear()
        for name, count in task.skipped.items():
            self.skipped[name] = self.skipped.get(name, 0) + count
        task.skipped.clear()
        for what, count in task.take_alarms():
            logger.error("%s: %s records that were not late came too late; please report this", what, count)

    async def _abort(self) -> None:
        """Back to the last commit: tables to their stores, readers to the committed offsets."""
        await self._sink.abort()
        for task in self._tasks.values():
            task.abort()
            task.flow.careful = task.id in self._careful_to
            await self._rewind(task)
        self._caught_up.clear()
        self._epoch_records = 0
        self._epoch_began_ms = self._clock.now_ms()

    # ------------------------------------------------------------------------------------ assignment

    async def _assign(self, tasks: Sequence[TaskId]) -> None:
        """Close the tasks that went, open those that came; the others stay, if nobody had them meanwhile."""
        for task_id, task in list(self._tasks.items()):
            if task_id not in tasks or await self._was_elsewhere(task):
                self._tasks.pop(task_id).close()
        self._to_open = sorted(set(tasks) - self._tasks.keys())
        self._open_by_ms = self._clock.now_ms() + OPENING_MS
        await self._open_tasks()

    async def _open_tasks(self) -> None:
        """Open the tasks that came. A store that its last owner, on the same disk, has not closed yet is waited for."""
        waiting = []
        for task_id in self._to_open:
            try:
                await self._open(task_id, self._stages[task_id.stage])
            except StoreLocked:
                if self._clock.now_ms() >= self._open_by_ms:
                    raise
                waiting.append(task_id)
        self._to_open = waiting
        self._owners = {partition: task for task in self._tasks.values() for partition in task.readers}
        self._caught_up.clear()
        for task in self._tasks.values():
            task.repeat_marks()

    async def _open(self, task_id: TaskId, stage: Stage) -> None:
        partitions = self._assembly.inputs(stage, task_id.number)
        committed = await self._source.committed(partitions)  # before the restore: old offsets on new state never hurt
        for partition in partitions:
            self._known.pop(partition, None)
        self._known.update(committed)
        store = self._disk.open(f"{stage.name}/{task_id.number}") if stage.stateful else None
        failures = Failures()
        try:
            if store is not None:
                changelog = Partition(self._plan.changelog_of(stage), task_id.number)
                await restore(store, self._log, changelog, now_ms=self._clock.now_ms())
            task = self._assembly.task(
                stage, task_id.number, store, on_bad=failures.bad_record, on_failure=failures.failed
            )
        except BaseException:  # a plan that the store is not of: whoever comes next must find it unlocked
            if store is not None:
                store.close()
            raise
        failures.attach(task)
        self._tasks[task_id] = task
        self._set_positions(task, committed)
        await self._check_waiting(task, committed)
        await self._wake(task)

    async def _was_elsewhere(self, task: Task) -> bool:
        """Whether another worker has committed for the task: groups may change twice before a worker is told."""
        committed = await self._source.committed(list(task.readers))
        return any(committed.get(partition) != self._known.get(partition) for partition in task.readers)

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

    async def _rewind(self, task: Task) -> None:
        self._set_positions(task, await self._source.committed(list(task.readers)))
        await self._wake(task)

    async def _wake(self, task: Task) -> None:
        """A recorded idle partition stays left out where there is nothing to read; in a run until the end nowhere."""
        idle = [reader for reader in task.readers.values() if isinstance(reader, SourceReader) and reader.idle]
        if idle:
            ends = await self._source.end_offsets([reader.partition for reader in idle])
            for reader in idle:
                if self._end is not None or reader.position < ends[reader.partition]:
                    task.wake(reader)

    def _set_positions(self, task: Task, committed: Mapping[Partition, Committed]) -> None:
        for partition, reader in task.readers.items():
            if partition in committed:
                self._topology.check_partitions(self._plan.app, partition.topic, committed[partition])
                reader.restore(committed[partition])
            else:
                reader.reset()
            self._source.seek(partition, reader.position)

    def _drop_tasks(self) -> None:
        for task in self._tasks.values():
            task.close()
        self._tasks.clear()
        self._owners.clear()
        self._to_open.clear()


def _cut(chunk: Chunk, end: int) -> Chunk:
    """The records of a chunk below an offset."""
    if chunk.next_offset <= end:
        return chunk
    count = sum(offset < end for offset in chunk.offsets)
    return Chunk(chunk.partition, chunk.offsets[:count], end, chunk.columns.cut(0, count))
