"""App: topics and stream functions under one name."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import tzinfo
from typing import Any, TypeVar, cast, overload

from streamproc.counted import counted
from streamproc.errors import DefinitionError
from streamproc.graph import Graph, Port, SinkNode
from streamproc.operators.process import ProcessFunction
from streamproc.plan import Plan
from streamproc.policy import DeadLetter, OnError, checked_policy
from streamproc.registered import classes_of
from streamproc.settings import Settings, load_settings
from streamproc.state.codec import Codec
from streamproc.stream import Scope, Stream, Table, Windowed
from streamproc.topic import Topic
from streamproc.topic_name import checked_topic_name
from streamproc.windows.duration import Duration, Instant

K = TypeVar("K")
K2 = TypeVar("K2")
V = TypeVar("V")
U = TypeVar("U")
S = TypeVar("S")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

To = Topic[Any, Any] | tuple[Topic[Any, Any], ...] | None


_TOPIC_OPTIONS = tuple(inspect.signature(Topic).parameters)[1:]


class App:
    """A named set of streams. The name is the consumer group and the prefix of internal topics: state lives under it.

    `on_error` holds for topics and verbs that say nothing else; the other keyword arguments are settings.
    Stream functions run once, when the app is first used.
    """

    def __init__(self, name: str, *, on_error: OnError = "fail", **settings: Any) -> None:
        self.name = checked_topic_name(name, of="an app")  # of internal topics it is the beginning
        self.on_error = checked_policy(on_error)
        self._settings = settings
        self._topics: dict[str, Topic[Any, Any]] = {}
        self._streams: list[tuple[Callable[..., Any], tuple[Topic[Any, Any], ...], To]] = []
        self._plan: Plan | None = None
        load_settings({}, {}, settings)  # a wrong one is an error here, not at the start

    # ------------------------------------------------------------------------------------ topics

    @overload
    def topic(
        self,
        name: str,
        *,
        decode: Callable[[bytes], V | None],
        timestamp: str | Callable[[V], Instant] | None = ...,
        grace: Duration = ...,
        tz: str | tzinfo | None = ...,
        on_error: OnError | None = ...,
        partitions: int | None = ...,
        retention: Duration | None = ...,
    ) -> Topic[bytes, V]: ...
    @overload
    def topic(
        self,
        name: str,
        *,
        key: type[K],
        value: type[V],
        decode: Callable[[bytes], V | None] | None = ...,
        timestamp: str | Callable[[V], Instant] | None = ...,
        grace: Duration = ...,
        tz: str | tzinfo | None = ...,
        on_error: OnError | None = ...,
        partitions: int | None = ...,
        retention: Duration | None = ...,
        lax: bool = ...,
    ) -> Topic[K, V]: ...
    @overload
    def topic(
        self,
        name: str,
        *,
        value: type[V],
        decode: Callable[[bytes], V | None] | None = ...,
        timestamp: str | Callable[[V], Instant] | None = ...,
        grace: Duration = ...,
        tz: str | tzinfo | None = ...,
        on_error: OnError | None = ...,
        partitions: int | None = ...,
        retention: Duration | None = ...,
        lax: bool = ...,
    ) -> Topic[bytes, V]: ...
    @overload
    def topic(
        self,
        name: str,
        *,
        key: type[K] = ...,
        timestamp: str | Callable[[Any], Instant] | None = ...,
        grace: Duration = ...,
        tz: str | tzinfo | None = ...,
        on_error: OnError | None = ...,
        partitions: int | None = ...,
        retention: Duration | None = ...,
        lax: bool = ...,
    ) -> Topic[Any, Any]: ...
    def topic(self, name: str, **options: Any) -> Topic[Any, Any]:
        """Declare a topic, to read from or to write to.

        key, value   the declared types: bytes, str, int, float, or what JSON holds (Struct, dataclass, TypedDict, ...)
        decode       f(bytes) -> value for a raw format; None leaves the record out
        timestamp    the field, or f(value), that holds the event time; else the record's own
        grace        how late a record may be; the default of every verb downstream
        tz           the zone of instants that have none
        lax          strings may stand for numbers, as in a CSV
        """
        if name in self._topics:
            msg = f"topic {name!r} is declared twice: call app.topic once and use what it returns"
            raise DefinitionError(msg)
        unknown = sorted(options.keys() - _TOPIC_OPTIONS)
        if unknown:
            msg = f"topic {name!r}: there is no option {unknown[0]!r}: options are {', '.join(_TOPIC_OPTIONS)}"
            raise DefinitionError(msg)
        topic = self._topics[name] = Topic(name, **options)
        return topic

    # ------------------------------------------------------------------------------------ streams

    @overload
    def stream(
        self, source: Topic[K, V], /, *, to: To = None
    ) -> Callable[[Callable[[Stream[K, V]], T]], Callable[[Stream[K, V]], T]]: ...
    @overload
    def stream(
        self, source: Topic[K, V], other: Topic[K2, U], /, *, to: To = None
    ) -> Callable[[Callable[[Stream[K, V], Stream[K2, U]], T]], Callable[[Stream[K, V], Stream[K2, U]], T]]: ...
    @overload
    def stream(self, *sources: Topic[Any, Any], to: To = None) -> Callable[[F], F]: ...
    def stream(self, *sources: Topic[Any, Any], to: To = None) -> Any:
        """The decorated function, of one stream a source, returns what goes to `to`: a stream, a table, or a tuple."""
        _check_topics("stream", sources)

        def register(f: F) -> F:
            self._add(f, sources, to)
            return f

        return register

    def map(
        self, source: Topic[Any, V], /, *, to: To, on_error: OnError | None = None
    ) -> Callable[[Callable[[V], U]], Callable[[V], U]]:
        """The decorated function of a value is a whole stream: each value becomes f(value)."""
        return self._verb(source, to, lambda stream, f: stream.map(f, on_error=on_error))

    def flat_map(
        self, source: Topic[Any, V], /, *, to: To, on_error: OnError | None = None
    ) -> Callable[[Callable[[V], Iterable[U]]], Callable[[V], Iterable[U]]]:
        """The decorated function of a value is a whole stream: each value becomes the values of f(value)."""
        return self._verb(source, to, lambda stream, f: stream.flat_map(f, on_error=on_error))

    def filter(
        self, source: Topic[Any, V], /, *, to: To, on_error: OnError | None = None
    ) -> Callable[[Callable[[V], bool]], Callable[[V], bool]]:
        """The decorated function of a value is a whole stream: the values for which it is true."""
        return self._verb(source, to, lambda stream, f: stream.filter(f, on_error=on_error))

    def process(
        self,
        source: Topic[Any, V],
        /,
        *,
        by: Callable[[V], Any] | None = None,
        to: To = None,
        on_error: OnError | None = None,
    ) -> Callable[[Callable[[V, Any], Iterable[U] | None]], ProcessFunction[Any, V, Any, U]]:
        """The decorated function of value and context is a whole stream with keyed state, re-keyed by by(value)."""
        _check_topics("process", (source,))

        def register(f: Callable[[V, Any], Iterable[U] | None]) -> ProcessFunction[Any, V, Any, U]:
            function: ProcessFunction[Any, V, Any, U] = ProcessFunction(f)

            def stream(values: Stream[Any, V]) -> Stream[Any, U]:
                keyed = values if by is None else values.key_by(by)
                return keyed.process(function, on_error=on_error)

            stream.__name__ = function.__name__
            self._add(stream, (source,), to)
            return function

        return register

    def _verb(self, source: Topic[Any, Any], to: To, verb: Callable[[Stream[Any, Any], F], Any]) -> Callable[[F], F]:
        _check_topics("map, .flat_map or .filter", (source,))

        def register(f: F) -> F:
            def stream(values: Stream[Any, Any]) -> Any:
                return verb(values, f)

            stream.__name__ = f.__name__
            self._add(stream, (source,), to)
            return f

        return register

    def _add(self, f: Callable[..., Any], sources: Sequence[Topic[Any, Any]], to: To) -> None:
        if self._plan is not None:
            msg = f"stream {f.__name__!r} is defined after app {self.name!r} was first used"
            raise DefinitionError(msg)
        if any(known.__name__ == f.__name__ for known, _, _ in self._streams):
            msg = f"app {self.name!r} has two streams named {f.__name__!r}: their state would be one; rename one"
            raise DefinitionError(msg)
        if not sources:
            msg = f"stream {f.__name__!r} reads nothing: @app.stream(topic, ...)"
            raise DefinitionError(msg)
        for topic in (*sources, *(to if isinstance(to, tuple) else (to,) if to is not None else ())):
            if not isinstance(topic, Topic):
                msg = f"stream {f.__name__!r}: {topic!r} is no topic: declare it with app.topic(...)"
                raise DefinitionError(msg)
        self._streams.append((f, tuple(sources), to))

    # ------------------------------------------------------------------------------------ use

    @property
    def plan(self) -> Plan:
        """The validated plan; made at first use."""
        if self._plan is None:
            if not self._streams:
                msg = f"app {self.name!r} has no streams: decorate a function with @app.stream(...)"
                raise DefinitionError(msg)
            graph = Graph()
            for f, sources, to in self._streams:
                self._draw(graph, f, sources, to)
            plan = Plan(self.name, graph)
            read = sorted(self._dead_letters(plan) & plan.read_topics)
            if read:
                msg = f"app {self.name!r} sends dead letters to {read[0]!r}, which a stream of it reads: name another"
                raise DefinitionError(msg)
            self._plan = plan
        return self._plan

    @property
    def topics(self) -> dict[str, Topic[Any, Any]]:
        """The declared topics by name."""
        return self._topics

    @property
    def dead_letter_topics(self) -> set[str]:
        """The topics that error policies write to."""
        return self._dead_letters(self.plan)

    def _dead_letters(self, plan: Plan) -> set[str]:
        policies = [self.on_error, *(node.on_error for node in plan.nodes)]
        return {policy.topic for policy in policies if isinstance(policy, DeadLetter)}

    def codec(self) -> Codec:
        """The codec of internal topics and state, with the classes that the app can be seen to use."""
        functions = [f for f, _, _ in self._streams]
        return Codec(classes_of([*functions, *(node.kind for node in self.plan.nodes)], self._topics.values()))

    def settings(self, flags: dict[str, Any], environment: dict[str, str]) -> Settings:
        """The settings in force: flags, else the environment, else what the app says, else the defaults."""
        return load_settings(flags, environment, self._settings)

    def main(self) -> None:
        """Run the app from the command line, as `streamproc run MODULE:APP` does."""
        from streamproc.cli import run_app  # noqa: PLC0415 - the command line imports what apps do not need

        run_app(self, sys.argv[1:])

    def _draw(self, graph: Graph, f: Callable[..., Any], sources: Sequence[Topic[Any, Any]], to: To) -> None:
        streams = [self._source(graph, f.__name__, topic) for topic in sources]
        try:
            result = f(*streams)
        except (TypeError, ValueError) as error:
            msg = f"stream {f.__name__!r}: {error}"
            raise DefinitionError(msg) from error
        targets = to if isinstance(to, tuple) else (to,)
        results = result if isinstance(result, tuple) else (result,)
        if to is None:
            drawn = [node for node in graph.nodes if node.stream == f.__name__]
            if isinstance(result, Stream) and not any(isinstance(node.kind, SinkNode) for node in drawn):
                msg = f"stream {f.__name__!r} returns a stream that goes nowhere: name a topic in to=, or return None"
                raise DefinitionError(msg)
            return
        if len(targets) != len(results):
            gives, names = counted(len(results), "stream"), counted(len(targets), "topic")
            msg = f"stream {f.__name__!r} returns {gives} and names {names} in to="
            raise DefinitionError(msg)
        for one, topic in zip(results, targets, strict=True):
            if not isinstance(one, (Stream, Table)):
                what = "a window without an aggregate, .count() for one" if isinstance(one, Windowed) else repr(one)
                msg = f"stream {f.__name__!r} returns {what}: return the stream that goes to {topic.name!r}"  # type: ignore[union-attr]
                raise DefinitionError(msg)
            one.to(cast("Topic[Any, Any]", topic))

    def _source(self, graph: Graph, stream: str, topic: Topic[Any, Any]) -> Stream[Any, Any]:
        on_error = topic.on_error or self.on_error
        node = graph.source(topic, on_error=on_error)
        scope = Scope(graph, stream, on_error, topic.grace_ms or 0, value_type=topic.value_type)
        return Stream(scope, Port(node.id))


def _check_topics(verb: str, sources: Sequence[Any]) -> None:
    for source in sources:
        if not isinstance(source, Topic):
            within = (
                "; a function for a stream's .process is decorated with streamproc.process" if verb == "process" else ""
            )
            msg = f"@app.{verb} takes topics, as app.topic(...) declares them: {source!r} is no topic{within}"
            raise DefinitionError(msg)
