"""What came of a run: what its topics hold, and whether that is the oracle's answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamproc import App
from streamproc.launch import Launch
from streamproc.log import Columns, Partition
from streamproc.operators.running import Running
from streamproc.state.keys import key_of
from streamproc.state.memory import MemoryStore
from streamproc.state.table import Table
from tests.law.oracle import Answer
from tests.law.plans import Spec

Counts = tuple[Mapping[str, int], Mapping[str, int]]


class Seen:
    """Topics after a run.

    read     all committed records of a partition
    alarms   what the engine said of a broken law
    counts   late and skipped records by step; None: workers were killed that had counted some
    """

    def __init__(
        self,
        spec: Spec,
        app: App,
        launch: Launch,
        read: Callable[[Partition], Columns],
        *,
        alarms: Sequence[str],
        counts: Counts | None,
    ) -> None:
        self.spec = spec
        self.app = app
        self.alarms = alarms
        self.counts = counts
        self._launch = launch
        self._read = read

    def rows(self, n: int) -> dict[tuple[int, bytes | None], list[tuple[bytes | None, int]]]:
        """What an output topic received: by partition and key, (value, timestamp) in order."""
        found: dict[tuple[int, bytes | None], list[tuple[bytes | None, int]]] = defaultdict(list)
        for number in range(self._launch.partitions_of(f"out-{n}")):
            columns = self._read(Partition(f"out-{n}", number))
            for key, value, ts in zip(columns.keys, columns.values, columns.timestamps, strict=True):
                found[number, key].append((value, ts))
        return dict(found)

    def table(self, n: int) -> dict[Any, Any]:
        """The rows of a running aggregate by (task, key), from the changelog alone."""
        node = next(node for node in self.app.plan.nodes if node.step == f"n{n}")
        assert isinstance(node.kind, Running)
        stage = self._launch.plan.stage_of[node.id]
        found = {}
        for task in range(self._launch.topology.tasks[stage.name]):
            store = MemoryStore()
            columns = self._read(Partition(self._launch.plan.changelog_of(stage), task))
            for key, value in zip(columns.keys, columns.values, strict=True):
                store.write({key or b"": value}, 0)
            rows = Table[Any](store, node.name, self.app.codec()).whole()
            found.update({(task, key_of(key)): node.kind.aggregate.result(held) for key, held in rows.items()})
        return found


def differs(seen: Seen, answer: Answer) -> str:
    """'' where a run gave the answer, else what differed first."""
    spec = seen.spec
    if seen.alarms:
        return f"alarm: {seen.alarms[0]}"
    for n, expected in answer.rows.items():
        if what := _rows_differ(spec, n, expected, seen.rows(n)):
            return what
    for n, table in answer.tables.items():
        if spec.ordered(n) and seen.table(n) != table:
            return f"table of n{n}: {seen.table(n)} is not {table}"
    if seen.counts is not None:
        for what, by_node, got in zip(("late", "skipped"), (answer.late, answer.skipped), seen.counts, strict=True):
            wanted = {_step(spec, n): count for n, count in by_node.items()}
            if wanted != dict(got):
                return f"{what} records: {dict(got)} are not {wanted}"
    return ""


def _rows_differ(spec: Spec, n: int, expected: Mapping[Any, Any], got: Mapping[Any, Any]) -> str:
    name = f"{spec.nodes[n].kind} n{n}"
    if expected.keys() != got.keys():
        return f"keys of {name}: {sorted(map(str, got))} are not {sorted(map(str, expected))}"
    for place, rows in expected.items():
        wanted = [(value, ts) for _, value, ts in rows]
        if Counter(wanted) != Counter(got[place]):
            more, fewer = Counter(got[place]) - Counter(wanted), Counter(wanted) - Counter(got[place])
            return f"rows of {name} at {place}: too many {dict(more)}, missing {dict(fewer)}"
        if spec.ordered(n) and len({task for task, _, _ in rows}) == 1 and wanted != got[place]:
            return f"order of {name} at {place}: {got[place]} is not {wanted}"
    return ""


def _step(spec: Spec, n: int) -> str:
    """The engine's name of a node."""
    step = f"n{n + 2}-partial" if spec.nodes[n].kind == "partial" else f"n{n}"
    return f"f{spec.nodes[n].function}.{step}"
