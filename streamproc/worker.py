"""Worker: the asynchronous edge. It moves chunks from the log into tasks, and whole epochs from tasks into the log.

One epoch, and what happens if the process dies behind each step:

 1. poll, step      nothing is visible; a restart reads again from the committed offsets.
 2. seal            the same: the epoch is in memory alone.
 3. commit          outputs, marks, changelog rows and offsets become visible together, or none of them does.
 4. settle          dies before: the store is behind its changelog; a restart replays the tail (`streamproc.restore`).
 5. purge           now and then: what of an internal topic was read and is committed is deleted. Dies before: a later
                    epoch purges more.

Log first, disk second, never the reverse: what is on disk was committed. What the log may answer to a commit:

    done       settle
    Aborted    nothing of it is visible: tables go back to their stores, readers to the committed offsets, and epochs
               are smaller for a while (`streamproc.epoch_limits`)
    Unknown    it may be visible or not: that is settled (`Sink.abort`, until it returns), then the tasks are opened
               again from what is committed, which is right either way
    Fenced     the membership is over, and the tasks may be somebody else's: they are dropped
    Rejected   whoever took the tasks over would be told the same: the whole group stops, as it does for a record that
               fails
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from streamproc.assembly import Assembly
from streamproc.care import Care
from streamproc.clock import Clock
from streamproc.collection import collection_paused
from streamproc.end_of_input import EndOfInput, EndWatch, agreed_end, encode_end
from streamproc.epoch_limits import EpochLimits
from streamproc.epoch_writer import EpochWriter
from streamproc.errors import RecordError, StreamprocError
from streamproc.idle import IdleWatch
from streamproc.incidents import Incidents
from streamproc.jobs import Jobs, LoopJobs
from streamproc.log import (
    Aborted,
    Assigned,
    Chunk,
    Fenced,
    Log,
    LogError,
    OffsetOutOfRange,
    Partition,
    Rejected,
    Replaced,
    Revoked,
    Source,
    TaskInput,
    Unknown,
    UnknownTopic,
)
from streamproc.opening import Opener, Openings
from streamproc.operators.batch import FOREVER
from streamproc.owned_tasks import OwnedTasks
from streamproc.pacing import readable
from streamproc.plan import Plan, TaskId, Topology
from streamproc.purging import Purging
from streamproc.reader import SourceReader
from streamproc.restore import Restoring
from streamproc.restore_lag import RestoreLag
from streamproc.settings import Settings
from streamproc.state.codec import Codec
from streamproc.state.errors import StoreError
from streamproc.state.store import Disk
from streamproc.step_size import STEP_MS, StepSize
from streamproc.tally import Tally
from streamproc.task import Sealed, Task
from streamproc.windows.duration import duration_ms

logger = logging.getLogger("streamproc")

TURN_MS: Final = 2_000
"""So long a turn steps: in between nothing is heard of the group, nor of who wants the worker to stop."""
OPENING_TURN_MS: Final = 20
"""So long a turn waits for a task that is being opened, when there is nothing else to do."""
REASON_CHARS: Final = 2_000
"""So much of an error is told to the group."""

_OF_THE_GROUP = (StreamprocError, Rejected, OffsetOutOfRange, UnknownTopic)
"""Errors that whoever took the tasks over would meet too; those of a disk or of a connection are this worker's."""


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
        jobs: Jobs | None = None,
    ) -> None:
        self._plan = plan
        self._topology = topology
        self._log = log
        self._disk = disk
        self._settings = settings
        self._clock = clock
        self._member = member
        self._end = end
        self._jobs: Jobs = LoopJobs() if jobs is None else jobs
        self._drift_ms = duration_ms(settings.drift)
        ahead_ms = duration_ms(settings.ahead)
        self._assembly = Assembly(plan, topology, codec, partitions_of=partitions_of, ahead_ms=ahead_ms)
        self._writer = EpochWriter(plan, topology, member)
        self._limits = EpochLimits(settings)
        self._step_sizes: defaultdict[str, StepSize] = defaultdict(StepSize)
        self._passed_over: Counter[Partition] = Counter()
        """In how many turns there was no time for a partition: what has waited longest is first in the next."""
        self._incidents = Incidents()

        self._tasks = OwnedTasks()
        self._care = Care()
        self._tally = Tally(clock)
        self._purging = Purging(log)
        self._assigned = self._was_assigned = False
        """Whether it has been told its tasks and has not given them up: before, and between, it does nothing."""
        self._settled = True
        """Whether the log has nothing of an earlier epoch open. If not, no task is open either."""
        self._group_told = False
        """Whether the group was told to stop."""

    # ------------------------------------------------------------------------------------ life

    async def start(self) -> None:
        """Join the group."""
        inputs = [
            TaskInput(stage.name, number, self._assembly.inputs(stage, number))
            for stage in self._plan.stages
            for number in range(self._topology.tasks[stage.name])
        ]
        partitions = {p for task in inputs for p in task.partitions}
        self._end_watch = EndWatch(self._log, self._plan, partitions)
        topics = {source.name for source in self._plan.sources}
        sources = [partition for partition in sorted(partitions) if partition.topic in topics]
        idle = self._settings.idle if self._end is None else None
        self._idle = IdleWatch(self._log, self._plan.app, sources, FOREVER if idle is None else duration_ms(idle))
        exactly_once = self._settings.guarantee == "exactly_once"
        self._source: Source = await self._log.source(
            self._plan.app,
            self._member,
            inputs,
            plan=f"{self._plan.fingerprint}-{self._topology.fingerprint}",
            shared=encode_end(self._end),
        )
        try:
            self._sink = await self._log.sink(self._source, self._member, exactly_once=exactly_once)
        except BaseException:
            await self._source.leave()
            raise
        self._opener = Opener(
            self._plan,
            self._topology,
            self._log,
            self._source,
            self._disk,
            self._assembly,
            clock=self._clock,
            jobs=self._jobs,
            exactly_once=exactly_once,
            until_end=self._end is not None,
        )
        self._openings = Openings(self._opener, self._jobs)
        reads = {partition.topic for partition in partitions}
        self._lag = RestoreLag(self._source, self._member, reads, clock=self._clock, jobs=self._jobs)
        self._limits.begin(self._clock.now_ms())

    async def turn(self, timeout_ms: int) -> bool:
        """One round: what the log has, steps, perhaps a commit. False when there was nothing to do for `timeout_ms`.

        Raises what ends the worker; what would end the others too has been told to them.
        """
        self._tally.tell()
        try:
            return await self._turn(timeout_ms)
        except Replaced:
            raise
        except Fenced as error:
            logger.warning("%s: %s", self._member, error)
            self._limits.halve()  # a step may have taken longer than a session
            await self._drop_tasks()
            self._settled = False
            await self._settle()
            return True
        except _OF_THE_GROUP as error:
            await self._fail_group(error)
            raise

    async def stop(self) -> None:
        """Commit what was read, leave the group, give everything back."""
        try:
            if self._assigned:
                await self._commit()
                if self._tasks.dirty or self._care or not self._settled:
                    logger.warning("%s: the last epoch failed, so its records will be read again", self._member)
        except Fenced as error:
            logger.warning("%s: %s", self._member, error)
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Leave without committing: the open epoch is dropped. What the log does not answer to is as after kill -9."""
        self._tally.tell(last=True)
        await self._drop_tasks()
        for leave in (self._sink.abort, self._source.leave, self._sink.close):
            try:
                await leave()
            except LogError as error:
                logger.warning("%s: left behind: %s", self._member, error)

    @property
    def done(self) -> bool:
        """Whether all tasks of the plan are at the end of the input, wherever they are, and that is committed."""
        return self._end_watch.over and not self._tasks.dirty

    @property
    def tasks(self) -> Mapping[TaskId, Task]:
        """The tasks this worker steps."""
        return self._tasks

    @property
    def late(self) -> Mapping[str, int]:
        """Late records so far, by step."""
        return self._tally.late

    @property
    def skipped(self) -> Mapping[str, int]:
        """Records left out by the error policy so far, by step."""
        return self._tally.skipped

    @property
    def restoring(self) -> Mapping[TaskId, Restoring]:
        """The tasks this worker is opening, and how far their state is."""
        return self._openings.restoring

    # ------------------------------------------------------------------------------------ a turn

    async def _turn(self, timeout_ms: int) -> bool:
        under_way = not await self._settle() or len(self._openings) > 0
        dirty = self._tasks.dirty
        wait_ms = min(timeout_ms, self._limits.due_in_ms(self._clock.now_ms())) if dirty else timeout_ms
        opening = self._settled and self._openings
        events = await self._source.poll(self._readable(), 0 if opening else wait_ms)
        for event in events:
            if isinstance(event, Revoked):
                await self._release()
            elif isinstance(event, Assigned):
                await self._assign(event)
        if not self._assigned:
            return bool(events)
        await self._open_tasks(0 if events else min(wait_ms, OPENING_TURN_MS))
        await self._lag.go_on(self._openings.restoring.values())
        if not await self._take([event for event in events if isinstance(event, Chunk)]):
            return True
        moved = await self._watch_idle() or bool(self._ending())
        if not await self._finish():
            return True
        await self._commit_if_due(at_once=self._end is not None and not events)
        await self._look_for_the_end()
        return bool(events) or moved or dirty or under_way

    def _readable(self) -> Sequence[Partition]:
        """The partitions to read next: none too far ahead of one that has more to read."""
        over: set[Partition] = set()
        if self._end is not None:
            over = {r.partition for r in self._tasks.source_readers if r.position >= self._end.of(r.partition)}
        caught_up = over.union(self._source.at_end(self._tasks.partitions))
        return [p for p in readable(self._plan, self._tasks.values(), caught_up, self._drift_ms) if p not in over]

    async def _take(self, chunks: Sequence[Chunk]) -> bool:
        """Step chunks, those furthest behind in event time first; False when their epoch had to be dropped."""
        for chunk in chunks:  # all of them first: an epoch may end between two, and must not call the second one's idle
            reader = self._tasks.reader(chunk.partition)
            if isinstance(reader, SourceReader) and reader.idle and chunk.offsets:
                self._tasks.reading(chunk.partition).wake(reader)
            if chunk.offsets:
                self._idle.heard(chunk.partition)
        began_ms, waited = self._clock.now_ms(), self._passed_over
        for chunk in sorted(chunks, key=lambda c: (-waited[c.partition], self._tasks.reader(c.partition).clock)):
            if not await self._take_parts(chunk, began_ms):
                return False
        return True

    async def _take_parts(self, chunk: Chunk, began_ms: int) -> bool:
        """The same, of one chunk. What is left when the turn has lasted for `TURN_MS` is read again."""
        if self._end is not None and self._tasks.reads_source(chunk.partition):
            chunk = self._end.cut(chunk)  # what of it is of this run
        task, now_ms = self._tasks.reading(chunk.partition), self._clock.now_ms()
        if now_ms - began_ms < TURN_MS:
            del self._passed_over[chunk.partition]
        else:
            self._passed_over[chunk.partition] += 1
        for part in self._limits.parts(chunk, self._step_sizes[task.id.stage]):
            if now_ms - began_ms >= TURN_MS:
                self._source.seek(chunk.partition, task.readers[chunk.partition].position)
                break
            if not await self._step(task, part):
                return False
            now_ms = self._clock.now_ms()
            overdue = now_ms - began_ms >= STEP_MS and not self._limits.due_in_ms(now_ms)
            if (overdue or self._is_full()) and not await self._commit():
                return False
            await self._jobs.breathe()  # heartbeats
        return True

    async def _step(self, task: Task, chunk: Chunk) -> bool:
        """Let a task take a chunk; False when the epoch had to be dropped."""
        self._limits.read(chunk)
        began_ms = self._clock.now_ms()
        stepped = await self._guarded(task, lambda: task.step(chunk))
        self._step_sizes[task.id.stage].took(len(chunk.offsets), ms=self._clock.now_ms() - began_ms)
        return stepped

    async def _guarded(self, task: Task, work: Callable[[], None], *, closing: bool = False) -> bool:
        """Let a task work. When a function of the user raises, drop the epoch; read it again record by record."""
        try:
            with collection_paused():
                work()
        except (StoreError, LogError, RecordError):
            raise
        except Exception as error:
            if task.flow.careful:
                await self._fail_group(error)
                raise
            logger.info("%s/%s: %r in a batch; reading again record by record", *task.id, error)
            self._care.begin(task, closing=closing)
            await self._abort()
            return False
        if closing:
            self._care.closed(task)
        return True

    async def _watch_idle(self) -> bool:
        """Leave source partitions out of the minimum that are silent while others go on, and take them in again."""
        at_end = self._source.at_end(self._tasks.partitions)
        changed = await self._idle.look(self._tasks.source_readers, at_end, self._clock.now_ms())
        for reader in changed:
            task = self._tasks.reading(reader.partition)
            if reader.idle:
                task.wake(reader)
            else:
                reader.idle = True
            if not await self._guarded(task, task.advance, closing=True):
                break
        return bool(changed)

    # ------------------------------------------------------------------------------------ the end of the input

    def _ending(self) -> list[Task]:
        """In a run until the end: tasks that have read all there is, and have not closed what is open."""
        end = self._end
        if end is None:
            return []
        return [task for task in self._tasks.values() if task.ended_run != end.run and end.reached_by(task)]

    async def _finish(self) -> bool:
        """Let them close it; False when the epoch had to be dropped."""
        for task in self._ending():
            assert self._end is not None
            finish = partial(task.finish, self._end.run, until_ms=self._end.until_ms)
            if not await self._guarded(task, finish, closing=True):
                return False
        return True

    async def _look_for_the_end(self) -> None:
        """Whether the run is over: at once where all tasks are here; else, once those have ended, now and then."""
        if self._end is None or not self._assigned or self._openings or self._tasks.dirty:
            return
        if any(task.ended_run != self._end.run for task in self._tasks.values()):
            return
        if len(self._tasks) == sum(self._topology.tasks.values()):
            self._end_watch.over = True
        else:
            await self._end_watch.look_now_and_then(self._end, now_ms=self._clock.now_ms())

    # ------------------------------------------------------------------------------------ epochs

    def _is_full(self) -> bool:
        return self._limits.reached_by(self._tasks.values())

    async def _commit_if_due(self, *, at_once: bool) -> None:
        now_ms = self._clock.now_ms()
        if not self._tasks.dirty:
            self._limits.begin(now_ms)
        elif at_once or not self._limits.due_in_ms(now_ms) or self._is_full():
            await self._commit()

    async def _commit(self) -> bool:
        """Steps 2 to 5 of an epoch; False when it was dropped: its records are read again."""
        if self._tasks.dirty:
            if not await self._finish():  # a task that has ended, and was opened again, never says that it has not
                return False
            sealed: dict[TaskId, Sealed] = {}
            for task_id, task in self._tasks.items():  # a value that the codec cannot hold shows here
                if not await self._guarded(task, lambda: sealed.update({task_id: task.seal()})):  # noqa: B023
                    return False
            ends = await self._write(sealed)
            if ends is None:
                return False
            cache_bytes = self._settings.cache_bytes // len(self._tasks)
            for task_id, task in self._tasks.items():
                position = ends.get(self._writer.changelog(task_id))
                task.settle(sealed[task_id], position, cache_bytes=cache_bytes, now_ms=self._clock.now_ms())
                self._tally.take(task)
            self._care.committed(self._tasks.values())
            await self._purge(sealed)
        self._limits.begin(self._clock.now_ms())
        return True

    async def _write(self, sealed: Mapping[TaskId, Sealed]) -> Mapping[Partition, int] | None:
        """Step 3: the offsets behind the epoch's records; None when it was dropped."""
        self._writer.send(self._sink, sealed, now_ms=self._clock.now_ms())
        offsets = self._writer.offsets(sealed)
        try:
            ends = await self._sink.commit(offsets)
        except Fenced:
            raise
        except Aborted as error:
            await self._aborted(error)
        except Unknown as error:
            await self._in_doubt(error)
        except LogError as error:
            await self._fail_group(error)
            raise
        else:
            self._limits.committed()
            self._tasks.known.update(offsets)
            return ends
        return None

    async def _aborted(self, error: Aborted) -> None:
        """Nothing of the epoch is visible: it is read again, in smaller epochs."""
        logger.warning("%s: %s", self._member, error)
        if not self._limits.aborted():
            msg = f"one epoch after the other is aborted, the smallest ones too; the last time: {error}"
            raise LogError(msg) from error
        await self._abort()

    async def _in_doubt(self, error: Unknown) -> None:
        """The epoch may be visible or not. State, outputs and offsets of a task are one: what is committed tells all.

        Its late and skipped records are counted now: if it is not visible they will be once more, but never not at all.
        """
        logger.warning("%s: %s", self._member, error)
        self._limits.halve()
        for task in self._tasks.values():
            self._tally.take(task)
        self._reopen()
        await self._settle()

    async def _abort(self) -> None:
        """Back to the last commit: tables to their stores, readers to the committed offsets."""
        self._settled = False
        if not await self._settle():
            self._reopen()
            return
        committed = await self._source.committed(self._tasks.partitions)
        for task in self._tasks.values():
            task.abort()
            await self._opener.place(task, committed)
            self._begin(task)
        self._idle.begin_anew()
        self._limits.begin(self._clock.now_ms())

    def _reopen(self) -> None:
        """The tasks are to be opened again once the log has nothing of the epoch open any more."""
        self._settled = False
        self._openings.add(self._tasks)
        for task_id in list(self._tasks):
            self._tasks.close(task_id)
        self._limits.begin(self._clock.now_ms())

    async def _settle(self) -> bool:
        """Whether the log has nothing of an earlier epoch open; until it says so nothing is processed."""
        now_s = self._clock.now_ms() / 1_000
        if not self._settled:
            try:
                await self._sink.abort()
            except Replaced:
                raise
            except LogError as error:
                what = f"{self._member}: nothing is processed, as what became of the last epoch is not known: {error}"
                self._incidents.see("unsettled", what, now_s=now_s)
                return False
            self._settled = True
            self._incidents.see("unsettled", None, now_s=now_s)
        return True

    async def _purge(self, sealed: Mapping[TaskId, Sealed]) -> None:
        """Step 5: what was read of internal topics, and is known to be committed."""
        positions = (item for epoch in sealed.values() for item in epoch.positions.items())
        await self._purging.purge({p: at for p, (at, _) in positions if not self._tasks.reads_source(p)})

    async def _fail_group(self, error: Exception) -> None:
        """All workers of the group stop: whoever took the tasks over would meet the same."""
        if self._group_told:
            return
        self._group_told = True
        try:
            await self._source.fail(f"{self._member}: {type(error).__name__}: {error}"[:REASON_CHARS])
        except LogError as unheard:
            logger.warning("%s: the group could not be told to stop: %s", self._member, unheard)

    # ------------------------------------------------------------------------------------ assignment

    async def _release(self) -> None:
        """Commit what was read and give up the tasks; they stay open, as most of them come back."""
        await self._commit()
        await self._openings.drop()
        await self._lag.end()
        self._assigned = False
        await self._source.release()

    async def _assign(self, assigned: Assigned) -> None:
        """Close the tasks that went, begin to open those that came; the others stay, if nobody had them meanwhile."""
        if assigned.shared:
            self._end = agreed_end(assigned.shared, self._end, app=self._plan.app)
        tasks = {TaskId(*task) for task in assigned.tasks}
        for task_id in sorted(self._tasks.keys() - tasks | await self._moved_meanwhile()):
            self._tasks.close(task_id)
        came = sorted(tasks - self._tasks.keys())
        await self._openings.drop()
        self._lag.keep({self._writer.changelog(task_id) for task_id in tasks})
        if came and not (self._end is not None and self._was_assigned and await self._end_watch.look(self._end)):
            self._openings.add(came)  # else they have ended, and their worker has left
        self._care.keep(tasks)
        for task in self._tasks.values():
            task.repeat_marks()
        self._idle.begin_anew()
        self._assigned = self._was_assigned = True
        if not tasks:
            logger.info("%s: no tasks: others of the group have them, or are more of another plan", self._member)

    async def _moved_meanwhile(self) -> set[TaskId]:
        """The tasks for which another worker has committed: groups may change twice before a worker is told."""
        return self._tasks.moved(await self._source.committed(self._tasks.partitions))

    async def _open_tasks(self, timeout_ms: int) -> None:
        """Go on with the tasks that are being opened; those that are ready join the others."""
        if self._settled and self._openings:
            for task, committed, restoring in await self._openings.go_on(timeout_ms):
                self._tasks.add(task, committed)
                self._begin(task)
                self._lag.opened(restoring)

    def _begin(self, task: Task) -> None:
        """The log gives the task's records from where its readers are; it steps them with care, if it must."""
        self._care.apply(task)
        for partition, reader in task.readers.items():
            self._source.seek(partition, reader.position)

    async def _drop_tasks(self) -> None:
        """The tasks are no longer this worker's."""
        self._assigned = False
        await self._openings.drop()
        await self._lag.end()
        self._lag.keep(())
        for task_id in list(self._tasks):
            self._tasks.close(task_id)
