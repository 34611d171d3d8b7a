"""Whatever cannot be processed is named, never lost, never doubled, never passed over in silence."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, cast

import pytest
from msgspec import Struct

from streamproc import (
    App,
    Context,
    DefinitionError,
    PlanChanged,
    RecordError,
    Stream,
    agg,
    dead_letter,
    process,
    session,
    tumbling,
)
from streamproc.errors import MissingKey
from streamproc.log import Partition, UnknownTopic
from streamproc.state.memory import MemoryDisk
from streamproc.testing import Record, replay
from streamproc.testing.replay import run_now
from streamproc.worker import Worker
from tests.live import Live, Row, ints

BAD = 13
PLACES = (0, 4, 6, 7, 11)
"""Of twelve records in batches of four: the first of all, first, middle and last of a batch, the last of all."""


def checked(value: int) -> int:
    if value == BAD:
        raise ValueError("thirteen")
    return value


def to_half(stream: Stream[Any, Any], app: App) -> Stream[Any, Any]:
    low, high = app.topic("low"), app.topic("high")
    stream.to(lambda v: low if checked(v) < 5 else high)
    return stream.filter(lambda v: v < 12)


@process
def adding(value: int, ctx: Context[bytes, int | None]) -> Iterable[int]:
    ctx.state = (ctx.state or 0) + value
    ctx.timer("told", after="1s")
    checked(value)  # what was changed before is undone
    yield ctx.state


@adding.on_timer("told")
def told(ctx: Context[bytes, int | None]) -> Iterable[str]:
    yield f"told {ctx.state}"


class Sums(Struct):
    total: int
    count: int


VERBS: dict[str, Callable[[Stream[Any, Any], App], Any]] = {
    "map": lambda s, _: s.map(checked),
    "flat_map": lambda s, _: s.flat_map(lambda v: [checked(v), v]),
    "flat_map'd rows": lambda s, _: s.flat_map(lambda v: [[v]]).map(lambda row: checked(row[0])),
    "filter": lambda s, _: s.filter(lambda v: checked(v) >= 0),
    "inspect": lambda s, _: s.inspect(checked),
    "split": lambda s, _: s.split(lambda v: checked(v) % 2)[0],
    "branch": lambda s, _: s.branch(odd=lambda v: checked(v) % 2, even=lambda v: v >= 0)["even"],
    "to": to_half,
    "key_by": lambda s, _: s.key_by(checked).count(),
    "with_timestamp": lambda s, _: s.with_timestamp(lambda v: checked(v) * 1_000).window(tumbling("5s")).count(),
    "sum": lambda s, _: s.sum(checked),
    "fold": lambda s, _: s.fold(list, lambda held, v: [*held, checked(v)]),
    "fold in place": lambda s, _: s.fold(list, lambda held, v: (held.append(v), checked(v), held)[2]),
    "reduce": lambda s, _: s.reduce(lambda a, b: a + checked(b)),
    "aggregate": lambda s, _: s.aggregate(Sums, count=agg.count(), total=agg.sum(checked)),
    "deduplicate": lambda s, _: s.deduplicate(checked, within="1m"),
    "process": lambda s, _: s.process(adding),
    "window sum": lambda s, _: s.window(tumbling("3s")).sum(checked),
    "window aggregate": lambda s, _: s.window(tumbling("3s")).aggregate(
        Sums, count=agg.count(), total=agg.sum(checked)
    ),
    "window count": lambda s, _: s.window(tumbling("3s")).count(checked),
    "window distinct_count": lambda s, _: s.window(tumbling("3s")).distinct_count(checked),
    "window largest": lambda s, _: s.window(tumbling("3s")).largest(2, by=checked),
    "window fold with merge": lambda s, _: s.window(tumbling("3s")).fold(
        int, lambda a, v: a + checked(v), merge=int.__add__
    ),
    "session": lambda s, _: s.window(session("2s")).sum(checked),
    "behind a re-key": lambda s, _: s.key_by(lambda v: v % 2).window(tumbling("3s")).sum(checked),
}


def made_list() -> list[int]:
    return []


def app_with(verb: str, **options: Any) -> App:
    app = App("bad", **options)
    numbers = app.topic("numbers", key=bytes, value=int, grace="2s")

    @app.stream(numbers, to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return VERBS[verb](numbers, app)

    return app


def numbers_with(place: int | None) -> list[Record]:
    """Twelve records of two keys, a second apart; one, at its place and at the time of the one before, is bad."""
    good = [Record(v, key=b"ab"[v % 2 : v % 2 + 1], timestamp=v * 1_000) for v in range(12)]
    if place is not None:
        bad = Record(BAD, key=b"a", timestamp=max(0, place - 1) * 1_000)
        good.insert(place, bad)
    return good


def outcome(out: Any) -> dict[str, Any]:
    """All that was written, but for dead letters."""
    return {name: out.records(name) for name in ("out", "low", "high") if name in list(out)}


# -------------------------------------------------------------------------------------- functions that raise


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", VERBS)
def test_skip(verb: str, place: int) -> None:
    """A record that a verb's function fails on is counted and left out; all else is as if it had never come."""
    app = app_with(verb, on_error="skip")
    out = replay(app, {"numbers": numbers_with(place)}, batch_size=4)
    clean = replay(app_with(verb), {"numbers": numbers_with(None)}, batch_size=4)
    if verb != "reduce" or place:  # the first value of a key is not given to the function
        assert sum(out.errors.values()) == 1
        assert outcome(out) == outcome(clean)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", VERBS)
def test_dead_letter(verb: str, place: int) -> None:
    """A dead letter has the bytes of the record and says in headers what failed where; all else is as without it."""
    app = app_with(verb, on_error=dead_letter("dead"))
    out = replay(app, {"numbers": numbers_with(place)}, batch_size=4)
    if verb == "reduce" and not place:
        return
    clean = replay(app_with(verb), {"numbers": numbers_with(None)}, batch_size=4)
    assert outcome(out) == outcome(clean)
    [letter] = out.records("dead")
    assert letter.value == b"13"
    headers = {name.removeprefix("streamproc-error-"): data.decode() for name, data in letter.headers.items()}
    assert headers.keys() == {"operator", "topic", "partition", "offset", "timestamp", "type", "message"}
    assert headers["type"] == "ValueError"
    assert headers["message"] == "thirteen"
    assert headers["operator"].startswith("one.")
    if verb != "behind a re-key":
        assert letter.key == b"a"
        assert (headers["topic"], headers["partition"], headers["offset"]) == ("numbers", "0", str(place))
        assert int(headers["timestamp"]) == letter.timestamp == max(0, place - 1) * 1_000


def by_key(rows: Iterable[Row]) -> list[Row]:
    """Rows in the order of each key; how keys follow each other depends on where an epoch ends."""
    return sorted(rows, key=lambda row: repr(row.key))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", VERBS)
def test_fail(verb: str, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends and names the record, as often as it is tried; once mended, nothing is missing or doubled."""
    if verb == "reduce" and not place:
        return
    live = Live(chunk_records=4, epoch_records=3)
    live.create("numbers")
    rows = [Row(r.key, b"%d" % r.value, cast("int", r.timestamp)) for r in numbers_with(place)]
    live.send("numbers", *rows)
    for _ in range(2):
        with pytest.raises(RecordError, match="ValueError: thirteen") as caught:
            live.run(app_with(verb))
        where = caught.value.where
        assert where.operator.startswith("one.")
        assert isinstance(caught.value.__cause__, ValueError)
        if verb != "behind a re-key":
            assert (where.topic, where.partition, where.offset) == ("numbers", 0, place)
            assert (where.key, where.timestamp) == (b"a", max(0, place - 1) * 1_000)
            assert str(where) in str(caught.value)
    monkeypatch.setitem(globals(), "BAD", None)
    live.run(app_with(verb))
    other = Live()
    other.create("numbers")
    other.send("numbers", *rows)
    other.run(app_with(verb))
    for topic in ("out", "low", "high"):
        if topic in app_with(verb).topics or verb == "to" and topic != "out":
            assert by_key(live.rows(topic)) == by_key(other.rows(topic))


@pytest.mark.parametrize("place", PLACES)
def test_state_before_the_culprit_counts_once(place: int) -> None:
    """A batch that fails behind a running count is taken back before it is read again: nothing is counted twice."""

    def counted(then: Callable[[Stream[bytes, tuple[int, int]]], Any]) -> App:
        app = App("counted", on_error="skip")
        numbers = app.topic("numbers", key=bytes, value=int)

        @app.stream(numbers, to=app.topic("out"))
        def one(numbers: Stream[bytes, int]) -> Any:
            return then(numbers.fold(made_list, lambda held, v: [*held, v]).updates().map(lambda h: (len(h), h[-1])))

        return app

    failing = counted(lambda s: s.map(lambda pair: (pair[0], checked(pair[1]))))
    filtering = counted(lambda s: s.filter(lambda pair: pair[1] != BAD))
    out = replay(failing, {"numbers": numbers_with(place)}, batch_size=4)
    expected = replay(filtering, {"numbers": numbers_with(place)}, batch_size=4)
    assert out["out"] == expected["out"]
    assert out.table("fold") == expected.table("fold")
    assert sum(map(len, out.table("fold").values())) == 13
    assert out.errors == {"one.map-2": 1}


def test_it_is_the_rollback_that_keeps_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: without taking the batch back, its records are counted twice, and the test above would see it."""
    app = App("counted", on_error="skip")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.inspect(lambda v: None).count().updates().map(lambda n: 1 // (n - 5)).map(str)

    monkeypatch.setattr("streamproc.state.table.Table.rollback", lambda table: None)
    assert replay(app, {"numbers": numbers_with(None)}, batch_size=4).table("count") != {b"a": 6, b"b": 6}


@pytest.mark.parametrize("policy", ["fail", "skip", dead_letter("dead")])
@pytest.mark.parametrize("behind", ["read", "key"])
def test_a_fold_at_close(policy: Any, behind: str) -> None:
    """A window whose fold fails when it closes is named by key and time, and left out alone; no record is to blame."""
    app = App("closing", on_error=policy)
    numbers = app.topic("numbers", key=str, value=int)

    @app.stream(numbers, to=app.topic("out"))
    def one(numbers: Stream[str, int]) -> Any:
        keyed: Stream[Any, int] = numbers if behind == "read" else numbers.key_by(lambda v: "ab"[v % 2])
        return keyed.window(tumbling("4s")).fold(int, lambda a, v: a + checked(v))

    records = [Record(r.value, key=r.key.decode(), timestamp=r.timestamp) for r in numbers_with(6)]
    if policy == "fail":
        with pytest.raises(RecordError, match=r"one.fold: key .*, timestamp 7999: ValueError: thirteen") as caught:
            replay(app, {"numbers": records}, batch_size=4)
        assert caught.value.where.offset is None
        return
    out = replay(app, {"numbers": records}, batch_size=4)
    got = [(row["key"], row["start"], row["value"]) for row in out["out"]]
    lost = ("b", 4_000) if behind == "key" else ("a", 4_000)
    expected = [("a", 0, 2), ("b", 0, 4), ("a", 4_000, 10), ("b", 4_000, 12), ("a", 8_000, 18), ("b", 8_000, 20)]
    assert sorted(got) == sorted(row for row in expected if row[:2] != lost)
    assert out.errors == {"one.fold": 1}
    if policy != "skip":
        [letter] = out.records("dead")
        assert letter.key == lost[0].encode()
        assert letter.value is None
        assert letter.timestamp == 7_999
        assert letter.headers["streamproc-error-operator"] == b"one.fold"
        assert "streamproc-error-offset" not in letter.headers


@pytest.mark.parametrize("policy", ["fail", "skip", dead_letter("dead")])
def test_behind_a_window(policy: Any) -> None:
    """A function that fails on a window's result is not blamed on the record that happened to close the window."""
    app = App("behind", on_error=policy)
    numbers = app.topic("numbers", key=bytes, value=int)

    @app.stream(numbers, to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.window(tumbling("4s")).count().map(lambda row: checked(13 if row.key == b"a" else 0))

    records = [Record(v, key=b"ab"[v % 2 : v % 2 + 1], timestamp=v * 1_000) for v in range(4)]
    records.append(Record(99, key=b"z", timestamp=100_000))
    if policy == "fail":
        with pytest.raises(RecordError, match="timestamp 3999") as caught:
            replay(app, {"numbers": records})
        assert caught.value.where.offset is None
        assert caught.value.where.key == b"a"
        return
    out = replay(app, {"numbers": records})
    assert out["out"] == [0, 0]
    assert out.errors == {"one.map": 1}
    if policy != "skip":
        [letter] = out.records("dead")
        assert (letter.key, letter.timestamp) == (b"a", 3_999)
        assert letter.value is not None
        assert b'"start":0' in letter.value


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_timer(policy: Any) -> None:
    """A timer whose function raises is named by key and instant; skipped, it is gone alone."""

    @process
    def waiting(value: int, ctx: Context[bytes, Any]) -> Iterable[str]:
        ctx.state = value
        ctx.timer("due", after="2s")
        yield f"record {value}"

    @waiting.on_timer("due")
    def due(ctx: Context[bytes, Any]) -> Iterable[str]:
        if ctx.key == b"a":
            checked(BAD)
        yield f"timer {ctx.key!r}"

    app = App("timers", on_error=policy)

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out", value=str))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.process(waiting)

    records = [
        Record(1, key=b"a", timestamp=0),
        Record(2, key=b"b", timestamp=0),
        Record(3, key=b"z", timestamp=10_000),
    ]
    if policy == "fail":
        with pytest.raises(RecordError, match=r"one.waiting: key b'a', timestamp 2000"):
            replay(app, {"numbers": records})
        return
    out = replay(app, {"numbers": records})
    assert sorted(out["out"]) == ["record 1", "record 2", "record 3", "timer b'b'"]
    assert out.errors == {"one.waiting": 1}


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_a_timer_that_leaves_what_cannot_be_kept(policy: Any) -> None:
    """State that the codec cannot hold, left by a timer, stops the run under every policy: whose it is is not known."""

    @process
    def waiting(value: int, ctx: Context[bytes, Any]) -> None:
        ctx.timer("due", after="2s")

    @waiting.on_timer("due")
    def due(ctx: Context[bytes, Any]) -> None:
        ctx.state = object()

    app = App("timers", on_error=policy)

    @app.stream(app.topic("numbers", key=bytes, value=int))
    def one(numbers: Stream[bytes, int]) -> None:
        numbers.process(waiting)

    with pytest.raises(RecordError, match=r"one.waiting: .*a value of type builtins:object cannot be kept"):
        replay(app, {"numbers": [Record(1, key=b"a", timestamp=0), Record(2, key=b"b", timestamp=3_000)]})


# -------------------------------------------------------------------------------------- policies


def policies(app: Any, topic: Any, verb: Any) -> App:
    made = App("policies", on_error=app)
    numbers = made.topic("numbers", key=bytes, value=int, on_error=topic)

    @made.stream(numbers, to=made.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(checked, on_error=verb)

    return made


@pytest.mark.parametrize(
    ("app", "topic", "verb", "dead"),
    [
        ("fail", None, "skip", []),
        ("fail", "skip", None, []),
        ("skip", None, None, []),
        ("fail", "skip", dead_letter("verb"), ["verb"]),
        ("skip", dead_letter("topic"), None, ["topic"]),
        (dead_letter("app"), None, None, ["app"]),
        (dead_letter("app"), dead_letter("topic"), dead_letter("verb"), ["verb"]),
        (dead_letter("app"), "skip", None, []),
    ],
)
def test_the_nearest_policy_wins(app: Any, topic: Any, verb: Any, dead: list[str]) -> None:
    """Verb before topic before app."""
    out = replay(policies(app, topic, verb), {"numbers": numbers_with(6)}, batch_size=4)
    assert out["out"] == list(range(12))
    assert out.errors == {"one.map-checked": 1}
    assert [name for name in ("app", "topic", "verb") if name in list(out) and out[name]] == dead


@pytest.mark.parametrize(
    ("app", "topic", "verb"), [("skip", "fail", None), ("skip", "skip", "fail"), ("fail", None, None)]
)
def test_fail_may_be_the_nearest(app: Any, topic: Any, verb: Any) -> None:
    """A policy further away does not soften one that fails."""
    with pytest.raises(RecordError):
        replay(policies(app, topic, verb), {"numbers": numbers_with(6)}, batch_size=4)


def test_what_is_skipped_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Skipped records are logged with their place and cause, the more there are the fewer of them; all are counted."""
    records = [Record(BAD, key=b"a", timestamp=n) for n in range(100)]
    with caplog.at_level(logging.WARNING, "streamproc"):
        out = replay(policies("skip", None, None), {"numbers": records}, batch_size=7)
    assert out.errors == {"one.map-checked": 100}
    said = [record.getMessage() for record in caplog.records]
    assert (
        "one.map-checked: numbers/0 at offset 0, key b'a', timestamp 0: ValueError: thirteen: skipped (1 so far)"
        in said
    )
    assert len(said) == 10 + 3  # then each time the number doubles: 16, 32, 64


def test_several_bad_records_a_batch() -> None:
    """Each is found, in each batch."""
    records = [Record(BAD if n % 3 == 0 else n, key=b"a", timestamp=n) for n in range(60) if n != BAD]
    out = replay(policies(dead_letter("dead"), None, None), {"numbers": records}, batch_size=8)
    assert out["out"] == [n for n in range(60) if n % 3 and n != BAD]
    assert out["dead"] == [b"13"] * 20


def test_a_function_that_fails_only_in_the_batch() -> None:
    """A function that fails once and then no more leaves no trace: the epoch is read again, and nothing is skipped."""
    failed: list[int] = []

    def once(value: int) -> int:
        if value == 5 and not failed:
            failed.append(value)
            raise OSError("for once")
        return value

    app = App("once")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(once).count()

    out = replay(app, {"numbers": numbers_with(None)}, batch_size=4)
    assert out["out"] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
    assert failed == [5]
    assert out.errors == {}


# -------------------------------------------------------------------------------------- records that cannot be read


class Visit(Struct):
    page: str
    at: datetime
    size: int = 0


def visits_app(**options: Any) -> App:
    app = App("visits")
    visits = app.topic("visits", value=Visit, timestamp="at", **options)

    @app.stream(visits, to=app.topic("pages"))
    def pages(visits: Stream[bytes, Visit]) -> Any:
        return visits.window_all(tumbling("1m")).count()

    return app


GOOD = [b'{"page": "/%d", "at": "2026-06-11T12:00:%02dZ"}' % (n, n) for n in range(9)]
UNREADABLE = {
    "no JSON": (b"{", "truncated"),
    "no UTF-8": (b'{"page": "\xff", "at": "2026-06-11T12:00:00Z"}', "utf-8|UTF-8|surrogate"),
    "nothing": (b"", "empty|JSON|Input data was truncated"),
    "another type": (b'{"page": 7, "at": "2026-06-11T12:00:00Z"}', "page"),
    "a field is missing": (b'{"at": "2026-06-11T12:00:00Z"}', "page"),
    "the time is missing": (b'{"page": "/"}', "at"),
    "the time is null": (b'{"page": "/", "at": null}', "at"),
    "a naive time": (b'{"page": "/", "at": "2026-06-11T12:00:00"}', "time zone|naive|tz="),
    "a time that is none": (b'{"page": "/", "at": "noon"}', "at"),
}


@pytest.mark.parametrize("place", [0, 3, 5, 9])
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_value_that_cannot_be_read(what: str, place: int) -> None:
    """It is named with what is wrong with it, moves no clock, and the others are as if it had not come."""
    value, said = UNREADABLE[what]
    values = [*GOOD[:place], value, *GOOD[place:]]
    with pytest.raises(RecordError, match=said) as caught:
        replay(visits_app(), {"visits": values}, batch_size=4)
    where = caught.value.where
    assert (where.operator, where.topic, where.partition, where.offset) == ("visits (read)", "visits", 0, place)
    clean = replay(visits_app(), {"visits": GOOD})
    skipped = replay(visits_app(on_error="skip"), {"visits": values}, batch_size=4)
    assert skipped["pages"] == clean["pages"]
    assert skipped.errors == {"visits (read)": 1}
    dead = replay(visits_app(on_error=dead_letter("dead")), {"visits": values}, batch_size=4)
    assert dead["pages"] == clean["pages"]
    [letter] = dead.records("dead")
    assert letter.value == value
    assert letter.headers["streamproc-error-offset"] == b"%d" % place
    assert letter.headers["streamproc-error-operator"] == b"visits (read)"


def test_after_a_value_that_cannot_be_read_is_left_out() -> None:
    """Stopped at a bad record, then allowed to skip it, a run gives what it would have given at once."""
    live = Live(chunk_records=2, epoch_records=2)
    live.create("visits")
    rows = [(None, value, 1_781_179_200_000) for value in (*GOOD[:5], b"{", *GOOD[5:])]
    live.send("visits", *rows)
    with pytest.raises(RecordError, match="visits/0 at offset 5"):
        live.run(visits_app())
    live.run(visits_app(on_error="skip"))
    assert live.values("pages") == [b'{"key":null,"start":1781179200000,"end":1781179260000,"value":9}']


def test_a_key_that_cannot_be_read() -> None:
    """A key that is not of its declared type is an error of its record too."""

    def app(**options: Any) -> App:
        made = App("keys")

        @made.stream(made.topic("numbers", key=int, value=int, **options), to=made.topic("out"))
        def one(numbers: Stream[int, int]) -> Any:
            return numbers.count()

        return made

    records = [Record(1, key=5), Record(1, key=b"five"), Record(1, key=5)]
    with pytest.raises(RecordError, match="numbers/0 at offset 1, key b'five'.*the key is no int"):
        replay(app(), {"numbers": records})
    out = replay(app(on_error=dead_letter("dead")), {"numbers": records})
    assert out["out"] == [1, 2]
    assert [(r.key, r.value) for r in out.records("dead")] == [(b"five", b"1")]


def test_a_key_that_is_missing() -> None:
    """A record without a key is an error of the first verb that needs one, and of none before it."""

    def app(**options: Any) -> App:
        made = App("keyless", **options)
        numbers = made.topic("numbers", key=bytes, value=int)

        @made.stream(numbers, to=(made.topic("all"), made.topic("counted")))
        def one(numbers: Stream[bytes, int]) -> Any:
            return numbers.map(lambda v: v), numbers.count()

        return made

    records = [Record(1, key=b"a"), Record(2), Record(3, key=b"a")]
    with pytest.raises(
        RecordError, match=r"one.count: numbers/0 at offset 1, key None.*give it one or filter it out"
    ) as caught:
        replay(app(), {"numbers": records})
    assert isinstance(caught.value.__cause__, MissingKey)
    out = replay(app(on_error=dead_letter("dead")), {"numbers": records})
    assert out["all"] == [1, 2, 3]
    assert out["counted"] == [1, 2]
    assert [(r.key, r.value) for r in out.records("dead")] == [(None, b"2")]


@pytest.mark.parametrize("verb", ["count", "window", "behind a re-key"])
def test_key_by_none(verb: str) -> None:
    """A key of None made by key_by is no key."""
    app = App("keyless", on_error="skip")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        keyed = numbers.key_by(lambda v: None if v == 2 else v)
        return keyed.count() if verb == "count" else keyed.window(tumbling("1m")).count()

    out = replay(app, {"numbers": [1, 2, 3, 1]}, partitions=2)
    assert sum(out.errors.values()) == 1
    assert len(out["out"]) == (3 if verb == "count" else 2)


# -------------------------------------------------------------------------------------- event times


def test_negative_times_have_the_right_windows() -> None:
    """Windows are aligned to the epoch on both sides of it."""
    app = App("old")

    @app.stream(app.topic("numbers", key=bytes, value=int, timestamp=lambda v: v), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.window(tumbling("1s")).collect()

    values = [-2_001, -2_000, -1_001, -1_000, -1, 0, 999, 1_000]
    out = replay(app, {"numbers": [Record(v, key=b"k", timestamp=0) for v in values]}, batch_size=3)
    assert [(row["start"], row["end"], row["value"]) for row in out["out"]] == [
        (-3_000, -2_000, [-2_001]),
        (-2_000, -1_000, [-2_000, -1_001]),
        (-1_000, 0, [-1_000, -1]),
        (0, 1_000, [0, 999]),
        (1_000, 2_000, [1_000]),
    ]


def test_a_record_without_a_timestamp() -> None:
    """Where no timestamp= is declared, the record's own is needed."""
    app = App("timeless", on_error="skip")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.count()

    live = Live()
    live.create("numbers")
    live.send("numbers", (b"k", b"1", 5), (b"k", b"2", -1), (b"k", b"3", 6))
    assert live.run(app).skipped == {"numbers (read)": 1}
    assert live.values("out") == [b"1", b"2"]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_time_from_the_future(place: int) -> None:
    """A value dated further ahead than `ahead` is bad: it does not make all that follow late."""

    def app(**settings: Any) -> App:
        made = App("ahead", **settings)
        numbers = made.topic("numbers", key=bytes, value=int, timestamp=lambda v: v)

        @made.stream(numbers, to=made.topic("out"))
        def one(numbers: Stream[bytes, int]) -> Any:
            return numbers.window(tumbling("1s")).count()

        return made

    times = [1_000, 2_000, 3_000]
    times.insert(place, 70 * 365 * 86_400_000)
    records = [Record(v, key=b"k", timestamp=2_000) for v in times]
    with pytest.raises(RecordError, match=f"offset {place}.*ahead= allows 1h"):
        replay(app(), {"numbers": records})
    out = replay(app(on_error="skip"), {"numbers": records}, batch_size=2)
    assert [row["start"] for row in out["out"]] == [1_000, 2_000, 3_000]
    assert out.late == {}
    raised = replay(app(ahead="1000000h"), {"numbers": records}, batch_size=2)
    assert len(raised["out"]) + sum(raised.late.values()) == 4


# -------------------------------------------------------------------------------------- values and keys


class Unknown:
    def __repr__(self) -> str:
        return "<unknown>"


@pytest.mark.parametrize("place", [0, 1, 3, 7])
@pytest.mark.parametrize("where", ["state", "window", "repartition", "key", "output"])
def test_a_value_that_cannot_be_kept(where: str, place: int) -> None:
    """What the codec cannot hold is an error of the record that made it: in state, in an internal topic, written."""

    def made(value: int) -> Any:
        return Unknown() if value == BAD else value

    def app(**options: Any) -> App:
        one_app = App("kept", epoch_records=3, **options)  # a window's state is written only when it outlives an epoch

        @one_app.stream(one_app.topic("numbers", key=bytes, value=int), to=one_app.topic("out"))
        def one(numbers: Stream[bytes, int]) -> Any:
            if where == "state":
                return numbers.fold(list, lambda held, v: [*held, made(v)]).updates().map(len)
            if where == "window":
                return numbers.map(made).window(tumbling("1s")).collect().map(lambda row: len(row.value))
            if where == "repartition":
                return numbers.map(made).key_by(lambda v: 1).count()
            if where == "key":
                return numbers.key_by(made).count()
            return numbers.map(made)

        return one_app

    values = [*range(place), BAD, *range(place, 10)]
    records = [Record(v, key=b"k", timestamp=n) for n, v in enumerate(values)]
    with pytest.raises(RecordError, match=f"numbers/0 at offset {place}.*Unknown|unknown") as caught:
        replay(app(), {"numbers": records}, batch_size=3)
    assert caught.value.where.operator.startswith("one.")
    out = replay(app(on_error=dead_letter("dead")), {"numbers": records}, batch_size=3)
    clean = replay(app(), {"numbers": [r for r in records if r.value != BAD]}, batch_size=3)
    assert out["out"] == clean["out"]
    assert [(r.key, r.value) for r in out.records("dead")] == [(b"k", b"13")]


def test_a_key_that_has_no_form_on_the_wire() -> None:
    """A key that cannot be written is an error of its record, in an output topic too."""
    app = App("keys", on_error=dead_letter("dead"))

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.key_by(lambda v: Unknown() if v == 2 else v)

    out = replay(app, {"numbers": [1, 2, 3]})
    assert out["out"] == [1, 3]
    assert out["dead"] == [b"2"]


LOOK_ALIKES = (1, 1.0, True, "1", b"1")


@pytest.mark.parametrize("verb", ["count", "window", "deduplicate"])
def test_keys_that_look_alike_differ(verb: str) -> None:
    """1, 1.0, True, "1" and b"1" are keys of their own, in caches, in the log and after a restart on a lost disk."""

    def app() -> App:
        made = App("alike")
        numbers = made.topic("numbers", value=int)

        @made.stream(numbers, to=made.topic("out"))
        def one(numbers: Stream[bytes, int]) -> Any:
            keyed = numbers.key_by(lambda v: LOOK_ALIKES[v])
            if verb == "count":
                return keyed.count().updates().records().map(lambda r: (type(r.key).__name__, r.value))
            if verb == "window":
                counts = keyed.window(tumbling("1h")).count()
                return counts.map(lambda row: (type(row.key).__name__, row.value))
            return keyed.deduplicate(lambda _: 0, within="1h").records().map(lambda r: (type(r.key).__name__, 1))

        return made

    live = Live(chunk_records=3, epoch_records=2)
    live.create("numbers", 2)
    live.send("numbers", *[(None, b"%d" % n, n) for n in (0, 1, 2, 3, 4)])
    worker = live.worker(app())
    live.rest(worker)
    live.send("numbers", *[(None, b"%d" % n, 10 + n) for n in (0, 1, 2, 3, 4)], partition=1)
    live.rest(worker)
    worker_off(worker)
    live.disk = MemoryDisk()
    live.send("numbers", *[(None, b"%d" % n, 20 + n) for n in (4, 3, 2, 1, 0)])
    live.run(app())
    got = sorted(value for value in live.values("out") if value is not None)
    each = {"count": (1, 2, 3), "window": (3,), "deduplicate": (1,)}[verb]
    names = ("int", "float", "bool", "str", "bytes")
    assert got == sorted(b'["%s",%d]' % (name.encode(), n) for name in names for n in each)


def worker_off(worker: Worker) -> None:
    """The worker stops in order."""
    run_now(worker.stop())


def live_topics(live: Live) -> dict[str, int]:
    """The topics with their numbers of partitions."""
    return {name: topic.partitions for name, topic in run_now(live.log.topics()).items()}


# -------------------------------------------------------------------------------------- topics


def test_an_empty_topic() -> None:
    """No records, or an empty partition beside full ones: no results, no error, and an end."""
    assert replay(visits_app(), {})["pages"] == []
    assert replay(visits_app(), {"visits": []}, partitions=3, workers=2)["pages"] == []
    assert replay(visits_app(), {"visits": GOOD[:1]}, partitions=3)["pages"][0]["value"] == 1


def test_an_unknown_topic() -> None:
    """A source that is not there is named, with the nearest names, before anything is made."""
    live = Live()
    live.create("visit")
    with pytest.raises(UnknownTopic, match="there is no topic 'visits'; did you mean 'visit'"):
        live.run(visits_app())
    assert live_topics(live) == {"visit": 1}


def test_a_topic_that_to_gives_must_be_declared() -> None:
    """A function given to `to` that returns something else is an error of the record."""
    app = App("to", on_error="skip")
    low = app.topic("low")

    @app.stream(app.topic("numbers", value=int))
    def one(numbers: Stream[bytes, int]) -> None:
        numbers.to(lambda v: low if v < 2 else "high")  # type: ignore[arg-type, return-value]

    out = replay(app, {"numbers": [1, 2, 1]})
    assert out["low"] == [1, 1]
    assert sum(out.errors.values()) == 1


# -------------------------------------------------------------------------------------- state of an older plan


def totals(
    *,
    name: str = "totals",
    size: str = "1m",
    what: str = "count",
    extra: bool = False,
    step: str = "",
    more: bool = False,
) -> App:
    app = App("plan")
    numbers = app.topic("numbers", key=bytes, value=int)

    def f(numbers: Stream[bytes, int]) -> Any:
        stream: Stream[Any, int] = numbers.key_by(lambda v: v % 3)
        if extra:
            stream = stream.map(lambda v: v)
        if what == "none":
            return stream.map(lambda v: v)
        windowed = stream.window(tumbling(size))
        return windowed.count(name=step) if what == "count" else windowed.sum(lambda v: v, name=step)

    f.__name__ = name
    app.stream(numbers, to=app.topic("out"))(f)
    if more:

        @app.stream(numbers, to=app.topic("more"))
        def another(numbers: Stream[bytes, int]) -> Any:
            return numbers.key_by(lambda v: v % 5).count()

    return app


CHANGES: dict[str, dict[str, Any]] = {
    "the stream is renamed": {"name": "sums"},
    "the step is renamed": {"step": "counted"},
    "another window size": {"size": "2m"},
    "another aggregate under the same name": {"what": "sum", "step": "count"},
    "another aggregate": {"what": "sum"},
    "the stateful stage is gone": {"what": "none"},
    "another window size, and a new stream": {"size": "2m", "more": True},
}


@pytest.mark.parametrize("lost_disk", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_state_of_an_older_plan(change: str, lost_disk: bool) -> None:
    """A plan that cannot go on with what is stored is refused with the ways out; the old one then goes on as before."""
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints(range(30)))
    worker = live.worker(totals())
    live.rest(worker)
    worker_off(worker)
    if lost_disk:
        live.disk = MemoryDisk()
    live.send("numbers", *[Row(b"k", b"%d" % n, n * 1_000) for n in range(30, 90)])
    for _ in range(2):
        with pytest.raises(PlanChanged, match="streamproc reset") as caught:
            live.run(totals(**CHANGES[change]))
        way_back = "Go back to the old definition" if "which has changed" in str(caught.value) else "name='...'"
        assert way_back in str(caught.value)
        assert live.values("out") == []
    live.run(totals())
    assert sorted(map(str, live.rows("out"))) == sorted(map(str, undisturbed(90)))


def undisturbed(count: int) -> list[Row]:
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints(range(count)))
    live.run(totals())
    return live.rows("out")


@pytest.mark.parametrize("change", [{"extra": True}, {"more": True}])
def test_an_allowed_change(change: dict[str, Any]) -> None:
    """A new step without state, or a new stream, goes on with the state that is there."""
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints(range(30)))
    worker = live.worker(totals())
    live.rest(worker)
    worker_off(worker)
    live.send("numbers", *[Row(b"k", b"%d" % n, n * 1_000) for n in range(30, 90)])
    live.run(totals(**change))
    assert sorted(map(str, live.rows("out"))) == sorted(map(str, undisturbed(90)))


def test_another_number_of_partitions() -> None:
    """An internal topic with other partitions than when the state was made is refused: keys would be elsewhere."""
    topic = "plan-totals-key_by-repartition"
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints(range(30)))
    worker = live.worker(totals())
    live.rest(worker)
    worker_off(worker)
    other = Live()
    for name, known in live_topics(live).items():
        other.create(name, known + 1 if name == topic else known)
        for number in range(known):
            columns = live.columns(name, number)
            if len(columns):
                sink = run_now(other.log.sink(None, "copy"))
                sink.send(Partition(name, number), columns)
                run_now(sink.commit({}))
    other.log._records._offsets = live.log._records._offsets  # type: ignore[attr-defined]
    with pytest.raises(PlanChanged, match=r"topic 'plan-totals-key_by-changelog' has 1 partition and.*keys are.*reset"):
        other.run(totals())


def test_two_streams_with_one_name() -> None:
    """Their state would be one: refused where the second is defined."""
    app = App("twice")
    numbers = app.topic("numbers", value=int)

    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers

    app.stream(numbers)(one)
    with pytest.raises(DefinitionError, match="app 'twice' has two streams named 'one'.*rename one"):
        app.stream(numbers)(one)


def test_two_steps_with_one_name() -> None:
    """Stateful steps of one name would share their state: refused, with the way out; others are numbered."""
    app = App("twice")
    numbers = app.topic("numbers", key=bytes, value=int)

    @app.stream(numbers)
    def one(numbers: Stream[bytes, int]) -> Any:
        numbers.map(str).map(int).count()
        numbers.count()

    with pytest.raises(DefinitionError, match=r"stream function 'one' has two steps named 'count'.*name='...'"):
        _ = app.plan
