"""What a plan's answer is: the verbs as functions of whole inputs, straight from their definitions.

There is no batch, epoch, slice, hold-back or sparse clock in here. A watermark is known only as what it is when the
input has ended, for the timers that it fires then.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from streamproc import App, Item, Previous, Record, Top, WindowResult
from streamproc.murmur2 import partition_of
from streamproc.operators.operator import Operator
from streamproc.state.keys import encode_key
from streamproc.wire_key import encode_key as wire_key
from tests.law.plans import Node, Spec, classified, grouped, kept, keyed, mapped, moved, parts
from tests.law.values import AGGREGATES, Poison, code

BEFORE_ALL = -(1 << 62)
AFTER_ALL = 1 << 62
"""The watermark of an input that a task does not have: it holds nothing back."""


class Row(NamedTuple):
    """clock: of its source partition when it was read; None: it cannot be late."""

    key: Any
    value: Any
    ts: int
    clock: int | None
    origin: tuple[Any, ...]

    @property
    def place(self) -> tuple[int, tuple[Any, ...]]:
        """Where it stands in order."""
        return self.ts, self.origin


class Input(NamedTuple):
    """A record of a source: what it is to users, and its event time."""

    key: Any
    value: Any
    ts: int


class Answer(NamedTuple):
    """What came out.

    rows     of each output topic by (partition, key): (task, value, timestamp), as on the wire, in order
    late     late records by node
    skipped  records and results on which a function failed, by node
    tables   of each running aggregate by key
    """

    rows: Mapping[int, Mapping[tuple[int, bytes | None], Sequence[tuple[int, bytes | None, int]]]]
    late: Mapping[int, int]
    skipped: Mapping[int, int]
    tables: Mapping[int, Mapping[Any, Any]]


class _Memory:
    """What an operator of a task keeps from run to run."""

    def __init__(self) -> None:
        self.clock = BEFORE_ALL
        self.watermark = BEFORE_ALL
        self.fires_to = BEFORE_ALL
        self.position = 0
        self.reach = BEFORE_ALL
        self.ended_to = BEFORE_ALL
        self.keys: dict[Any, Any] = {}


class Oracle:
    """Runs a specification on whole inputs, run after run."""

    def __init__(self, spec: Spec, app: App, inputs: Mapping[int, Sequence[Sequence[Input]]]) -> None:
        self.spec = spec
        self.app = app
        self.inputs = inputs
        self.partitions: dict[int, int] = {}
        self.tasks = self._count_tasks()
        self.order = self._numbers()
        self.memory: dict[tuple[int, int], _Memory] = defaultdict(_Memory)
        self.given: dict[int, list[tuple[int, Row]]] = defaultdict(list)
        self.late: Counter[int] = Counter()
        self.skipped: Counter[int] = Counter()
        self._rows: dict[int, list[list[Row]]] = {}
        self._late_rows: dict[int, list[list[Row]]] = {}
        self._watermarks: dict[int, list[int]] = {}
        self._lasts: dict[int, list[int]] = {}
        """How far time has gone anywhere in the input: the end of it fires timers up to there."""

    # ------------------------------------------------------------------------------------ which task

    def _count_tasks(self) -> list[int]:
        """How many tasks run each node: as many as the widest topic that its stage reads has partitions."""
        nodes = self.spec.nodes
        stage = list(range(len(nodes)))
        for n, node in enumerate(nodes):
            for parent in () if node.kind in ("source", "rekey", "chain") else node.parents:
                joined, gone = stage[n], stage[parent]
                stage = [joined if s == gone else s for s in stage]
        tasks: dict[int, int] = {}
        reads: dict[int, list[int]] = defaultdict(list)
        for n, node in enumerate(nodes):
            if node.kind in ("source", "rekey", "chain"):
                reads[stage[n]].append(n)
        waiting = list(reads)
        while waiting:
            ready = next(s for s in waiting if all(stage[p] in tasks for n in reads[s] for p in nodes[n].parents))
            waiting.remove(ready)
            for n in reads[ready]:
                given = 1 if nodes[n].args.get("to") == "one" else nodes[n].args.get("partitions")
                self.partitions[n] = given or max(tasks[stage[p]] for p in nodes[n].parents)
            tasks[ready] = max(self.partitions[n] for n in reads[ready])
        return [tasks[s] for s in stage]

    def _numbers(self) -> dict[int, int]:
        """The plan's number of each node, first item of origins: any fixed order of the verbs is a good one."""
        by_step = {node.step: node.id for node in self.app.plan.nodes if isinstance(node.kind, Operator)}
        sources = {node.stream: node.id for node in self.app.plan.nodes if node.step == "source"}
        found = {}
        for n, node in enumerate(self.spec.nodes):
            if node.kind == "source":
                found[n] = sources[f"source-{n}"]
            elif node.kind == "partial":
                found[n] = by_step[f"n{n + 2}-partial"]
            else:
                found[n] = by_step.get(f"n{n}", -1)
        return found

    def _task_of(self, key: Any, task: int, partitions: int) -> int:
        data = wire_key(key)
        return task % partitions if data is None else partition_of(data, partitions)

    # ------------------------------------------------------------------------------------ a run

    def run(self, limits: Mapping[int, Sequence[int]]) -> None:
        """The sources grow to so many records in each partition; then the input ends."""
        for n, node in enumerate(self.spec.nodes):
            count = self.tasks[n]
            if node.kind == "source":
                self._rows[n] = [self._read(n, task, limits[n]) for task in range(count)]
                clocks = [self.memory[n, task].clock for task in range(count)]
                self._watermarks[n] = [*clocks[: self.partitions[n]], *[AFTER_ALL] * (count - self.partitions[n])]
                self._lasts[n] = [w if w < AFTER_ALL else BEFORE_ALL for w in self._watermarks[n]]
            elif node.kind in ("rekey", "chain"):
                self._through_topic(n, node)
            else:
                found = [self._task(n, node, task) for task in range(count)]
                columns = map(list, zip(*found, strict=True))
                self._rows[n], self._late_rows[n], self._watermarks[n], self._lasts[n] = columns
            self.given[n] += [(task, row) for task, rows in enumerate(self._rows[n]) for row in rows]

    def _read(self, n: int, task: int, limits: Sequence[int]) -> list[Row]:
        if task >= self.partitions[n]:
            return []
        memory, rows = self.memory[n, task], []
        for offset in range(memory.position, limits[task]):
            record = self.inputs[n][task][offset]
            memory.clock = max(memory.clock, record.ts)
            rows.append(Row(record.key, record.value, record.ts, memory.clock, (self.order[n], task, offset)))
        memory.position = max(memory.position, limits[task])
        return rows

    def _through_topic(self, n: int, node: Node) -> None:
        rows: list[list[Row]] = [[] for _ in range(self.tasks[n])]
        for side, parent in enumerate(node.parents):
            for task, some in enumerate(self._rows[parent]):
                for row in some:
                    moved_row = self._wired(n, node, row)
                    if len(node.parents) > 1:
                        moved_row = moved_row._replace(origin=(*row.origin, side))
                    rows[self._task_of(moved_row.key, task, self.partitions[n])].append(moved_row)
        self._rows[n] = rows
        have, rest = self.partitions[n], self.tasks[n] - self.partitions[n]
        edges = [w for parent in node.parents for w in self._watermarks[parent] if w < AFTER_ALL]
        self._watermarks[n] = [min(edges, default=AFTER_ALL)] * have + [AFTER_ALL] * rest
        last = max(w for parent in node.parents for w in self._lasts[parent])
        self._lasts[n] = [last] * have + [BEFORE_ALL] * rest

    def _wired(self, n: int, node: Node, row: Row) -> Row:
        if node.kind == "rekey":
            return row._replace(key=None) if node.args["to"] == "one" else row
        topic = self.app.topics[f"chain-{n}"]
        (key,), (value,) = topic.decode_keys([wire_key(row.key)]), topic.decode_values(topic.encode_values([row.value]))
        return row._replace(key=key, value=value)

    def _task(self, n: int, node: Node, task: int) -> tuple[list[Row], list[Row], int, int]:
        """The rows that a node gives in a task, those it found late, and the watermark behind it at the end."""
        source = self._late_rows if node.kind == "late" else self._rows
        parents = node.parents
        given = [(row, side) for side, parent in enumerate(parents) for row in source[parent][task]]
        if node.kind == "late":  # the watermark before the verb that found them late
            parents = self.spec.nodes[parents[0]].parents
        watermark = min(self._watermarks[parent][task] for parent in parents)
        last = max(self._lasts[parent][task] for parent in parents)
        memory = self.memory[n, task]
        if watermark < AFTER_ALL:
            memory.watermark = max(memory.watermark, watermark)
        memory.fires_to = last = max(memory.watermark, last)
        taken, late = self._judged(n, node, memory, given)
        rows = list(getattr(self, f"_{node.kind}")(n, node, task, taken))
        memory.ended_to = max(memory.ended_to, memory.reach)
        if node.kind == "with_timestamp":
            watermark = memory.clock if watermark < AFTER_ALL else watermark
            last = memory.clock
        else:
            watermark -= self._held_back(node) if BEFORE_ALL < watermark < AFTER_ALL else 0
            last -= self._held_back(node) if last > BEFORE_ALL else 0
        return rows, late, watermark, last

    def _held_back(self, node: Node) -> int:
        ticks: int = node.args.get("grace", 0) + (node.args["gap"] if node.kind == "session" else 0)
        return ticks * self.spec.tick_ms

    # ------------------------------------------------------------------------------------ lateness

    def _judged(
        self, n: int, node: Node, memory: _Memory, given: Sequence[tuple[Row, int]]
    ) -> tuple[list[tuple[Row, int]], list[Row]]:
        """What a node takes (fixed windows: with the end of the one that takes it), and what is late, each once."""
        if node.kind not in ("window", "session", "in_order", "deduplicate", "partial", "top"):
            return list(given), []
        grace = 0 if node.kind in ("partial", "top") else node.args["grace"] * self.spec.tick_ms
        taken: list[tuple[Row, int]] = []
        late: list[Row] = []
        for row, side in given:
            if node.kind == "window":
                ends = list(self._ends(node, row.ts))
                on_time = [
                    e
                    for e in ends
                    if not (row.clock is not None and e + grace <= row.clock or e - 1 <= memory.ended_to)
                ]
                taken += [(row, end) for end in on_time]
                if len(on_time) < len(ends):
                    late.append(row)
                memory.reach = max([memory.reach, *(end - 1 for end in on_time)])
            elif (
                row.clock is not None
                and row.ts + grace < row.clock
                or (node.kind != "deduplicate" and row.ts <= memory.ended_to)
            ):
                late.append(row)
            else:
                taken.append((row, side))
                if node.kind != "deduplicate":
                    memory.reach = max(memory.reach, row.ts)
        self.late[n] += len(late)
        return taken, late

    def _ends(self, node: Node, ts: int) -> Iterator[int]:
        """Every start is tried."""
        tick = self.spec.tick_ms
        size, every, offset = (node.args[name] * tick for name in ("size", "every", "offset"))
        first = (ts - size - offset) // every * every + offset
        return (start + size for start in range(first, ts + 1, every) if start <= ts < start + size)

    # ------------------------------------------------------------------------------------ the verbs

    def _map(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        f = mapped(node.args["salt"], poison=node.args["poison"])
        rows = []
        for row, _ in taken:
            try:
                rows.append(row._replace(value=f(row.value)))
            except Poison:
                self.skipped[n] += 1
        return rows

    def _filter(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        f = kept(node.args["salt"], node.args["mod"])
        return [row for row, _ in taken if f(row.value)]

    def _flat_map(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        f = parts(node.args["salt"])
        return [
            row._replace(value=value, origin=(*row.origin, i))
            for row, _ in taken
            for i, value in enumerate(f(row.value))
        ]

    def _pick(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        f, side = kept(node.args["salt"], 2), node.args["side"]
        return [row for row, _ in taken if f(row.value) == (side == 0)]

    def _key_by(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        f = keyed(node.args["type"], node.args["mod"])
        return [row._replace(key=f(row.value)) for row, _ in taken]

    def _records(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        return [row._replace(value=Record(row.key, row.value, row.ts, {})) for row, _ in taken]

    def _with_timestamp(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        memory, rows = self.memory[n, task], []
        f = moved(node.args["salt"], self.spec.tick_ms)
        for row, _ in taken:
            ts = f(row.value)
            memory.clock = max(memory.clock, ts)
            rows.append(row._replace(ts=ts, clock=memory.clock))
        return rows

    def _merge(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        return [row._replace(origin=(*row.origin, side)) for row, side in taken]

    def _late(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        return [row for row, _ in taken]

    def _in_order(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        return [row._replace(clock=None) for row in sorted((row for row, _ in taken), key=lambda row: row.place)]

    def _running(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> Iterator[Row]:
        seen, of = self.memory[n, task].keys, AGGREGATES[node.args["agg"]].of
        for row, _ in taken:
            values = seen.setdefault(row.key, [])
            values.append(row.value)
            try:
                yield row._replace(value=of(values))
            except Poison:
                del values[-1]
                self.skipped[n] += 1

    def _counting(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> Iterator[Row]:
        seen, of, size = self.memory[n, task].keys, AGGREGATES[node.args["agg"]].of, node.args["n"]
        every = node.args["every"] or size
        for row, _ in taken:
            rows = seen.setdefault(row.key, [])
            rows.append(row)
            if len(rows) >= size and (len(rows) - size) % every == 0:
                window = rows[-size:]
                yield row._replace(value=WindowResult(row.key, window[0].ts, row.ts, of([r.value for r in window])))

    def _deduplicate(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> Iterator[Row]:
        seen, by, within = (
            self.memory[n, task].keys,
            classified(node.args["mod"]),
            node.args["within"] * self.spec.tick_ms,
        )
        for row, _ in taken:
            passed = seen.setdefault((row.key, by(row.value)), [])
            if all(abs(row.ts - ts) > within for ts in passed):
                passed.append(row.ts)
                yield row._replace(clock=None)

    def _process(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        memory = self.memory[n, task]
        rows: list[Row] = []
        for row, _ in taken:
            if node.args["poison"] and code(row.value) % 11 == 0:
                self.skipped[n] += 1
            else:
                rows += memory.keys.setdefault(row.key, _Watched(self.spec, node, row.key)).take(row)
        for watched in memory.keys.values():
            rows += watched.until(memory.fires_to)
        return rows

    def _window(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        size = node.args["size"] * self.spec.tick_ms
        windows: dict[tuple[int, int, Any], list[Row]] = defaultdict(list)
        for row, end in taken:
            windows[end, end - size, row.key].append(row)
        return self._results(n, node, task, windows, before_end=1)

    def _session(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        sessions: dict[Any, list[list[Row]]] = defaultdict(list)
        for row in sorted((row for row, _ in taken), key=lambda row: row.ts):
            mine = sessions[row.key]
            if mine and row.ts - mine[-1][-1].ts <= node.args["gap"] * self.spec.tick_ms:
                mine[-1].append(row)
            else:
                mine.append([row])
        windows = {(rows[-1].ts, rows[0].ts, key): rows for key, mine in sessions.items() for rows in mine}
        return self._results(n, node, task, windows, before_end=0)

    def _results(
        self, n: int, node: Node, task: int, windows: Mapping[tuple[int, int, Any], Sequence[Row]], *, before_end: int
    ) -> list[Row]:
        of = AGGREGATES[node.args["agg"]].of
        rows = []
        for (end, start, key), members in sorted(
            windows.items(), key=lambda item: (*item[0][:2], encode_key(item[0][2]))
        ):
            try:
                value = of([row.value for row in sorted(members, key=lambda row: row.place)])
            except Poison:
                self.skipped[n] += 1
                continue
            origin = (self.order[n], end, start, encode_key(key), task)
            rows.append(Row(key, WindowResult(key, start, end, value), end - before_end, None, origin))
        return rows

    def _partial(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        windows: dict[tuple[int, int, Any], list[Any]] = defaultdict(list)
        for row, _ in taken:
            result = row.value
            group = grouped(result) if node.args["per"] else None
            windows[result.end, result.start, group].append((code(result.value), result.key, result.value))
        return self._largest(n, node, task, windows)

    def _top(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> list[Row]:
        windows: dict[tuple[int, int, Any], list[Any]] = defaultdict(list)
        for row, _ in taken:
            start, end, candidates = row.value
            windows[end, start, row.key] += candidates
        rows = self._largest(n, node, task, windows)
        items = [[Item(key, value) for _, key, value in row.value[2]] for row in rows]
        return [
            row._replace(value=Top(row.value[0], row.value[1], some)) for row, some in zip(rows, items, strict=True)
        ]

    def _largest(
        self, n: int, node: Node, task: int, windows: Mapping[tuple[int, int, Any], Sequence[Any]]
    ) -> list[Row]:
        rows = []
        for (end, start, group), found in sorted(
            windows.items(), key=lambda item: (*item[0][:2], encode_key(item[0][2]))
        ):
            largest = sorted(found, key=lambda one: (-one[0], encode_key(one[1])))[: node.args["n"]]
            ts = end - (0 if node.args["sessions"] else 1)
            rows.append(
                Row(group, (start, end, largest), ts, None, (self.order[n], end, start, encode_key(group), task))
            )
        return rows

    def _with_previous(self, n: int, node: Node, task: int, taken: Sequence[tuple[Row, int]]) -> Iterator[Row]:
        known = self.memory[n, task].keys
        for row, _ in taken:
            known[row.key, row.value.start] = row.value.value
        for row, _ in taken:
            result = row.value
            size = result.end - result.start
            before = [known.get((row.key, result.start - i * size), 0) for i in range(node.args["n"], 0, -1)]
            yield row._replace(value=WindowResult(result.key, result.start, result.end, Previous(result.value, before)))

    # ------------------------------------------------------------------------------------ the answer

    def answer(self) -> Answer:
        """What every run of the app must give."""
        rows = {n: self._output(n) for n in self.spec.outputs}
        tables = {}
        for n in self.spec.of_kind("running"):
            of = AGGREGATES[self.spec.nodes[n].args["agg"]].of
            tables[n] = {
                (task, key): of(values)
                for task in range(self.tasks[n])
                for key, values in self.memory[n, task].keys.items()
                if values
            }
        return Answer(rows, +self.late, +self.skipped, tables)

    def _output(self, n: int) -> dict[tuple[int, bytes | None], list[tuple[int, bytes | None, int]]]:
        topic = self.app.topics[f"out-{n}"]
        found: dict[tuple[int, bytes | None], list[tuple[int, bytes | None, int]]] = defaultdict(list)
        for task, row in self.given[n]:
            (value,) = topic.encode_values([row.value])
            number = self._task_of(row.key, task, 1 + n % 3)
            found[number, wire_key(row.key)].append((task, value, row.ts))
        return dict(found)


class _Watched:
    """A key of a process function (`plans.watched`), with its timers."""

    def __init__(self, spec: Spec, node: Node, key: Any) -> None:
        self.after = node.args["after"] * spec.tick_ms
        self.alarm = None if node.args["alarm"] is None else node.args["alarm"] * spec.tick_ms
        self.echo = node.args["echo"]
        self.key = key
        self.count = 0
        self.timers: dict[str, tuple[int, tuple[Any, ...]]] = {}

    def take(self, row: Row) -> list[Row]:
        """First what was due before the record, then the record, then what it sets in its past."""
        now = row.ts if row.clock is None else row.clock
        rows = self.until(now)
        self.count += 1
        values = [["seen", self.count]] if code(row.value) % self.echo == 0 else []
        wanted = {"quiet": row.ts + self.after}
        if self.count == 1 and self.alarm is not None:
            wanted["alarm"] = row.ts + self.alarm
        for name, due in wanted.items():
            self.timers.pop(name, None)
            if due > now:
                self.timers[name] = (due, row.origin)
        for _, name in sorted((due, name) for name, due in wanted.items() if due <= now):
            values.append(self._fired(name))
        place = (*row.origin, row.ts, 0)
        return rows + [row._replace(value=value, origin=(*place, i)) for i, value in enumerate(values)]

    def until(self, now: int) -> list[Row]:
        """The rows of the timers that are due."""
        rows = []
        for due, name in sorted((due, name) for name, (due, _) in self.timers.items() if due <= now):
            origin = (*self.timers.pop(name)[1], due, 1 + ("alarm", "quiet").index(name), 0)
            rows.append(Row(self.key, self._fired(name), due, None, origin))
        return rows

    def _fired(self, name: str) -> list[Any]:
        value = [name, self.count]
        if name == "quiet":
            self.count = 0
        return value
