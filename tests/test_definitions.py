"""Mistakes in an app are found when it is defined, before anything is read, and name the function and the way out."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest

from streamproc import (
    App,
    Context,
    DefinitionError,
    Operator,
    RecordError,
    Stream,
    counting,
    dead_letter,
    hopping,
    process,
    session,
    tumbling,
)
from streamproc.memory_log import MemoryLog
from streamproc.testing import Record, replay
from streamproc.testing.replay import run_now


def defined(f: Callable[[Stream[bytes, Any]], Any], *, to: int = 0, app: App | None = None, **topic: Any) -> App:
    """An app with one stream function, drawn."""
    app = app or App("wrong")
    source = app.topic("numbers", **{"key": bytes, "value": int, **topic})
    targets = tuple(app.topic(f"out-{n}") for n in range(to))
    app.stream(source, to=targets or None)(f)
    _ = app.plan
    return app


def one(numbers: Stream[bytes, int]) -> Any:
    return numbers


WRONG: dict[str, tuple[Callable[[Stream[bytes, Any]], Any], int, str]] = {
    "top of records": (lambda s: s.count().updates().top(3), 0, r"<lambda>: top works on the results of a window"),  # type: ignore[misc]
    "top of what was mapped": (
        lambda s: s.window(tumbling("1m")).count().map(lambda r: r).top(3),
        0,
        r"top works on the results of a window: window\(...\).count\(\).top\(...\)",
    ),
    "with_previous of sessions": (
        lambda s: s.window(session("1m")).count().with_previous(1, fill=0),
        0,
        "with_previous works on tumbling and hopping windows, not on session",
    ),
    "with_previous of counts": (
        lambda s: s.window(counting(3)).count().with_previous(1, fill=0),
        0,
        "with_previous works on tumbling and hopping windows, not on counting",
    ),
    "with_timestamp behind state": (
        lambda s: s.count().updates().with_timestamp(lambda v: v),
        0,
        "with_timestamp stands before the first .*stateful verb",
    ),
    "with_timestamp behind a re-key": (
        lambda s: s.key_by(lambda v: v).in_order().with_timestamp(lambda v: v),
        0,
        "with_timestamp stands before",
    ),
    "late before the aggregate": (
        lambda s: s.window(tumbling("1m")).late,
        0,
        r"take .late .*after (its|the) aggregate",
    ),
    "two steps of one name": (
        lambda s: (s.sum(lambda v: v), s.sum(lambda v: -v)),
        0,
        r"has two steps named 'sum'.*name='\.\.\.'",
    ),
    "too few streams": (lambda s: s, 2, "returns 1 stream and names 2 topics in to="),
    "no stream": (lambda s: None, 1, "returns None: return the stream that goes to 'out-0'"),
    "a window without an aggregate": (lambda s: s.window(tumbling("1m")), 1, "return the stream that goes to 'out-0'"),
    "an unknown policy": (
        lambda s: s.map(lambda v: v, on_error=cast("Any", "ignore")),
        0,
        "<lambda>.map: on_error='ignore' is no policy",
    ),
    "aggregate fields that the class has not": (
        lambda s: s.aggregate(dict, hits=1),  # type: ignore[arg-type]
        0,
        "hits",
    ),
    "zero of the largest": (lambda s: s.window(tumbling("1m")).largest(0), 0, "largest"),
    "top of none": (lambda s: s.window(tumbling("1m")).count().top(0), 0, "top"),
    "no windows before": (lambda s: s.window(tumbling("1m")).count().with_previous(0, fill=0), 0, "with_previous"),
    "a duration without unit": (lambda s: s.deduplicate(within="5"), 0, "5"),
    "a window of nothing": (lambda s: s.window(tumbling("0s")).count(), 0, "0s"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_stream(what: str) -> None:
    """Found when the function is run, which is when the app is first used."""
    f, to, said = WRONG[what]
    with pytest.raises(DefinitionError, match=said):
        defined(f, to=to)


def test_an_app_without_streams() -> None:
    """There is nothing to run."""
    with pytest.raises(DefinitionError, match=r"app 'empty' has no streams: decorate a function with @app.stream"):
        _ = App("empty").plan


def test_a_stream_that_reads_nothing() -> None:
    """A source is named at the decorator."""
    with pytest.raises(DefinitionError, match=r"stream 'one' reads nothing: @app.stream\(topic, ...\)"):
        App("wrong").stream()(one)


@pytest.mark.parametrize("place", ["source", "to"])
def test_what_is_no_topic(place: str) -> None:
    """A name is not a topic: it has no types."""
    app = App("wrong")
    numbers: Any = app.topic("numbers") if place == "to" else "numbers"
    with pytest.raises(DefinitionError, match=r"is no topic"):
        app.stream(numbers, to="out" if place == "to" else None)(one)  # type: ignore[arg-type]


def test_a_stream_defined_too_late() -> None:
    """After the plan is made, no stream can be added."""
    app = defined(one, to=1)
    with pytest.raises(DefinitionError, match="stream 'two' is defined after app 'wrong' was first used"):

        @app.stream(app.topic("more"))
        def two(more: Stream[bytes, Any]) -> Any:
            return more


def test_a_topic_twice() -> None:
    """A topic is declared once and handed on."""
    app = App("wrong")
    app.topic("numbers")
    with pytest.raises(DefinitionError, match=r"topic 'numbers' is declared twice: call app.topic once"):
        app.topic("numbers", value=int)


def test_a_stream_that_feeds_itself() -> None:
    """A topic that a stream both reads and writes would never end."""
    app = App("circle")
    numbers = app.topic("numbers", value=int)
    app.stream(numbers, to=numbers)(one)
    with pytest.raises(DefinitionError, match="feed themselves.*cannot read a topic that it writes"):
        _ = app.plan


def test_streams_in_a_circle() -> None:
    """Through another stream neither."""
    app = App("circle")
    a, b = app.topic("a", value=int), app.topic("b", value=int)

    @app.stream(a, to=b)
    def there(a: Stream[bytes, int]) -> Any:
        return a

    @app.stream(b, to=a)
    def back(b: Stream[bytes, int]) -> Any:
        return b

    with pytest.raises(DefinitionError, match="feed themselves|feed each other"):
        _ = app.plan


def test_the_time_of_a_chained_topic() -> None:
    """Records that a stream of the app writes keep their time, so the topic may not say another."""
    app = App("chained")
    a, b = app.topic("a", value=int), app.topic("b", value=int, timestamp=lambda v: v)

    @app.stream(a, to=b)
    def there(a: Stream[bytes, int]) -> Any:
        return a

    @app.stream(b)
    def on(b: Stream[bytes, int]) -> None:
        b.count()

    with pytest.raises(
        DefinitionError, match=r"topic 'b' is written by a stream of this app.*timestamp= must not be set"
    ):
        _ = app.plan


def test_topics_that_are_not_partitioned_alike() -> None:
    """Merged without a re-key, equal keys of two topics would be in different tasks: found when the log is known."""
    app = App("merged")
    a, b = app.topic("a", key=bytes, value=int), app.topic("b", key=bytes, value=int)

    @app.stream(a, b)
    def both(a: Stream[bytes, int], b: Stream[bytes, int]) -> None:
        a.merge(b).count()

    log = MemoryLog()
    run_now(log.create("a", partitions=2, config={}))
    run_now(log.create("b", partitions=3, config={}))
    topics = run_now(log.topics())
    with pytest.raises(
        DefinitionError, match=r"both.count works by key.*\(a has 2, b has 3\).*key_by\(...\) before it"
    ):
        app.plan.resolve(lambda name: topics[name].partitions)


@pytest.mark.parametrize("on_error", ["ignore", None, 5, "dead_letter"])
def test_a_policy_that_is_none(on_error: Any) -> None:
    """The message lists those there are."""
    with pytest.raises(DefinitionError, match=r'"fail", "skip" or dead_letter\("a-topic"\)'):
        App("wrong", on_error=on_error)


@pytest.mark.parametrize("name", ["", "a b", "ü", "..", "x" * 250])
def test_a_dead_letter_topic_has_a_topics_name(name: str) -> None:
    """Found at once, not with the first bad record."""
    with pytest.raises(DefinitionError):
        dead_letter(name)


@pytest.mark.parametrize("name", ["", "a b", "a/b"])
def test_the_name_of_an_app_is_part_of_topics(name: str) -> None:
    """So it has the form of one; found where it is written."""
    with pytest.raises(DefinitionError, match="is no name for an app: 1 to 249 letters"):
        App(name)


@pytest.mark.parametrize(
    "windows",
    [lambda: hopping("1m", every="0s"), lambda: counting(0), lambda: tumbling("x")],
    ids=("hopping", "counting", "tumbling"),
)
def test_windows_that_are_none(windows: Callable[[], Any]) -> None:
    """Found where they are written; inside a stream function, as an error of its definition."""
    with pytest.raises(ValueError, match="every='0s'|n=0|size='x'"):
        windows()
    with pytest.raises(DefinitionError, match="stream 'inside': (every='0s'|n=0|size='x')"):

        def inside(numbers: Stream[bytes, Any]) -> Any:
            return numbers.window(windows()).count()

        defined(inside)


def test_a_timer_that_nobody_hears() -> None:
    """A timer's name is one of the handlers': else the record is an error, which names those there are."""

    @process
    def waiting(value: int, ctx: Context[bytes, int | None]) -> Iterable[int]:
        ctx.timer("lte", after="1s")
        return []

    @waiting.on_timer("late")
    def late(ctx: Context[bytes, int | None]) -> Iterable[int]:
        return []

    app = App("wrong")

    @app.stream(app.topic("numbers", key=str, value=int))
    def stream(numbers: Stream[str, int]) -> None:
        numbers.process(waiting)

    with pytest.raises(
        RecordError, match=r"stream.waiting: .*timer 'lte' has no function: give it one with @FUNCTION.on_timer"
    ):
        replay(app, {"numbers": [Record(1, key="k")]})


def test_an_operator_of_ones_own_that_does_nothing() -> None:
    """An Operator without `process` fails with its first record, and says so."""

    class Nothing(Operator):
        pass

    app = App("own", on_error=dead_letter("dead"))

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def stream(numbers: Stream[bytes, int]) -> Any:
        return numbers.apply(Nothing())

    out = replay(app, {"numbers": [1]})
    assert out.errors == {"stream.Nothing": 1}


@pytest.mark.parametrize("verb", ["stream", "process", "map"])
def test_a_decorator_without_its_topic(verb: str) -> None:
    """Written bare, a decorator takes the function for its topic, and says so."""
    decorator: Any = getattr(App("bare"), verb)
    options = {"to": None} if verb == "map" else {}
    with pytest.raises(DefinitionError, match=rf"@app\.{verb}.*is no topic"):
        decorator(lambda value: value, **options)


def test_what_is_no_function() -> None:
    """A verb says at definition what it cannot call."""
    with pytest.raises(DefinitionError, match=r"one\.map takes a function of the value, not 'cab'"):
        defined(_named("one", lambda s: s.map("cab")), to=1)

    async def slow(value: int) -> int:
        return value

    with pytest.raises(DefinitionError, match=r"one\.map-slow: slow is async"):
        defined(_named("one", lambda s: s.map(slow)), to=1)


def _named(name: str, f: Any) -> Any:
    f.__name__ = name
    return f
