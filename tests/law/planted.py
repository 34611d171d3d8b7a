"""Bugs to plant in the real engine, by name: each is one rule of the law, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from itertools import accumulate, count
from operator import itemgetter
from typing import Any

import pytest

from streamproc import opening as opening_module
from streamproc import plan as plan_module
from streamproc import worker as worker_module
from streamproc.assembly import Assembly
from streamproc.epoch_writer import EpochWriter
from streamproc.flow import Flow
from streamproc.graph import RepartitionNode
from streamproc.in_process import InProcessLog, InProcessSource
from streamproc.internal_topic import Mark
from streamproc.log import Aborted, Chunk, Columns, Committed, Partition, Sink, Unknown
from streamproc.opening import Opened, Opener
from streamproc.operators import final_rows as final_rows_module
from streamproc.operators import lateness
from streamproc.operators import window as window_module
from streamproc.operators.batch import FOREVER, NEVER, Batch
from streamproc.operators.deduplicate import Deduplicate
from streamproc.operators.flat_map import FlatMap
from streamproc.operators.in_order import InOrder
from streamproc.operators.merge import Merge
from streamproc.operators.operator import Operator
from streamproc.operators.process import Process
from streamproc.operators.session import Session
from streamproc.operators.timers import Timers
from streamproc.operators.top import Top
from streamproc.operators.window import Window
from streamproc.operators.with_timestamp import WithTimestamp
from streamproc.plan import TaskId
from streamproc.reader import InternalReader, SourceReader
from streamproc.restore import Restoring, restore
from streamproc.state.keys import identities
from streamproc.state.table import Table
from streamproc.task import Feed, Sealed, Task
from streamproc.topic import Topic
from streamproc.windows import ordered
from streamproc.windows.folds import Fold
from streamproc.windows.ordered import Last
from streamproc.windows.sums import Mean, Sum
from streamproc.worker import Worker
from tests.bugs import Bugs, Plant
from tests.law.doors import DoorLog

BUGS = Bugs()
bug = BUGS.bug


# ------------------------------------------------------------------------------------ A1, A13: order


@bug("last by arrival")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Last, "add", lambda self, accumulator, item: item)
    patch.setattr(Last, "merge", lambda self, parts: next((part for part in reversed([*parts]) if part), ()))


@bug("ties by arrival")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ordered, "_in_order", itemgetter(0))


@bug("in_order's ties by arrival")
def _(patch: pytest.MonkeyPatch) -> None:
    arrivals, real = count(), InOrder._hold

    def hold(self: InOrder, batch: Batch) -> None:
        arrived = Batch(batch.keys, batch.values, batch.timestamps, None, [(next(arrivals),) for _ in batch.keys])
        real(self, arrived)

    patch.setattr(InOrder, "_hold", hold)


@bug("float +=")
def _(patch: pytest.MonkeyPatch) -> None:
    def merged(self: Any, parts: Iterable[Any]) -> list[Any]:
        total, number = 0, 0
        for part in parts:
            number, total = number + part[0], total + part[1]
        return [number, total]

    for cls, result in ((Sum, lambda self, a: a[1]), (Mean, lambda self, a: a[1] / a[0])):
        patch.setattr(cls, "initial", lambda self: [0, 0])
        patch.setattr(cls, "add", lambda self, a, x: [a[0] + 1, a[1] + x])
        patch.setattr(cls, "add_rows", lambda self, rows, keys, items: _add_rows(rows, keys, items))
        patch.setattr(cls, "merge", merged)
        patch.setattr(cls, "merge_rows", lambda self, rows, part: _merge_rows(rows, part, 1))
        patch.setattr(cls, "remove_rows", lambda self, rows, part: _merge_rows(rows, part, -1))
        patch.setattr(cls, "result", result)


def _add_rows(rows: dict[Any, Any], keys: Sequence[Any], items: Sequence[Any]) -> None:
    for key, item in zip(keys, items, strict=True):
        number, total = rows.get(key, (0, 0))
        rows[key] = [number + 1, total + item]


def _merge_rows(rows: dict[Any, Any], part: Mapping[Any, Any], sign: int) -> None:
    for key, (number, total) in part.items():
        before = rows.get(key, (0, 0))
        rows[key] = [before[0] + sign * number, before[1] + sign * total]
        if not rows[key][0]:
            del rows[key]


@bug("fold by arrival")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fold, "result", lambda self, held: reduce(self._fold, (v for *_, v in held), self._initial()))


@bug("one number for all values of a flat_map")
def _(patch: pytest.MonkeyPatch) -> None:
    real = FlatMap.process

    def process(self: FlatMap, batch: Batch, side: int = 0) -> Batch:
        made = real(self, batch, side)
        if made.origins is not None:
            made.origins = [(*origin[:-1], 0) for origin in made.origins]
        return made

    patch.setattr(FlatMap, "process", process)


@bug("the branch is not in the origin")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Merge, "process", lambda self, batch, side=0: batch)


@bug("the origin of a derived row is without its task")
def _(patch: pytest.MonkeyPatch) -> None:
    for cls in (Window, Session):
        _wrap_close(patch, cls, lambda origin: origin[:-1])


@bug("rows of windows have no origin")
def _(patch: pytest.MonkeyPatch) -> None:
    for cls in (Window, Session):
        _wrap_close(patch, cls, lambda _: (0,))


def _wrap_close(patch: pytest.MonkeyPatch, cls: type[Any], changed: Callable[[Any], Any]) -> None:
    real = cls.close

    def close(self: Any, watermark: int) -> Batch:
        batch: Batch = real(self, watermark)
        if batch.origins is not None:
            batch.origins = [changed(origin) for origin in batch.origins]
        return batch

    patch.setattr(cls, "close", close)


@bug("unsorted emission")
def _(patch: pytest.MonkeyPatch) -> None:
    """Windows in order of arrival of their keys, sessions too."""
    patch.setattr(window_module, "sorted_by_bytes", list)
    patch.setattr(final_rows_module, "sorted", lambda rows, key: list(rows), raising=False)


@bug("heap insertion order in top")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Top, "_largest", lambda self, found: sorted(found, key=itemgetter(0), reverse=True)[: self.n])


# ---------------------------------------------------------------------------------- A2 - A4, A10: lateness, hold-back


@bug("the clock is what reaches the operator")
def _(patch: pytest.MonkeyPatch) -> None:
    """A2: a running maximum in the window, behind a filter."""
    real = Window.process

    def process(self: Window, batch: Batch, side: int = 0) -> Batch:
        own = [*accumulate(batch.timestamps, max, initial=getattr(self, "_own", NEVER))][1:]
        self._own = own[-1]  # type: ignore[attr-defined]
        return real(self, Batch(batch.keys, batch.values, batch.timestamps, own, batch.origins), side)

    patch.setattr(Window, "process", process)


@bug("lateness by the batch")
def _(patch: pytest.MonkeyPatch) -> None:
    """Every record of a batch is judged by the largest timestamp in it."""

    def clocks(self: SourceReader, timestamps: Sequence[int]) -> Any:
        self.clock = max(self.clock, *timestamps)
        return [self.clock] * len(timestamps)

    patch.setattr(SourceReader, "_clocks", clocks)


@bug("lateness by the watermark of the operator")
def _(patch: pytest.MonkeyPatch) -> None:
    real_on_time, real_process = lateness.on_time, Window.process

    def by_watermark(operator: Operator, batch: Batch) -> Batch:
        clocks = [operator.watermark] * len(batch)
        return Batch(batch.keys, batch.values, batch.timestamps, clocks, batch.origins, batch.headers)

    def on_time(operator: Operator, batch: Batch, side: int = 0) -> Batch:
        return real_on_time(operator, by_watermark(operator, batch), side)

    for module in ("session", "in_order", "deduplicate", "top"):
        patch.setattr(f"streamproc.operators.{module}.on_time", on_time)
    patch.setattr(Window, "process", lambda self, batch, side=0: real_process(self, by_watermark(self, batch), side))


@bug("shared slices for partly late records")
def _(patch: pytest.MonkeyPatch) -> None:
    def add_partly(self: Window, start: int, takes: int, key: Any, item: Any) -> None:
        self._add_to_slice(start, identities([key]), [item])

    patch.setattr(Window, "_add_partly", add_partly)


@bug("a session is late by its merged end")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Session.process

    def process(self: Session, batch: Batch, side: int = 0) -> Batch:
        grace, batch_clocks = self.graces, batch.clocks
        if batch_clocks is not None:
            keys = identities(batch.keys)
            rows = self._table.rows(keys)
            clocks: list[int | None] = []
            for key, ts, clock in zip(keys, batch.timestamps, batch_clocks, strict=True):
                met = [s for s in (rows.get(key) or (0, []))[1] if s[0] - self.gap_ms <= ts <= s[1] + self.gap_ms]
                end = max([ts, *(s[1] for s in met)]) + self.gap_ms
                clocks.append(clock if clock is not None and end + grace[0] < clock else None)
            batch = Batch(batch.keys, batch.values, batch.timestamps, clocks, batch.origins)
        return real(self, batch, side)

    patch.setattr(Session, "process", process)


@bug("a session is late a gap later")
def _(patch: pytest.MonkeyPatch) -> None:
    """By ts + gap + grace: the record may fall within the gap of a session that has closed."""

    def clocks(session: Session, batch: Batch) -> list[int | None]:
        wait = session.gap_ms + session.graces[0]
        pairs = zip(batch.timestamps, batch.clocks or (), strict=True)
        return [clock if clock is not None and timestamp + wait < clock else None for timestamp, clock in pairs]

    _judge_sessions(patch, clocks)


@bug("a session is late at ts + grace, not behind it")
def _(patch: pytest.MonkeyPatch) -> None:
    """With a grace of 0 each record in order is late: its clock is itself."""
    _judge_sessions(patch, lambda _, batch: [None if clock is None else clock + 1 for clock in batch.clocks or ()])


def _judge_sessions(patch: pytest.MonkeyPatch, clocks: Callable[[Session, Batch], list[int | None]]) -> None:
    real = Session.process

    def process(self: Session, batch: Batch, side: int = 0) -> Batch:
        if batch.clocks is not None:
            batch = Batch(batch.keys, batch.values, batch.timestamps, clocks(self, batch), batch.origins, batch.headers)
        return real(self, batch, side)

    patch.setattr(Session, "process", process)


def _hold(cls: type[Any], hold: Callable[[Any], int]) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        def passes_on(self: Any) -> int:
            held: int = self.watermark - hold(self) if NEVER < self.watermark < FOREVER else self.watermark
            return held

        patch.setattr(cls, "passes_on", passes_on)

    return plant


BUGS["a session holds back its grace alone"] = _hold(Session, lambda self: self.graces[0])
BUGS["a window holds nothing back"] = _hold(Window, lambda self: 0)
BUGS["in_order holds nothing back"] = _hold(InOrder, lambda self: 0)
BUGS["deduplicate holds nothing back"] = _hold(Deduplicate, lambda self: 0)


@bug("a session closes at end + gap + grace, not behind it")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Session.close
    patch.setattr(
        Session, "close", lambda self, watermark: real(self, watermark + 1 if watermark < FOREVER else watermark)
    )


@bug("the floor of the next re-key alone")
def _(patch: pytest.MonkeyPatch) -> None:
    """The clock of a record is left out where the graces of this stage need none."""
    real = plan_module._grace

    def grace(graces: Any, child: Any, side: int) -> int:
        return FOREVER if isinstance(child.kind, RepartitionNode) else real(graces, child, side)

    patch.setattr(plan_module, "_grace", grace)


@bug("with_timestamp keeps the clock of the old timestamps")
def _(patch: pytest.MonkeyPatch) -> None:
    def process(self: WithTimestamp, batch: Batch, side: int = 0) -> Batch:
        timestamps = list(map(self.f, batch.values))
        return Batch(batch.keys, batch.values, timestamps, batch.clocks, batch.origins, batch.headers)

    patch.setattr(WithTimestamp, "process", process)
    patch.setattr(WithTimestamp, "passes_on", Operator.passes_on)


@bug("timers at the watermark alone")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Process.process

    def process(self: Process, batch: Batch, side: int = 0) -> Batch:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(Timers, "pop", lambda *_: None)
            return real(self, batch, side)

    patch.setattr(Process, "process", process)


@bug("the past of a timer is the watermark's")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Process.process

    def process(self: Process, batch: Batch, side: int = 0) -> Batch:
        clocks = [max(self.watermark, timestamp) for timestamp in batch.timestamps]
        return real(self, Batch(batch.keys, batch.values, batch.timestamps, clocks, batch.origins), side)

    patch.setattr(Process, "process", process)


@bug("sparse clocks before timers")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Process.__init__

    def init(self: Process, function: Any) -> None:
        real(self, function)
        self.dense_clock = False

    patch.setattr(Process, "__init__", init)


# ------------------------------------------------------------------------------------ A6, A12: watermarks between tasks


def _largest_timestamp(*, chained_alone: bool) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        real_read, real_watermark = InternalReader.read, InternalReader.watermark

        def guilty(self: InternalReader) -> bool:
            return not chained_alone or "chain" in self.partition.topic

        def read(self: InternalReader, chunk: Chunk) -> Batch:
            before = self.clock
            batch = real_read(self, chunk)
            if len(batch) and guilty(self):
                batch.clocks = [*accumulate(batch.timestamps, max, initial=before)][1:]
            return batch

        patch.setattr(InternalReader, "read", read)
        patch.setattr(InternalReader, "watermark", lambda self: self.clock if guilty(self) else real_watermark(self))

    return plant


BUGS["the clock behind a re-key is the largest timestamp seen"] = _largest_timestamp(chained_alone=False)
BUGS["the second stream reads the user's topic"] = _largest_timestamp(chained_alone=True)


@bug("marks by task number alone")
def _(patch: pytest.MonkeyPatch) -> None:
    real = InternalReader._take

    def take(self: InternalReader, mark: Mark) -> None:
        for stage, task in self._edges:
            if task == mark.task:
                real(self, mark._replace(stage=stage))

    patch.setattr(InternalReader, "_take", take)


@bug("the mark of one branch for all")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Assembly._feed

    def feed(self: Assembly, stage: Any, node: Any) -> Feed:
        found = real(self, stage, node)
        return Feed(found.topic, found.partitions, found.ports[-1:])

    patch.setattr(Assembly, "_feed", feed)


@bug("a mark is written before the rows it speaks of")
def _(patch: pytest.MonkeyPatch) -> None:
    real = EpochWriter.send

    def send(self: EpochWriter, sink: Sink, sealed: Mapping[Any, Sealed], *, now_ms: int) -> None:
        rows = {task: epoch.outputs for task, epoch in sealed.items()}
        for epoch in sealed.values():
            epoch.outputs = {}
        real(self, sink, sealed, now_ms=now_ms)
        for task, epoch in sealed.items():
            epoch.outputs = rows[task]
            for partition, columns in rows[task].items():
                sink.send(partition, columns)

    patch.setattr(EpochWriter, "send", send)


# ------------------------------------------------------------------------------------ A5, B: epochs, state, restarts


@bug("a failing batch is run again without rollback")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Table, "abort", Table.savepoint)


@bug("an abort keeps the vector of marks")
def _(patch: pytest.MonkeyPatch) -> None:
    def set_vector(self: InternalReader, vector: Sequence[Any], *, closed_to: int) -> None:
        for row in vector:
            self._take(Mark(*row))

    patch.setattr(InternalReader, "set_vector", set_vector)


@bug("the clock is not stored with the offset")
def _(patch: pytest.MonkeyPatch) -> None:
    real = SourceReader.restore

    def restore(self: SourceReader, committed: Committed) -> None:
        real(self, committed)
        self.clock = NEVER

    patch.setattr(SourceReader, "restore", restore)


@bug("closed up to where is not stored")
def _(patch: pytest.MonkeyPatch) -> None:
    """B6: after the loss of a disk closed windows open again."""
    _forget_facts(patch, "operators")


@bug("the vector of marks is not stored")
def _(patch: pytest.MonkeyPatch) -> None:
    """B6: after a restart an upstream that has nothing new to say is not heard."""
    _forget_facts(patch, "vector ")


def _forget_facts(patch: pytest.MonkeyPatch, beginning: str) -> None:
    real = Table.put

    def put(self: Table[Any], inner: Any, value: Any, outer: Any = None) -> None:
        if not (self.name == "\x01task" and str(inner).startswith(beginning)):
            real(self, inner, value, outer)

    patch.setattr(Table, "put", put)


@bug("one dirty set for two epochs")
def _(patch: pytest.MonkeyPatch) -> None:
    """B5: settling an epoch writes what was changed since it was sealed."""
    real = Task.settle

    def settle(self: Task, sealed: Sealed, changelog_position: int | None, *, cache_bytes: int, now_ms: int) -> None:
        for table in self._tables():
            table.savepoint()
            for prefix, changes in table._pending.items():
                sealed.changes.update({prefix + key: data for key, data in changes.items()})
        real(self, sealed, changelog_position, cache_bytes=cache_bytes, now_ms=now_ms)

    patch.setattr(Task, "settle", settle)


@bug("no replay of the changelog")
def _(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_args: Any) -> None:
        """Nothing is replayed."""

    patch.setattr(opening_module, "restore", nothing)


@bug("disk before log")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Worker._write

    async def write(self: Worker, sealed: Mapping[Any, Sealed]) -> Mapping[Partition, int] | None:
        for task_id, epoch in sealed.items():
            task = self._tasks[task_id]
            if task._store is not None and epoch.changes:
                task._store.write(epoch.changes, task._store.position or 0)
        return await real(self, sealed)

    patch.setattr(Worker, "_write", write)


@bug("outputs outside the transaction")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Worker._write

    async def write(self: Worker, sealed: Mapping[Any, Sealed]) -> Mapping[Partition, int] | None:
        records = self._log.log._records  # type: ignore[attr-defined] # the world's door
        for epoch in sealed.values():
            outside = {p: columns for p, columns in epoch.outputs.items() if p.topic.startswith("out-")}
            records.write({p: Columns(*_columns(c)) for p, c in outside.items()}, "", {})
            epoch.outputs = {p: columns for p, columns in epoch.outputs.items() if p not in outside}
        return await real(self, sealed)

    patch.setattr(Worker, "_write", write)


def _columns(columns: Columns) -> tuple[Any, ...]:
    return columns.keys, columns.values, columns.timestamps, columns.headers


@bug("no fencing")
def _(patch: pytest.MonkeyPatch) -> None:
    """A worker that was taken for dead may commit."""
    patch.setattr(InProcessSource, "admit", lambda self, begun: None)


@bug("a task is kept though another worker had it")
def _(patch: pytest.MonkeyPatch) -> None:
    async def moved_meanwhile(self: Worker) -> set[TaskId]:
        return set()

    patch.setattr(Worker, "_moved_meanwhile", moved_meanwhile)


# ------------------------------------------------------------------------------------ B1, B4: what a commit may answer


@bug("an Unknown is taken for aborted")
def _(patch: pytest.MonkeyPatch) -> None:
    """Tables go back to their stores, readers to the committed offsets, which may be the epoch's."""
    patch.setattr(Worker, "_in_doubt", lambda self, error: self._abort())


@bug("an Unknown is taken for committed")
def _(patch: pytest.MonkeyPatch) -> None:
    async def write(self: Worker, sealed: Mapping[Any, Sealed]) -> Mapping[Partition, int] | None:
        self._writer.send(self._sink, sealed, now_ms=0)
        offsets = self._writer.offsets(sealed)
        try:
            ends = await self._sink.commit(offsets)
        except Aborted as error:
            await self._aborted(error)
            return None
        except Unknown:
            ends = await self._log.ends([self._writer.changelog(task) for task in sealed if sealed[task].changes])
        self._tasks.known.update(offsets)
        return ends

    patch.setattr(Worker, "_write", write)


@bug("a transaction without offsets")
def _(patch: pytest.MonkeyPatch) -> None:
    """Where nothing was read, the rows alone are committed: of a worker that was taken for dead, too."""
    real = EpochWriter.offsets

    def offsets(self: EpochWriter, sealed: Mapping[Any, Sealed]) -> dict[Partition, Committed]:
        found = real(self, sealed)
        before = self.__dict__.setdefault("before", {})
        moved = any(before.get(partition) != at.offset for partition, at in found.items())
        before.update({partition: at.offset for partition, at in found.items()})
        return found if moved else {}

    patch.setattr(EpochWriter, "offsets", offsets)


@bug("after an abort the tables are not rolled back")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Worker._aborted

    async def aborted(self: Worker, error: Aborted) -> None:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(Table, "abort", Table.savepoint)
            await real(self, error)

    patch.setattr(Worker, "_aborted", aborted)


@bug("restore before the offsets are read")
def _(patch: pytest.MonkeyPatch) -> None:
    real_open = Opener.open

    async def restored(*_args: Any) -> None:
        """It was before."""

    async def open_after_restore(self: Opener, task_id: TaskId, restoring: Restoring) -> Opened:
        if self._stages[task_id.stage].stateful:
            store = await self._unlocked(f"{task_id.stage}/{task_id.number}")
            try:
                await restore(store, self._log, restoring, self._jobs)
            finally:
                store.close()
        return await real_open(self, task_id, restoring)

    patch.setattr(opening_module, "restore", restored)
    patch.setattr(Opener, "open", open_after_restore)


@bug("restore to the last stable offset")
def _(patch: pytest.MonkeyPatch) -> None:
    real = DoorLog.ends

    async def ends(self: DoorLog, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {p: self.doubts.last_stable(p, end) for p, end in (await real(self, partitions)).items()}

    patch.setattr(DoorLog, "ends", ends)


# ------------------------------------------------------------------------------------ B7: the end of the input


@bug("each worker takes its own end of the input")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(worker_module, "agreed_end", lambda shared, own, app: own)


@bug("a task that is opened again commits that it has not ended")
def _(patch: pytest.MonkeyPatch) -> None:
    """Its end comes with the next turn, if there is one: who saw all tasks ended has left, or opens none any more."""
    real = Worker._commit

    async def nothing(self: Worker) -> bool:
        return True

    async def commit(self: Worker) -> bool:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(Worker, "_finish", nothing)
            return await real(self)

    patch.setattr(Worker, "_commit", commit)


@bug("the end is stored as an infinite watermark")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Task.finish

    def finish(self: Task, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        for step in self.flow.steps:
            step.operator.watermark = FOREVER - 1

    patch.setattr(Task, "finish", finish)


@bug("the end forgets what it closed")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Flow.run

    def run(self: Flow, *args: Any, ended: bool = False, **options: Any) -> None:
        real(self, *args, ended=ended, **options)
        for step in self.steps:
            step.operator.ended_to = NEVER

    patch.setattr(Flow, "run", run)


@bug("an end of an earlier run counts")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(InternalReader, "ended", lambda self, run: all(mark.flag == 2 for mark in self._edges.values()))


@bug("the end fires timers beyond the watermark")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Process.close

    def close(self: Process, watermark: int) -> Batch:
        if watermark == FOREVER:
            self._fire_due(FOREVER)
        return real(self, watermark)

    patch.setattr(Process, "close", close)


# ------------------------------------------------------------------------------------ A9, A11: live runs


@bug("idle by the wall clock alone")
def _(patch: pytest.MonkeyPatch) -> None:
    """A stale high watermark: a partition with records that do not arrive counts as read to its end."""
    real = Worker._watch_idle

    async def ends(self: InProcessLog, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    async def watch_idle(self: Worker) -> bool:
        with pytest.MonkeyPatch.context() as inside:
            inside.setattr(InProcessSource, "at_end", lambda self, partitions: partitions)
            inside.setattr(InProcessLog, "ends", ends)
            return await real(self)

    patch.setattr(Worker, "_watch_idle", watch_idle)


@bug("that a partition was idle is not recorded")
def _(patch: pytest.MonkeyPatch) -> None:
    BUGS["what was closed without an idle partition is not recorded"](patch)
    patch.setattr(SourceReader, "metadata", lambda self: {"clock": self.clock, "idle": False})


@bug("what was closed without an idle partition is not recorded")
def _(patch: pytest.MonkeyPatch) -> None:
    real = SourceReader.leave_behind

    def leave_behind(self: SourceReader, watermark: int) -> None:
        if not self.idle:
            real(self, watermark)

    patch.setattr(SourceReader, "leave_behind", leave_behind)


@bug("a record after idleness is judged by its partition's old clock")
def _(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SourceReader, "leave_behind", lambda self, watermark: None)


@bug("one record seventy years ahead moves the clock")
def _(patch: pytest.MonkeyPatch) -> None:
    real = Topic.timestamps
    patch.setattr(Topic, "timestamps", lambda self, values, own, ahead_ms=0: real(self, values, own))
