"""Worlds by hand of counted windows that are read live, while partitions come, fall silent and stand still.

Each gives '' or what differed from what it should be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any

from streamproc.kafka.requests import Producer, Stamped
from streamproc.log import Columns, Partition
from streamproc.testing.simulation import World
from streamproc.testing.simulation.batches import pack
from streamproc.testing.simulation.virtual_time import run
from tests.counted import SOURCE, counted, counts


def made(*, idle: str | None, workers: int = 1) -> World:
    """Nothing is in its two partitions yet."""
    world = World(counted("counted", idle=idle), random.Random(1), workers=workers)
    world.create(SOURCE, 2)
    return world


def numbers(*seconds: int) -> Columns:
    """One at each of these."""
    return Columns([b"k"] * len(seconds), [b"%d" % at for at in seconds], [at * 1_000 for at in seconds])


def send(world: World, number: int, *seconds: int) -> None:
    """A partition has more numbers."""
    world.append({Partition(SOURCE, number): numbers(*seconds)})


async def while_it_runs(world: World, script: Coroutine[None, None, None], *, seconds: float) -> None:
    """Workers run for so long, and the script is played beside them."""
    playing = asyncio.create_task(script)
    await world.run_for(seconds)
    await playing


async def differs(world: World, wanted: Mapping[int, int]) -> str:
    """All that is there is read; '' where the windows that began at these seconds have so many, without an alarm."""
    await world.run_to_end()
    contents = await world.contents()
    found = counts(value for p, columns in contents.items() if p.topic == "out" for value in columns.values)
    return f"alarm: {world.alarms[0]}" if world.alarms else "" if found == wanted else f"{found} are not {wanted}"


def scene(script: Callable[[], Coroutine[Any, Any, str]]) -> Callable[[], str]:
    """The script, played in virtual time."""

    @wraps(script)
    def played() -> str:
        return run(script())

    return played


@scene
async def old_records_in_a_new_partition() -> str:
    """They are late where windows have closed without them: no alarm, and no second row of a window."""
    world = made(idle=None, workers=2)
    for number in range(2):
        send(world, number, *range(number, 34, 2))
    await world.run_for(10)
    world.grow(SOURCE, 3)
    send(world, 2, 5, 15, 25, 31, 35)
    await world.run_for(10)
    for number in range(3):
        send(world, number, 50 + number)
    return await differs(world, {0: 10, 10: 10, 20: 10, 30: 4 + 2, 50: 3})


@scene
async def a_transaction_open_at_the_end() -> str:
    """What is in a partition is committed after longer than `idle`: it was not silent, and nothing of it is late."""
    world = made(idle="5s")
    send(world, 0, *range(0, 50, 2))
    send(world, 1, *range(1, 30, 2))
    log = world.cluster.broker.topics.log(Partition(SOURCE, 1))
    assert log is not None, "the partition is there"
    (batch,) = pack(numbers(31, 33, 35))
    log.append(Stamped(batch, Producer(1 << 40, 0), 0), world.clock.now_ms(), transactional=True)

    async def commit() -> None:
        for at in range(50, 60):
            await asyncio.sleep(3)
            send(world, 0, at)
        log.mark(Producer(1 << 40, 1), world.clock.now_ms(), commit=True)

    await while_it_runs(world, commit(), seconds=40)
    for number in range(2):
        send(world, number, 60)
    return await differs(world, {0: 10, 10: 10, 20: 10, 30: 5 + 3, 40: 5, 50: 10, 60: 2})


@scene
async def stood_still_for_longer_than_idle() -> str:
    """A worker that stood still takes no partition for silent that was at its end before."""
    world = made(idle="10s")
    send(world, 0, *range(0, 60, 2))
    send(world, 1, *range(1, 30, 2))

    async def stand_still() -> None:
        await asyncio.sleep(8)
        (slot,) = world.processes.slots
        world.processes.pause(slot, slot.process, 20)
        await asyncio.sleep(2)  # nobody asks for records any more
        send(world, 1, 31, 33, 35)

    await while_it_runs(world, stand_still(), seconds=40)
    for number in range(2):
        send(world, number, 60)
    return await differs(world, {0: 10, 10: 10, 20: 10, 30: 5 + 3, 40: 5, 50: 5, 60: 2})
