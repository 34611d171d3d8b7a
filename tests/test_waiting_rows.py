"""Rows that wait in a repartition topic while the app is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamproc import App, PlanChanged, Stream, tumbling
from streamproc.log import Partition
from streamproc.testing.replay import run_now
from tests.live import Live, ints


def app_of(verb: Callable[[Any], Any]) -> App:
    app = App("waiting")

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return verb(numbers.key_by(lambda n: n % 2))

    return app


def half_way() -> Live:
    """What is left of a run that stopped with rows in the repartition topic that nobody has read."""
    live = Live()
    live.create("numbers")
    live.send("numbers", *ints([1, 2, 3, 4], every_ms=1))
    first = live.worker(app_of(counts), until_end=True)
    topic = Partition("waiting-one-key_by-repartition", 0)
    while run_now(live.log.ends([topic]))[topic] < 4:
        run_now(first.turn(0))
    run_now(first.abandon())
    return live


def counts(stream: Any) -> Any:
    return stream.window(tumbling("1s")).count()


def test_a_verb_that_orders_them_is_refused() -> None:
    """They have no origins; the earlier version reads them first."""
    live = half_way()

    def both(stream: Any) -> Any:
        counted = counts(stream)
        return counted.merge(stream.window(tumbling("1s")).collect())

    with pytest.raises(PlanChanged, match=r"wait in topic 'waiting-one-key_by-repartition'.*--until-end"):
        live.run(app_of(both))
    live.run(app_of(counts))
    assert len(live.values("out")) == 2
    live.run(app_of(both))
    assert len(live.values("out")) == 2, "nothing waits now, so the new version goes on"


def test_the_same_plan_goes_on() -> None:
    """They are read as if nothing had happened."""
    live = half_way()
    live.run(app_of(counts))
    assert len(live.values("out")) == 2
