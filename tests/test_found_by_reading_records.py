"""What a careful reader of the code found about records and values, kept found."""

import enum
from collections import namedtuple
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from msgspec import Struct

from streamproc import App, Context, DefinitionError, RecordError, Stream, dead_letter, process, tumbling
from streamproc.log import Columns, Partition
from streamproc.state.memory import MemoryDisk
from streamproc.state.registry import name_of
from streamproc.testing import Record, replay
from streamproc.testing.replay import run_now
from tests.live import Live, Row, ints

POLICIES = pytest.mark.parametrize("policy", ["fail", "skip", dead_letter("dead")], ids=("fail", "skip", "dead_letter"))


def records(*values: Any, key: str = "k") -> list[Record]:
    """A millisecond apart."""
    return [Record(value, key, place) for place, value in enumerate(values)]


def app_of(f: Callable[[Stream[str, Any], App], Any], **options: Any) -> App:
    """An app with one stream, `one`, from ints of str keys to `out`."""
    app = App("found", **options)

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out"))
    def one(numbers: Stream[str, int]) -> Any:
        return f(numbers, app)

    return app


# -------------------------------------------------------------------------------------- StopIteration (finding 1)

BAD = 2


def stopping(value: int) -> int:
    """As `next(iterator)` does where there is nothing more."""
    return next(iter([])) if value == BAD else value


def to_chosen(numbers: Stream[Any, Any], app: App) -> Stream[Any, Any]:
    """All values pass a step that chooses a topic by a function."""
    low = app.topic("low")
    numbers.to(lambda v: (stopping(v), low)[1])
    return numbers.filter(lambda v: v != BAD)


TEN_MS = tumbling("10ms")
STOPPING: dict[str, Callable[[Stream[str, Any], App], Any]] = {
    "map": lambda s, _: s.map(stopping),
    "filter": lambda s, _: s.filter(lambda v: stopping(v) >= 0),
    "flat_map": lambda s, _: s.flat_map(lambda v: [stopping(v)]),
    "inspect": lambda s, _: s.inspect(stopping),
    "branch": lambda s, _: s.branch(all=lambda v: stopping(v) >= 0)["all"],
    "to": to_chosen,
    "key_by": lambda s, _: s.key_by(stopping).count(),
    "with_timestamp": lambda s, _: s.with_timestamp(stopping),
    "sum": lambda s, _: s.sum(stopping),
    "reduce": lambda s, _: s.reduce(lambda a, b: a + stopping(b)),
    "count": lambda s, _: s.window(TEN_MS).count(lambda v: stopping(v) >= 0),
    "min": lambda s, _: s.window(TEN_MS).min(stopping),
    "distinct_count": lambda s, _: s.window(TEN_MS).distinct_count(stopping),
    "largest": lambda s, _: s.window(TEN_MS).largest(9, by=stopping),
    "deduplicate": lambda s, _: s.deduplicate(stopping, within="1s"),
}


@pytest.mark.parametrize("verb", STOPPING)
def test_a_stop_iteration_is_an_error_of_its_record(verb: str) -> None:
    """It names the record, or leaves out that one alone: it never ends a column, and what follows, in silence."""
    given = records(0, 1, BAD, 3, 4)
    with pytest.raises(RecordError, match=r"numbers/0 at offset 2, .*StopIteration"):
        replay(app_of(STOPPING[verb]), {"numbers": given})
    out = replay(app_of(STOPPING[verb], on_error="skip"), {"numbers": given})
    clean = replay(app_of(STOPPING[verb]), {"numbers": [r for r in given if r.value != BAD]})
    assert out["out"] == clean["out"] != []
    assert sum(out.errors.values()) == 1


@pytest.mark.parametrize("by", ["by", "per"])
def test_a_stop_iteration_of_top_is_an_error_of_its_result(by: str) -> None:
    """The window result on which it failed is named by key and time; skipped, the others are in the ranking."""

    def ranked(numbers: Stream[str, Any], _: App) -> Any:
        sums = numbers.window(TEN_MS).sum(lambda v: v)
        top = sums.top(9, by=stopping) if by == "by" else sums.top(9, per=lambda r: stopping(r.value) < 0)
        return top.map(lambda row: [item.key for item in row.value])

    given = [Record(v, key, 0) for v, key in ((1, "a"), (BAD, "b"), (3, "c"))]
    with pytest.raises(RecordError, match=r"one\.top.*: key 'b', timestamp 9: StopIteration"):
        replay(app_of(ranked), {"numbers": given})
    out = replay(app_of(ranked, on_error="skip"), {"numbers": given})
    assert out["out"] == [["c", "a"]]


@pytest.mark.parametrize("where", ["decode", "timestamp"])
def test_a_stop_iteration_while_reading(where: str) -> None:
    """Those of the topic's own functions as well."""
    options: dict[str, dict[str, Any]] = {
        "decode": {"decode": lambda data: stopping(int(data))},
        "timestamp": {"value": int, "timestamp": stopping},
    }

    def app(**policy: Any) -> App:
        made = App("found", **policy)

        @made.stream(made.topic("numbers", **options[where]), to=made.topic("out"))
        def one(numbers: Stream[bytes, int]) -> Any:
            return numbers

        return made

    given = [Record(b"%d" % v, timestamp=v) for v in range(5)]
    with pytest.raises(RecordError, match=r"numbers \(read\): numbers/0 at offset 2, .*StopIteration"):
        replay(app(), {"numbers": given})
    assert replay(app(on_error="skip"), {"numbers": given})["out"] == [0, 1, 3, 4]


# -------------------------------------------------------------------------------------- keys of classes (finding 2)


class Shirt(enum.Enum):
    HOME = 1
    AWAY = 2


class Side(enum.StrEnum):
    LEFT = "left"
    RIGHT = "right"


class Place(NamedTuple):
    row: int
    seat: str


class Player(Struct, frozen=True):
    number: int


@dataclass(frozen=True)
class Club:
    name: str


KEYS: dict[str, tuple[Any, Any]] = {
    "Enum": (Shirt.HOME, Shirt.AWAY),
    "StrEnum": (Side.LEFT, Side.RIGHT),
    "NamedTuple": (Place(1, "a"), Place(1, "b")),
    "Struct": (Player(7), Player(8)),
    "dataclass": (Club("x"), Club("y")),
}


def shown(key: Any, value: Any) -> str:
    """With the key's class, which its bytes in a topic do not tell."""
    return f"{key!r} {value}"


@process
def heard(_: int, ctx: Context[Any, int | None]) -> None:
    ctx.state = (ctx.state or 0) + 1
    ctx.timer("rest", after="5ms")


@heard.on_timer("rest")
def rest(ctx: Context[Any, int | None]) -> list[str]:
    return [shown(ctx.key, ctx.state)]


KEYED: dict[str, Callable[[Stream[Any, int]], Stream[Any, Any]]] = {
    "count": lambda s: s.count().updates().records().map(lambda r: shown(r.key, r.value)),
    "window": lambda s: s.window(tumbling("1s")).count().map(lambda row: shown(row.key, row.value)),
    "deduplicate": lambda s: s.deduplicate(within="1s").records().map(lambda r: shown(r.key, r.value)),
    "process": lambda s: s.process(heard),
    "top": lambda s: (
        s.window(tumbling("1s")).count().top(2).flat_map(lambda row: [shown(i.key, i.value) for i in row.value])
    ),
}


@pytest.mark.parametrize("verb", KEYED)
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_classes(kind: str, verb: str) -> None:
    """Behind a re-key they are equal objects of their class: at once, after a restart, and on another disk."""

    def app() -> App:
        def keyed(numbers: Stream[str, Any], _: App) -> Any:
            return KEYED[verb](numbers.key_by(lambda v: KEYS[kind][v % 2]))

        return app_of(keyed)

    live = Live()
    live.create("numbers", 2)
    for start, disk in ((0, None), (2, None), (4, MemoryDisk())):
        live.send("numbers", *[Row(None, b"%d" % v, v) for v in (start, start + 1)], partition=start % 4 // 2)
        worker = live.worker(app(), disk=disk)
        live.rest(worker)
        run_now(worker.stop())
    live.send("numbers", Row(None, b"6", 20))
    live.disk = MemoryDisk()
    live.run(app())
    a, b = KEYS[kind]
    rows = {
        "count": [shown(a, n) for n in (1, 2, 3, 4)] + [shown(b, n) for n in (1, 2, 3)],
        "window": [shown(a, 4), shown(b, 3)],
        "top": [shown(a, 4), shown(b, 3)],
        "deduplicate": [shown(KEYS[kind][v % 2], v) for v in range(7)],
        "process": [shown(a, 3), shown(b, 3)],
    }[verb]
    assert sorted(str(value) for value in live.values("out")) == sorted(str(b'"%s"' % _json(row)) for row in rows)


def test_keys_of_a_class_that_is_declared_nowhere() -> None:
    """The process that writes one knows it from then on, though not another."""

    class Local(Struct, frozen=True):
        n: int

    app = app_of(lambda s, _: s.key_by(lambda v: Local(v % 2)).count())
    assert sorted(replay(app, {"numbers": records(1, 2, 3)}, partitions=2)["out"]) == [1, 1, 2]


def _json(text: str) -> bytes:
    return text.replace('"', '\\"').encode()


# -------------------------------------------------------------------------------------- headers (findings 4, 26)


def send_with_headers(live: Live, rows: list[tuple[bytes, int, list[tuple[str, bytes]]]]) -> None:
    """Rows of value, timestamp and headers, of the key k."""
    values, timestamps, headers = map(list, zip(*rows, strict=True))
    sink = run_now(live.log.sink(None, "test"))
    columns = Columns([b"k"] * len(values), values, timestamps, headers)
    sink.send(Partition("numbers", 0), columns)
    run_now(sink.commit({}))


INTERNAL = [
    [("streamproc-mark", b"x")],
    [("streamproc-mark", b"")],
    [("streamproc-clock", b"999999")],
    [("streamproc-clock", b"no clock")],
    [("streamproc-origin", b"x")],
    [("mine", b"1"), ("streamproc-mark", b"x"), ("streamproc-clock", b"9"), ("streamproc-origin", b"\x93\x00\x00\x00")],
]


@pytest.mark.parametrize("headers", INTERNAL)
def test_headers_that_mean_something_between_tasks(headers: list[tuple[str, bytes]]) -> None:
    """A record that comes with one of their names from outside loses that header, and is a record like any other."""

    def both(numbers: Stream[str, Any], app: App) -> Any:
        numbers.records().map(lambda r: {name: data.decode() for name, data in r.headers.items()}).to(
            app.topic("heads")
        )
        return numbers.key_by(lambda v: v % 2).window(tumbling("10ms")).first().map(lambda row: row.value)

    live = Live()
    live.create("numbers")
    send_with_headers(live, [(b"1", 1, []), (b"2", 2, headers), (b"3", 30, [])])
    worker = live.run(app_of(both))
    assert sorted(map(str, live.values("out"))) == sorted(map(str, (b"1", b"2", b"3")))
    assert (worker.late, worker.skipped) == ({}, {})
    assert live.values("heads") == [b"{}", b'{"mine":"1"}' if len(headers) > 1 else b"{}", b"{}"]


def test_headers_of_one_name() -> None:
    """The last one wins: for a function that sees the record, and where the record goes on."""

    def both(numbers: Stream[str, Any], app: App) -> Any:
        numbers.records().map(lambda r: r.headers["h"].decode()).to(app.topic("heads"))
        return numbers

    live = Live()
    live.create("numbers")
    send_with_headers(live, [(b"1", 1, [("h", b"first"), ("g", b"x"), ("h", b"last")])])
    live.run(app_of(both))
    assert live.values("heads") == [b'"last"']
    [kept] = live.columns("out").headers or []
    assert sorted(kept or []) == [("g", b"x"), ("h", b"last")]


# -------------------------------------------------------------------------------------- chained topics (finding 5)


class Goal(Struct):
    n: int


CHAINED: dict[str, tuple[dict[str, Any], Callable[[int], Any], Callable[[int], Any], str]] = {
    "value": ({"value": Goal}, lambda v: {"m" if v == BAD else "n": v}, str, r'the value is no Goal.*"m"'),
    "key": ({"key": int}, lambda v: {"n": v}, lambda v: "two" if v == BAD else str(v), "the key is no int"),
}


@POLICIES
@pytest.mark.parametrize("what", CHAINED)
def test_what_cannot_be_read_between_two_streams(what: str, policy: Any) -> None:
    """A record of a chained topic that is not of the reader's types follows the reading topic's policy, alone."""
    types, value_of, key_of, said = CHAINED[what]
    app = App("chained")
    numbers, middle = app.topic("numbers", value=int), app.topic("middle", on_error=policy, **types)

    @app.stream(numbers, to=middle)
    def first(numbers: Stream[bytes, int]) -> Any:
        return numbers.key_by(key_of).map(value_of)

    @app.stream(middle, to=app.topic("out"))
    def second(middle: Stream[Any, Any]) -> Any:
        return middle.map(lambda v: v.n if isinstance(v, Goal) else v["n"])

    given = {"numbers": [1, BAD, 3]}
    if policy == "fail":
        with pytest.raises(RecordError, match=said) as caught:
            replay(app, given)
        where = caught.value.where
        assert (where.topic, where.partition, where.offset) == ("chained-middle-repartition", 0, 1)
        return
    out = replay(app, given)
    assert out["out"] == [1, 3]
    assert sum(out.errors.values()) == 1
    if policy != "skip":
        [letter] = out.records("dead")
        assert letter.value == (b'{"m":2}' if what == "value" else b'{"n":2}')
        assert letter.headers["streamproc-error-topic"] == b"chained-middle-repartition"


def test_decode_may_leave_records_out_between_two_streams() -> None:
    """As of a source: where decode= of a chained topic gives None, there is no record."""
    app = App("chained")
    middle = app.topic("middle", decode=lambda data: None if data == b"2" else int(data))

    @app.stream(app.topic("numbers", value=int), to=middle)
    def first(numbers: Stream[bytes, int]) -> Any:
        return numbers

    @app.stream(middle, to=app.topic("out"))
    def second(middle: Stream[bytes, int]) -> Any:
        return middle

    out = replay(app, {"numbers": [1, 2, 3]})
    assert (out["out"], out.errors) == ([1, 3], {})


# -------------------------------------------------------------------------------------- aside (findings 12, 18)


def read_and_written(how: str, **options: Any) -> App:
    """An app in which a function sends to a topic that another stream reads."""
    app = App("aside", **options)
    numbers, read = app.topic("numbers", key=str, value=int), app.topic("read", key=str, value=int)
    other = app.topic("other", key=str, value=int)

    def target(value: int) -> Any:
        return read if value == BAD else other

    @process
    def sending(value: int, ctx: Context[str, None]) -> None:
        ctx.send(target(value), value)

    @app.stream(numbers)
    def one(numbers: Stream[str, int]) -> None:
        numbers.to(target) if how == "to" else numbers.process(sending)

    @app.stream(read, to=app.topic("out"))
    def two(read: Stream[str, int]) -> Any:
        return read

    return app


@pytest.mark.parametrize("how", ["to", "send"])
def test_a_function_cannot_write_where_a_stream_reads(how: str) -> None:
    """The stream would not see it: an error of the record, that says so; other topics are written as ever."""
    given = {"numbers": records(1, BAD, 3)}
    with pytest.raises(RecordError, match=r"numbers/0 at offset 1.*a stream of this app reads topic 'read'.*to="):
        replay(read_and_written(how), given)
    out = replay(read_and_written(how, on_error="skip"), given)
    assert (out["read"], out["other"]) == ([], [1, 3])
    assert sum(out.errors.values()) == 1


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("where", ["app", "topic", "verb"])
def test_dead_letters_do_not_go_where_a_stream_reads(where: str, chained: bool) -> None:
    """They are no part of a plan: refused, with what to do, wherever the policy stands."""
    policy = dead_letter("letters")
    app = App("dead", on_error=policy if where == "app" else "fail")
    numbers = app.topic("numbers", value=int, on_error=policy if where == "topic" else None)
    letters = app.topic("letters", value=int)

    @app.stream(numbers, to=letters if chained else app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(stopping, on_error=policy if where == "verb" else None)

    @app.stream(letters, to=app.topic("more"))
    def two(letters: Stream[bytes, int]) -> Any:
        return letters

    with pytest.raises(
        DefinitionError, match="dead letters to (topic )?'letters', which a stream of it reads: name another"
    ):
        _ = app.plan


def alarms(policy: Any) -> App:
    """Each key has a timer, that sends aside what its topic cannot hold for the key `bad`."""
    app = App("alarms", on_error=policy)
    aside = app.topic("aside", key=str, value=int)

    @process
    def waiting(value: int, ctx: Context[str, int | None]) -> Iterable[str]:
        ctx.state = value
        ctx.timer("due", after="5ms")
        yield f"record {value}"

    @waiting.on_timer("due")
    def due(ctx: Context[str, int | None]) -> Iterable[str]:
        ctx.send(aside, ctx.state, key=ctx.key)
        if ctx.key == "bad":
            ctx.send(aside, object(), key="another")
        ctx.state = None
        yield "timer"

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out", key=str, value=str))
    def one(numbers: Stream[str, int]) -> Any:
        return numbers.process(waiting)

    return app


@POLICIES
@pytest.mark.parametrize("fired_by", ["the watermark", "a record"])
@pytest.mark.parametrize("batch_size", [1, 10])
def test_what_a_timer_cannot_send_is_the_timers_error(fired_by: str, policy: Any, batch_size: int) -> None:
    """It is named by key and instant; left out, that timer alone has no effect: no row, nothing sent, no state."""
    last = Record(9, "z" if fired_by == "the watermark" else "bad", 20)
    given = {"numbers": [Record(1, "good", 0), Record(2, "bad", 1), Record(3, "good 2", 2), last]}
    if policy == "fail":
        with pytest.raises(RecordError, match=r"one\.waiting: key 'bad', timestamp 6: .*object") as caught:
            replay(alarms(policy), given, batch_size=batch_size)
        assert caught.value.where.offset is None
        return
    out = replay(alarms(policy), given, batch_size=batch_size)
    assert sorted(out["out"]) == ["record 1", "record 2", "record 3", "record 9", "timer", "timer"]
    assert [(r.key, r.value, r.timestamp) for r in out.records("aside")] == [("good", 1, 5), ("good 2", 3, 7)]
    assert out.errors == {"one.waiting": 1}
    if policy != "skip":
        [letter] = out.records("dead")
        assert (letter.key, letter.value, letter.timestamp) == (b"bad", None, 6)
        assert "streamproc-error-offset" not in letter.headers


@POLICIES
@pytest.mark.parametrize("by_timer", [False, True])
def test_what_a_record_cannot_send_is_the_records_error(by_timer: bool, policy: Any) -> None:
    """Also where a timer that it set in its own past sends it, or another one has fired before it."""
    app = App("aside", on_error=policy)
    aside = app.topic("aside", value=int)

    @process
    def waiting(value: int, ctx: Context[str, int | None]) -> Iterable[int]:
        ctx.timer("now", at=ctx.timestamp)
        ctx.timer("next", after="1ms")
        ctx.state = value
        if value == BAD and not by_timer:
            ctx.send(aside, object())
        yield value

    @waiting.on_timer("now")
    def now(ctx: Context[str, int | None]) -> None:
        ctx.send(aside, object() if ctx.state == BAD else ctx.state)

    @waiting.on_timer("next")
    def following(ctx: Context[str, int | None]) -> None:
        ctx.send(aside, -(ctx.state or 0))

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out"))
    def one(numbers: Stream[str, int]) -> Any:
        return numbers.process(waiting)

    given = {"numbers": records(1, BAD, 3)}
    if policy == "fail":
        with pytest.raises(RecordError, match=r"one\.waiting: numbers/0 at offset 1, key 'k', timestamp 1"):
            replay(app, given)
        return
    out = replay(app, given)
    assert (out["out"], out["aside"], out.errors) == ([1, 3], [1, -1, 3], {"one.waiting": 1})


# -------------------------------------------------------------------------------------- flat_map (finding 22)

NO_LISTS: dict[str, tuple[Any, str]] = {
    "set": ({1, 2}, "not set: return a list of the values, in their order"),
    "frozenset": (frozenset((1, 2)), "not frozenset: return a list of the values"),
    "dict": ({"a": 1}, "not dict: return a list of the values"),
    "NamedTuple": (Place(1, "a"), "not Place: return a list of the values"),
    "str": ("ab", "not str: return a list of the values"),
    "bytes": (b"ab", "not bytes: return a list of the values"),
    "None": (None, "not NoneType: return an empty list for no value"),
    "int": (5, "int"),
}


@pytest.mark.parametrize("what", NO_LISTS)
def test_what_flat_map_does_not_take_for_several_values(what: str) -> None:
    """One value is not taken apart, a set has no order to repeat: an error that says what to return."""
    given, said = NO_LISTS[what]

    def flat(numbers: Stream[str, Any], _: App) -> Any:
        return numbers.flat_map(lambda v: given if v == BAD else [v])

    with pytest.raises(RecordError, match=f"one.flat_map: numbers/0 at offset 1.*TypeError.*{said}"):
        replay(app_of(flat), {"numbers": records(1, BAD, 3)})
    assert replay(app_of(flat, on_error="skip"), {"numbers": records(1, BAD, 3)})["out"] == [1, 3]


@pytest.mark.parametrize("given", [[7, 8], (7, 8), iter((7, 8)), range(7, 9), {7: 0, 8: 0}.keys()])
def test_what_flat_map_takes(given: Any) -> None:
    """Anything that has its values in an order."""
    out = replay(app_of(lambda s, _: s.flat_map(lambda _: given)), {"numbers": records(1)})
    assert out["out"] == [7, 8]


# -------------------------------------------------------------------------------------- texts of errors (finding 23)


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


ERRORS = {"a text that raises": MuteError(), "a lone surrogate": ValueError("\ud800")}


@POLICIES
@pytest.mark.parametrize("what", ERRORS)
def test_an_error_whose_text_cannot_be_told(what: str, policy: Any) -> None:
    """The policy decides as ever; a dead letter's headers hold text that can be read again."""

    def failing(value: int) -> int:
        if value == BAD:
            raise ERRORS[what]
        return value

    app = app_of(lambda s, _: s.map(failing), on_error=policy)
    given = {"numbers": records(1, BAD, 3)}
    if policy == "fail":
        with pytest.raises(RecordError, match="one.map-failing: numbers/0 at offset 1") as caught:
            replay(app, given)
        assert caught.value.__cause__ is ERRORS[what]
        return
    out = replay(app, given)
    assert (out["out"], out.errors) == ([1, 3], {"one.map-failing": 1})
    if policy != "skip":
        [letter] = out.records("dead")
        assert letter.headers["streamproc-error-type"].decode() == type(ERRORS[what]).__name__
        assert letter.headers["streamproc-error-message"].decode() in ("(its text cannot be had)", "\\ud800")


# -------------------------------------------------------------------------------------- names of classes (finding 24)

Twin = namedtuple("Twin", "left")  # noqa: PYI024 - made as people make them
Other = namedtuple("Twin", "right")  # type: ignore[name-match]  # noqa: PYI024


def test_two_classes_of_one_name_that_nobody_uses() -> None:
    """They lie about in the module of a stream's functions, and that is no error of the app."""
    assert name_of(Twin) == name_of(Other)
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints([1, 2]))
    live.run(app_of(lambda s, _: s.map(stopping_never).key_by(stopping_never).count()))
    assert live.values("out") == [b"1", b"1"]


def stopping_never(value: int) -> int:
    """A function of this module, so that its classes are looked at."""
    return value
