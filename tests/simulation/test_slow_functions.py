"""Functions of the user that take long, in virtual time: the worker that runs them is heard of, and commits."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import pytest

import streamproc.worker
from streamproc import App, Stream, tumbling
from streamproc.jobs import LoopJobs
from streamproc.log import Columns, Partition
from streamproc.step_size import StepSize
from streamproc.testing.simulation import CALM, ROUGH, World
from streamproc.testing.simulation.virtual_time import VirtualTimeLoop, run

RECORDS = 60
RECORD_S = 0.2
SESSION_S = 6
"""All records are there at once, and take twice as long."""


def slow(epoch_interval: str) -> App:
    app = App("slow", session_timeout=f"{SESSION_S}s", epoch_interval=epoch_interval, idle=None)

    @app.stream(app.topic("numbers", value=int), to=app.topic("out", value=int))
    def slow(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(taking_long)

    return app


def taking_long(number: int) -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.work(RECORD_S)
    return number


async def played(partitions: int, *, epoch_interval: str = "1s") -> tuple[World, list[int]]:
    """A worker that has nothing to do is given all records at once; how many results there were with each second."""
    world = World(slow(epoch_interval), random.Random(1), workers=1)
    world.create("numbers", partitions)

    def feed() -> None:
        at_ms, each = world.clock.now_ms(), RECORDS // partitions
        for p in range(partitions):
            values: list[bytes | None] = [b"%d" % number for number in range(p, RECORDS, partitions)]
            world.append({Partition("numbers", p): Columns([None] * each, values, [at_ms] * each)})

    seen: list[int] = []

    async def look() -> None:
        while True:
            await asyncio.sleep(1)
            seen.append(len(await results(world)))

    asyncio.get_running_loop().call_later(20, feed)
    looking = asyncio.create_task(look())
    await world.run_for(60)
    looking.cancel()
    assert sorted(await results(world)) == list(range(RECORDS))
    return world, seen


async def results(world: World) -> list[int]:
    logs = world.cluster.broker.topics.logs()
    found = [value for p, log in logs.items() if p.topic == "out" for value in log.committed().values]
    return [int(value) for value in found if value is not None]


def expulsions(world: World) -> list[str]:
    return [str(told) for told in world.history if "was taken for dead" in told.what]


@pytest.mark.parametrize("partitions", [1, RECORDS])
def test_it_commits_as_it_goes(partitions: int) -> None:
    """Whether a poll brings one long chunk or many short ones: a step ends long before a session does."""
    world, seen = run(played(partitions))
    assert expulsions(world) == []
    assert max(now - before for before, now in pairwise(seen)) <= RECORDS // 4


def test_heartbeats_go_out_between_steps() -> None:
    """Though nothing is to be committed."""
    world, _ = run(played(RECORDS, epoch_interval="1h"))
    assert expulsions(world) == []


def test_steps_that_are_not_cut_would_expel_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a poll brings of one partition takes longer than a session."""
    monkeypatch.setattr(StepSize, "__init__", lambda self: setattr(self, "records", RECORDS))
    assert expulsions(run(played(1))[0]) != []


def test_steps_without_a_breath_would_expel_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a poll brings of all partitions takes longer than a session."""

    async def on_and_on(self: LoopJobs) -> None:
        """Nobody else gets his turn."""

    monkeypatch.setattr(LoopJobs, "breathe", on_and_on)
    monkeypatch.setattr(streamproc.worker, "TURN_MS", 1_000 * RECORDS)
    assert expulsions(run(played(RECORDS, epoch_interval="1h"))[0]) != []


ROUGH_SEEDS = 30


def rekeyed(before_s: float, behind_s: float, **settings: Any) -> App:
    """Counts by minute; a record may take so long before it has its key, and so long behind it."""
    app = App("rekeyed", idle=None, session_timeout="10s", **settings)

    @app.stream(app.topic("numbers", value=int, grace="1s"), to=app.topic("out"))
    def counted(numbers: Stream[bytes, int]) -> Any:
        keyed = numbers.map(partial(now_and_then, before_s)).key_by(lambda v: v % 5)
        windows = keyed.map(partial(now_and_then, behind_s)).window(tumbling("10s")).count()
        return windows.map(lambda row: [row.key, row.start, row.value])

    return app


def now_and_then(seconds: float, number: int) -> int:
    """Two of three take long."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.work(seconds if number * 7 % 3 else 0)
    return number


async def in_any_weather(seed: int) -> None:
    rng = random.Random(seed)
    settings = {
        "epoch_interval": rng.choice(("20ms", "1s")),
        "epoch_records": rng.choice((3, 100_000)),
        "fetch_bytes": rng.choice((1, 1 << 20)),
    }
    app = rekeyed(rng.choice((0, 0.01, 0.2, 0.7)), rng.choice((0, 0.01, 0.2, 0.7)), **settings)
    world = World(app, rng, rng.choice((CALM, ROUGH)), workers=rng.choice((1, 2, 3)))
    world.create("numbers", 4)
    for numbers in (range(100), range(100, 200)):
        for p in range(4):
            own = [number for number in numbers if number % 4 == p]
            values: list[bytes | None] = [b"%d" % number for number in own]
            columns = Columns([None] * len(own), values, [500 * number for number in own])
            world.append({Partition("numbers", p): columns})
        if numbers.start == 0:
            await world.run_for(rng.choice((5, 30)))
    await world.run_to_end()
    wanted = Counter((number % 5, 500 * number // 10_000 * 10_000) for number in range(200))
    contents = await world.contents()
    rows = [msgspec.json.decode(v or b"") for p, c in contents.items() if p.topic == "out" for v in c.values]
    assert sorted(rows) == sorted([*window, count] for window, count in wanted.items()), f"seed {seed}"
    assert world.alarms == [], f"seed {seed}"


def test_one_answer() -> None:
    """Turns that end in the middle of what a poll brought, before and behind a re-key, lose and double nothing."""
    for seed in range(ROUGH_SEEDS):
        run(in_any_weather(seed))
