"""What outlasts a restart of the broker; the same of the simulated and the real cluster."""

import asyncio
from typing import TypeVar

import pytest

from streamproc.kafka.requests import Cluster, Code, DescribeGroup, EndTxn, Heartbeat, NoAnswer, Request, SyncGroup
from streamproc.log import LogError
from tests.simulation.asking import (
    ask,
    begin,
    commit_offset,
    create,
    join_two,
    joining,
    produce,
    read,
    rows,
    settled,
    stable_offset,
)
from tests.simulation.bench import Bench, on_both_restarted

R = TypeVar("R")


async def insist(client: Cluster, request: Request[R]) -> R:
    """The answer, when there is one."""
    while True:
        try:
            return await ask(client, request)
        except NoAnswer:
            await asyncio.sleep(0.05)


@on_both_restarted
async def test_what_was_written_down_is_there(bench: Bench) -> None:
    """The stable generation of a group, not one that was being formed; an open transaction; records and offsets."""
    one, two, three = await bench.client("a"), await bench.client("b"), await bench.client("c")
    [p] = await create(bench, one, "out")
    group, name = bench.name("g"), bench.name("a")
    first, second = await join_two(one, two, group)
    producer = await begin(one, name)
    await produce(one, name, producer, {p: rows(["x"], at_ms=bench.now_ms)})
    assert await commit_offset(one, name, producer, first, p, 1) == Code.NONE
    third = asyncio.create_task(three.send(joining(group, "w3"), 30))
    await asyncio.sleep(0.2)
    assert (await ask(one, DescribeGroup(group))).state == "PreparingRebalance"

    await bench.restart()

    with pytest.raises(LogError):
        await third
    state = await insist(one, DescribeGroup(group))
    assert (state.state, sorted(m.instance for m in state.members)) == ("Stable", ["w1", "w2"])
    await insist(one, Heartbeat(*first))
    await insist(two, Heartbeat(*second))
    assert await insist(two, SyncGroup(*second, {})) == b"w2"
    after = await insist(one, EndTxn(name, producer, commit=True))
    assert after == (producer.id, producer.epoch + 1)
    assert await insist(one, EndTxn(name, producer, commit=True)) == after
    assert await stable_offset(one, group, p) == 1
    await settled(one, p)
    assert await read(one, p) == [b"x"]
