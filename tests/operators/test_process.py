"""Process: a function with the state and timers of each key, the same whatever the batches, pace and restarts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.operators.batch import FOREVER, Batch
from streamproc.operators.operator import CloseError
from streamproc.operators.process import Context, Process, ProcessFunction, process
from streamproc.state.list_state import ListState
from streamproc.state.map_state import MapState
from tests.operators.harness import STEPS, Driver, Outcome, Row, Step, partition, run

DENSE = -1
"""The floor of a processor with timers on arrival order: each record has its clock."""
SPARSE = FOREVER
"""The floor behind in_order: no record has a clock."""


# ------------------------------------------------------------------ any program of state and timers, by definition


@process
def program(commands: list[tuple[str, Any, int]], ctx: Context[str, int | None]) -> Iterator[Any]:
    for verb, name, number in commands:
        if verb == "emit":
            yield ("record", ctx.state, ctx.timestamp)
        elif verb == "add":
            ctx.state = (ctx.state or 0) + number
        elif verb == "delete":
            del ctx.state
        elif verb == "cancel":
            ctx.cancel(name)
        else:
            ctx.timer(name, at=ctx.timestamp + number)


@program.on_timer("a")
def fires(ctx: Context[str, int | None]) -> list[Any]:
    return [("a", ctx.state, ctx.timestamp)]


@program.on_timer("b")
def chains(ctx: Context[str, int | None]) -> Iterator[Any]:
    yield ("b", ctx.state, ctx.timestamp)
    ctx.state = (ctx.state or 0) + 1
    ctx.timer("a", at=ctx.timestamp + (2 if ctx.state % 2 else -2))


@program.on_timer("c")
def repeats(ctx: Context[str, int | None]) -> Iterator[Any]:
    yield ("c", ctx.state, ctx.timestamp)
    ctx.state = (ctx.state or 0) + 1
    if ctx.state % 4:
        ctx.timer("c", after="4ms")


class Model:
    """One key by definition: its records one after the other, its timers between them."""

    def __init__(self) -> None:
        self.state: int | None = None
        self.timers: dict[str, int] = {}
        self.given: list[tuple[Any, int, int | None]] = []

    def record(self, row: Row, time: int) -> None:
        self.fire_until(time)
        past: dict[str, int] = {}
        for verb, name, number in row.value:
            if verb == "emit":
                self.given.append((("record", self.state, row.timestamp), row.timestamp, row.clock))
            elif verb == "add":
                self.state = (self.state or 0) + number
            elif verb == "delete":
                self.state = None
            else:
                self.timers.pop(name, None)
                past.pop(name, None)
                if verb == "set":
                    (past if row.timestamp + number <= time else self.timers)[name] = row.timestamp + number
        self.fire_past(past, row.timestamp, row.clock, time)

    def fire_until(self, time: int) -> None:
        while self.timers:
            at, name = min((at, name) for name, at in self.timers.items())
            if at > time:
                return
            del self.timers[name]
            self.fire_past({name: at}, at, None, at)

    def fire_past(self, past: dict[str, int], timestamp: int, clock: int | None, time: int) -> None:
        while past:
            _, name = min((at, name) for name, at in past.items())
            del past[name]
            self.given.append(((name, self.state, timestamp), timestamp, clock))
            if name == "a":
                continue
            self.state = (self.state or 0) + 1
            other, wait = ("a", 2 if self.state % 2 else -2) if name == "b" else ("c", 4)
            if name == "c" and not self.state % 4:
                continue
            self.timers.pop(other, None)
            past.pop(other, None)
            (past if timestamp + wait <= time else self.timers)[other] = timestamp + wait


def by_definition(rows: list[Row], *, dense: bool) -> dict[str, list[Any]]:
    keys: dict[str, Model] = defaultdict(Model)
    for row in rows:
        assert row.clock is not None
        if dense:
            keys[row.key].record(row, row.clock)
        else:
            keys[row.key].record(row._replace(clock=None), row.timestamp)
    for model in keys.values():
        model.fire_until(max(row.clock or 0 for row in rows))
    return {key: model.given for key, model in keys.items() if model.given}


def by_key(outcome: Outcome) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row in outcome.rows:
        found[row.key].append((row.value, row.timestamp, row.clock))
    return dict(found)


def all_but_the_last(steps: list[Step], rows: list[Row]) -> list[Step]:
    """The steps without those that would take the last row: it comes with a watermark."""
    left, found = len(rows) - 1, []
    for step in steps:
        left -= step.rows
        if left >= 0:
            found.append(step)
    return found


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["emit", "set", "set", "add", "delete", "cancel"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(-3, 12),
    ),
    max_size=4,
)
RECORDS = st.lists(st.tuples(st.sampled_from(["x", "y"]), COMMANDS, st.integers(0, 40)), min_size=1, max_size=15)


@given(RECORDS, STEPS)
def test_any_program_on_arrival_order_does_what_it_says(records: list[Any], steps: list[Step]) -> None:
    """Rows of a key, their times, clocks and sequence: for any batches, lagging watermarks, aborts and restarts."""
    rows = partition(records)
    outcome = run(Process(program), rows, all_but_the_last(steps, rows), floor=DENSE)
    assert by_key(outcome) == by_definition(rows, dense=True)
    places = [(row.timestamp, row.origin) for row in outcome.rows]
    assert len(set(places)) == len(places), "no two rows have the same place in the order"


@given(RECORDS, STEPS)
def test_any_program_behind_in_order_goes_by_the_records_own_time(records: list[Any], steps: list[Step]) -> None:
    """Without clocks a record's timestamp is the clock."""
    rows = partition(sorted(records, key=lambda record: record[2]))
    outcome = run(Process(program), rows, all_but_the_last(steps, rows), floor=SPARSE)
    assert by_key(outcome) == by_definition(rows, dense=False)


# ------------------------------------------------------------------------------------------------ timers


@process
def watched(value: str, ctx: Context[Any, list[str]]) -> Iterator[Any]:
    ctx.state.append(value)
    ctx.timer("silence", after="10ms")
    if value == "now":
        ctx.timer("at once", at=ctx.timestamp)
    yield value


@watched.on_timer("silence")
def silence(ctx: Context[Any, list[str]]) -> Iterator[Any]:
    yield ("silence after", *ctx.state)
    del ctx.state


@watched.on_timer("at once")
def at_once(ctx: Context[Any, list[str]]) -> list[Any]:
    return [("at once", *ctx.state)]


def test_a_timer_fires_before_the_record_that_reaches_it() -> None:
    """Not with the watermark alone, which may lag behind any number of records."""
    rows = partition([("k", "one", 0), ("k", "two", 10)])
    driver = Driver(Process(watched), floor=DENSE)
    driver.process(rows)
    assert driver.outcome.values() == ["one", ("silence after", "one"), "two"]
    assert driver.outcome.rows[1][2:4] == (10, None), "it has its own time, and cannot be late"


def test_a_timer_fires_by_the_clock_where_it_is_known() -> None:
    """A late record of the key brings the clock with it."""
    rows = partition([("k", "one", 0), ("other", "two", 50), ("k", "late", 3)])
    driver = Driver(Process(watched), floor=DENSE)
    driver.process([rows[0], rows[2]])
    assert driver.outcome.values() == ["one", ("silence after", "one"), "late", ("silence after", "late")]
    assert driver.outcome.rows[3][2:4] == (3, 50), "set in its past, it fires at once, as its record"


def test_the_past_of_a_timer_is_its_record_s_not_the_watermark_s() -> None:
    """A watermark that has passed the timer, but not its record's clock, fires it at its own time."""
    driver = Driver(Process(watched), floor=SPARSE)
    driver.operator.watermark = 1_000
    driver.process([Row("k", "one", 0, None, (0, 0, 0))])
    assert [(row.value, row.timestamp) for row in driver.outcome.rows] == [("one", 0), (("silence after", "one"), 10)]


def test_timers_that_the_watermark_fires_are_sorted() -> None:
    """By instant, key bytes, name; those that they set in between as well."""

    @process
    def start(value: int, ctx: Context[Any, None]) -> None:
        ctx.timer("z", at=value)
        ctx.timer("a", at=value)

    @start.on_timer("a")
    def a(ctx: Context[Any, None]) -> list[Any]:
        if ctx.timestamp < 20:
            ctx.timer("a", at=25)
        return ["a"]

    @start.on_timer("z")
    def z(ctx: Context[Any, None]) -> list[Any]:
        return ["z"]

    driver = Driver(Process(start), floor=DENSE)
    driver.process(partition([((2, "b"), 30, 0), (10, 10, 0), ("s", 10, 0), (9, 30, 0), (9.5, 10, 0)]))
    driver.close(100)
    expected: list[Any] = [(10, key, name) for key in (10, 9.5, "s") for name in ("a", "z")]
    expected += [(25, key, "a") for key in (10, 9.5, "s")]
    expected += [(30, key, name) for key in (9, (2, "b")) for name in ("a", "z")]
    assert [(row.timestamp, row.key, row.value) for row in driver.outcome.rows] == expected


def test_the_end_fires_no_timer_beyond_the_clock() -> None:
    """It waits for the next run, and fires there."""
    driver = Driver(Process(watched), floor=DENSE)
    driver.process(partition([("k", "one", 0)]))
    driver.close(9)
    driver.end()
    assert driver.outcome.values() == ["one"]
    driver.restart()
    driver.close(10)
    assert driver.outcome.values() == ["one", ("silence after", "one")]


def test_setting_a_timer_again_moves_it() -> None:
    """A key has one timer of a name, and another key has its own."""
    driver = Driver(Process(watched), floor=DENSE)
    driver.process(partition([("k", "one", 0), ("l", "other", 1), ("k", "two", 9)]))
    driver.close(18)
    assert driver.outcome.values()[3:] == [("silence after", "other")]
    driver.close(19)
    assert driver.outcome.values()[4:] == [("silence after", "one", "two")]


def test_no_trace_is_left_of_a_timer_that_fired_or_was_cancelled() -> None:
    """State is what waits, however many timers there were."""

    @process
    def order(value: str, ctx: Context[str, None]) -> None:
        if value == "paid":
            ctx.cancel("overdue")
        else:
            ctx.timer("overdue", after="7d")

    @order.on_timer("overdue")
    def overdue(ctx: Context[str, None]) -> None:
        pass

    driver = Driver(Process(order), floor=DENSE)
    driver.process(partition([("k", "ordered", 0), ("l", "ordered", 0)]))
    driver.settle()
    assert list(driver.store.scan(b"", b"\xff"))
    driver.process(partition([("k", "paid", 1)]))
    driver.close(8 * 86_400_000)
    driver.settle()
    assert list(driver.store.scan(b"", b"\xff")) == []


def test_instants_and_durations_are_as_everywhere() -> None:
    """An aware datetime or ms; a duration from the record's time on."""

    @process
    def set_all(_: Any, ctx: Context[str, None]) -> None:
        ctx.timer("a", at=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
        ctx.timer("b", after="1s")

    @set_all.on_timer("a")
    @set_all.on_timer("b")
    def show(ctx: Context[str, None]) -> list[int]:
        return [ctx.timestamp]

    driver = Driver(Process(set_all), floor=DENSE)
    driver.process(partition([("k", None, 500)]))
    driver.close(2_000)
    assert driver.outcome.values() == [1_000, 1_500]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "other", "at": 5}, LookupError, "timer 'other' has no function"),
        ({"name": "silence"}, TypeError, "timer 'silence' is set either at= an instant or after= a duration"),
        ({"name": "silence", "at": 5, "after": "1s"}, TypeError, "timer 'silence' is set either"),
        ({"name": "silence", "at": datetime(2020, 1, 1)}, ValueError, "no time zone"),  # noqa: DTZ001
        ({"name": "silence", "after": "soon"}, ValueError, "'soon' is no duration"),
    ],
)
def test_a_timer_that_cannot_be_set_says_why(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    """It is an error of the record."""

    @process
    def wrong(_: Any, ctx: Context[str, None]) -> None:
        ctx.timer(**arguments)

    wrong.on_timer("silence")(lambda _: None)
    with pytest.raises(error, match=says):
        Driver(Process(wrong), floor=DENSE).process(partition([("k", None, 0)]))


def test_a_timer_that_sets_itself_in_its_past_for_ever_is_an_error() -> None:
    """It would never end."""

    @process
    def start(_: Any, ctx: Context[str, None]) -> None:
        ctx.timer("again", after="1s")

    @start.on_timer("again")
    def again(ctx: Context[str, None]) -> None:
        ctx.timer("again", at=ctx.timestamp)

    driver = Driver(Process(start), floor=DENSE)
    driver.process(partition([("k", None, 0)]))
    with pytest.raises(CloseError) as caught:
        driver.operator.close(1_000)
    assert "timer 'again' is set again and again" in str(caught.value.__cause__)


# ------------------------------------------------------------------------------------------------ failures


@process
def fragile(value: int, ctx: Context[str, int]) -> Iterator[str]:
    ctx.state += 1
    ctx.timer("due", after="10ms")
    if value < 0:
        raise ValueError(value)
    yield f"record {ctx.state}"


@fragile.on_timer("due")
def fragile_timer(ctx: Context[str, int]) -> Iterator[str]:
    if ctx.key == "bad":
        raise ZeroDivisionError(ctx.key)
    yield f"timer {ctx.state}"


def test_a_timer_that_fails_is_discarded_alone() -> None:
    """The error names key and instant; called again, close leaves that timer out and fires the others, each once."""
    driver = Driver(Process(fragile), floor=DENSE)
    driver.process(partition([("good", 1, 0), ("bad", 1, 0), ("good 2", 1, 20)]))
    kept = driver.remembered()
    driver.savepoint()
    with pytest.raises(CloseError) as caught:
        driver.operator.close(4_000)
    assert (caught.value.key, caught.value.timestamp) == ("bad", 10)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    driver.undo(kept)
    driver.close(4_000)
    assert driver.outcome.values() == ["record 1"] * 3 + ["timer 1"] * 2
    driver.close(5_000)
    assert len(driver.outcome.rows) == 5


def test_a_timer_that_fails_before_a_record_is_not_that_record_s_error() -> None:
    """It is a CloseError of the timer; once that is discarded the record is processed."""
    driver = Driver(Process(fragile), floor=DENSE)
    first, second = partition([("bad", 1, 0), ("bad", 2, 15)])
    driver.process([first])
    driver.savepoint()
    with pytest.raises(CloseError) as caught:
        driver.process([second])
    driver.undo(driver.remembered())
    driver.operator.discarded = frozenset([caught.value.unit])
    driver.process([second])
    assert driver.outcome.values() == ["record 1", "record 2"]


def test_what_a_failing_call_did_is_undone() -> None:
    """State changed in place, timers and sent records go back with the tables."""
    driver = Driver(Process(fragile), floor=DENSE)
    driver.process(partition([("k", 1, 0)]))
    driver.savepoint()
    with pytest.raises(ValueError, match="-1"):
        driver.process([Row("k", -1, 5, 5, (0, 0, 1))])
    driver.undo(driver.remembered())
    driver.close(10)
    assert driver.outcome.values() == ["record 1", "timer 1"]


def test_a_timer_kept_by_a_version_that_had_its_function_is_not_dropped_in_silence() -> None:
    """It is an error that names the timer."""
    driver = Driver(Process(fragile), floor=DENSE)
    driver.process(partition([("k", 1, 0)]))
    driver.described = Process(process(fragile.function))
    driver.restart()
    with pytest.raises(CloseError) as caught:
        driver.operator.close(100)
    assert "timer 'due' was set when fragile had a function for it" in str(caught.value.__cause__)


# ------------------------------------------------------------------------------------------------ state


class Open(msgspec.Struct):
    calls: list[int]


def test_an_object_is_kept_as_it_was_changed() -> None:
    """Set, changed in place, deleted: across restarts."""

    @process
    def collect(value: int, ctx: Context[str, dict[str, list[int]] | None]) -> Iterator[Any]:
        if ctx.state is None:
            ctx.state = {"calls": []}
        ctx.state["calls"].append(value)
        yield list(ctx.state["calls"])
        if len(ctx.state["calls"]) == 3:
            ctx.state = None

    steps = [Step(1, after=after) for after in ("trim", "restart", "seal", "trim", "restart")]
    outcome = run(Process(collect), partition([("k", i, i) for i in range(5)]), [*steps])
    assert outcome.values() == [[0], [0, 1], [0, 1, 2], [3], [3, 4]]


def test_a_state_without_none_begins_by_itself() -> None:
    """Context[..., int] is 0 for a new key, a class is its constructor's; what is never asked for is never kept."""

    @process
    def counted(value: int, ctx: Context[str, int]) -> Iterator[int]:
        if value:
            ctx.state += value
            yield ctx.state

    driver = Driver(Process(counted))
    driver.process(partition([("a", 1, 0), ("b", 0, 0), ("a", 2, 0)]))
    driver.settle()
    assert driver.outcome.values() == [1, 3]
    assert len(list(driver.store.scan(b"", b"\xff"))) == 1


MAP_COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["k", "l"]),
        st.sampled_from(["put", "put", "get", "delete", "has", "append", "clear", "len", "items"]),
        st.sampled_from([1, 2, -3, "s", (1, "t"), 1.0, True]),
    ),
    max_size=30,
)


@process
def map_program(command: tuple[str, Any], ctx: Context[str, MapState[Any, list[int]]]) -> Iterable[Any]:
    return [apply_to_map(ctx.state, command, ctx.timestamp)]


def apply_to_map(state: Any, command: tuple[str, Any], now: int) -> Any:
    verb, key = command
    if verb == "put":
        state[key] = [now]
    elif verb == "get":
        return state.get(key)
    elif verb == "delete":
        return state.pop(key, "nothing")
    elif verb == "has":
        return key in state
    elif verb == "append":
        state.setdefault(key, []).append(now)
    elif verb == "clear":
        state.clear()
    return len(state) if verb == "len" else sorted(map(repr, state.items()))


@given(MAP_COMMANDS, STEPS)
def test_a_map_state_is_a_dict_of_its_key(commands: list[tuple[str, str, Any]], steps: list[Step]) -> None:
    """Its keys are told apart by type, values changed in place are kept, across aborts and restarts."""
    expected, maps = [], defaultdict[str, dict[Any, Any]](dict)
    for now, (key, verb, entry) in enumerate(commands):
        given_value = apply_to_map(maps[key], (verb, Typed(entry)), now)
        expected.append(given_value)
    rows = partition([(key, (verb, entry), now) for now, (key, verb, entry) in enumerate(commands)])
    assert repr(run(Process(map_program), rows, steps).values()) == repr(expected)


class Typed:
    """A dict key that is equal to what is equal and of the same type."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Typed) and (type(self.value), self.value) == (type(other.value), other.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return repr(self.value)


def test_a_map_state_is_iterated_in_the_order_of_its_keys() -> None:
    """Of the keys' bytes: whatever came first, and wherever it is kept."""

    @process
    def keys(value: int, ctx: Context[str, MapState[int, bool]]) -> Iterable[list[int]]:
        ctx.state[value] = True
        return [list(ctx.state)]

    outcome = run(Process(keys), partition([("k", n, 0) for n in (5, -1, 300, 2)]), [Step(2, after="trim")])
    assert outcome.values()[-1] == [-1, 2, 5, 300]


LIST_COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["k", "l"]),
        st.sampled_from(["append", "append", "extend", "pop", "clear", "set", "slice", "change", "last"]),
    ),
    max_size=30,
)


@process
def list_program(verb: str, ctx: Context[str, ListState[list[int]]]) -> Iterable[Any]:
    return [apply_to_list(ctx.state, verb, ctx.timestamp)]


def apply_to_list(state: Any, verb: str, now: int) -> Any:
    if verb == "append":
        state.append([now])
    elif verb == "extend":
        state.extend([[now, 1], [now, 2]])
    elif verb == "clear":
        state.clear()
    elif verb == "slice":
        return list(state[-3::2])
    elif len(state):
        if verb == "pop":
            state.pop()
        elif verb == "set":
            state[0] = [now, 3]
        elif verb == "change":
            state[-1].append(now)
        elif verb == "last":
            return list(state[-1])
    return [list(entry) for entry in state]


@given(LIST_COMMANDS, STEPS)
def test_a_list_state_is_a_list_of_its_key(commands: list[tuple[str, str]], steps: list[Step]) -> None:
    """Entries changed in place are kept, across aborts and restarts."""
    lists = defaultdict[str, list[Any]](list)
    expected = [apply_to_list(lists[key], verb, now) for now, (key, verb) in enumerate(commands)]
    rows = partition([(key, verb, now) for now, (key, verb) in enumerate(commands)])
    assert run(Process(list_program), rows, steps).values() == expected


def test_a_list_ends_where_it_ends() -> None:
    """As a list."""

    @process
    def wrong(value: Any, ctx: Context[str, ListState[int]]) -> None:
        ctx.state.append(1)
        ctx.state[value]

    with pytest.raises(IndexError, match="1 in a list of 1"):
        Driver(Process(wrong)).process(partition([("k", 1, 0)]))


@pytest.mark.parametrize("kind", [MapState[str, int], ListState[int]])
def test_entries_are_changed_and_never_replaced(kind: Any) -> None:
    """Setting ctx.state to a dict or list of one's own would lose the entries' rows: it is an error; del clears."""

    def replaces(value: Any, ctx: Any) -> None:
        if value == "del":
            del ctx.state
        else:
            ctx.state = value

    replaces.__annotations__["ctx"] = Context[str, kind]
    driver = Driver(Process(process(replaces)))
    driver.process(partition([("k", "del", 0)]))
    with pytest.raises(TypeError, match="change its entries"):
        driver.process(partition([("k", {}, 0)]))


# ------------------------------------------------------------------------------------- rows, headers, sent


def test_rows_have_the_key_time_clock_and_headers_of_their_record() -> None:
    """Their origins are the record's with a number, so that each has its place."""

    @process
    def twice(value: int, ctx: Context[str, None]) -> list[Any]:
        return [value, dict(ctx.headers)]

    driver = Driver(Process(twice))
    batch = Batch(["a", "b"], [1, 2], [5, 6], [None, 9], [(0, 0, 0), (0, 0, 1)], [{"h": b"1"}, None])
    rows = driver.operator.process(batch)
    assert (rows.keys, rows.values) == (["a", "a", "b", "b"], [1, {"h": b"1"}, 2, {}])
    assert (rows.timestamps, rows.clocks) == ([5, 5, 6, 6], [None, None, 9, 9])
    assert rows.headers == [{"h": b"1"}, {"h": b"1"}, None, None]
    assert rows.origins is not None
    assert [origin[:3] for origin in rows.origins] == [(0, 0, 0)] * 2 + [(0, 0, 1)] * 2
    assert sorted(set(rows.origins)) == rows.origins


def test_what_is_sent_aside_has_the_time_and_place_of_its_call() -> None:
    """It waits in `sent` for whoever runs the operator."""

    @process
    def aside(value: str, ctx: Context[str, None]) -> None:
        ctx.send("topic", value, key="other")
        ctx.send("topic", value + "!")
        ctx.timer("later", after="1ms")

    @aside.on_timer("later")
    def later(ctx: Context[str, None]) -> None:
        ctx.send("alerts", "later", key=ctx.key)

    driver = Driver(Process(aside), floor=DENSE)
    operator: Any = driver.operator
    driver.process(partition([("k", "v", 5)]))
    driver.close(6)
    assert [sent[:5] for sent in operator.sent] == [
        ("topic", "other", "v", 5, 5),
        ("topic", None, "v!", 5, 5),
        ("alerts", "k", "later", 6, None),
    ]
    assert len({sent.origin for sent in operator.sent}) == 3


def test_without_origins_rows_have_none() -> None:
    """Where no verb of the plan sorts, none travel; timers neither."""
    outcome = run(Process(watched), partition([("k", "one", 0), ("k", "two", 10)]), keeps_origins=False, floor=DENSE)
    assert outcome.values() == ["one", ("silence after", "one"), "two"]
    assert {row.origin for row in outcome.rows} == {None}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("text", "not a str: yield it, or return"),
        ({"a": 1}, "not a dict"),
        (5, "not a int"),
        (Row("k", 1, 2), "not a Row"),
        ({1, 2}, "a set, which has no order"),
    ],
)
def test_one_value_is_not_taken_for_several(value: Any, says: str) -> None:
    """A str is no list of letters, a NamedTuple no list of fields; a set's order is no function of the input."""

    @process
    def gives(_: Any, ctx: Context[str, None]) -> Any:
        return value

    with pytest.raises(TypeError, match=says):
        Driver(Process(gives)).process(partition([("k", None, 0)]))


# ------------------------------------------------------------------------------------------ definitions


def test_a_process_function_is_still_the_function() -> None:
    """It can be called, named, documented and tested as such; so can the functions of its timers."""

    def plain(value: int, ctx: Any) -> list[int]:
        """Doubles."""
        return [value * 2]

    function: ProcessFunction[Any, int, Any, int] = process(plain)
    handler = function.on_timer("t")(silence)
    assert function(4, None) == [8]  # type: ignore[arg-type]
    assert (function.__name__, function.__doc__, handler) == ("plain", "Doubles.", silence)


def test_clocks_are_asked_for_where_there_are_timers() -> None:
    """The plan reads it from the operator."""
    assert Process(watched).dense_clock
    assert not Process(process(lambda value, ctx: None)).dense_clock


def one_parameter(value: int) -> None: ...
async def waits(value: int, ctx: Any) -> None: ...
def no_context(value: int, ctx: int) -> None: ...
def no_default(value: int, ctx: Context[str, Open]) -> None: ...
def maybe_map(value: int, ctx: Context[str, MapState[str, int] | None]) -> None: ...
def unknown(value: int, ctx: Context[str, Missing]) -> None: ...  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (one_parameter, "one_parameter does not take a value and a context"),
        (waits, "waits is async"),
        (no_context, "the second parameter of no_context is its context, not int"),
        (no_default, r"the state of no_default is Open, but a new key has none .* write Context\[..., Open \| None\]"),
        (maybe_map, "the state of maybe_map is .*, but a MapState or ListState is never None"),
        (unknown, "the annotations of unknown .* but Missing cannot be found"),
    ],
)
def test_a_wrong_definition_names_the_function_and_the_fix(function: Any, says: str) -> None:
    """Before anything runs."""
    with pytest.raises(TypeError, match=says):
        Process(process(function))


def test_names_that_the_state_does_not_depend_on_may_be_out_of_sight() -> None:
    """Annotations may name what is defined inside a function: the kind of state is plain without it."""

    class Local(msgspec.Struct):
        n: int

    def one(value: Local, ctx: Context[str, Local | None]) -> Iterable[Local]: ...  # type: ignore[empty-body]
    def several(value: Local, ctx: Context[str, MapState[str, Local]]) -> None: ...

    assert Process(process(one)).state_type.kind == "object"
    assert Process(process(several)).state_type.kind == "map"


def test_timers_are_defined_once_and_in_time() -> None:
    """A second function, or one behind the first use, would not be called."""
    function: Any = process(lambda value, ctx: None)
    function.on_timer("t")(lambda ctx: None)
    with pytest.raises(TypeError, match="timer 't' of <lambda> has two functions"):
        function.on_timer("t")(lambda ctx: None)
    with pytest.raises(TypeError, match="timer 'u' of <lambda> does not take a context"):
        function.on_timer("u")(lambda: None)
    Process(function)
    with pytest.raises(TypeError, match="timer 'v' of <lambda> is defined after <lambda> was used"):
        function.on_timer("v")(lambda ctx: None)


# ------------------------------------------------------------------------------------------- planted bugs


def only_at_the_watermark(driver: Driver) -> None:
    timers: Any = driver.operator._timers  # type: ignore[attr-defined]
    pop = timers.pop
    timers.pop = lambda key, until: pop(key, until) if key in timers._rows and timers._rows[key][0] is None else None


def past_is_the_watermark_s(driver: Driver) -> None:
    call: Any = driver.operator._call  # type: ignore[attr-defined]
    begin = type(call).begin

    class Wrong(type(call)):  # type: ignore[misc]
        def begin(self, *arguments: Any, time: int, **others: Any) -> None:
            begin(self, *arguments, time=max(time, self.watermark), **others)

    wrong = Wrong(call._function, driver.operator.state_type, call._states, call._timers)  # type: ignore[attr-defined]
    driver.operator._call = wrong  # type: ignore[attr-defined]


@pytest.mark.parametrize("plant", [only_at_the_watermark, past_is_the_watermark_s])
def test_planted_bugs_are_caught(plant: Any) -> None:
    """Timers that wait for the watermark, or whose past is the watermark's: the definition tells."""
    rows = partition([("x", [("set", "a", 5), ("emit", "", 0)], at) for at in (0, 9, 30, 32)])
    for plants in (False, True):
        driver = Driver(Process(program), floor=SPARSE)
        if plants:
            plant(driver)
        driver.process(rows[:2])
        driver.operator.watermark = 60 if plant is past_is_the_watermark_s else 9
        driver.process(rows[2:])
        driver.close(100)
        expected = [row[:2] for row in by_definition([*rows, Row("y", [], 100, 100)], dense=False)["x"]]
        assert ([(row.value, row.timestamp) for row in driver.outcome.rows] == expected) != plants
