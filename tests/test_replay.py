"""replay: the real plan on a log in memory."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Struct

from streamproc import App, Context, DefinitionError, RecordError, Stream, process, tumbling
from streamproc.log import UnknownTopic
from streamproc.testing import Record, replay


class Visit(Struct):
    page: str
    at: datetime


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def visits() -> App:
    app = App("visits")
    source = app.topic("visits", key=str, value=Visit, timestamp="at", grace="3s")

    @app.stream(source, to=(app.topic("minutes"), app.topic("totals", key=str, value=int)))
    def counted(visits: Stream[str, Visit]) -> Any:
        pages = visits.key_by(lambda visit: visit.page)
        return pages.window(tumbling("10s")).count(name="windows"), pages.count()

    return app


INPUT = [Visit("/ab"[n % 3 % 2 :], at(n)) for n in range(50)]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 10_000])
def test_one_answer(partitions: int, workers: int, batch_size: int) -> None:
    """However it is cut, spread and shared: the same final rows."""
    out = replay(visits(), {"visits": INPUT}, partitions=partitions, workers=workers, batch_size=batch_size)
    expected = replay(visits(), {"visits": INPUT})
    assert sorted(map(str, out["minutes"])) == sorted(map(str, expected["minutes"]))
    assert out.table("counted.count") == expected.table("count")
    assert out.late == {}


@pytest.mark.parametrize("seed", range(20))
def test_a_seed_shuffles_within_the_grace(seed: int) -> None:
    """Nothing comes too late by it, so the final rows stay; the same seed gives the same run."""
    out = replay(visits(), {"visits": INPUT}, seed=seed, batch_size=5, partitions=2)
    again = replay(visits(), {"visits": INPUT}, seed=seed, batch_size=5, partitions=2)
    expected = replay(visits(), {"visits": INPUT})
    assert out.late == {}
    assert sorted(map(str, out["minutes"])) == sorted(map(str, expected["minutes"]))
    assert out.records("totals") == again.records("totals")


def test_a_seed_changes_the_arrival() -> None:
    """Planted: were it ignored, all seeds would give one order of running totals."""
    orders = {str(replay(visits(), {"visits": INPUT}, seed=seed, batch_size=5).records("totals")) for seed in range(10)}
    assert len(orders) > 1


def test_what_comes_out() -> None:
    """Values by the topic's type, whole records, tables, counts; topics by name, internal ones too."""
    late = Visit("/", at(2))
    out = replay(visits(), {"visits": [*INPUT, late, b"what?"][:-1]})
    assert out["totals"][-1] == out.table("count")["/ab"] + 0 or out.table("count")
    record = out.records("totals")[0]
    assert (record.key, record.value, record.timestamp, record.headers) == ("/ab", 1, 0, {})
    assert out.late == {"counted.windows": 1}
    assert out.errors == {}
    assert {"visits", "minutes", "totals", "visits-counted-key_by-repartition"} <= set(out)
    assert len(out) == len(list(out))


def test_inputs() -> None:
    """Values of the topic's type, or bytes as they would come, or records with key and the log's own time."""
    app = App("inputs")

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out"))
    def one(numbers: Stream[str, int]) -> Any:
        return numbers.records().map(lambda r: [r.key, r.value, r.timestamp])

    given = [1, b"2", Record(3, key="k", timestamp=5), Record(b"4", key=b"k", timestamp=at(6))]
    assert replay(app, {"numbers": given})["out"] == [[None, 1, 0], [None, 2, 0], ["k", 3, 5], ["k", 4, 6_000]]


def test_an_iterator_is_an_input() -> None:
    """It is read once."""
    assert replay(visits(), {"visits": iter(INPUT)}).table("count") == replay(visits(), {"visits": INPUT}).table(
        "count"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("visit", "has no topic 'visit': its topics are minutes, totals, visits"),
        ("minutes", "is not read by app 'visits'"),
    ],
)
def test_inputs_that_are_none(name: str, said: str) -> None:
    """A slip in a topic's name is not an empty input."""
    with pytest.raises(DefinitionError, match=said):
        replay(visits(), {name: []})


def test_a_table_that_is_none() -> None:
    """Nor is one in a table's."""
    with pytest.raises(DefinitionError, match="no running aggregate named 'counts'"):
        replay(visits(), {}).table("counts")


def test_a_topic_that_is_none() -> None:
    """Nor in an output's."""
    with pytest.raises(UnknownTopic, match="'minute'; did you mean 'minutes'"):
        replay(visits(), {})["minute"]


def test_fail_raises() -> None:
    """Under the policy "fail", as it ends a run."""
    with pytest.raises(RecordError, match="visits/0 at offset 1"):
        replay(visits(), {"visits": [INPUT[0], b"what?"]})


def test_until_lets_timers_fire() -> None:
    """The end fires no timer beyond the clock; `until` moves the clock on."""

    @process
    def waiting(value: int, ctx: Context[str, bool | None]) -> None:
        ctx.timer("due", after="5m")

    @waiting.on_timer("due")
    def due(ctx: Context[str, bool | None]) -> list[str]:
        return [f"{ctx.key} at {ctx.timestamp}"]

    app = App("timers")

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("out", value=str))
    def one(numbers: Stream[str, int]) -> Any:
        return numbers.process(waiting)

    given = {"numbers": [Record(1, key="k", timestamp=0)]}
    assert replay(app, given)["out"] == []
    assert replay(app, given, until=299_999)["out"] == []
    assert replay(app, given, until=at(300))["out"] == ["k at 300000"]


async def test_within_a_running_loop() -> None:
    """An asynchronous test can use it too."""
    assert replay(visits(), {"visits": INPUT}).table("count")


def test_an_app_can_be_replayed_again() -> None:
    """Each has a log and a disk of its own."""
    app = visits()
    assert replay(app, {"visits": INPUT})["minutes"] == replay(app, {"visits": INPUT})["minutes"]
