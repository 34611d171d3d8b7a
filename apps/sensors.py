"""Sensors: the temperature at each mote in ten minutes, and an alarm when one is silent. Learn here: state and timers.

What to run, and what comes out; the next reading of a silent mote is another alert, "back":
    streamproc send readings motes.txt && streamproc run streamproc.apps.sensors:app --until-end
    streamproc tail temperatures    {"key": 1, "start": ..., "end": ..., "mean": 22.026666666666667, "low": 22.02, ...}
    streamproc tail alerts          {"mote": 20, "status": "silent", "at": 1163519826828}
"""

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from streamproc import App, Context, Stream, WindowResult, agg, process, tumbling


class Reading(Struct):
    """A line of tokens with decimal commas: the time in ms, the mote, ..., the temperature, and light twice."""

    at: int
    mote: int
    celsius: float


class Range(Struct):
    """What the temperature at a mote was in ten minutes."""

    mean: float
    low: float
    high: float


class Alert(Struct):
    """At `at`, in ms, a mote had said nothing for five minutes, or spoke again."""

    mote: int
    status: Literal["silent", "back"]
    at: int


def parse(line: bytes) -> Reading:
    """The reading of a line. The sequence number behind the mote may be two tokens."""
    at, mote, *_, celsius, _, _ = line.decode().replace(",", ".").split()
    return Reading(int(at), int(mote), float(celsius))


app = App("sensors")
readings = app.topic("readings", decode=parse, timestamp="at", grace="10s")
temperatures, alerts = app.topic("temperatures", key=int), app.topic("alerts", key=int, value=Alert)


@app.stream(readings, to=temperatures)
def temperature(readings: Stream[bytes, Reading]) -> Stream[int, WindowResult[int, Range]]:
    """Mean, lowest and highest."""
    by_mote = readings.key_by(lambda r: r.mote).window(tumbling("10m"))
    return by_mote.aggregate(
        Range, mean=agg.mean(lambda r: r.celsius), low=agg.min(lambda r: r.celsius), high=agg.max(lambda r: r.celsius)
    )


@app.stream(readings, to=alerts)
def silence(readings: Stream[bytes, Reading]) -> Stream[int, Alert]:
    """Each mote's readings in order of time: what is watched is when they were taken, not when they came."""
    return readings.key_by(lambda r: r.mote).in_order().process(watch)


@process
def watch(reading: Reading, ctx: Context[int, bool]) -> Iterable[Alert]:
    """The state is whether the mote is silent; False where there is none. A timer that is set again moves."""
    if ctx.state:
        yield Alert(ctx.key, "back", reading.at)
    ctx.state = False
    ctx.timer("silence", after="5m")


@watch.on_timer("silence")
def silent(ctx: Context[int, bool]) -> Iterable[Alert]:
    """Nothing came for five minutes."""
    ctx.state = True
    yield Alert(ctx.key, "silent", ctx.timestamp)
