from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click import style, unstyle

from streamproc import App, Operator, Stream, Topic, counting, dead_letter, hopping, process, session, tumbling
from streamproc.apps import trending
from streamproc.errors import DefinitionError
from streamproc.explain import PlanView, as_mermaid, as_text, explained

Build = Callable[[Stream[Any, Any]], Any]


def view_of(build: Build, **options: Any) -> PlanView:
    """The plan of one stream from the topic `a` to the topic `b`."""
    app = App("shop", **options)
    a, b = app.topic("a", value=int), app.topic("b")

    def stream(values: Stream[Any, Any]) -> Any:
        return build(values)

    app.stream(a, to=b)(stream)
    return explained(app.plan, dead_letters=app.dead_letter_topics)


def laws(view: PlanView) -> dict[str, str | None]:
    """What is said of each step with state, by its own name."""
    return {
        step.name.partition(".")[2]: step.law for stage in view.stages for step in stage.steps if step.law is not None
    }


class Own(Operator):
    stateful = True


@process
def remember(value: int, ctx: Any) -> list[int]:
    return [value]


def by_parity(value: int) -> int:
    return value % 2


# -------------------------------------------------------------------------------------- the law


@pytest.mark.parametrize(
    ("build", "step"),
    [
        (lambda s: s.key_by(by_parity).window(tumbling("1m")).count(), "count"),
        (lambda s: s.key_by(by_parity).window(hopping("1m", every="10s")).count().top(3), "top"),
        (lambda s: s.key_by(by_parity).window(session("1m")).count(), "count"),
        (lambda s: s.key_by(by_parity).window(tumbling("1m")).count().with_previous(2, fill=0), "with_previous"),
        (lambda s: s.merge(s).key_by(by_parity).in_order(), "in_order"),
    ],
    ids=["tumbling", "hopping-top", "session", "with_previous", "in_order"],
)
def test_final_results_are_the_same_under_any_pace(build: Build, step: str) -> None:
    """Final windows, sessions, top, in_order are under the law, also behind a re-key or a merge."""
    assert laws(view_of(build))[step] == "same"


RECORD_BY_RECORD: list[tuple[Build, str]] = [
    (lambda s: s.count(), "count"),
    (lambda s: s.deduplicate(within="1m"), "deduplicate"),
    (lambda s: s.window(counting(2)).count(), "count"),
    (lambda s: s.process(remember), "remember"),
]


@pytest.mark.parametrize(("build", "step"), RECORD_BY_RECORD, ids=["running", "deduplicate", "counting", "process"])
def test_record_by_record_results_need_an_order(build: Build, step: str) -> None:
    """Running aggregates and their like are the same from a source, behind a re-key or merge only after in_order."""
    assert laws(view_of(build))[step] == "same"
    assert laws(view_of(lambda s: build(s.key_by(by_parity))))[step] == "arrival"
    assert laws(view_of(lambda s: build(s.merge(s.map(by_parity)))))[step] == "arrival"
    assert laws(view_of(lambda s: build(s.key_by(by_parity).in_order())))[step] == "same"
    assert laws(view_of(lambda s: build(s.key_by(by_parity).in_order().merge(_other(s)))))[step] == "arrival"


def _other(values: Stream[Any, Any]) -> Stream[Any, Any]:
    """Another re-key of the same records, in order."""
    return values.key_by(by_parity, name="other").in_order(name="other-in_order")


def test_a_stage_that_feeds_itself() -> None:
    """A plan that cannot run cannot be explained either: the error is that of a run."""
    with pytest.raises(DefinitionError, match="feed each other in a circle"):
        view_of(lambda s: s.key_by(by_parity).in_order().merge(s))


def test_the_reason_is_given() -> None:
    """The step that loses the order is named, and the way out."""
    [step] = [
        step for stage in view_of(lambda s: s.key_by(by_parity).count()).stages for step in stage.steps if step.law
    ]
    assert step.why == "behind the re-key to shop-stream-key_by-by_parity-repartition; in_order() before it sorts them"


def test_what_depends_on_arrival_spreads() -> None:
    """A final window over what depends on arrival depends on it too."""
    found = laws(view_of(lambda s: s.key_by(by_parity).count().updates().window(tumbling("1m")).sum(int)))
    assert found == {"count": "arrival", "sum-int": "arrival"}


def test_of_own_operators_their_authors_know() -> None:
    """Nothing is promised of an operator that the app brings."""
    assert laws(view_of(lambda s: s.apply(Own()))) == {"Own": "author"}


# -------------------------------------------------------------------------------------- stages and topics


def test_stages_of_a_plan() -> None:
    """Stages come in the order of the flow, with topics, steps, state and numbers of tasks."""
    source, counts, top = explained(trending.app.plan).stages
    assert [one.topic for one in source.reads] == ["tweets"]
    assert (source.tasks, source.changelog) == ("as tweets", None)
    assert [one.kind for one in source.writes] == ["repartition"]
    assert source.writes[0].topic == counts.reads[0].topic
    assert (counts.tasks, counts.changelog) == ("as tweets", "trending-trending-key_by-changelog")
    assert (top.tasks, top.reads[0].partitions) == ("1", "1")
    assert [(one.topic, one.kind) for one in top.writes] == [("trends", "output")]
    assert [(one.value, one.timestamp, one.grace) for one in source.reads] == [("Tweet", "created_at", "5s")]


def test_chained_streams() -> None:
    """A topic between two streams of the app is named as such, and that others' records in it are not read."""
    app = App("shop")
    a, between, c = (app.topic(name, value=int) for name in ("a", "between", "c"))
    app.map(a, to=between)(by_parity)

    @app.filter(between, to=c)
    def odd(value: int) -> bool:
        return value == 1

    view = explained(app.plan)
    [edge] = [one for stage in view.stages for one in stage.reads if one.kind == "chained"]
    assert edge.of == "between"
    assert any("Records that others write to between are not read" in note for note in view.notes)


def test_topics_chosen_by_value() -> None:
    """to(f) is shown with its function, and that it is not chained."""
    app = App("shop")
    a, b = app.topic("a", value=int), app.topic("b", value=int)

    def chosen(value: int) -> Topic[Any, Any]:
        return b

    @app.stream(a)
    def routed(values: Stream[bytes, int]) -> None:
        values.to(chosen)

    view = explained(app.plan)
    assert [(one.topic, one.by) for stage in view.stages for one in stage.writes] == [(None, "chosen(value)")]
    assert any("is not chained" in note for note in view.notes)
    assert "chosen(value)" in as_text(view)


def test_two_sources() -> None:
    """A stage of two sources has as many tasks as the widest."""
    app = App("shop")
    a, b, c = (app.topic(name, value=int) for name in ("a", "b", "c"))

    @app.stream(a, b, to=c)
    def both(left: Stream[bytes, int], right: Stream[bytes, int]) -> Any:
        return left.merge(right).key_by(by_parity).count()

    first, second = explained(app.plan).stages
    assert first.tasks == second.tasks == "as the widest of a, b"


def test_policies_and_dead_letters() -> None:
    """What happens to records that fail is shown where it is not the default."""
    view = view_of(lambda s: s.map(by_parity, on_error="skip").map(by_parity), on_error=dead_letter("bad"))
    assert [step.on_error for stage in view.stages for step in stage.steps] == ["skip", "dead_letter('bad')"]
    assert view.dead_letters == ("bad",)
    assert "on_error=skip" in as_text(view)


# -------------------------------------------------------------------------------------- forms


def test_json_has_stable_keys() -> None:
    """Programs may rely on these names."""
    data = msgspec.to_builtins(explained(trending.app.plan))
    assert list(data) == ["app", "fingerprint", "stages", "dead_letters", "notes"]
    stage = data["stages"][1]
    assert list(stage) == ["name", "tasks", "reads", "steps", "writes", "changelog"]
    assert list(stage["reads"][0]) == ["topic", "kind", "partitions", "value", "timestamp", "grace", "of"]
    assert list(stage["steps"][0]) == ["name", "does", "stateful", "on_error", "law", "why"]
    assert list(stage["writes"][0]) == ["topic", "by", "kind"]


def test_text_names_everything() -> None:
    """The text has each topic, step and store."""
    view = explained(trending.app.plan)
    text = as_text(view)
    for stage in view.stages:
        assert stage.name in text
        assert (stage.changelog or "") in text
        assert all(one.topic in text for one in stage.reads)
        assert all(step.name in text for step in stage.steps)
    assert "The same under any batching" in text
    assert "As records happen to arrive" not in text


def test_text_has_one_style() -> None:
    """Steps are said as they are written, durations too; no line ends in blanks, where colours are taken out too."""
    app = App("styles")
    words = app.topic("words", key=str, value=str)

    @app.stream(words)
    def several(words: Stream[str, str]) -> None:
        words.window(session("2m"), grace="5s").count(name="sessions").to(app.topic("sessions"))
        words.window(counting(10)).count(name="tens").to(app.topic("tens"))
        words.window(tumbling("1m")).count(name="minutes").to(app.topic("minutes"))
        words.deduplicate(len, within="1h", name="once").to(app.topic("once"))

    view = explained(app.plan)
    does = {step.name.removeprefix("several."): step.does for stage in view.stages for step in stage.steps}
    assert does["sessions"] == "window session('2m') count grace 5s"
    assert does["tens"] == "window counting(10) count"
    assert does["minutes"] == "window tumbling('1m') count"
    assert does["once"] == "deduplicate within 1h"
    text = unstyle(as_text(view, style=style))
    assert text == as_text(view)
    assert [line for line in text.splitlines() if line != line.rstrip()] == []


def test_mermaid() -> None:
    """The diagram has an arrow for each topic that a stage reads or writes; text in it cannot break it."""
    view = explained(trending.app.plan)
    diagram = as_mermaid(view)
    assert diagram.startswith("flowchart LR\n")
    assert diagram.count(" --> ") == sum(len(stage.reads) + len(stage.writes) for stage in view.stages)
    assert '[("tweets")]' in diagram
    named = as_mermaid(view_of(lambda s: s.map(by_parity, name="<b>")))
    assert "&lt;b&gt;" in named
