"""Step: an operator at work in a task, with its tables and what it is opened with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from streamproc.graph import Node, Port
from streamproc.operators.batch import NEVER
from streamproc.operators.operator import Operator
from streamproc.state.table import Table


class Failure(msgspec.Struct, frozen=True):
    """A step failed: what the error policy decides on.

    value     what the step was given; None where it closed
    closing   it failed on what it closed (a window, a timer), so the record being read is not to blame
    """

    node: Node
    key: Any
    value: Any
    timestamp: int
    cause: BaseException
    closing: bool = False


class Step:
    """An operator at work in a task."""

    __slots__ = ("context", "node", "operator", "out", "parents", "tables")

    def __init__(self, node: Node, operator: Operator, parents: Sequence[tuple[Port, int]]) -> None:
        self.node = node
        self.operator = operator
        self.parents = parents
        """Whose rows it takes, and as which side; only parents in this stage."""
        self.context: Context | None = None
        """What the operator is opened with; set when the task opens."""
        self.tables: dict[str, Table[Any]] = {}
        self.out = NEVER
        """The watermark that holds for its rows; FOREVER while all its inputs are idle."""

    def reopen(self) -> None:
        """The operator begins from what its tables and attributes now say."""
        assert self.context is not None, f"{self.node.name}: the task is not open"
        self.operator.late = None
        self.operator.open(self.context)


class Context:
    """What an operator is opened with (`streamproc.operators.Context`)."""

    def __init__(
        self,
        step: Step,
        task: int,
        *,
        floor: int,
        keeps_origins: bool,
        ahead_ms: int,
        make_table: Callable[[str, bool], Table[Any]],
    ) -> None:
        self.task = task
        self.node = step.node.id
        self.floor = floor
        self.keeps_origins = keeps_origins
        self.ahead_ms = ahead_ms
        self.alarms: list[tuple[str, int]] = []
        self._step = step
        self._make_table = make_table

    def table(self, name: str = "", *, timed: bool = False) -> Table[Any]:
        """The operator's table of this name; the same object each time it is opened."""
        table = self._step.tables.get(name)
        if table is None:
            full = f"{self._step.node.name}/{name}" if name else self._step.node.name
            table = self._step.tables[name] = self._make_table(full, timed)
        return table

    def alarm(self, what: str, count: int) -> None:
        """Remember that records which are not late met something closed."""
        self.alarms.append((what, count))
