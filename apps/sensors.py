"""Sensors: the temperature at each mote in ten minutes, and an alarm when one is silent. Learn here: state and timers.

streamproc send readings motes.txt --lines
streamproc run streamproc.apps.sensors:app --until-end
streamproc tail temperatures  {"key": 1, "start": ..., "end": ..., "mean": 22.026666666666667, "low": 22.02, ...}
streamproc tail alerts        {"mote": 20, "status": "silent", "at": 1163519826828}, then "back" when it is
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Literal

from msgspec import Struct

from streamproc import App, Context, Stream, WindowResult, agg, process, tumbling


class Reading(Struct):
    """A line of tokens with decimal commas: time in ms, mote, ..., temperature in degrees Celsius, and light twice."""

    at: int
    mote: int
    temperature: float


class Temperature(Struct):
    """Of a mote and ten minutes."""

    mean: float
    low: float
    high: float


class Alert(Struct):
    """At `at`, in ms, a mote had said nothing for five minutes, or spoke again."""

    mote: int
    status: Literal["silent", "back"]
    at: int


def parse(line: bytes) -> Reading:
    """The reading of a line; its sequence number may be two tokens, so the temperature is counted from the end."""
    tokens = line.decode().replace(",", ".").split()
    return Reading(int(tokens[0]), int(tokens[1]), float(tokens[-3]))


app = App("sensors")
readings = app.topic("readings", decode=parse, timestamp="at", grace="10s")
temperatures, alerts = app.topic("temperatures", key=int), app.topic("alerts", key=int, value=Alert)


@app.stream(readings, to=temperatures)
def temperature(readings: Stream[bytes, Reading]) -> Stream[int, WindowResult[int, Temperature]]:
    """Mean, lowest and highest."""
    by_mote = readings.key_by(lambda reading: reading.mote).window(tumbling("10m"))
    degrees = attrgetter("temperature")
    return by_mote.aggregate(Temperature, mean=agg.mean(degrees), low=agg.min(degrees), high=agg.max(degrees))


@app.stream(readings, to=alerts)
def silence(readings: Stream[bytes, Reading]) -> Stream[int, Alert]:
    """Each mote's readings in order of time: what is watched is when they were taken, not when they came."""
    return readings.key_by(lambda reading: reading.mote).in_order().process(watch)


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
