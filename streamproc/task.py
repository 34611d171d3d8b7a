"""Task: a stage on one partition number, as a pure synchronous state machine.

    step(chunk)  ->  rows flow through the operators, what the watermark closes flows too  ->  outputs
    seal()       ->  the epoch: outputs, marks, changes of state, positions
    settle()     ->  the epoch is committed: its changes are written to the store
    abort()      ->  the epoch is not: back to the store

There is no clock, no await and no I/O in here but reading state that is not in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streamproc.errors import PlanChanged
from streamproc.flow import Flow
from streamproc.graph import Port
from streamproc.internal_topic import ACTIVE, ENDED, IDLE, Mark
from streamproc.log import Chunk, Columns, Partition
from streamproc.operators.batch import FOREVER, NEVER
from streamproc.outputs import Outputs
from streamproc.plan import TaskId
from streamproc.reader import InternalReader, Reader, SourceReader
from streamproc.signature import shown_change
from streamproc.state.codec import Codec
from streamproc.state.settled import settle
from streamproc.state.store import Store
from streamproc.state.table import Table
from streamproc.step import Context, Failure, Step
from streamproc.topic_writer import TopicWriters

FACTS = "\x01task"
"""The table of what the engine itself keeps: operators' watermarks, vectors of marks, the schema."""


class Feed(msgspec.Struct, frozen=True):
    """A repartition topic that the stage writes, and the ports in this stage whose rows go there."""

    topic: str
    partitions: int
    ports: tuple[Port, ...]


class Sealed(msgspec.Struct):
    """A task's part of an epoch.

    marks      by topic, what the task says to all its partitions
    changes    of state, by store key; None deletes
    positions  of its inputs, with what is committed beside them
    ended_run  the run whose end it has reached; 0: none
    """

    outputs: dict[Partition, Columns]
    marks: dict[str, Mark]
    changes: dict[bytes, bytes | None]
    positions: dict[Partition, tuple[int, dict[str, Any]]]
    ended_run: int


class Task:
    """A stage on one partition number."""

    def __init__(
        self,
        task_id: TaskId,
        readers: Mapping[int, Reader],
        steps: Sequence[Step],
        feeds: Sequence[Feed],
        outputs: Outputs,
        *,
        writers: TopicWriters,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.id = task_id
        self.writers = writers
        self.readers = {reader.partition: reader for reader in readers.values()}
        self.flow = Flow(readers, steps, outputs, writers, on_failure)
        self.dirty = True
        """Whether the open epoch has anything to commit; a new task has its marks to say."""
        self.skipped: dict[str, int] = {}
        """Records of the open epoch that the error policy left out, by step."""
        self.reading: tuple[Chunk, int] | None = None
        """When careful, the chunk and the place in it of the record that flows: where a failing row came from."""
        self._settled_records = dict.fromkeys(self.readers, 0)
        """How many each reader had read when the last epoch was settled."""
        self._nodes = {reader.partition: node for node, reader in readers.items()}
        self._feeds = feeds
        self._outputs = outputs
        self._said: dict[str, Mark] = {}
        self._ended_run = 0
        self._last: dict[str, int] = {}
        """By topic that it feeds, the `last` of its mark once the input has ended."""
        self._store: Store | None = None
        self._facts: Table[Any] | None = None
        self._schema: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------ state

    def open(
        self,
        store: Store | None,
        codec: Codec,
        *,
        floors: Mapping[int, int],
        keeps_origins: Mapping[int, bool],
        schema: Mapping[str, Any],
        ahead_ms: int = FOREVER,
    ) -> None:
        """Take up the state in the store; the positions of sources are set by their readers' `restore`."""
        self._store = store

        def make_table(name: str, timed: bool) -> Table[Any]:  # noqa: FBT001 - called by Context alone
            assert store is not None, f"{name}: a stage with tables has a store"
            return Table(store, name, codec, timed=timed)

        if store is not None:
            self._facts = make_table(FACTS, False)
            self._check_schema(schema)
        for step in self.flow.steps:
            node = step.node.id
            step.context = Context(
                step,
                self.id.number,
                floor=floors[node],
                keeps_origins=keeps_origins[node],
                ahead_ms=ahead_ms,
                make_table=make_table,
            )
        self._reopen()

    def _check_schema(self, schema: Mapping[str, Any]) -> None:
        assert self._facts is not None
        stored = self._facts.get("schema")
        if stored is not None:
            for name, signature in stored.items():
                if name not in schema:
                    what = f"has state of {name}, which the plan does not have (any more)"
                    raise PlanChanged(_changed(self.id, what, "Give the step its old name with name='...'"))
                if schema[name] != signature:
                    what = f"has state of {name}, which has changed: {shown_change(signature, schema[name])}"
                    raise PlanChanged(_changed(self.id, what, "Go back to the old definition"))
        self._schema = dict(schema)

    def _reopen(self) -> None:
        facts: dict[str, list[int]] = self._facts.get("operators") or {} if self._facts else {}
        for step in self.flow.steps:
            operator = step.operator
            for attribute in operator.remembers:  # back to what the class says, or to what is stored
                operator.__dict__.pop(attribute, None)
            if isinstance(stored := facts.get(step.node.name), list):
                for attribute, value in zip(operator.remembers, stored, strict=True):
                    setattr(operator, attribute, value)
            operator.discarded = frozenset()
            step.reopen()
            step.out = operator.passes_on()
        for reader in self.readers.values():
            if isinstance(reader, InternalReader) and self._facts is not None:
                vector = self._facts.get(f"vector {reader.partition.topic}") or {"marks": [], "closed_to": NEVER}
                reader.set_vector(vector["marks"], closed_to=vector["closed_to"])

    def _remember(self) -> None:
        """Put what the engine keeps beside the operators' tables into the epoch."""
        if self._facts is None:
            return
        facts = {
            step.node.name: [getattr(step.operator, attribute) for attribute in step.operator.remembers]
            for step in self.flow.steps
        }
        if self._schema != self._facts.get("schema"):
            self._facts.put("schema", self._schema)
        if facts != self._facts.get("operators"):
            self._facts.put("operators", facts)
        for reader in self.readers.values():
            if isinstance(reader, InternalReader):
                row = {"marks": reader.vector(), "closed_to": reader.closed_to}
                if row != self._facts.get(f"vector {reader.partition.topic}"):
                    self._facts.put(f"vector {reader.partition.topic}", row)

    # ------------------------------------------------------------------------------------ an epoch

    def step(self, chunk: Chunk) -> None:
        """Take the records of a chunk; where it is but a gap, there is nothing to commit."""
        reader = self.readers[chunk.partition]
        if not chunk.offsets:
            reader.position = chunk.next_offset
            return
        self.dirty = True
        if isinstance(reader, SourceReader) and reader.idle:
            self.wake(reader)
        node = self._nodes[chunk.partition]
        if not self.flow.careful:
            self.flow.run({node: reader.read(chunk)})
            return
        for place, part in _singles(chunk):
            self.reading = (chunk, place)
            self.flow.run({node: reader.read(part)}, closing=False)
            self.reading = None
            self.flow.run({})  # apart: what closes now is not of this record

    def advance(self) -> None:
        """Let a watermark that rose without records (an idle input) close what it closes."""
        self.dirty = True
        self.flow.run({})

    def finish(self, run: int, *, until_ms: int = NEVER) -> None:
        """The input has ended in this run: close what is open. Clocks and watermarks keep their real values.

        Timers fire as far as time has gone anywhere in the input: nothing is left to wait for, and a partition
        that fell behind or never had a record holds back none.
        With `until_ms` the clocks of sources, and of operators that have their own, go on to that instant before.
        """
        if self._ended_run != run:
            if until_ms > NEVER:
                self._advance_clocks(until_ms)
            self.dirty = True
            self._ended_run = run
            real = [(step, step.operator.watermark, step.out) for step in self.flow.steps]
            self.flow.run({}, ended=True)
            self._last = {feed.topic: self._last_of(feed) for feed in self._feeds}
            for step, watermark, out in real:
                step.operator.watermark, step.out = watermark, out

    def _advance_clocks(self, until_ms: int) -> None:
        for reader in self.readers.values():
            if isinstance(reader, SourceReader):
                reader.clock = max(reader.clock, until_ms)
        for step in self.flow.steps:
            step.operator.advance_clock(until_ms)
        self.flow.run({})

    @property
    def ended_run(self) -> int:
        """The run whose end this task has reached; 0: none."""
        return self._ended_run

    def watermark(self) -> int:
        """The smallest watermark of the inputs that are not idle; NEVER when all are."""
        found = min(reader.watermark() for reader in self.readers.values())
        return NEVER if found == FOREVER else found

    def wake(self, reader: SourceReader) -> None:
        """An input that was left out as idle goes on; what closed without it stays closed: its records may be late."""
        nodes = [self._nodes[reader.partition]]
        reader.wake(self.flow.closed_below(nodes))
        for step in self.flow.steps:
            if any(port.node in nodes for port, _ in step.parents):
                nodes.append(step.node.id)
                if step.operator.retimes:
                    step.operator.advance_clock(self.flow.closed_below([step.node.id]))

    def seal(self) -> Sealed:
        """Everything of the epoch; what comes from here on belongs to the next."""
        self._remember()
        self.dirty = False
        changes: dict[bytes, bytes | None] = {}
        for table in self._tables():
            changes.update(table.seal())
        for reader in self.readers.values():  # whoever has the task next may not know it from any state
            if isinstance(reader, SourceReader) and reader.idle:
                reader.leave_behind(self.flow.closed_below([self._nodes[reader.partition]]))
        positions = {reader.partition: (reader.position, reader.metadata()) for reader in self.readers.values()}
        return Sealed(self._outputs.take(), self._marks(), changes, positions, self._ended_run)

    def settle(self, sealed: Sealed, changelog_position: int | None, *, cache_bytes: int, now_ms: int) -> None:
        """The epoch is committed: bring the store up to it. The position is None when it had no changes."""
        if self._store is not None:
            if changelog_position is not None:
                settle(self._store, sealed.changes, changelog_position, now_ms=now_ms)
            tables = self._tables()
            sizes = [table.cached_bytes for table in tables]
            share = min(1.0, cache_bytes / max(1, sum(sizes)))
            for table, size in zip(tables, sizes, strict=True):
                table.settle(int(size * share))
        self._settled_records = {partition: reader.records for partition, reader in self.readers.items()}

    def abort(self) -> None:
        """Drop the epoch: tables, operators and vectors are as the store has them. To place readers is the caller's."""
        self._outputs.take()
        self._said.clear()
        self._ended_run = 0
        self.reading = None
        self.flow.late.clear()
        self.skipped.clear()
        self.take_alarms()
        for partition, reader in self.readers.items():
            reader.records = self._settled_records[partition]
        for table in self._tables():
            table.abort()
        self._reopen()

    def beyond(self, at_ms: int) -> list[tuple[str, int]]:
        """What this task knows of time that is beyond the instant: (what, its time)."""
        sources = [reader for reader in self.readers.values() if isinstance(reader, SourceReader)]
        clocks = [(f"clock of {r.partition.topic}/{r.partition.number}", r.clock) for r in sources]
        watermarks = [
            (f"watermark of {step.node.name} in {self.id.stage}/{self.id.number}", step.operator.watermark)
            for step in self.flow.steps
            if step.operator.stateful or step.operator.retimes
        ]
        return [(what, ms) for what, ms in (*clocks, *watermarks) if at_ms < ms < FOREVER]

    def set_back(self, to_ms: int) -> None:
        """Nothing that it knows of time is beyond the instant; what was closed by then is gone all the same."""
        self.dirty = True
        for reader in self.readers.values():
            reader.set_back(to_ms)
        for step in self.flow.steps:
            for attribute in step.operator.remembers:
                setattr(step.operator, attribute, min(getattr(step.operator, attribute), to_ms))

    def repeat_marks(self) -> None:
        """Say everything again with the next epoch, for a reader that may have missed it."""
        self.dirty = self.dirty or bool(self._feeds)
        self._said.clear()

    def close(self) -> None:
        """Give the store back."""
        if self._store is not None:
            self._store.close()

    @property
    def records(self) -> int:
        """How many it has read since it was opened, those of the open epoch too; marks are none."""
        return sum(reader.records for reader in self.readers.values())

    @property
    def output_count(self) -> int:
        """How many records the open epoch has written so far."""
        return self._outputs.count

    @property
    def output_bytes(self) -> int:
        """What they take up, about."""
        return self._outputs.size_bytes

    def take_alarms(self) -> list[tuple[str, int]]:
        """Where the law of time was broken since the last call: (what, how many records)."""
        found = []
        for step in self.flow.steps:
            assert step.context is not None, "the task is open"
            alarms = step.context.alarms
            found += [(f"{step.node.name}: {what}", count) for what, count in alarms]
            alarms.clear()
        return found

    def reads_source(self, partition: Partition) -> bool:
        """Whether a partition of its input is one of a source topic."""
        return isinstance(self.readers[partition], SourceReader)

    def _tables(self) -> list[Table[Any]]:
        tables = [table for step in self.flow.steps for table in step.tables.values()]
        return tables if self._facts is None else [self._facts, *tables]

    def _marks(self) -> dict[str, Mark]:
        """What has to be said to those that read what this task writes."""
        outs: dict[int, Step] = {}
        for step in self.flow.steps:  # not all of them flowed since the task was opened or rolled back
            idle = self.flow.watermark_of(outs, [port for port, _ in step.parents]) == FOREVER
            step.out = FOREVER if idle else step.operator.passes_on()
            outs[step.node.id] = step
        marks = {}
        for feed in self._feeds:
            watermark = self.flow.watermark_of(outs, feed.ports)
            known = self._said.get(feed.topic)
            if self._ended_run:
                flag = ENDED
            else:
                flag = IDLE if watermark == FOREVER else ACTIVE
            if watermark == FOREVER:
                watermark = known.watermark if known else NEVER
            last = self._last[feed.topic] if self._ended_run else NEVER
            mark = Mark(self.id.stage, self.id.number, watermark, flag, self._ended_run, last)
            if mark != known:
                marks[feed.topic] = self._said[feed.topic] = mark
        return marks

    def _last_of(self, feed: Feed) -> int:
        """How far time has gone in what feeds a topic, behind the last flow; NEVER: nothing came."""
        return self.flow.last_watermark({step.node.id: step for step in self.flow.steps}, feed.ports)


def _singles(chunk: Chunk) -> Iterator[tuple[int, Chunk]]:
    """The records of a chunk, each as a chunk of its own."""
    for i in range(len(chunk.offsets)):
        yield i, chunk.cut(i, i + 1)


def _changed(task: TaskId, what: str, way_back: str) -> str:
    return (
        f"the store of task {task.stage}/{task.number} {what}. {way_back}, run this version under another App name, or "
        "forget the state of the whole app with: streamproc reset MODULE:APP"
    )
