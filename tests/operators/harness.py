"""Drives one operator as a task does: rows in batches, watermarks, epochs, aborts, restarts; its outputs are data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from hypothesis import strategies as st

from streamproc.operators.batch import FOREVER, NEVER, Batch
from streamproc.operators.operator import CloseError, Operator
from streamproc.state.codec import Codec
from streamproc.state.memory import MemoryStore
from streamproc.state.table import Table

NODE, TASK = 7, 3


class Row(NamedTuple):
    """A row in or out. Rows in tell the clock of their partition (origin[1]) at their time of reading."""

    key: Any
    value: Any
    timestamp: int
    clock: int | None = None
    origin: tuple[Any, ...] | None = None
    side: int = 0


class Step(NamedTuple):
    """So many rows in one batch; then the watermark closes, or lags; then the epoch or the task ends.

    after   "", "savepoint", "seal", "settle" (all sealed), "trim" (settle with an empty cache), "restart" (settle,
            then a new operator on the same store) or "abort" (back to the last settled epoch, to go on from there)
    """

    rows: int
    closes: bool = True
    after: str = ""


AFTER = ("savepoint", "seal", "settle", "trim", "restart", "abort")
STEPS = st.lists(st.builds(Step, st.integers(1, 12), st.booleans(), st.sampled_from(("", "", *AFTER))), max_size=40)
"""Schedules: what remains of the input after the last step comes as one batch."""


@dataclass
class Outcome:
    """What an operator gave: `rows` in order, `late` in order, `alarms` as it said them."""

    rows: list[Row] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    alarms: list[tuple[str, int]] = field(default_factory=list)

    def values(self) -> list[Any]:
        """The values of the rows."""
        return [row.value for row in self.rows]


def partition(records: Iterable[tuple[Any, Any, int]], number: int = 0, *, side: int = 0) -> list[Row]:
    """(key, value, timestamp) records of a source partition as a reader gives them: with its clock and their origin."""
    rows, clock = [], NEVER
    for offset, (key, value, timestamp) in enumerate(records):
        clock = max(clock, timestamp)
        rows.append(Row(key, value, timestamp, clock, (side, number, offset), side))
    return rows


def interleaved(partitions: Sequence[Sequence[Row]], order: Sequence[int]) -> list[Row]:
    """All rows of the partitions, each in its own order; `order` says which (modulo what is left) comes next."""
    left = [list(rows) for rows in partitions if rows]
    found: list[Row] = []
    for choice in order:
        if left:
            rows = left[choice % len(left)]
            found.append(rows.pop(0))
            left = [rows for rows in left if rows]
    return found + [row for rows in left for row in rows]


class Context:
    """What a task opens an operator with; tables over one memory store."""

    def __init__(self, store: MemoryStore, *, keeps_origins: bool, floor: int) -> None:
        self.task, self.node = TASK, NODE
        self.keeps_origins = keeps_origins
        self.floor = floor
        self.ahead_ms = FOREVER
        self.tables: dict[str, Table[Any]] = {}
        self.alarms: list[tuple[str, int]] = []
        self._store = store

    def table(self, name: str = "", *, timed: bool = False) -> Table[Any]:
        if name not in self.tables:
            self.tables[name] = Table(self._store, f"step/{name}", Codec(), timed=timed)
        return self.tables[name]

    def alarm(self, what: str, count: int) -> None:
        self.alarms.append((what, count))


class Driver:
    """An operator in a task. Watermark of a side: the smallest clock of its partitions, as far as they were read.

    Checks on every call what each operator owes: batches stay as they are, no row without a clock lies behind the
    watermark that was passed on before.
    """

    def __init__(self, operator: Operator, *, keeps_origins: bool = True, floor: int | None = None) -> None:
        self.described = operator
        self.outcome = Outcome()
        self.store = MemoryStore()
        self.floor = min(operator.graces, default=FOREVER) if floor is None else floor
        self.keeps_origins = keeps_origins
        self.epochs: list[dict[bytes, bytes | None]] = []
        self.position = 0
        self.start()

    # ------------------------------------------------------------------------------------ life of a task

    def start(self, remembered: dict[str, int] | None = None) -> None:
        """A new operator on what the store has."""
        self.operator = copy(self.described)
        self.context = Context(self.store, keeps_origins=self.keeps_origins, floor=self.floor)
        self.reopen(remembered)

    def reopen(self, remembered: dict[str, int] | None = None) -> None:
        """Open again, as after a rollback."""
        for name, value in (remembered or {}).items():
            setattr(self.operator, name, value)
        self.operator.late = None
        self.operator.open(self.context)

    def remembered(self) -> dict[str, int]:
        """What the engine saves of the operator beside its tables."""
        return {name: getattr(self.operator, name) for name in self.operator.remembers}

    def savepoint(self) -> None:
        for table in self.context.tables.values():
            table.savepoint()

    def seal(self) -> None:
        changes: dict[bytes, bytes | None] = {}
        for table in self.context.tables.values():
            changes.update(table.seal())
        self.epochs.append(changes)

    def settle(self, *, limit_bytes: int = 1 << 30) -> None:
        """Seal what is open, bring the store up to all of it."""
        self.seal()
        for changes in self.epochs:
            self.position += 1
            self.store.write(changes, self.position)
            for table in self.context.tables.values():
                table.settle(limit_bytes)
        self.epochs.clear()

    def restart(self) -> None:
        """Everything is committed, then another process takes over."""
        self.settle()
        self.outcome.alarms += self.context.alarms
        self.start(self.remembered())

    def abort(self, remembered: dict[str, int]) -> None:
        """Back to the last settled epoch; the caller knows what the operator remembered then."""
        self.epochs.clear()
        for table in self.context.tables.values():
            table.abort()
        self.reopen(remembered)

    def undo(self, remembered: dict[str, int]) -> None:
        """Back to the last savepoint, as after a failure of a user's function."""
        for table in self.context.tables.values():
            table.rollback()
        self.reopen(remembered)

    # ------------------------------------------------------------------------------------ rows and time

    def process(self, rows: Sequence[Row]) -> None:
        """The rows as batches, one for each run of rows of one side."""
        for side, group in groupby(rows, key=lambda row: row.side):
            batch = self.batch(list(group))
            before = repr(batch)
            given = self.operator.process(batch, side)
            assert repr(batch) == before, "an operator changes no batch it was given"
            self._take(given)
            if self.operator.late is not None:
                self.outcome.late += rows_of(self.operator.late)
                self.operator.late = None

    def batch(self, rows: Sequence[Row]) -> Batch:
        """Columns, sparse as a reader makes them: clocks only of rows behind them by more than the floor."""
        behind = [r.clock if r.clock is not None and r.clock - r.timestamp > self.floor else None for r in rows]
        return Batch(
            [row.key for row in rows],
            [row.value for row in rows],
            [row.timestamp for row in rows],
            None if all(clock is None for clock in behind) else behind,
            [row.origin or () for row in rows] if self.keeps_origins else None,
        )

    def close(self, watermark: int) -> None:
        """What a risen watermark closes; a CloseError is undone, its unit discarded (policy: skip)."""
        if watermark <= self.operator.watermark:
            return
        while True:
            kept = self.remembered()
            self.savepoint()
            try:
                given = self.operator.close(watermark)
            except CloseError as error:
                self.undo(kept)
                self.operator.discarded |= {error.unit}
            else:
                break
        self.operator.discarded = frozenset()
        self._take(given)
        if watermark < FOREVER:
            self.operator.watermark = watermark

    def end(self) -> None:
        """The input ends: what is open closes, clocks and watermark stay."""
        self.close(FOREVER)
        self.operator.ended_to = max(self.operator.ended_to, self.operator.reach)

    def _take(self, batch: Batch) -> None:
        rows = rows_of(batch)
        if not self.operator.record_wise:
            held_to = self.operator.passes_on()
            behind = [row for row in rows if row.clock is None and row.timestamp < held_to]
            assert not behind, f"rows behind the watermark {held_to} that was passed on: {behind}"
        self.outcome.rows += rows


def rows_of(batch: Batch) -> list[Row]:
    """A batch as rows."""
    nothing = [None] * len(batch)
    columns = zip(
        batch.keys, batch.values, batch.timestamps, batch.clocks or nothing, batch.origins or nothing, strict=True
    )
    return [Row(*row) for row in columns]


def run(
    operator: Operator,
    rows: Sequence[Row],
    steps: Sequence[Step] = (),
    *,
    end: bool = True,
    keeps_origins: bool = True,
    floor: int | None = None,
) -> Outcome:
    """What the operator gives for the rows when a task goes by these steps; with `end` the input ends with them."""
    driver = Driver(operator, keeps_origins=keeps_origins, floor=floor)
    clocks = {row.origin[:2]: NEVER for row in rows if row.origin}
    at, settled = 0, _Settled(driver, 0, clocks)
    schedule = iter(steps)
    while at < len(rows):
        step = next(schedule, Step(len(rows)))
        taken = rows[at : at + step.rows]
        at += len(taken)
        driver.process(taken)
        clocks.update({row.origin[:2]: row.clock for row in taken if row.origin and row.clock is not None})
        if step.closes:
            driver.close(min(clocks.values()))
        if step.after in ("savepoint", "seal"):
            getattr(driver, step.after)()
        elif step.after == "abort":
            at, clocks = settled.again(driver)
        elif step.after:
            driver.settle(limit_bytes=0) if step.after == "trim" else getattr(driver, step.after)()
            settled = _Settled(driver, at, clocks)
    if end:
        driver.end()
    driver.outcome.alarms += driver.context.alarms
    return driver.outcome


def same(got: Outcome, expected: Outcome) -> None:
    """What was given is what the oracle gives, without an alarm; of late records it knows the origin alone."""
    assert got.alarms == []
    assert got.rows == expected.rows
    assert [row.origin for row in got.late] == [row.origin for row in expected.late]


def run_twice(operator: Operator, rows: Sequence[Row], ended_at: int) -> Outcome:
    """What the operator gives when the input ends behind so many rows of one partition, and again behind them all.

    Rows come one by one; each moves the watermark.
    """
    driver = Driver(operator)
    for some in (rows[:ended_at], rows[ended_at:]):
        for row in some:
            driver.process([row])
            assert row.clock is not None
            driver.close(row.clock)
        driver.end()
        driver.restart()
    return driver.outcome


def kept(operator: Operator, rows: Sequence[Row]) -> tuple[bool, bool]:
    """Whether the store has anything when the rows were taken one by one, and when all of them are of the past."""
    driver = Driver(operator)
    for row in rows:
        driver.process([row])
    driver.settle(limit_bytes=0)
    before = any(driver.store.scan(b"", b"\xff" * 9))
    driver.close(1 << 60)
    driver.settle()
    return before, any(driver.store.scan(b"", b"\xff" * 9))


class _Settled:
    """Where a task stood when its last epoch was settled."""

    def __init__(self, driver: Driver, at: int, clocks: dict[tuple[Any, ...], int]) -> None:
        self._at, self._clocks = at, dict(clocks)
        self._remembered = driver.remembered()
        self._counts = len(driver.outcome.rows), len(driver.outcome.late)

    def again(self, driver: Driver) -> tuple[int, dict[tuple[Any, ...], int]]:
        """Abort to here; gives the position and the clocks to go on from."""
        driver.abort(self._remembered)
        rows, late = self._counts
        del driver.outcome.rows[rows:], driver.outcome.late[late:]
        return self._at, dict(self._clocks)
