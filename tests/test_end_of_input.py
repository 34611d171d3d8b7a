"""The end of the input: everything open is closed, and time has gone as far as the records have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from streamproc import App, Context, Stream
from streamproc.testing import Record, replay
from tests.live import Live


def pings() -> App:
    app = App("pings")

    beats, alarms = app.topic("beats", key=str, value=str), app.topic("alarms", key=str, value=str)

    @app.process(beats, by=lambda beat: beat, to=alarms)
    def silence(beat: str, ctx: Context[str, int | None]) -> Iterable[str]:
        ctx.state = (ctx.state or 0) + 1
        ctx.timer("silent", after="5m")
        return []

    @silence.on_timer("silent")
    def silent(ctx: Context[str, int | None]) -> Iterable[str]:
        yield f"{ctx.key} after {ctx.state}"

    return app


MINUTE = 60_000


@pytest.mark.parametrize("partitions", [1, 2, 16])
def test_a_partition_that_never_had_a_record_holds_no_timer_back(partitions: int) -> None:
    """All records are in one partition, whose clock is ten minutes past the last beat of b."""
    beats = [Record("b", key="here", timestamp=0), Record("a", key="here", timestamp=10 * MINUTE)]
    assert replay(pings(), {"beats": beats}, partitions=partitions)["alarms"] == ["b after 1"]


@pytest.mark.parametrize("partitions", [1, 2, 3])
def test_a_partition_that_ended_early_holds_no_timer_back(partitions: int) -> None:
    """At the end, time has gone as far as the newest record anywhere: b was silent for ten minutes by then."""
    beats = [Record("b", timestamp=0), Record("a", timestamp=10 * MINUTE)]
    assert replay(pings(), {"beats": beats}, partitions=partitions)["alarms"] == ["b after 1"]


def test_no_timer_fires_beyond_the_last_record() -> None:
    """Where the records end, time stands still, unless the replay is told to go on."""
    beats = [Record("a", timestamp=0)]
    assert replay(pings(), {"beats": beats})["alarms"] == []
    assert replay(pings(), {"beats": beats}, until=4 * MINUTE)["alarms"] == []
    assert replay(pings(), {"beats": beats}, until=5 * MINUTE)["alarms"] == ["a after 1"]


def test_the_end_makes_no_state_forgotten_that_a_later_run_needs() -> None:
    """The fast partition's time is for timers alone: what the slow one has seen is still seen in the next run."""
    app = App("twice")
    numbers = app.topic("numbers", key=bytes, value=int, grace="10ms")

    @app.stream(numbers, to=app.topic("out", value=int))
    def once(numbers: Stream[bytes, int]) -> Any:
        return numbers.key_by(lambda n: n).deduplicate(within="10ms")

    live = Live()
    live.create("numbers", partitions=2)
    live.send("numbers", (b"slow", b"1", 0), partition=0)
    live.send("numbers", (b"fast", b"2", 100_000), partition=1)
    live.run(app)
    live.send("numbers", (b"slow", b"1", 5), partition=0)
    live.run(app)
    assert sorted(str(value) for value in live.values("out")) == ["b'1'", "b'2'"]
