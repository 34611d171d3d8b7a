from collections.abc import Callable
from typing import Any

import pytest

from streamproc import App, Context, Stream, process, session, tumbling
from streamproc.operators.batch import FOREVER
from streamproc.plan import DENSE, Plan


def plan_of(f: Callable[[Stream[bytes, int]], Any], *, grace: str = "5s", name: str = "f") -> Plan:
    app = App("plan")

    def drawn(numbers: Stream[bytes, int]) -> None:
        f(numbers)

    drawn.__name__ = name
    app.stream(app.topic("numbers", key=bytes, value=int, grace=grace))(drawn)
    return app.plan


def stages(f: Callable[[Stream[bytes, int]], Any]) -> dict[str, list[str]]:
    return {stage.name: [node.step for node in stage.nodes] for stage in plan_of(f).stages}


def floor(f: Callable[[Stream[bytes, int]], Any]) -> int:
    """That of the source: who is further behind than this travels with its clock."""
    plan = plan_of(f)
    return plan.floors[plan.stages[0].inputs[0].id]


def test_stages_are_cut_where_a_key_changes() -> None:
    """And where all rows must be in one task; a key that did not change needs no topic, nor does a stateless step."""
    assert stages(lambda s: s.map(str).count()) == {"numbers": ["map-str", "count"]}
    assert stages(lambda s: s.key_by(lambda v: v).map(str)) == {"numbers": ["key_by", "map-str"]}
    assert stages(lambda s: s.key_by(lambda v: v).map(str).count()) == {
        "numbers": ["key_by", "map-str"],
        "f-key_by": ["count"],
    }
    assert stages(lambda s: s.key_by(lambda v: v).window(tumbling("1m")).count().top(3)) == {
        "numbers": ["key_by"],
        "f-key_by": ["count", "top-partial", "top-all"],
        "f-top": ["top"],
    }
    assert stages(lambda s: s.window_all(tumbling("1m")).count()) == {
        "numbers": ["window_all-all"],
        "f-window_all": ["count"],
    }


def test_who_has_state() -> None:
    """A stage with tables, and one behind a re-key: it keeps the marks."""
    plan = plan_of(lambda s: (s.key_by(lambda v: v).in_order().map(str), s.map(str)))
    assert [stage.stateful for stage in plan.stages] == [False, True]
    assert [stage.stateful for stage in plan_of(lambda s: s.count()).stages] == [True]


def test_names_of_topics() -> None:
    """App, stream and step, so that they last."""
    plan = plan_of(lambda s: s.key_by(lambda v: v, name="by-id").count())
    [_, stage] = plan.stages
    assert plan.topic_of(stage.inputs[0]) == "plan-f-by-id-repartition"
    assert plan.changelog_of(stage) == "plan-f-by-id-changelog"
    assert [topic.name for topic in plan.sources] == ["numbers"]


@process
def timed(value: int, ctx: Context[bytes, int | None]) -> None:
    ctx.timer("t", after="1s")


@timed.on_timer("t")
def fired(ctx: Context[bytes, int | None]) -> None: ...


FLOORS: dict[str, tuple[Callable[[Stream[bytes, int]], Any], int]] = {
    "nobody judges": (lambda s: s.map(str).count(), FOREVER),
    "the window's grace": (lambda s: s.window(tumbling("1m"), grace="3s").count(), 3_000),
    "the topic's grace": (lambda s: s.window(tumbling("1m")).count(), 5_000),
    "the smallest on any path": (
        lambda s: (
            s.window(tumbling("1m"), grace="3s").count(name="a"),
            s.window(session("1m"), grace="1s").count(name="b"),
        ),
        1_000,
    ),
    "behind a re-key": (lambda s: s.key_by(lambda v: v).window(tumbling("1m"), grace="2s").count(), 2_000),
    "behind what passes records on": (
        lambda s: s.count().updates().window(tumbling("1m"), grace="2s").count(name="of"),
        2_000,
    ),
    "not behind what is final": (
        lambda s: s.window(tumbling("1m"), grace="2s").count().window(tumbling("1h"), grace="0s").count(name="second"),
        2_000,
    ),
    "the late ones go on as records": (
        lambda s: (
            (w := s.window(tumbling("1m"), grace="4s")).count()
            and w.late.window(tumbling("1h"), grace="1s").count(name="b")
        ),
        1_000,
    ),
    "timers on arrival order": (lambda s: s.process(timed), DENSE),
    "timers behind a re-key": (lambda s: s.key_by(lambda v: v).process(timed), FOREVER),
    "timers and a window behind a re-key": (
        lambda s: s.key_by(lambda v: v).process(timed).window(tumbling("1m"), grace="2s").count(),
        2_000,
    ),
}


@pytest.mark.parametrize("what", FLOORS)
def test_whose_clock_travels(what: str) -> None:
    """The smallest grace on any path by which a row, still a record, may be judged late."""
    f, expected = FLOORS[what]
    assert floor(f) == expected


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda s: s.window(tumbling("1m")).count(), False),
        (lambda s: s.window(tumbling("1m")).last(), True),
        (lambda s: s.key_by(lambda v: v).in_order(), True),
        (lambda s: s.key_by(lambda v: v).deduplicate(within="1m"), False),
    ],
    ids=["count", "last", "in_order", "deduplicate"],
)
def test_origins_travel_where_a_verb_sorts(f: Any, expected: bool) -> None:
    """And only there: they cost a header a record."""
    plan = plan_of(f)
    assert plan.keeps_origins[plan.stages[0].inputs[0].id] is expected


def test_how_many_tasks() -> None:
    """As many as the widest source that feeds a stage has partitions; one for all of it; or as many as is asked for."""
    app = App("plan")
    a, b = app.topic("a", value=int), app.topic("b", value=int)
    c = app.topic("c", value=int, partitions=5)

    @app.stream(a, b, to=c)
    def merged(a: Stream[bytes, int], b: Stream[bytes, int]) -> Any:
        keyed = a.merge(b).key_by(lambda v: v)
        keyed.window(tumbling("1m")).count().top(3)
        return keyed.count(name="so-far")

    @app.stream(c)
    def chained(c: Stream[bytes, int]) -> None:
        c.key_by(lambda v: v).count()

    topology = app.plan.resolve(lambda name: {"a": 2, "b": 3}[name])
    assert topology.tasks == {"a": 3, "merged-key_by": 3, "merged-top": 1, "c": 5, "chained-key_by": 5}
    assert topology.partitions["plan-merged-top-repartition"] == 1
    assert topology.partitions["plan-c-repartition"] == 5


def test_the_fingerprint() -> None:
    """It is that of state and internal topics: steps without state do not change it, all else does."""

    def fingerprint(f: Callable[[Stream[bytes, int]], Any], name: str = "f") -> str:
        return plan_of(f, name=name).fingerprint

    first = fingerprint(lambda s: s.key_by(lambda v: v).window(tumbling("1m")).count())
    assert first == fingerprint(
        lambda s: s.map(str).key_by(lambda v: v + v).filter(bool).window(tumbling("1m")).count()
    )
    others = [
        fingerprint(lambda s: s.key_by(lambda v: v).window(tumbling("2m")).count()),
        fingerprint(lambda s: s.key_by(lambda v: v).window(tumbling("1m")).sum(lambda v: v)),
        fingerprint(lambda s: s.key_by(lambda v: v, name="other").window(tumbling("1m")).count()),
        fingerprint(lambda s: s.window(tumbling("1m")).count()),
        fingerprint(lambda s: s.key_by(lambda v: v).window(tumbling("1m")).count(), name="g"),
    ]
    assert len({first, *others}) == 6
