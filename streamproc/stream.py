"""Stream: what a stream function is given and returns; each verb adds a step to the graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial as partial_function
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_origin, get_type_hints, overload

import msgspec
from typing_extensions import TypeIs

from streamproc import agg
from streamproc.errors import DefinitionError
from streamproc.graph import Graph, Port, RepartitionNode, SinkNode
from streamproc.operators.branch import Choose, Pick
from streamproc.operators.deduplicate import Deduplicate
from streamproc.operators.filter import DropNone, Filter
from streamproc.operators.flat_map import FlatMap
from streamproc.operators.in_order import InOrder
from streamproc.operators.inspect import Inspect
from streamproc.operators.key_by import KeyBy
from streamproc.operators.map import Map
from streamproc.operators.merge import Merge
from streamproc.operators.operator import Operator
from streamproc.operators.process import Process, ProcessFunction
from streamproc.operators.records import Record, Records
from streamproc.operators.running import Running
from streamproc.operators.top import Top as TopOperator
from streamproc.operators.windowing import window_operator
from streamproc.operators.with_previous import WithPrevious
from streamproc.operators.with_timestamp import WithTimestamp
from streamproc.policy import OnError
from streamproc.topic import Topic
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.duration import Duration, Instant, duration_ms, instant_ms
from streamproc.windows.kinds import Assigner, CountingWindows, FixedWindows, SessionWindows, WindowKind
from streamproc.windows.results import Previous, Top, WindowResult

K = TypeVar("K")
K2 = TypeVar("K2")
V = TypeVar("V")
U = TypeVar("U")
A = TypeVar("A")
T = TypeVar("T")
S = TypeVar("S")
N = TypeVar("N", int, float)
KeyT = TypeVar("KeyT", covariant=True)
ValueT = TypeVar("ValueT", covariant=True)

KeyState = Literal["kept", "changed", "single"]
"""Whether rows are where their key belongs: yes; no, a keyed verb must re-key first; all of them are in one task."""


class Scope(msgspec.Struct, frozen=True):
    """What a stream hands on to the steps behind it.

    stream      the stream function being defined
    on_error    for verbs that say nothing else
    grace_ms    for verbs that say nothing else
    windows     the windows whose results the values are, while they are whole results
    value_type  the declared type of the values, where it is known
    ordered     rows of a key come in time order (behind in_order, or straight from a source)
    """

    graph: Graph
    stream: str
    on_error: OnError
    grace_ms: int
    keyed: KeyState = "kept"
    windows: WindowKind | None = None
    value_type: Any = None
    rekey_step: str = ""

    def but(self, **changes: Any) -> Scope:
        """The same with some fields changed."""
        return msgspec.structs.replace(self, **changes)


class Stream(Generic[KeyT, ValueT]):
    """Keyed values in event time. A Stream is a value: each verb gives a new one, and one used twice forks.

    Functions get values, are pure, and may raise (see on_error). `name=` names a step where its own name will not do:
    names of stateful steps and re-keys are the names of their state and topics.
    """

    def __init__(self, scope: Scope, port: Port) -> None:
        self._scope = scope
        self._port = port

    # ------------------------------------------------------------------------------------ value by value

    def map(self, f: Callable[[ValueT], U], /, *, on_error: OnError | None = None, name: str = "") -> Stream[KeyT, U]:
        """Each value becomes f(value)."""
        return self._then(Map(f), _step("map", f, name), on_error, value_type=_returned(f), windows=None)

    def flat_map(
        self, f: Callable[[ValueT], Iterable[U]], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[KeyT, U]:
        """Each value becomes the values of f(value), none or many."""
        element = _element(_returned(f))
        return self._then(FlatMap(f), _step("flat_map", f, name), on_error, value_type=element, windows=None)

    @overload
    def filter(
        self, f: Callable[[ValueT], TypeIs[U]], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[KeyT, U]: ...
    @overload
    def filter(
        self, f: Callable[[ValueT], object], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[KeyT, ValueT]: ...
    def filter(
        self, f: Callable[[ValueT], object], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[KeyT, Any]:
        """Only the values for which f(value) is true."""
        return self._then(Filter(f), _step("filter", f, name), on_error)

    def drop_none(self: Stream[K, U | None]) -> Stream[K, U]:
        """Only the values that are not None."""
        return self._then(DropNone(), "drop_none", None)

    def inspect(self, f: Callable[[ValueT], object], /, *, name: str = "") -> Stream[KeyT, ValueT]:
        """The same; f sees each value as it passes (again after a crash)."""
        return self._then(Inspect(f), _step("inspect", f, name), None)

    def records(self) -> Stream[KeyT, Record[KeyT, ValueT]]:
        """Each value becomes its whole `Record(key, value, timestamp, headers)`."""
        return self._then(Records(), "records", None, value_type=None, windows=None)

    def with_timestamp(self, f: Callable[[ValueT], Instant], /, *, name: str = "") -> Stream[KeyT, ValueT]:
        """The event time of each becomes f(value), an instant; before the first stateful verb."""
        if not self._at_source():
            msg = f"{self._scope.stream}: with_timestamp stands before the first merge, re-keying or stateful verb"
            raise DefinitionError(msg)
        return self._then(WithTimestamp(lambda value: instant_ms(f(value))), _step("with_timestamp", f, name), None)

    # ------------------------------------------------------------------------------------ keys and flows

    def key_by(
        self, f: Callable[[ValueT], K2], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[K2, ValueT]:
        """The key becomes f(value); the next keyed verb sends records to the task of their key."""
        step = _step("key_by", f, name)
        return self._then(KeyBy(f), step, on_error, keyed="changed", rekey_step=step)

    def merge(self: Stream[K, V], other: Stream[K, U], /) -> Stream[K, V | U]:
        """The records of both."""
        states = {self._scope.keyed, other._scope.keyed}
        keyed: KeyState = "changed" if "changed" in states else "kept" if "kept" in states else "single"
        scope = self._scope.but(
            keyed=keyed,
            grace_ms=max(self._scope.grace_ms, other._scope.grace_ms),
            windows=None,
            value_type=self._scope.value_type if self._scope.value_type == other._scope.value_type else None,
            rekey_step=self._scope.rekey_step or other._scope.rekey_step or "merge",
        )
        ports = (self._port, other._port)
        node = scope.graph.add(scope.stream, "merge", Merge(), ports, on_error=scope.on_error)
        return Stream(scope, Port(node.id))

    def split(self, f: Callable[[ValueT], object], /) -> tuple[Stream[KeyT, ValueT], Stream[KeyT, ValueT]]:
        """Those for which f(value) is true, and the others."""
        chosen = self._then(Choose([f, lambda _: True]), _step("split", f, ""), None)
        return chosen._pick(0, self._scope), chosen._pick(1, self._scope)

    def branch(self, **predicates: Callable[[ValueT], object]) -> Mapping[str, Stream[KeyT, ValueT]]:
        """By name, the values whose first true predicate it is; those with none are left out."""
        chosen = self._then(Choose(list(predicates.values())), "branch", None)
        return {name: chosen._pick(i, self._scope) for i, name in enumerate(predicates)}

    def pipe(self, f: Callable[[Stream[KeyT, ValueT]], T], /) -> T:
        """f(self): a function of streams in the middle of a chain."""
        return f(self)

    def to(self, topic: Topic[Any, Any] | Callable[[ValueT], Topic[Any, Any]], /) -> Stream[KeyT, ValueT]:
        """The records also go to a topic, or to the one that a function of the value names."""
        step = f"to-{topic.name}" if isinstance(topic, Topic) else _step("to", topic, "")
        scope = self._scope
        scope.graph.add(scope.stream, step, SinkNode(topic), (self._port,), on_error=scope.on_error)
        return self

    def apply(self, operator: Operator, /, *, on_error: OnError | None = None, name: str = "") -> Stream[KeyT, Any]:
        """An operator of one's own (`streamproc.operators.Operator`)."""
        step = name or type(operator).__name__
        stream = self._keyed(step) if operator.keyed else self
        return stream._then(operator, step, on_error, windows=None, value_type=None)

    def in_order(
        self, *, grace: Duration | None = None, late: Topic[Any, Any] | None = None, name: str = ""
    ) -> Stream[KeyT, ValueT]:
        """The records of each key in order of time, then of source; held until none can come before them."""
        stream = self._keyed(name or "in_order")
        return stream._then(InOrder(grace_ms=self._grace_ms(grace)), name or "in_order", None, late=late)

    # ------------------------------------------------------------------------------------ running aggregates

    def count(self, where: Callable[[ValueT], object] | None = None, /, *, name: str = "") -> Table[KeyT, int]:
        """How many records of the key so far, after each."""
        return self._running(agg.count(where), _step("count", where, name), int)

    def sum(self, f: Callable[[ValueT], N], /, *, name: str = "") -> Table[KeyT, N]:
        """The exactly rounded sum of f(value) of the key so far, after each."""
        return self._running(agg.sum(f), _step("sum", f, name))

    def min(self, f: Callable[[ValueT], U], /, *, name: str = "") -> Table[KeyT, U]:
        """The smallest f(value) of the key so far, after each."""
        return self._running(agg.min(cast("Callable[[ValueT], Any]", f)), _step("min", f, name))

    def max(self, f: Callable[[ValueT], U], /, *, name: str = "") -> Table[KeyT, U]:
        """The largest f(value) of the key so far, after each."""
        return self._running(agg.max(cast("Callable[[ValueT], Any]", f)), _step("max", f, name))

    def mean(self, f: Callable[[ValueT], float], /, *, name: str = "") -> Table[KeyT, float]:
        """The mean of f(value) of the key so far, after each."""
        return self._running(agg.mean(f), _step("mean", f, name), float)

    def reduce(self: Stream[K, V], f: Callable[[V, V], V], /, *, name: str = "") -> Table[K, V]:
        """f(result so far, value), beginning with the first value; after each record, in order of arrival."""
        return self._running(agg.reduce(f), _step("reduce", f, name))

    def fold(self, initial: Callable[[], A], f: Callable[[A, ValueT], A], /, *, name: str = "") -> Table[KeyT, A]:
        """f(result so far, value), beginning with initial(); after each record, in order of arrival."""
        return self._running(agg.fold(initial, f), _step("fold", f, name))

    def aggregate(self, into: type[T], /, *, name: str = "", **fields: Aggregate[ValueT, Any]) -> Table[KeyT, T]:
        """Several aggregates at once, as an object of a class with these fields."""
        return self._running(agg.struct(into, fields), name or "aggregate", into)

    def latest(self, *, name: str = "") -> Table[KeyT, ValueT]:
        """The last value of the key to arrive."""
        return self._running(agg.last(), name or "latest", self._scope.value_type)

    # ------------------------------------------------------------------------------------ other stateful verbs

    def deduplicate(
        self,
        by: Callable[[ValueT], Any] | None = None,
        /,
        *,
        within: Duration,
        grace: Duration | None = None,
        late: Topic[Any, Any] | None = None,
        name: str = "",
    ) -> Stream[KeyT, ValueT]:
        """Without the records of a key whose value, or by(value), was seen at most `within` of event time away."""
        operator = Deduplicate(by, within_ms=duration_ms(within), grace_ms=self._grace_ms(grace))
        step = _step("deduplicate", by, name)
        return self._keyed(step)._then(operator, step, None, late=late)

    def process(
        self, f: ProcessFunction[K, ValueT, Any, U], /, *, on_error: OnError | None = None, name: str = ""
    ) -> Stream[KeyT, U]:
        """A function of value and context, with state and timers of the key (`@process`)."""
        function = f if isinstance(f, ProcessFunction) else ProcessFunction(f)
        step = name or function.__name__
        return self._keyed(step)._then(Process(function), step, on_error, value_type=None, windows=None)

    def window(
        self,
        windows: WindowKind,
        /,
        *,
        grace: Duration | None = None,
        late: Topic[Any, Any] | None = None,
        name: str = "",
    ) -> Windowed[KeyT, ValueT]:
        """The key's records by window; an aggregate says what of them. Results are final, once a window and key."""
        self._check_windows("window", windows)
        return Windowed(self._keyed(name or "window"), windows, self._grace_ms(grace), late, name)

    def window_all(
        self,
        windows: WindowKind,
        /,
        *,
        grace: Duration | None = None,
        late: Topic[Any, Any] | None = None,
        name: str = "",
    ) -> Windowed[None, ValueT]:
        """The records of all keys by window, in one task."""
        self._check_windows("window_all", windows)
        stream = self._in_one_task(name or "window_all")
        return Windowed(stream, windows, self._grace_ms(grace), late, name)

    def top(
        self: Stream[Any, WindowResult[K2, V]],
        n: int,
        /,
        *,
        by: Callable[[V], Any] | None = None,
        per: Callable[[WindowResult[K2, V]], Any] | None = None,
        name: str = "",
    ) -> Stream[Any, Top[K2, V]]:
        """The n results of each window with the largest value, or by(value); ties by smaller key; `per` group."""
        windows = self._window_results("top")
        if isinstance(windows, CountingWindows):
            msg = f"{self._scope.stream}: top works on windows of time; counting windows of different keys end apart"
            raise DefinitionError(msg)
        step = name or "top"
        level = partial_function(TopOperator, n, by=by, per=per, sessions=isinstance(windows, SessionWindows))
        partial = self._then(level(final=False), f"{step}-partial", None, lasting=True)
        if per is None:
            gathered: Stream[Any, Any] = partial._in_one_task(step)
        else:
            gathered = Stream(partial._scope.but(keyed="changed", rekey_step=step), partial._port)._keyed(step)
        return gathered._then(level(final=True), step, None, windows=None, value_type=None)

    def with_previous(
        self: Stream[K, WindowResult[K2, V]], n: int, /, *, fill: V, name: str = ""
    ) -> Stream[K, WindowResult[K2, Previous[V]]]:
        """Each window's value with those of the n windows before it, oldest first; `fill` where there was none."""
        windows = self._window_results("with_previous")
        if not isinstance(windows, FixedWindows):
            msg = f"{self._scope.stream}: with_previous works on tumbling and hopping windows, not on {windows}"
            raise DefinitionError(msg)
        step = name or "with_previous"
        stream = self._keyed(step)
        if self._scope.keyed == "changed":  # results of several tasks now, which come as those are paced
            stream = stream._then(InOrder(grace_ms=0), f"{step}-in_order", None)
        return stream._then(WithPrevious(n, fill), step, None, value_type=None)

    # ------------------------------------------------------------------------------------ inside

    def _then(
        self,
        operator: Operator,
        step: str,
        on_error: OnError | None,
        *,
        late: Topic[Any, Any] | None = None,
        lasting: bool = False,
        **changes: Any,
    ) -> Stream[Any, Any]:
        """The stream behind one more step."""
        _check_function(self._scope.stream, step, getattr(operator, "f", len))
        scope = self._scope
        node = scope.graph.add(
            scope.stream,
            step,
            operator,
            (self._port,),
            on_error=on_error or scope.on_error,
            checks_key=operator.keyed and scope.keyed != "single",
            lasting=operator.stateful or lasting,
        )
        if late is not None:
            Stream(scope, Port(node.id, late=True)).to(late)
        return Stream(scope.but(**changes) if changes else scope, Port(node.id))

    def _keyed(self, step: str) -> Stream[KeyT, ValueT]:
        """The stream with its records in the task of their key."""
        if self._scope.keyed != "changed":
            return self
        return self._repartition(self._scope.rekey_step or step, None, "kept")

    def _in_one_task(self, step: str) -> Stream[None, ValueT]:
        if self._scope.keyed == "single":
            return cast("Stream[None, ValueT]", self)
        keyless = self._then(KeyBy(lambda _: None), f"{step}-all", None, windows=self._scope.windows)
        return cast("Stream[None, ValueT]", keyless._repartition(step, 1, "single"))

    def _repartition(self, step: str, partitions: int | None, keyed: KeyState) -> Stream[Any, Any]:
        scope = self._scope
        node = scope.graph.repartition(
            self._port, scope.stream, step, partitions=partitions, value_type=scope.value_type, on_error=scope.on_error
        )
        return Stream(scope.but(keyed=keyed), Port(node.id))

    def _running(self, aggregate: Aggregate[Any, Any], step: str, value_type: Any = None) -> Table[Any, Any]:
        rows = self._keyed(step)._then(Running(aggregate), step, None, windows=None, value_type=value_type)
        return Table(rows, step)

    def _pick(self, number: int, scope: Scope) -> Stream[KeyT, ValueT]:
        picked = self._then(Pick(number), f"pick-{number}", None)
        return Stream(scope, picked._port)

    def _grace_ms(self, grace: Duration | None) -> int:
        return self._scope.grace_ms if grace is None else duration_ms(grace, zero=True)

    def _check_windows(self, verb: str, windows: Any) -> None:
        if not isinstance(windows, (FixedWindows, SessionWindows, CountingWindows, Assigner)):
            msg = f'{self._scope.stream}: {verb}({windows!r}): give it windows, as in {verb}(tumbling("1m"))'
            raise DefinitionError(msg)

    def _window_results(self, verb: str) -> WindowKind:
        if self._scope.windows is None:
            msg = f"{self._scope.stream}: {verb} works on the results of a window: window(...).count().{verb}(...)"
            raise DefinitionError(msg)
        return self._scope.windows

    def _at_source(self) -> bool:
        """Whether every step before this one is a plain one on a source's records."""
        nodes, ports = self._scope.graph.nodes, [self._port]
        while ports:
            port = ports.pop()
            node = nodes[port.node]
            if port.late or isinstance(node.kind, RepartitionNode) or len(node.parents) > 1:
                return False  # the order of several inputs is one of arrival, and the clock would depend on it
            if isinstance(node.kind, Operator) and (node.kind.stateful or not node.kind.record_wise):
                return False
            ports += node.parents
        return True


class Windowed(Generic[KeyT, ValueT]):
    """Records by key and window, waiting for an aggregate. Aggregates give `WindowResult(key, start, end, value)`."""

    def __init__(
        self,
        stream: Stream[Any, ValueT],
        windows: WindowKind,
        grace_ms: int,
        late: Topic[Any, Any] | None,
        name: str,
    ) -> None:
        self._stream = stream
        self._windows = windows
        self._grace_ms = grace_ms
        self._name = name
        self._late_topic = late
        self._aggregated: Port | None = None

    @property
    def late(self) -> Stream[KeyT, ValueT]:
        """The records that were late for a window, each once; ask after the aggregate."""
        if self._aggregated is None:
            msg = f"{self._stream._scope.stream}: take .late after the aggregate: w = s.window(...); w.count(); w.late"
            raise DefinitionError(msg)
        return Stream(self._stream._scope, Port(self._aggregated.node, late=True))

    def count(
        self, where: Callable[[ValueT], object] | None = None, /, *, name: str = ""
    ) -> Stream[KeyT, WindowResult[KeyT, int]]:
        """How many records, or how many that satisfy `where`."""
        return self._aggregate(agg.count(where), _step("count", where, name))

    def sum(self, f: Callable[[ValueT], N], /, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, N]]:
        """The exactly rounded sum of f(value)."""
        return self._aggregate(agg.sum(f), _step("sum", f, name))

    def min(self, f: Callable[[ValueT], U], /, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, U]]:
        """The smallest f(value)."""
        return self._aggregate(agg.min(cast("Callable[[ValueT], Any]", f)), _step("min", f, name))

    def max(self, f: Callable[[ValueT], U], /, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, U]]:
        """The largest f(value)."""
        return self._aggregate(agg.max(cast("Callable[[ValueT], Any]", f)), _step("max", f, name))

    def mean(self, f: Callable[[ValueT], float], /, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, float]]:
        """The exactly rounded mean of f(value)."""
        return self._aggregate(agg.mean(f), _step("mean", f, name))

    def first(self, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, ValueT]]:
        """The first value by (timestamp, source order)."""
        return self._aggregate(agg.first(), name or "first")

    def last(self, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, ValueT]]:
        """The last value by (timestamp, source order)."""
        return self._aggregate(agg.last(), name or "last")

    def collect(self, *, name: str = "") -> Stream[KeyT, WindowResult[KeyT, list[ValueT]]]:
        """All values by (timestamp, source order)."""
        return self._aggregate(agg.collect(), name or "collect")

    def reduce(self: Windowed[K, V], f: Callable[[V, V], V], /, *, name: str = "") -> Stream[K, WindowResult[K, V]]:
        """f(result so far, value) over the values by (timestamp, source order), which are kept until then."""
        return self._aggregate(agg.reduce(f), _step("reduce", f, name))

    def fold(
        self,
        initial: Callable[[], A],
        f: Callable[[A, ValueT], A],
        /,
        *,
        merge: Callable[[A, A], A] | None = None,
        name: str = "",
    ) -> Stream[KeyT, WindowResult[KeyT, A]]:
        """f(result so far, value), as reduce; with `merge` order does not matter: values are folded at once."""
        return self._aggregate(agg.fold(initial, f, merge=merge), _step("fold", f, name))

    def aggregate(
        self, into: type[T], /, *, name: str = "", **fields: Aggregate[ValueT, Any]
    ) -> Stream[KeyT, WindowResult[KeyT, T]]:
        """Several aggregates at once, as an object of a class with these fields."""
        return self._aggregate(agg.struct(into, fields), name or "aggregate")

    def distinct_count(
        self, by: Callable[[ValueT], Any] | None = None, /, *, name: str = ""
    ) -> Stream[KeyT, WindowResult[KeyT, int]]:
        """How many different values, or by(value)s; exact."""
        return self._aggregate(agg.distinct_count(by), _step("distinct_count", by, name))

    def largest(
        self, n: int, /, *, by: Callable[[ValueT], Any] | None = None, name: str = ""
    ) -> Stream[KeyT, WindowResult[KeyT, list[ValueT]]]:
        """The n values with the largest by(value); ties by (timestamp, source order)."""
        return self._aggregate(agg.largest(n, by=by), _step("largest", by, name))

    def _aggregate(self, aggregate: Aggregate[Any, Any], step: str) -> Stream[Any, Any]:
        operator = window_operator(self._windows, aggregate, grace_ms=self._grace_ms)
        stream = self._stream._then(
            operator, self._name or step, None, late=self._late_topic, windows=self._windows, value_type=None
        )
        self._aggregated = stream._port
        return stream


class Table(Generic[KeyT, ValueT]):
    """The latest value of each key, stored: what a running aggregate returns. Its updates can be sent on."""

    def __init__(self, rows: Stream[KeyT, ValueT], name: str) -> None:
        self._rows = rows
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(Stream, name):
            way = f"take its updates first, .updates().{name}(...)"
            if name in ("top", "with_previous"):
                way = f"it works on the results of a window, window(...).count().{name}(...)"
            msg = f"{self.name} gives a Table, which has no {name}: {way}"
            raise DefinitionError(msg)
        raise AttributeError(name)

    def updates(self) -> Stream[KeyT, ValueT]:
        """One record for every change: the new value, at the time of the record that changed it."""
        return self._rows

    def to(self, topic: Topic[Any, Any], /) -> Table[KeyT, ValueT]:
        """The updates also go to a topic."""
        self._rows.to(topic)
        return self


def _check_function(stream: str, step: str, f: Any) -> None:
    if not callable(f):
        msg = f"{stream}.{step} takes a function of the value, not {f!r}: lambda value: ..."
        raise DefinitionError(msg)
    if inspect.iscoroutinefunction(f):
        msg = f"{stream}.{step}: {f.__name__} is async, and steps cannot wait: use def"
        raise DefinitionError(msg)


def _step(verb: str, f: Callable[..., Any] | None, name: str) -> str:
    """A step's name: the one given, else the verb and the function's name."""
    function = getattr(f, "__name__", "")
    return name or (verb if function in ("", "<lambda>") else f"{verb}-{function}")


def _returned(f: Callable[..., Any]) -> Any:
    """The declared type of what a function returns; None when it declares none."""
    try:
        return get_type_hints(f).get("return")
    except (NameError, TypeError, AttributeError):
        return None  # annotations that only a type checker can resolve: the value describes itself


def _element(iterable: Any) -> Any:
    return get_args(iterable)[0] if get_origin(iterable) is not None and len(get_args(iterable)) == 1 else None
