"""Functions of the user that take long, in virtual time: the worker that runs them is not taken for dead."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from streamproc import App, Stream
from streamproc.jobs import LoopJobs
from streamproc.log import Columns, Partition
from streamproc.testing.simulation import World
from streamproc.testing.simulation.virtual_time import VirtualTimeLoop, run

PARTITIONS = 60
RECORD_S = 0.2
SESSION_S = 6
"""All partitions have something to read at once, and what they have takes twice as long."""


def slow() -> App:
    app = App("slow", session_timeout=f"{SESSION_S}s", epoch_interval="1s", idle=None)

    @app.stream(app.topic("numbers", value=int), to=app.topic("out", value=int))
    def slow(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(taking_long)

    return app


def taking_long(number: int) -> int:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.work(RECORD_S)
    return number


async def played() -> World:
    """A worker that has nothing to do is given a record of each partition at once."""
    world = World(slow(), random.Random(1), workers=1)
    world.create("numbers", PARTITIONS)

    def feed() -> None:
        at_ms = world.clock.now_ms()
        numbers = range(PARTITIONS)
        world.append({Partition("numbers", n): Columns([None], [b"%d" % n], [at_ms]) for n in numbers})

    asyncio.get_running_loop().call_later(20, feed)
    await world.run_for(60)
    found = [value for p, columns in (await world.contents()).items() if p.topic == "out" for value in columns.values]
    assert sorted(map(int, filter(None, found))) == list(range(PARTITIONS))
    return world


def expulsions(world: World) -> list[str]:
    return [str(told) for told in world.history if "was taken for dead" in told.what]


def test_heartbeats_go_out_between_the_chunks_of_a_poll() -> None:
    """However many partitions there are, no more than one piece of work lies between two of them."""
    assert expulsions(run(played())) == []


def test_without_that_it_would_be_expelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The chunks of one poll take longer than a session, so that the test above means something."""

    async def on_and_on(self: LoopJobs) -> None:
        """Nobody else gets his turn."""

    monkeypatch.setattr(LoopJobs, "breathe", on_and_on)
    assert expulsions(run(played())) != []
