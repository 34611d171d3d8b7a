"""Random plans: a specification that the oracle reads, and the app it stands for, built by the public API alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from streamproc import (
    App,
    Context,
    DefinitionError,
    ProcessFunction,
    Stream,
    Topic,
    counting,
    hopping,
    process,
    session,
)
from streamproc.windows.kinds import WindowKind
from tests.law.values import AGGREGATES, RUNNING, Poison, code

KEPT, CHANGED, SINGLE = "kept", "changed", "single"
KEY_TYPES: Mapping[str, type] = {"bytes": bytes, "str": str, "int": int}

KEEPS = (
    "map", "filter", "flat_map", "key_by", "pick", "records", "with_timestamp", "running", "counting", "deduplicate",
    "process", "with_previous",
)  # fmt: skip
"""Kinds that keep the order of what they are given."""
UNORDERED = ("merge", "late", "rekey", "chain")


class Reading(msgspec.Struct, frozen=True):
    """A value that holds its own time."""

    at: int
    level: float


@dataclass(frozen=True)
class OwnWindows:
    """Windows by an assigner of one's own: what hopping windows are, said by the instant."""

    size: int
    every: int
    offset: int

    def windows(self, timestamp: int, /) -> Sequence[tuple[int, int]]:
        first = (timestamp - self.size - self.offset) // self.every * self.every + self.offset
        starts = range(first, timestamp + 1, self.every)
        return [(start, start + self.size) for start in starts if start <= timestamp < start + self.size]


class Node(NamedTuple):
    """A verb: its inputs are other nodes, by number. `function` is the stream function in which it stands."""

    kind: str
    parents: tuple[int, ...]
    args: Mapping[str, Any]
    function: int


class Spec(NamedTuple):
    """A plan as data. Times in it are whole ticks of `tick_ms`."""

    nodes: Sequence[Node]
    tick_ms: int

    def of_kind(self, *kinds: str) -> list[int]:
        """The numbers of the nodes of these kinds."""
        return [n for n, node in enumerate(self.nodes) if node.kind in kinds]

    @property
    def outputs(self) -> list[int]:
        """The nodes whose rows go to an output topic."""
        return [n for n, node in enumerate(self.nodes) if node.kind not in ("source", "rekey", "chain", "partial")]

    def ordered(self, n: int) -> bool:
        """Whether the rows of a node come in one order, key by key, in a task."""
        node = self.nodes[n]
        if node.kind == "late":
            return self.ordered(self.nodes[node.parents[0]].parents[0])
        if node.kind == "key_by" and self._fires(node.parents[0]):
            return False
        return self.ordered(node.parents[0]) if node.kind in KEEPS else node.kind not in UNORDERED

    def _fires(self, n: int) -> bool:
        """Whether timers fire before a node: the rows of a key have an order then, those of several have none."""
        node = self.nodes[n]
        return node.kind == "process" or (node.kind in (*KEEPS, "late") and self._fires(node.parents[0]))


# ------------------------------------------------------------------------------------ the app of a specification


def build(spec: Spec, name: str = "law", **settings: Any) -> App:
    """The app, written as a user would."""
    poisoned = any(node.args.get("poison") or node.args.get("agg") == "fragile" for node in spec.nodes)
    app = App(name, on_error="skip" if poisoned else "fail", **settings)
    topics = {n: _topic(app, spec.nodes[n], n) for n in spec.of_kind("source", "chain")}
    for n in spec.outputs:
        app.topic(f"out-{n}", partitions=1 + n % 3)
    for function in range(1 + max(node.function for node in spec.nodes)):
        mine = [n for n, node in enumerate(spec.nodes) if node.function == function]
        _register(app, spec, function, mine, topics)
    return app


def _topic(app: App, node: Node, n: int) -> Topic[Any, Any]:
    name = f"{node.kind}-{n}"
    if node.kind == "chain":
        return app.topic(name, key=KEY_TYPES[node.args["key"]], partitions=node.args["partitions"])
    if node.args["timed"] == "field":
        return app.topic(name, key=KEY_TYPES[node.args["key"]], value=Reading, timestamp="at")
    return app.topic(name, key=KEY_TYPES[node.args["key"]], value=float)


def _register(app: App, spec: Spec, function: int, mine: Sequence[int], topics: Mapping[int, Topic[Any, Any]]) -> None:
    sources = [n for n in mine if spec.nodes[n].kind in ("source", "chain")]

    def f(*given: Stream[Any, Any]) -> None:
        drawing = _Drawing(app, spec, dict(zip(sources, given, strict=True)))
        for n in mine:
            if n not in sources:
                drawing.draw(n)
        for n in spec.of_kind("chain"):
            for parent in spec.nodes[n].parents:
                if parent in mine:
                    drawing.streams[parent].to(topics[n])

    f.__name__ = f"f{function}"
    app.stream(*(topics[n] for n in sources))(f)


class _Drawing:
    """Calls the verbs of one stream function."""

    def __init__(self, app: App, spec: Spec, streams: dict[int, Stream[Any, Any]]) -> None:
        self.app = app
        self.spec = spec
        self.streams = streams
        self._split: dict[tuple[int, int], tuple[Stream[Any, Any], Stream[Any, Any]]] = {}
        self._late: dict[int, Stream[Any, Any]] = {}

    def draw(self, n: int) -> None:
        node = self.spec.nodes[n]
        if node.kind == "late":
            if not node.args["topic"]:
                self.streams[n] = self._late[node.parents[0]].to(self._out(n))
            return
        stream = self.streams[n] = getattr(self, f"_{node.kind}")(n, node, self.streams[node.parents[0]])
        if n in self.spec.outputs:
            stream.to(self._out(n))

    def _out(self, n: int) -> Topic[Any, Any]:
        return self.app.topics[f"out-{n}"]

    def _ms(self, ticks: int) -> str:
        return f"{ticks * self.spec.tick_ms}ms"

    def _late_topic(self, n: int) -> Topic[Any, Any] | None:
        found = [i for i in self.spec.of_kind("late") if self.spec.nodes[i].parents == (n,)]
        return self._out(found[0]) if found and self.spec.nodes[found[0]].args["topic"] else None

    def _map(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.map(mapped(node.args["salt"], poison=node.args["poison"]), name=f"n{n}")

    def _filter(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.filter(kept(node.args["salt"], node.args["mod"]), name=f"n{n}")

    def _flat_map(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.flat_map(parts(node.args["salt"]), name=f"n{n}")

    def _key_by(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.key_by(keyed(node.args["type"], node.args["mod"]), name=f"n{n}")

    def _pick(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        place = (node.parents[0], node.args["salt"])
        if place not in self._split:
            self._split[place] = stream.split(kept(node.args["salt"], 2))
        return self._split[place][node.args["side"]]

    def _records(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.records()

    def _with_timestamp(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.with_timestamp(moved(node.args["salt"], self.spec.tick_ms), name=f"n{n}")

    def _merge(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.merge(self.streams[node.parents[1]])

    def _rekey(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream  # the next keyed verb does it

    def _partial(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream  # top does it

    def _in_order(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.in_order(grace=self._ms(node.args["grace"]), late=self._late_topic(n), name=f"n{n}")

    def _deduplicate(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        within, grace = self._ms(node.args["within"]), self._ms(node.args["grace"])
        by = classified(node.args["mod"])
        return stream.deduplicate(by, within=within, grace=grace, late=self._late_topic(n), name=f"n{n}")

    def _running(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        verb = AGGREGATES[node.args["agg"]].running
        assert verb is not None
        return verb(stream, f"n{n}").updates()

    def _process(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        after, alarm = node.args["after"] * self.spec.tick_ms, node.args["alarm"]
        alarm = None if alarm is None else alarm * self.spec.tick_ms
        function = watched(after, alarm, node.args["echo"], poison=node.args["poison"])
        return stream.process(function, name=f"n{n}")

    def _window(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        grace, late = self._ms(node.args["grace"]), self._late_topic(n)
        if node.args["all"]:
            windowed = stream.window_all(self.windows(node), grace=grace, late=late, name=f"n{n}")
        else:
            windowed = stream.window(self.windows(node), grace=grace, late=late, name=f"n{n}")
        results = AGGREGATES[node.args["agg"]].windowed(windowed)
        self._late[n] = windowed.late
        return results

    _session = _window

    def _counting(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return AGGREGATES[node.args["agg"]].windowed(stream.window(self.windows(node), name=f"n{n}"))

    def windows(self, node: Node) -> WindowKind:
        args = node.args
        if node.kind == "session":
            return session(self._ms(args["gap"]))
        if node.kind == "counting":
            return counting(args["n"], every=args["every"])
        if args["own"]:
            return OwnWindows(*(args[name] * self.spec.tick_ms for name in ("size", "every", "offset")))
        return hopping(self._ms(args["size"]), every=self._ms(args["every"]), offset=self._ms(args["offset"]))

    def _top(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        partial = self.spec.nodes[self.spec.nodes[node.parents[0]].parents[0]]
        results = self.streams[partial.parents[0]]
        return results.top(node.args["n"], by=code, per=grouped if node.args["per"] else None, name=f"n{n}")

    def _with_previous(self, n: int, node: Node, stream: Stream[Any, Any]) -> Stream[Any, Any]:
        return stream.with_previous(node.args["n"], fill=0, name=f"n{n}")


# ------------------------------------------------------------------------------------ users' functions


def mapped(salt: int, *, poison: bool) -> Callable[[Any], float]:
    def f(value: Any) -> Any:
        found = code((salt, value))
        if poison and found % 11 == 0:
            raise Poison
        return found % 997 / 10

    return f


def kept(salt: int, mod: int) -> Callable[[Any], bool]:
    return lambda value: code((salt, value)) % mod != 0


def parts(salt: int) -> Callable[[Any], list[float]]:
    def f(value: Any) -> Any:
        count = (0, 1, 2, 2, 3)[code((salt, value)) % 5]
        return [code((salt, value, i)) % 997 / 10 for i in range(count)]

    return f


def keyed(kind: str, mod: int) -> Callable[[Any], Any]:
    if kind == "int":
        return lambda value: code(value) % mod - 1
    if kind == "str":
        return lambda value: f"key-{code(value) % mod}"
    return lambda value: ("pair", code(value) % mod)


def moved(salt: int, tick_ms: int) -> Callable[[Any], int]:
    """Of a `Record`, another time."""
    return lambda record: record.timestamp + code((salt, record.value)) % 9 * tick_ms


def classified(mod: int) -> Callable[[Any], int]:
    return lambda value: code(value) % mod


def grouped(result: Any) -> Any:
    return f"group-{code(result.key) % 2}"


def watched(after: int, alarm: int | None, echo: int, *, poison: bool) -> ProcessFunction[Any, Any, Any, Any]:
    """Counts a key's records, with a timer that each record moves and one that the first sets."""

    def seen(value: Any, ctx: Context[Any, int | None]) -> Iterable[Any]:
        ctx.state = (ctx.state or 0) + 1
        if poison and code(value) % 11 == 0:
            raise Poison
        if ctx.state == 1 and alarm is not None:
            ctx.timer("alarm", at=ctx.timestamp + alarm)
        ctx.timer("quiet", at=ctx.timestamp + after)
        return [["seen", ctx.state]] if code(value) % echo == 0 else []

    watch = process(seen)

    @watch.on_timer("quiet")
    def quiet(ctx: Context[Any, int | None]) -> Iterable[Any]:
        total, ctx.state = ctx.state, None
        return [["quiet", total or 0]]

    @watch.on_timer("alarm")
    def rang(ctx: Context[Any, int | None]) -> Iterable[Any]:
        return [["alarm", ctx.state or 0]]

    return watch


# ------------------------------------------------------------------------------------ random specifications


def random_spec(rng: random.Random) -> Spec:
    """A plan that its app accepts."""
    while True:
        spec = _Draw(rng).spec()
        if _accepted(spec):
            return spec


def _accepted(spec: Spec) -> bool:
    try:
        build(spec).plan.resolve(lambda name: spec.nodes[int(name.split("-")[1])].args["partitions"])
    except DefinitionError:
        return False  # two re-keys of one name, topics that are not co-partitioned, stages in a circle
    return True


class _Draw:
    """Adds verbs to heads: streams that something may still be added to."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nodes: list[Node] = []
        self.heads: list[int] = []
        self.keyed: list[str] = []
        self.windows: list[str] = []
        """Of which kind of window a node's values are results."""
        self.rekeyed: dict[int, int] = {}
        self.functions = 1

    def spec(self) -> Spec:
        rng = self.rng
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            self.heads.append(self._source(0))
        for _ in range(rng.randint(3, 8)):
            self._grow(rng.randrange(len(self.heads)))
        return Spec(self.nodes, rng.choice((1, 1, 1, 300)))

    def _add(
        self, kind: str, *parents: int, keyed: str = "", windows: str = "", function: int = -1, **args: Any
    ) -> int:
        self.nodes.append(Node(kind, parents, args, self.nodes[parents[0]].function if function < 0 else function))
        self.keyed.append(keyed or self.keyed[parents[0]])
        self.windows.append(windows)
        return len(self.nodes) - 1

    def _source(self, function: int) -> int:
        rng = self.rng
        timed = rng.choice(("record", "field"))
        key = rng.choice(tuple(KEY_TYPES))
        source = self._add("source", keyed=KEPT, function=function, partitions=rng.randint(1, 4), timed=timed, key=key)
        if rng.random() < 0.15:
            source = self._add("filter", source, salt=self._salt(), mod=3)
        if rng.random() < 0.2:
            source = self._add("with_timestamp", self._add("records", source), salt=self._salt())
            source = self._add("map", source, salt=self._salt(), poison=False)
        return source

    def _grow(self, i: int) -> None:
        rng, h, kind = self.rng, self.heads[i], self.rng.random()
        if kind < 0.14:
            self.heads[i] = self._light(h)
        elif kind < 0.24:
            self.heads[i] = self._key_by(h)
        elif kind < 0.42:
            self.heads[i] = self._fixed(h)
        elif kind < 0.50:
            self.heads[i] = self._session(h)
        elif kind < 0.62:
            self.heads[i] = self._by_record(h)
        elif kind < 0.67:
            self.heads[i] = self._in_order(h)
        elif kind < 0.75:
            self.heads[i] = self._behind_windows(self._fixed(h) if rng.random() < 0.8 else self._session(h))
        elif kind < 0.83:
            self.heads[i] = self._fork(h)
        elif kind < 0.90:
            self.heads[i] = self._chain(h)
        else:
            self._join_heads(i)

    # what a head may become

    def _salt(self) -> int:
        return self.rng.randrange(10**6)

    def _light(self, h: int) -> int:
        rng = self.rng
        kind = rng.choice(("map", "filter", "flat_map"))
        if kind == "filter":
            return self._add(kind, h, windows=self.windows[h], salt=self._salt(), mod=rng.choice((2, 3, 5)))
        if kind == "map":
            return self._add(kind, h, salt=self._salt(), poison=rng.random() < 0.3)
        return self._add(kind, h, salt=self._salt())

    def _key_by(self, h: int) -> int:
        rng = self.rng
        kind, mod = rng.choice(("int", "str", "pair")), rng.choice((2, 3, 4))
        return self._add("key_by", h, keyed=CHANGED, windows=self.windows[h], type=kind, mod=mod)

    def _kept(self, h: int) -> int:
        """Where the key of each row is."""
        if self.keyed[h] != CHANGED:
            return h
        if h not in self.rekeyed:
            self.rekeyed[h] = self._add("rekey", h, keyed=KEPT, windows=self.windows[h], to="key")
        return self.rekeyed[h]

    def _one_task(self, h: int) -> int:
        return h if self.keyed[h] == SINGLE else self._add("rekey", h, keyed=SINGLE, to="one", windows=self.windows[h])

    def _grace(self) -> int:
        return self.rng.choice((0, 0, 1, 3, 7, 15))

    def _fixed(self, h: int) -> int:
        rng = self.rng
        every = rng.choice((5, 10, 12))
        size = rng.choice((every, every, every, 2 * every, 3 * every, every + 5, every - 2))
        everything = rng.random() < 0.2 and bool(self.nodes[h].kind != "chain")
        h = self._one_task(h) if everything else self._kept(h)
        own = rng.random() < 0.1
        args: dict[str, Any] = {
            "size": size,
            "every": every,
            "offset": rng.choice((0, 0, 0, 3)),
            "grace": self._grace(),
        }
        args |= {"agg": rng.choice(list(AGGREGATES)), "all": everything, "own": own}
        return self._with_late(self._add("window", h, windows="own" if own else "fixed", **args))

    def _session(self, h: int) -> int:
        rng = self.rng
        args: dict[str, Any] = {
            "gap": rng.choice((2, 5, 9)),
            "grace": self._grace(),
            "agg": rng.choice(list(AGGREGATES)),
            "all": False,
        }
        return self._with_late(self._add("session", self._kept(h), windows="session", **args))

    def _in_order(self, h: int) -> int:
        return self._with_late(self._add("in_order", self._kept(h), windows=self.windows[h], grace=self._grace()))

    def _with_late(self, n: int) -> int:
        if self.rng.random() < 0.3:
            topic = self.nodes[n].kind not in ("window", "session") or self.rng.random() < 0.3
            keyed = self.keyed[n]
            late = self._add("late", n, keyed=keyed, windows=self.windows[self.nodes[n].parents[0]], topic=topic)
            if not topic:
                self.heads.append(late)
        return n

    def _by_record(self, h: int) -> int:
        """A verb that goes record by record, in an order that is a function of the input."""
        rng = self.rng
        h = self._kept(h)
        if not self.spec_so_far.ordered(h):
            h = self._in_order(h)
        kind = rng.choice(("running", "counting", "deduplicate", "process", "process"))
        if kind == "running":
            return self._add(kind, h, agg=rng.choice(RUNNING))
        if kind == "counting":
            agg = rng.choice([name for name in AGGREGATES if name not in ("merged", "fragile")])
            return self._add(kind, h, n=rng.choice((2, 3)), every=rng.choice((None, 1, 4)), agg=agg)
        if kind == "deduplicate":
            within, mod = rng.choice((4, 12)), rng.choice((1, 3))
            grace = self._grace()
            args: dict[str, Any] = {"within": within, "grace": grace, "mod": mod}
            return self._with_late(self._add(kind, h, windows=self.windows[h], **args))
        args = {
            "after": rng.choice((-2, 0, 3, 9)),
            "alarm": rng.choice((None, -1, 5, 20)),
            "echo": rng.choice((1, 2, 50)),
        }
        return self._add(kind, h, poison=rng.random() < 0.2, **args)

    @property
    def spec_so_far(self) -> Spec:
        return Spec(self.nodes, 1)

    def _behind_windows(self, h: int) -> int:
        rng = self.rng
        if self.windows[h] == "fixed" and rng.random() < 0.3:
            return self._add("with_previous", h, windows="fixed", n=rng.choice((1, 2)))
        per = rng.random() < 0.3
        args: dict[str, Any] = {"n": rng.choice((1, 3)), "per": per, "sessions": self.windows[h] == "session"}
        partial = self._add("partial", h, keyed=CHANGED, **args)
        if per:
            gathered = self._add("rekey", partial, keyed=KEPT, to="key")
        else:
            gathered = self._add("rekey", partial, keyed=SINGLE, to="one")
        return self._add("top", gathered, **args)

    def _fork(self, h: int) -> int:
        """Two ways, merged again, or one way kept for later."""
        rng = self.rng
        salt = self._salt()
        a, b = (self._add("pick", h, windows=self.windows[h], salt=salt, side=side) for side in (0, 1))
        if rng.random() < 0.4:
            b = h if rng.random() < 0.3 else self._light(h)
        if rng.random() < 0.5:
            b = rng.choice((self._fixed, self._in_order, self._session))(b)
        if rng.random() < 0.3 or SINGLE in (self.keyed[a], self.keyed[b]):
            self.heads.append(b)
            return a
        return self._merge(a, b)

    def _merge(self, a: int, b: int) -> int:
        keyed = CHANGED if CHANGED in (self.keyed[a], self.keyed[b]) else KEPT
        return self._add("merge", a, b, keyed=keyed)

    def _chain(self, *heads: int) -> int:
        """Through a topic into another stream function, and there keyed anew (a single task's rows have no key)."""
        rng = self.rng
        function, self.functions = self.functions, self.functions + 1
        heads = tuple(sorted(heads, key=lambda h: (self.nodes[h].function, h)))
        chain = self._add(
            "chain", *heads, keyed=KEPT, function=function, key="bytes", partitions=rng.choice((None, 1, 2, 3))
        )
        if rng.random() < 0.2:
            self.heads.append(self._source(function))
        return self._key_by(chain)

    def _join_heads(self, i: int) -> None:
        rng, h = self.rng, self.heads[i]
        others = [j for j, o in enumerate(self.heads) if j != i]
        if not others:
            self.heads[i] = self._chain(h)
            return
        j = rng.choice(others)
        o = self.heads[j]
        mergeable = self.nodes[o].function == self.nodes[h].function and SINGLE not in (self.keyed[h], self.keyed[o])
        if mergeable and rng.random() < 0.8:
            self.heads[i] = self._merge(self._key_by(h), self._key_by(o)) if rng.random() < 0.7 else self._merge(h, o)
        else:
            self.heads[i] = self._chain(h, o)
        del self.heads[j]
