"""Processes that crash, stop and go on at any moment of their calls."""

import asyncio
from functools import partial

import pytest

from streamproc.kafka.requests import CreateTopic, ListTopics, NoAnswer
from streamproc.testing.simulation.client import SimulatedClient
from streamproc.testing.simulation.process import Crash, Process
from tests.simulation.asking import NO_PRODUCER, ask, create, produce, read, rows, topics_of
from tests.simulation.bench import SimulatedBench, on_simulated


def door(bench: SimulatedBench, process: Process) -> SimulatedClient:
    return bench.cluster.client(process.name, process)


@on_simulated
async def test_a_crash_before_a_call_and_one_behind_it(bench: SimulatedBench) -> None:
    """Before it nothing is done; behind it all is, and the process does not learn of it."""
    outside = bench.cluster.client("outside")
    for moment, topics in ((0, []), (1, ["t"])):
        process = Process("a")
        process.happens[moment] = process.crash
        with pytest.raises(Crash):
            await door(bench, process).send(CreateTopic("t", 1, {}), 5)
        assert await topics_of(outside) == topics
        assert process.dead
        with pytest.raises(Crash):
            await door(bench, process).send(ListTopics(), 5)


@on_simulated
async def test_moments_are_numbered_over_all_doors(bench: SimulatedBench) -> None:
    """Calls that wait and those that do not, of the cluster and of whatever else the process has."""
    process = Process("a")
    client = door(bench, process)
    seen: list[int] = []
    for moment in range(6):
        process.happens[moment] = partial(seen.append, moment)
    await client.send(CreateTopic("t", 1, {}), 5)
    assert process.call("store.get", lambda key: key * 2, b"x") == b"xx"
    with pytest.raises(ZeroDivisionError):
        await process.wait("fails", _fails)
    assert process.calls == ["CreateTopic", "store.get", "fails"]
    assert seen == [0, 1, 2, 3, 4, 5]
    assert not process.happens


async def _fails() -> float:
    return 1 / 0


@on_simulated
async def test_the_dead_have_no_effect(bench: SimulatedBench) -> None:
    """What had not arrived never does; who waited is told Crash at once; its other tasks at their next call."""
    outside = bench.cluster.client("outside")
    [p] = await create(bench, outside, "out")
    process = Process("a")
    client = door(bench, process)
    await ask(client, ListTopics())
    sends = asyncio.create_task(produce(client, None, NO_PRODUCER, {p: rows(["x"], at_ms=0)}, sequence=-1))
    await asyncio.sleep(0)
    process.kill()
    with pytest.raises(Crash):
        await sends
    await asyncio.sleep(60)
    assert await read(outside, p) == []


@on_simulated
async def test_a_paused_process_goes_on_where_it_was(bench: SimulatedBench) -> None:
    """SIGSTOP: answers wait for it, its own requests do not get out, and no alarm goes off before it goes on."""
    outside = bench.cluster.client("outside")
    process = Process("a")
    client = door(bench, process)
    listing = asyncio.create_task(client.send(ListTopics(), 5))
    await asyncio.sleep(0)
    process.pause(30)
    creating = asyncio.create_task(client.send(CreateTopic("t", 1, {}), 5))
    await asyncio.sleep(29)
    assert not listing.done()
    assert not creating.done()
    assert await topics_of(outside) == []
    await asyncio.sleep(2)
    assert listing.result() == {}  # it had come long ago, before the alarm
    assert "t" in await topics_of(outside)
    assert creating.done()


@on_simulated
async def test_a_pause_outlasts_the_time_of_a_request_that_is_not_answered(bench: SimulatedBench) -> None:
    """The alarm goes off when the process goes on."""
    process = Process("a")
    client = door(bench, process)
    bench.cluster.faults = bench.cluster.faults._replace(lost=1.0)
    asks = asyncio.create_task(client.send(ListTopics(), 5))
    await asyncio.sleep(1)
    process.pause()
    await asyncio.sleep(100)
    assert not asks.done()
    process.resume()
    with pytest.raises(NoAnswer):
        await asks
    assert asyncio.get_running_loop().time() == pytest.approx(101)


@on_simulated
async def test_a_pause_at_a_moment(bench: SimulatedBench) -> None:
    """The effect of the call is there; the process learns of it when it goes on."""
    outside = bench.cluster.client("outside")
    process = Process("a")
    process.happens[1] = lambda: process.pause(10)
    creating = asyncio.create_task(door(bench, process).send(CreateTopic("t", 1, {}), 5))
    await asyncio.sleep(5)
    assert "t" in await topics_of(outside)
    assert not creating.done()
    await creating
    assert asyncio.get_running_loop().time() > 10


@on_simulated
async def test_a_paused_process_can_be_killed(bench: SimulatedBench) -> None:
    """Nothing of it goes on."""
    process = Process("a")
    process.pause()
    waits = asyncio.create_task(door(bench, process).send(ListTopics(), 5))
    await asyncio.sleep(1)
    process.kill()
    with pytest.raises(Crash):
        await waits
    process.resume()
    assert not bench.cluster.effects
