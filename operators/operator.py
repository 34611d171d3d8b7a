"""The Operator protocol: what a step of a stage is, to the engine that runs it and to whoever writes one.

An operator is described once, when the app is defined, and runs many times, once in each task: the
engine copies the described object for a task (`copy.copy`), then calls `open`. So `__init__` takes the
configuration and `open` makes the state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from streamproc.operators.batch import EMPTY, FOREVER, NEVER, Batch
from streamproc.state.table import Table


class Context(Protocol):
    """What the engine gives to an operator when it opens it in a task."""

    @property
    def task(self) -> int:
        """The task's number: the partition that it reads of each of its topics."""

    @property
    def node(self) -> int:
        """The operator's number in the plan; first item of the origins it makes."""

    @property
    def keeps_origins(self) -> bool:
        """Whether batches carry origins, because a verb of the plan sorts by them."""

    @property
    def floor(self) -> int:
        """A row needs its clock when it is behind it by more than this many ms; FOREVER: none does."""

    def table(self, name: str = "", *, timed: bool = False) -> Table[Any]:
        """The state table of this operator and task; an operator with several names them.

        `timed=True`: the outer keys are instants (int), which `Table.due` lists in order.
        """

    @property
    def ahead_ms(self) -> int:
        """How far an event time may lie beyond the one that the record came with."""

    def alarm(self, what: str, count: int) -> None:
        """Say loudly that the law of time was broken: records that are not late met something closed."""


class Operator:
    """A step: rows in, rows out, and what the watermark closes.

    The engine calls `process` with the rows of one input side (0, or 1 for the right side of two),
    then, when the watermark has risen, `close`. Both give the rows that go on. It calls from one
    thread, never concurrently, and there is no clock, await, log or I/O in here but reading state.

    Class attributes or attributes set in `__init__` say what the plan must know:

    graces        one grace period in ms for each side on which the operator decides whether a record is
                  late; empty when it decides none
    hold          it passes on a watermark held back by so much (design: by how far its outputs may lie behind)
    keyed         needs a key: the plan re-keys before it, a record without a key is an error of that record
    stateful      keeps tables (so its task has a store)
    sorts         orders records by (timestamp, origin): the plan makes sources give origins
    dense_clock   needs the clock of every record (event-time timers on arrival order)
    record_wise   passes records on as records, with their clock; False: what it passes on cannot be late
    closes_on     a side: may the end of the input close something of it here
    retimes       it gives its rows other event times, and has the clock of those (`advance_clock`)
    signature     what must not change while there is state of it; compared at start
    """

    graces: tuple[int, ...] = ()
    hold: int = 0
    keyed: bool = False
    stateful: bool = False
    sorts: bool = False
    dense_clock: bool = False
    record_wise: bool = True
    closes_on: tuple[bool, ...] = (True, True)
    retimes: bool = False
    signature: Mapping[str, Any] = {}

    remembers: tuple[str, ...] = ("watermark", "reach", "ended_to")
    """Attributes (int) that the engine saves with the epoch and sets again before `open`."""

    watermark: int = NEVER
    """The watermark up to which this operator has closed. Set by the engine after `close`."""
    reach: int = NEVER
    """The largest timestamp (fixed windows: end - 1) taken in on a side that the end of the input closes."""
    ended_to: int = NEVER
    """What is at or below it was closed by the end of an earlier input: a record for it is late."""

    end_time: int = NEVER
    """How far time has gone anywhere in the input; set before `close(FOREVER)`, for timers alone: state, which a later
    run needs, goes by the watermark."""

    discarded: frozenset[Any] = frozenset()
    """Units that `CloseError`s have named and the policy skips: `close`, called again, ends them without a row."""

    late: Batch | None = None
    """Records found late by the last `process`, each once; the engine counts them and passes them on as `late`."""

    def open(self, context: Context) -> None:
        """Called once in a task before anything else, and again after the task's state was rolled back."""

    def process(self, batch: Batch, side: int = 0) -> Batch:
        """The rows that go on for the rows that came."""
        raise NotImplementedError

    def close(self, watermark: int) -> Batch:
        """The rows of what `watermark` closes; `self.watermark` is the one before. FOREVER: the input ended."""
        return EMPTY

    def advance_clock(self, until_ms: int) -> None:
        """Event time goes on to an instant without records; for an operator that `retimes`."""

    def take_sent(self) -> Sequence[Any]:
        """What the last call sent to topics aside; given once.

        Rows with topic, key, value, timestamp, and `closing`: (unit, key) where what closed sent it, else None. One
        that cannot be written is then a `CloseError` of that unit.
        """
        return ()

    def passes_on(self) -> int:
        """The watermark that holds for the rows this operator gives."""
        return self.watermark - self.hold if NEVER < self.watermark < FOREVER else self.watermark


class CloseError(Exception):
    """A user function failed on one unit of what closes (a window, a timer); its cause is the function's error.

    Raised by `close`, and by `process` where a record makes something close before it.

    unit       a name for what failed, hashable; comes back in `Operator.discarded`
    key        the key of the row
    timestamp  the row's timestamp in ms
    """

    def __init__(self, unit: Any, key: Any, timestamp: int) -> None:
        super().__init__(f"key {key!r}, timestamp {timestamp}")
        self.unit = unit
        self.key = key
        self.timestamp = timestamp
