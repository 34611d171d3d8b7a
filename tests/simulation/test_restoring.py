"""A restore that takes long, over the simulated cluster: how far it is is told as the group's lag in the changelog."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from streamproc.kafka.requests import Cluster, Fetch, OffsetFetch, Request
from streamproc.log import Partition
from streamproc.restore_lag import note_of
from streamproc.testing.simulation import CALM, World
from streamproc.testing.simulation.slot import Slot
from tests.kafka.meddling import Meddled
from tests.simulation.law import Program
from tests.simulation.scenes import KEPT, played, positions, tasks_of, until


async def late(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
    """It is done at once, and the answer takes its time."""
    answer = await cluster.send(request, timeout_s)
    await asyncio.sleep(0.3)
    return answer


def of_changelogs(partitions: Iterable[Partition]) -> bool:
    return any(partition.topic.endswith("-changelog") for partition in partitions)


def slow(_: Slot, client: Cluster) -> Cluster:
    """The door of a process that changelogs come to slowly."""
    meddled = Meddled(client)
    meddled.meddle(Fetch, late, times=10_000, where=lambda request: of_changelogs(request.offsets))
    return meddled


async def noted(world: World) -> dict[Partition, int]:
    """What the group has in changelogs: how far its stores are."""
    outside = world.cluster.client("outside")
    committed = await outside.send(OffsetFetch(world.app.name, None, stable=False), 5)
    found = {partition: at for partition, at in committed.items() if of_changelogs([partition])}
    assert all((note := note_of(at)) is not None and note.restores == "slot-0" for at in found.values())
    return {partition: at.offset for partition, at in found.items()}


def test_it_is_seen_while_it_lasts_and_then_no_more() -> None:
    """A worker has lost its disk, and dies once more in the midst of it. The answer is what it would be without."""
    told: list[dict[Partition, int]] = []

    async def script(world: World, program: Program) -> None:
        processes = world.processes

        async def moves(times: int) -> None:
            """The offsets in changelogs have been seen to change so often."""
            until_told = len(told) + times
            while len(told) < until_told:
                now = await noted(world)
                if now and now not in told[-1:]:
                    told.append(now)
                await asyncio.sleep(0.5)

        await until(lambda: tasks_of(world, 0) == 4)
        program.append_share(0.8)
        await until(lambda: positions(world, 0) > 100)
        await asyncio.sleep(5)
        assert await noted(world) == {}, "there was nothing to restore"
        processes.door, first = slow, processes.slots[0]
        for wiped in (True, False):
            processes.kill(first, wiped=wiped)
            await until(lambda: not first.alive)
            processes.start(first)
            await moves(3)
        await until(lambda: tasks_of(world, 0) == 4)
        await asyncio.sleep(5)
        assert await noted(world) == {}, "it is through"

    assert played(script, spec=KEPT, workers=1, live_s=200, weather=CALM._replace(lost_writes=0)) == ""
    for partition in told[-1]:
        offsets = [now[partition] for now in told if partition in now]
        assert offsets == sorted(offsets), "a process goes on from where the last one was"
    assert len(told) == 6
