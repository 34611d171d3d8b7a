"""What an app is, seen from outside."""

import inspect
from collections.abc import Iterable
from typing import Any

import pytest
from msgspec import Struct

import streamproc
from streamproc import (
    App,
    Context,
    DeadLetter,
    ProcessFunction,
    Stream,
    Table,
    Windowed,
    agg,
    dead_letter,
    hopping,
    process,
    tumbling,
)
from streamproc.state.codec import Codec
from streamproc.testing import Record, replay

# -------------------------------------------------------------------------------------- the public names


@pytest.mark.parametrize("name", streamproc.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    """Whatever `from streamproc import ...` gives says what it is."""
    assert inspect.getdoc(getattr(streamproc, name)), name


@pytest.mark.parametrize("cls", [App, Stream, Windowed, Table, Context, agg], ids=lambda cls: cls.__name__)
def test_public_methods_are_documented(cls: Any) -> None:
    """So is each verb, each decorator, each aggregate."""
    names = agg.__all__ if cls is agg else [name for name in vars(cls) if not name.startswith("_")]
    slots = getattr(cls, "__slots__", ())  # these, the docstring of the class tells of
    bare = [name for name in names if name not in slots and not inspect.getdoc(getattr(cls, name))]
    assert not bare
    assert all(name in (inspect.getdoc(cls) or "") for name in slots if not name.startswith("_"))


@pytest.mark.parametrize("cls", [App, Stream, Windowed, Table], ids=lambda cls: cls.__name__)
def test_at_most_two_positional_parameters(cls: Any) -> None:
    """What a call means is read in it: beyond two, arguments have names."""
    for name, function in inspect.getmembers(cls, inspect.isfunction):
        if not name.startswith("_"):
            positional = [
                p
                for p in inspect.signature(function).parameters.values()
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            ]
            assert len(positional) <= 3, name  # self is one


def test_nothing_else_is_public() -> None:
    """`__all__` is sorted, so that a name is found, and names what is there."""
    assert sorted(streamproc.__all__) == streamproc.__all__ == list(dict.fromkeys(streamproc.__all__))


# -------------------------------------------------------------------------------------- decorators


def test_a_function_of_a_value_is_a_stream() -> None:
    """@app.map, @app.filter and @app.flat_map make a whole stream of a plain function, which stays one."""
    app = App("verbs")
    words = app.topic("words", value=str)

    @app.map(words, to=app.topic("lengths"))
    def length(word: str) -> int:
        return len(word)

    @app.filter(words, to=app.topic("long", value=str))
    def is_long(word: str) -> bool:
        return len(word) > 2

    @app.flat_map(words, to=app.topic("letters", value=str))
    def letters(word: str) -> list[str]:
        return list(word)

    out = replay(app, {"words": ["a", "bcd"]})
    assert (out["lengths"], out["long"], out["letters"]) == ([1, 3], ["bcd"], ["a", "b", "c", "d"])
    assert (length("xy"), is_long("xy"), letters("xy")) == (2, False, ["x", "y"])


def test_a_verb_decorator_has_a_policy() -> None:
    """on_error= at the decorator is that of its verb."""
    app = App("verbs")

    @app.map(app.topic("numbers", value=int), to=app.topic("out"), on_error="skip")
    def inverse(number: int) -> float:
        return 1 / number

    out = replay(app, {"numbers": [0, 1]})
    assert out["out"] == [1]
    assert out.errors == {"inverse.map-inverse": 1}


def test_process_as_a_stream() -> None:
    """@app.process re-keys, keeps state, hears timers, and gives a function that can be called and used as a verb."""
    app = App("process")
    visits = app.topic("visits", value=str)

    @app.process(visits, by=lambda visit: visit[0], to=app.topic("out", value=str))
    def seen(visit: str, ctx: Context[str, int | None]) -> Iterable[str]:
        ctx.state = (ctx.state or 0) + 1
        ctx.timer("quiet", after="10s")
        yield f"{ctx.key}{ctx.state}"

    @seen.on_timer("quiet")
    def quiet(ctx: Context[str, int | None]) -> Iterable[str]:
        yield f"{ctx.key} was quiet"

    @app.stream(app.topic("more", value=str), to=app.topic("again", value=str))
    def more(more: Stream[bytes, str]) -> Any:
        return more.key_by(lambda visit: visit[0]).process(seen)

    assert isinstance(seen, ProcessFunction)
    rows = [Record(v, timestamp=t) for v, t in (("ax", 0), ("ay", 1), ("bx", 60_000), ("bx", 60_001))]
    out = replay(app, {"visits": rows, "more": rows})
    assert sorted(out["out"]) == sorted(out["again"]) == ["a was quiet", "a1", "a2", "b1", "b2"]


def test_stream_functions_stay_callable() -> None:
    """A decorated stream function is the function: a test may call it with a stream of its own."""
    app = App("plain")

    @app.stream(app.topic("numbers", value=int))
    def same(numbers: Stream[bytes, int]) -> Any:
        return numbers

    marker: Any = object()
    assert same(marker) is marker


# -------------------------------------------------------------------------------------- streams


def test_a_stream_is_drawn_once_and_late() -> None:
    """The function runs at first use, so helpers may stand below it; and once, so it may count on that."""
    app = App("late")
    drawn = []

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        drawn.append(1)
        return numbers.map(below)

    def below(number: int) -> int:
        return number + 1

    assert drawn == []
    assert app.plan is app.plan
    assert replay(app, {"numbers": [1]})["out"] == [2]
    assert drawn == [1]


def test_a_stream_forks_and_is_re_keyed_once() -> None:
    """Used twice, its records go through one internal topic, and the source is read once by all streams."""
    app = App("fork")
    numbers = app.topic("numbers", value=int)

    @app.stream(numbers, to=(app.topic("a"), app.topic("b")))
    def one(numbers: Stream[bytes, int]) -> Any:
        keyed = numbers.key_by(lambda v: v % 2)
        return keyed.count(), keyed.sum(lambda v: v)

    @app.stream(numbers, to=app.topic("c"))
    def two(numbers: Stream[bytes, int]) -> Any:
        return numbers

    assert [stage.name for stage in app.plan.stages] == ["numbers", "one-key_by"]
    out = replay(app, {"numbers": [1, 2, 3]})
    assert "fork-one-key_by-repartition" in out
    assert (sorted(out["a"]), sorted(out["b"]), out["c"]) == ([1, 1, 2], [1, 2, 4], [1, 2, 3])


def test_several_sources_and_outputs() -> None:
    """A function of two streams; a tuple of outputs; `to` inside, also by value; parts with and without a name."""
    app = App("several")
    a, b = app.topic("a", value=int), app.topic("b", value=int)
    low, high, rest = app.topic("low"), app.topic("high"), app.topic("rest")

    @app.stream(a, b, to=(app.topic("all"), app.topic("even")))
    def both(a: Stream[bytes, int], b: Stream[bytes, int]) -> Any:
        merged = a.merge(b)
        even, odd = merged.split(lambda v: v % 2 == 0)
        odd.to(lambda v: low if v < 5 else high)
        parts = merged.branch(small=lambda v: v < 3, other=lambda v: v < 100)
        parts["other"].to(rest)
        return merged, even

    out = replay(app, {"a": [1, 2, 7], "b": [4, 200]})
    assert {name: sorted(out[name]) for name in ("all", "even", "low", "high", "rest")} == {
        "all": [1, 2, 4, 7, 200],
        "even": [2, 4, 200],
        "low": [1],
        "high": [7],
        "rest": [4, 7],
    }


def test_streams_chained_through_a_topic_are_one_plan() -> None:
    """What one stream writes and another reads goes through an internal topic too; the user's topic has it."""
    app = App("chained")
    words, counts = app.topic("words", value=str), app.topic("counts", key=str, value=int)

    @app.stream(words, to=counts)
    def count(words: Stream[bytes, str]) -> Any:
        return words.key_by(lambda w: w).count()

    @app.stream(counts, to=app.topic("out"))
    def windows(counts: Stream[str, int]) -> Any:
        return counts.window(tumbling("10s")).count().map(lambda row: [row.key, row.start, row.value])

    rows = [Record(w, timestamp=t * 1_000) for t, w in enumerate("aabab" * 5)]
    for seed in range(5):
        out = replay(app, {"words": rows}, seed=seed, batch_size=4, partitions=2)
        assert sorted(out["counts"]) == [*sorted([*range(1, 16), *range(1, 11)])]
        assert sorted(out["out"]) == [
            ["a", 0, 6],
            ["a", 10_000, 6],
            ["a", 20_000, 3],
            ["b", 0, 4],
            ["b", 10_000, 4],
            ["b", 20_000, 2],
        ]
        assert out.late == {}


def test_the_late_ones() -> None:
    """Late records of a window, as a stream and to a topic, each once."""
    app = App("late")
    late = app.topic("late")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=(app.topic("counts"), app.topic("stream")))
    def one(numbers: Stream[bytes, int]) -> Any:
        w = numbers.window(hopping("10s", every="5s"), late=late)
        return w.count(), w.late

    rows = [Record(v, key=b"k", timestamp=v * 1_000) for v in (1, 30, 2, 28, 31)]
    out = replay(app, {"numbers": rows})
    assert out["late"] == out["stream"] == [2, 28]  # 28 was late for [20, 30), and counted in [25, 35)
    assert {row["start"]: row["value"] for row in out["counts"]} == {-5_000: 1, 0: 1, 25_000: 3, 30_000: 2}
    assert out.late == {"one.count": 2}


def test_records_have_their_headers() -> None:
    """records() gives key, value, time and headers."""
    app = App("records")

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out"))
    def one(numbers: Stream[str, int]) -> Any:
        return numbers.records().map(lambda r: [r.key, r.value, r.timestamp, len(r.headers)])

    assert replay(app, {"numbers": [Record(5, key="k", timestamp=7)]})["out"] == [["k", 5, 7, 0]]


# -------------------------------------------------------------------------------------- what an app knows


class Visit(Struct):
    page: str


def test_dead_letter_topics() -> None:
    """Those of the app, its topics and its verbs: they are made at the start."""
    app = App("dead", on_error=dead_letter("of-app"))
    numbers = app.topic("numbers", value=int, on_error=dead_letter("of-topic"))

    @app.stream(numbers, to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda v: v, on_error=dead_letter("of-verb")).map(lambda v: v, on_error="skip")

    assert app.dead_letter_topics == {"of-app", "of-topic", "of-verb"}
    assert {"of-app", "of-topic", "of-verb"} < set(replay(app, {}))
    assert dead_letter("x") == DeadLetter("x")


def test_the_codec_knows_the_classes_that_can_be_seen() -> None:
    """Those of topics, annotations and aggregates: their instances come back from state as what they were."""
    app = App("classes")

    class Stats(Struct):
        hits: int
        last: Visit

    @app.stream(app.topic("visits", value=Visit))
    def one(visits: Stream[bytes, Visit]) -> None:
        visits.key_by(lambda v: v.page).aggregate(Stats, hits=agg.count(), last=agg.last())

    codec = app.codec()
    assert isinstance(codec, Codec)
    visit = Visit("/")
    assert codec.decode(codec.encode_column([visit])[0]) == visit
    assert replay(app, {"visits": [visit, visit]}).table("aggregate") == {"/": Stats(2, visit)}


def test_topics_by_name() -> None:
    """For those that look at an app from outside."""
    app = App("names")
    numbers = app.topic("numbers", value=int)
    assert app.topics == {"numbers": numbers}


def test_a_process_function_of_ones_own_module_is_used_twice() -> None:
    """One function, two streams: each has its own state."""

    @process
    def counted(value: int, ctx: Context[int, int | None]) -> Iterable[int]:
        ctx.state = (ctx.state or 0) + 1
        yield ctx.state

    app = App("twice")
    numbers = app.topic("numbers", value=int)

    @app.stream(numbers, to=(app.topic("a"), app.topic("b")))
    def one(numbers: Stream[bytes, int]) -> Any:
        keyed = numbers.key_by(lambda v: v)
        return keyed.process(counted), keyed.process(counted, name="again")

    out = replay(app, {"numbers": [1, 1, 2]})
    assert sorted(out["a"]) == sorted(out["b"]) == [1, 1, 2]
