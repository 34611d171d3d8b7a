"""The fluent API as a type checker sees it: mypy, which checks the tests too, fails where a type is another one."""

from collections.abc import Iterable, Mapping
from typing import Any, assert_type

from msgspec import Struct
from typing_extensions import TypeIs

from streamproc import (
    App,
    Context,
    Previous,
    Record,
    Stream,
    Table,
    Top,
    Topic,
    Windowed,
    WindowResult,
    agg,
    counting,
    hopping,
    process,
    session,
    tumbling,
)


class Tweet(Struct):
    user: str
    text: str
    likes: int


class Stats(Struct):
    count: int
    likes: int


def tags(tweet: Tweet) -> list[str]:
    return tweet.text.split()


def is_str(value: str | int) -> TypeIs[str]:
    return isinstance(value, str)


@process
def alert(tweet: Tweet, ctx: Context[str, int | None]) -> Iterable[float]:
    assert_type(ctx.key, str)
    assert_type(ctx.state, int | None)
    assert_type(ctx.timestamp, int)
    yield 1.5


def test_the_types_of_verbs() -> None:
    """A stream knows its key and its value through every verb."""
    app = App("types")
    tweets = app.topic("tweets", key=bytes, value=Tweet)
    raw = app.topic("raw", decode=lambda line: line.decode())
    assert_type(tweets, Topic[bytes, Tweet])
    assert_type(raw, Topic[bytes, str])

    @app.stream(tweets)
    def plain(s: Stream[bytes, Tweet]) -> None:
        assert_type(s.map(lambda t: t.likes), Stream[bytes, int])
        assert_type(s.flat_map(tags), Stream[bytes, str])
        assert_type(s.filter(lambda t: t.likes > 1), Stream[bytes, Tweet])
        assert_type(s.map(lambda t: t.text if t.likes else None).drop_none(), Stream[bytes, str])
        assert_type(s.inspect(print), Stream[bytes, Tweet])
        assert_type(s.records(), Stream[bytes, Record[bytes, Tweet]])
        assert_type(s.key_by(lambda t: t.user), Stream[str, Tweet])
        assert_type(s.split(lambda t: t.likes > 1), tuple[Stream[bytes, Tweet], Stream[bytes, Tweet]])
        assert_type(s.branch(a=lambda t: t.likes > 1), Mapping[str, Stream[bytes, Tweet]])
        assert_type(s.pipe(lambda it: it.map(lambda t: t.likes)), Stream[bytes, int])
        assert_type(s.with_timestamp(lambda t: t.likes), Stream[bytes, Tweet])

    _ = app.plan


def test_the_types_of_state() -> None:
    """Running aggregates are tables, windows give results, top and with_previous are of those."""
    app = App("types")

    @app.stream(app.topic("tweets", key=bytes, value=Tweet))
    def stateful(s: Stream[bytes, Tweet]) -> None:
        by_user = s.key_by(lambda t: t.user)
        assert_type(by_user.count(), Table[str, int])
        assert_type(by_user.sum(lambda t: t.likes), Table[str, int])
        assert_type(by_user.sum(lambda t: t.likes / 2, name="halves"), Table[str, float])
        assert_type(by_user.mean(lambda t: t.likes), Table[str, float])
        assert_type(by_user.max(lambda t: t.text), Table[str, str])
        assert_type(by_user.fold(int, lambda total, t: total + t.likes), Table[str, int])
        assert_type(by_user.aggregate(Stats, count=agg.count(), likes=agg.sum(lambda t: t.likes)), Table[str, Stats])
        assert_type(by_user.latest(), Table[str, Tweet])
        assert_type(by_user.latest(name="again").updates(), Stream[str, Tweet])
        assert_type(by_user.deduplicate(lambda t: t.text, within="1m"), Stream[str, Tweet])
        assert_type(by_user.in_order(), Stream[str, Tweet])
        assert_type(by_user.process(alert), Stream[str, float])

    _ = app.plan


def test_the_types_of_windows() -> None:
    """Whatever the windows, the aggregate says the value."""
    app = App("types")

    @app.stream(app.topic("tweets", key=bytes, value=Tweet))
    def windowed(s: Stream[bytes, Tweet]) -> None:
        by_user = s.key_by(lambda t: t.user)
        minutes = by_user.window(tumbling("1m"))
        assert_type(minutes, Windowed[str, Tweet])
        counts = minutes.count()
        assert_type(counts, Stream[str, WindowResult[str, int]])
        assert_type(minutes.late, Stream[str, Tweet])
        assert_type(counts.map(lambda row: row.value), Stream[str, int])
        assert_type(counts.top(3), Stream[Any, Top[str, int]])
        assert_type(counts.with_previous(2, fill=0), Stream[str, WindowResult[str, Previous[int]]])
        sessions = by_user.window(session("1m"), name="sessions").aggregate(
            Stats, count=agg.count(), likes=agg.sum(lambda t: t.likes)
        )
        assert_type(sessions, Stream[str, WindowResult[str, Stats]])
        assert_type(by_user.window(counting(3), name="threes").collect(), Stream[str, WindowResult[str, list[Tweet]]])
        assert_type(
            by_user.window(hopping("1m", every="1s"), name="hops").last(), Stream[str, WindowResult[str, Tweet]]
        )
        assert_type(s.window_all(tumbling("1m")).mean(lambda t: t.likes), Stream[None, WindowResult[None, float]])
        assert_type(
            by_user.window(tumbling("1h"), name="hours").largest(2, by=lambda t: t.likes),
            Stream[str, WindowResult[str, list[Tweet]]],
        )

    _ = app.plan


def test_the_types_of_merges() -> None:
    """A merge has the values of both; a filter with a TypeIs narrows them."""
    app = App("types")

    @app.stream(app.topic("a", key=str, value=str), app.topic("b", key=str, value=int))
    def merged(a: Stream[str, str], b: Stream[str, int]) -> None:
        both = a.merge(b)
        assert_type(both, Stream[str, str | int])
        assert_type(both.filter(is_str), Stream[str, str])

    _ = app.plan


def test_the_types_of_decorators() -> None:
    """Decorated functions keep their types."""
    app = App("types")
    numbers = app.topic("numbers", value=int)

    @app.map(numbers, to=app.topic("out"))
    def doubled(value: int) -> float:
        return value * 2.0

    assert_type(doubled(1), float)

    @app.filter(numbers, to=app.topic("some"))
    def some(value: int) -> bool:
        return value > 1

    assert_type(some(1), bool)
