"""What a careful reader of the code found about time, plans and state, kept found."""

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest

from streamproc import (
    App,
    Context,
    DefinitionError,
    PlanChanged,
    RecordError,
    Stream,
    counting,
    hopping,
    process,
    session,
    tumbling,
)
from streamproc.log import Partition
from streamproc.state.codec import Codec
from streamproc.state.keys import identities
from streamproc.state.memory import MemoryDisk
from streamproc.state.table import Table
from streamproc.testing import Record, replay
from streamproc.testing.replay import run_now
from tests.live import Live, Row

Numbers = Stream[str, int]


def app_of(f: Callable[[Numbers], Any], **options: Any) -> App:
    """An app with one stream, `one`, from ints of str keys to `out`."""
    app = App("found", **options)

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out"))
    def one(numbers: Numbers) -> Any:
        return f(numbers)

    return app


def stop(live: Live, app: App) -> None:
    """A run that reads all there is, and stops in order."""
    worker = live.rested(app)
    run_now(worker.stop())


# -------------------------------------------------------------------------------------- the schema (findings 3, 10)


@pytest.mark.parametrize("first", [0, 5], ids=("a poison record", "a good one"))
def test_state_keeps_its_schema_whatever_the_first_epoch_met(first: int) -> None:
    """An epoch that is taken back before the first commit forgets no check: another plan is refused afterwards."""

    def app(aggregate: Callable[[Numbers], Any]) -> App:
        return app_of(lambda s: aggregate(s.filter(lambda v: 1 // v >= 0)), on_error="skip")

    def sums(numbers: Numbers) -> Any:
        return numbers.reduce(lambda a, b: a + b, name="total")

    live = Live()
    live.create("numbers")
    live.send("numbers", (b"k", b"%d" % first, 0), (b"k", b"5", 1))
    stop(live, app(sums))
    live.send("numbers", (b"k", b"7", 2))
    with pytest.raises(PlanChanged, match=r"state of one\.total"):
        live.run(app(lambda s: s.count(name="total")))
    live.run(app(sums))
    assert live.values("out")[-1] == b"%d" % (first + 12)


@dataclass(frozen=True)
class Tens:
    """As tumbling("10ms"), by a rule of one's own."""

    def windows(self, timestamp: int, /) -> list[tuple[int, int]]:
        start = timestamp - timestamp % 10
        return [(start, start + 10)]


GRACED: dict[str, Callable[[Numbers, str], Any]] = {
    "tumbling": lambda s, grace: s.window(tumbling("10ms"), grace=grace).count(name="step"),
    "hopping": lambda s, grace: s.window(hopping("10ms", every="5ms"), grace=grace).count(name="step"),
    "one's own": lambda s, grace: s.window(Tens(), grace=grace).count(name="step"),
    "session": lambda s, grace: s.window(session("10ms"), grace=grace).count(name="step"),
    "in_order": lambda s, grace: s.in_order(grace=grace, name="step"),
    "deduplicate": lambda s, grace: s.deduplicate(within="1m", grace=grace, name="step"),
}


@pytest.mark.parametrize(("before", "after"), [("0s", "1m"), ("1m", "0s")])
@pytest.mark.parametrize("verb", GRACED)
def test_another_grace(verb: str, before: str, after: str) -> None:
    """What was closed under one grace would be opened again under another: refused, with the ways out."""

    def app(grace: str) -> App:
        return app_of(lambda s: GRACED[verb](s, grace))

    live = Live()
    live.create("numbers")
    live.send("numbers", (b"k", b"1", 1), (b"k", b"2", 2), (b"k", b"3", 30))
    stop(live, app(before))
    seen = live.rows("out")
    live.send("numbers", (b"k", b"4", 3))
    with pytest.raises(PlanChanged, match=r"state of one\.step, which has changed: grace .*streamproc reset") as caught:
        live.run(app(after))
    assert "Go back to the old definition" in str(caught.value)
    assert live.rows("out") == seen
    live.run(app(before))


# -------------------------------------------------------------------------------------- idle inputs (findings 7, 14)


def merged() -> App:
    """Counts of two topics in one task, so that what either says closes windows at once."""
    app = App("merged")
    a, b = (app.topic(name, key=bytes, value=int) for name in "ab")

    @app.stream(a, b, to=app.topic("out"))
    def one(a: Stream[bytes, int], b: Stream[bytes, int]) -> Any:
        return a.merge(b).window(tumbling("10ms")).count().map(lambda row: row.value)

    return app


def fallen_silent(live: Live, silent: str) -> None:
    """A run in which one of the topics becomes idle, and that is committed."""
    for topic in "ab":
        live.create(topic)
        live.send(topic, Row(b"k", b"1", 1))
    worker = live.worker(merged())
    for at in range(2, 8):
        live.send("a" if silent == "b" else "b", Row(b"k", b"1", at))
        live.clock.advance(600)
        live.rest(worker)
    run_now(worker.stop())
    assert '"idle":true' in live.committed(merged())[Partition(silent, 0)][1]


@pytest.mark.parametrize("lost_disk", [False, True])
@pytest.mark.parametrize("until_end", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_an_input_that_was_idle_and_has_lag_is_waited_for(seed: int, until_end: bool, lost_disk: bool) -> None:
    """What was sent to it while nobody ran is on time, whichever the log gives first."""
    live = Live(idle="1s")
    fallen_silent(live, "ab"[seed % 2])
    rng = random.Random(seed)
    live.log._chunk_records = lambda: rng.choice((0, 0, 0, 20))
    if lost_disk:
        live.disk = MemoryDisk()
    for topic in "ab":
        live.send(topic, *[Row(b"k", b"1", at) for at in range(100, 1_100, 10)])
    if until_end:
        worker = live.run(merged())
    else:
        worker = live.worker(merged())
        for _ in range(200):  # where the log gives nothing, it may have more
            live.rest(worker)
    assert worker.late == {}
    assert live.values("out") == [b"8", *[b"2"] * (100 if until_end else 99)]


def test_an_input_that_was_idle_is_not_in_a_run_until_the_end() -> None:
    """Nor where nothing came since: such a run judges by the log alone."""
    live = Live(idle="1s")
    fallen_silent(live, "b")
    assert live.run(merged()).late == {}
    assert '"idle":false' in live.committed(merged())[Partition("b", 0)][1]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("retimed", [False, True], ids=("own times", "with_timestamp"))
def test_an_idle_input_of_several_merges_that_wakes(
    restart: bool, retimed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What closed without it in any of the merges stays closed: its record is late there, and nothing is out of law."""
    app = App("merges", idle="1s")
    a, b, c = (app.topic(name, key=bytes, value=int) for name in "abc")

    def timed(stream: Stream[bytes, int], name: str) -> Stream[bytes, int]:
        return stream.with_timestamp(lambda v: v, name=f"times-{name}") if retimed else stream

    @app.stream(a, b, c, to=(app.topic("ab"), app.topic("bc")))
    def one(a: Stream[bytes, int], b: Stream[bytes, int], c: Stream[bytes, int]) -> Any:
        a, b, c = timed(a, "a"), timed(b, "b"), timed(c, "c")
        both = (a.merge(b).window(tumbling("10ms")), b.merge(c).window(tumbling("10ms")))
        return tuple(
            windows.count(name=name).map(lambda row: row.start) for windows, name in zip(both, "xy", strict=True)
        )

    def send(topic: str, at: int) -> None:
        live.send(topic, Row(topic.encode(), b"%d" % at, at))

    live = Live(idle="1s")
    for topic in "abc":
        live.create(topic)
    for topic, at in (("a", 50), ("b", 1), ("c", 50)):
        send(topic, at)
    worker = live.rested(app)
    for at in range(60, 110, 10):
        send("a", at)
        send("c", 50)
        live.clock.advance(600)
        live.rest(worker)
    if restart:
        run_now(worker.stop())
        worker = live.rested(app)
    late = Counter(worker.late)
    send("b", 62)
    live.rest(worker)
    assert live.values("ab") == [b"0", b"50", b"60", b"70", b"80", b"90"]
    assert Counter(worker.late) - late == {"one.x": 1, "one.y": 1}
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# -------------------------------------------------------------------------------------- other times (findings 13, 20)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_with_timestamp_takes_no_time_from_the_future(place: int) -> None:
    """One further ahead of the record than `ahead` is an error of that record: it makes nothing else late."""

    def app(**settings: Any) -> App:
        return app_of(lambda s: s.with_timestamp(lambda v: v).window(tumbling("10ms")).count(), **settings)

    times = [1, 2, 3, 25]
    times.insert(place, 4_000_000_000_000)
    given = {"numbers": [Record(v, "k", 1_000) for v in times]}
    with pytest.raises(
        RecordError, match=rf"one\.with_timestamp.*numbers/0 at offset {place}.*ahead= allows 3600000 ms"
    ):
        replay(app(), given)
    out = replay(app(on_error="skip"), given)
    assert [(row["start"], row["value"]) for row in out["out"]] == [(0, 3), (20, 1)]
    assert (out.late, sum(out.errors.values())) == ({}, 1)


RETIMED: dict[str, Callable[[Numbers], Stream[Any, int]]] = {
    "own times": lambda s: s,
    "with_timestamp": lambda s: s.with_timestamp(lambda v: v),
    "with_timestamp and filter": lambda s: s.with_timestamp(lambda v: v).filter(lambda v: v < 99),
    "with_timestamp, re-keyed": lambda s: s.with_timestamp(lambda v: v).key_by(str),
    "one of two": lambda s: s.with_timestamp(lambda v: v).merge(s),
}


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("how", RETIMED)
def test_until_lets_timers_fire_behind_other_times(how: str, partitions: int) -> None:
    """The clock that with_timestamp makes goes on to the instant too, and not further."""

    @process
    def waiting(value: int, ctx: Context[str, None]) -> None:
        ctx.timer("due", after="5ms")

    @waiting.on_timer("due")
    def due(ctx: Context[str, None]) -> list[int]:
        return [ctx.timestamp]

    app = app_of(lambda s: RETIMED[how](s).process(waiting))
    given = {"numbers": [Record(1, "k", 1)]}
    assert replay(app, given, partitions=partitions)["out"] == []
    assert replay(app, given, partitions=partitions, until=5)["out"] == []
    assert replay(app, given, partitions=partitions, until=6)["out"] == [6]
    assert replay(app, given, partitions=partitions, until=1_000)["out"] == [6]


# -------------------------------------------------------------------------------------- plans (findings 8 and more)


@pytest.mark.parametrize("partitions", [1, 4])
def test_with_previous_behind_a_re_key(partitions: int) -> None:
    """It meets all results of its key, wherever they were made."""

    def previous(numbers: Numbers) -> Any:
        counts = numbers.window(tumbling("10ms")).count()
        return (
            counts.key_by(lambda _: "all").with_previous(1, fill=0).map(lambda row: [row.value.now, *row.value.before])
        )

    counts = [3, 1, 4, 1, 5, 9, 2, 6]  # windows in turn are of other keys, so of other tasks
    given = [Record(v, f"k{n % 4}", n * 10 + v) for n, count in enumerate(counts) for v in range(count)]
    out = replay(app_of(previous), {"numbers": given}, partitions=partitions)
    assert out["out"] == [[now, before] for before, now in zip([0, *counts], counts, strict=False)]


def test_with_previous_of_other_keys_has_a_stage_of_its_own() -> None:
    """Where the key is still the windows', none is needed."""
    kept = app_of(lambda s: s.window(tumbling("1m")).count().with_previous(1, fill=0))
    moved = app_of(lambda s: s.window(tumbling("1m")).count().key_by(lambda _: 0).with_previous(1, fill=0))
    assert [len(app.plan.stages) for app in (kept, moved)] == [1, 2]


def test_top_of_counting_windows() -> None:
    """Those of different keys do not end together, so there is nothing to rank: found in the definition."""
    app = app_of(lambda s: s.window(counting(2)).count().top(3))
    with pytest.raises(DefinitionError, match="one: top works on windows of time"):
        _ = app.plan


@pytest.mark.parametrize("name", ["x/due", "a/b", "a b", "a\0b", "a\n", "tab\t", "\x1b", "/"])
@pytest.mark.parametrize("verb", ["map", "count", "window", "key_by"])
def test_names_of_steps(verb: str, name: str) -> None:
    """They name tables and topics, so they may not hold what divides those names: found in the definition."""
    verbs: dict[str, Callable[[Numbers], Any]] = {
        "map": lambda s: s.map(lambda v: v, name=name),
        "count": lambda s: s.count(name=name),
        "window": lambda s: s.window(tumbling("1m")).count(name=name),
        "key_by": lambda s: s.key_by(lambda v: v, name=name).count(),
    }
    app = app_of(verbs[verb])
    with pytest.raises(DefinitionError, match="'one': .* is no name for a step: use letters"):
        _ = app.plan


def test_a_topic_named_like_a_re_key() -> None:
    """Their stages would share name, state and changelog: refused, with the way out; named otherwise it runs."""

    def app(name: str) -> App:
        made = App("like")
        numbers = made.topic("numbers", key=str, value=int)
        like = made.topic("one-key_by", key=str, value=int)

        @made.stream(numbers, to=made.topic("out"))
        def one(numbers: Numbers) -> Any:
            return numbers.key_by(lambda v: v % 2, name=name).count()

        @made.stream(like, to=made.topic("more"))
        def two(like: Numbers) -> Any:
            return like.count()

        return made

    with pytest.raises(DefinitionError, match="a source topic and a re-key are both named 'one-key_by': .*name='...'"):
        _ = app("").plan
    out = replay(app("parity"), {"numbers": [1, 2, 3], "one-key_by": [Record(5, "k")]})
    assert (sorted(out["out"]), out["more"]) == ([1, 1, 2], [1])


@pytest.mark.parametrize("partitions", [1, 3])
def test_forks_and_several_re_keys_of_one_function(partitions: int) -> None:
    """A re-keyed stream used twice, and re-keys by several lambdas, are told apart without names."""
    app = App("forks")
    outs = tuple(app.topic(name, key=int, value=int) for name in ("odd", "sums", "large", "third", "fifth"))

    @app.stream(app.topic("numbers", value=int), to=outs)
    def one(numbers: Stream[bytes, int]) -> Any:
        odd = numbers.key_by(lambda v: v % 2)
        third = numbers.key_by(lambda v: v % 3)
        large = odd.filter(lambda v: v > 5)
        return (
            odd.count(name="a"),
            odd.sum(lambda v: v, name="e"),
            large.sum(lambda v: v, name="b"),
            third.count(name="c"),
            third.map(lambda v: v).key_by(lambda v: v % 5).count(name="d"),
        )

    out = replay(app, {"numbers": [Record(v, timestamp=v) for v in range(12)]}, partitions=partitions)
    assert out.table("a") == {0: 6, 1: 6}
    assert out.table("e") == {0: 30, 1: 36}
    assert out.table("b") == {0: 6 + 8 + 10, 1: 7 + 9 + 11}
    assert out.table("c") == dict.fromkeys(range(3), 4)
    assert out.table("d") == {0: 3, 1: 3, 2: 2, 3: 2, 4: 2}
    assert len({app.plan.topic_of(node) for stage in app.plan.stages for node in stage.inputs}) == 5


def calls_of(made: Callable[[], object], limit: int) -> int:
    """How many calls of functions it takes; it is ended when they are too many."""
    count = 0

    def counted(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"
        if count > limit:
            sys.setprofile(None)
            raise AssertionError(f"more than {limit} calls")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        made()
    finally:
        sys.setprofile(before)
    return count


def diamonds(count: int) -> App:
    def forked(numbers: Numbers) -> Any:
        for n in range(count):
            numbers = numbers.map(lambda v: v, name=f"l{n}").merge(numbers.map(lambda v: v, name=f"r{n}"))
        return numbers.window(tumbling("1m")).count()

    return app_of(forked)


def test_a_plan_of_many_paths_is_made_at_once() -> None:
    """Twice as many forks that meet again are four times as many paths, squared and again: not so many more calls."""
    small = calls_of(lambda: diamonds(10).plan, limit=1_000_000)
    calls_of(lambda: diamonds(20).plan, limit=5 * small)


STEPS = 1_200
"""More than Python allows calls within calls."""


def test_a_plan_of_many_steps() -> None:
    """A chain is as long as it is: no recursion goes along it."""

    def long(numbers: Numbers) -> Any:
        for n in range(STEPS):
            numbers = numbers.map(lambda v: v + 1, name=f"m{n}")
        return numbers

    assert replay(app_of(long), {"numbers": [1]})["out"] == [STEPS + 1]


# -------------------------------------------------------------------------------------- the cache (finding 6)


class Watched(dict[Any, Any]):
    """A dict that counts how often an entry of it is looked at."""

    looks = 0

    def __iter__(self) -> Iterator[Any]:
        return self._counted(super().__iter__())

    def values(self) -> Any:
        return self._counted(iter(super().values()))

    def items(self) -> Any:
        return self._counted(iter(super().items()))

    def _counted(self, entries: Iterator[Any]) -> Iterator[Any]:
        for entry in entries:
            self.looks += 1
            yield entry


def looks_of_a_trim(groups: int) -> int:
    """How many cached groups are looked at when that many leave the cache."""
    table: Table[int] = Table(MemoryDisk(undo_writes=0).open("x"), "t", Codec())
    [inner] = identities(["inner"])
    for outer in identities(list(range(groups))):
        table.put(inner, 1, outer)
    table.seal()
    table._groups = watched = Watched(table._groups)
    table.settle(1)
    assert table.cached_bytes == 0
    return watched.looks


def test_the_cache_is_trimmed_in_one_pass() -> None:
    """Twice the groups are twice the work, also where cache_bytes leaves room for none."""
    assert looks_of_a_trim(400) <= 2 * looks_of_a_trim(200) <= 2_000
