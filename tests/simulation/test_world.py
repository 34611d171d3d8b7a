"""Worlds: slots and disks, runs and days, the other program, the history."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamproc import App, RecordError, Stream
from streamproc.kafka.requests import Code, CreateTopic, Fetch
from streamproc.log import Columns, LogError, Partition
from streamproc.testing.simulation import CALM, ROUGH, Weather, World
from streamproc.testing.simulation.slot import Slot
from streamproc.testing.simulation.virtual_time import run
from streamproc.testing.simulation.world import START_MS

SOURCE = Partition("numbers", 0)


def counted() -> App:
    app = App("counted", idle=None)

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("counts", key=str, value=int))
    def count(numbers: Stream[str, int]) -> Any:
        return numbers.count()

    return app


def numbers(count: int, *, key: bytes = b"a") -> Columns:
    return Columns([key] * count, [b"%d" % n for n in range(count)], [START_MS] * count)


def world_of(app: App, weather: Weather = CALM, **options: Any) -> World:
    world = World(app, random.Random(1), weather, **options)
    world.create("numbers", 1)
    return world


async def counts(world: World) -> list[bytes | None]:
    contents = await world.contents()
    return [value for partition, columns in contents.items() if partition.topic == "counts" for value in columns.values]


def test_disks_outlast_processes() -> None:
    """A worker that comes back goes on from its disk; on another disk it restores, and the counts are the same."""

    async def main() -> list[bytes | None]:
        world = world_of(counted(), workers=1)
        for slot in (0, 0, 1):
            world.append({SOURCE: numbers(2)})
            await world.run_to_end(slot=slot)
        assert [len(slot.disk._images) for slot in world.processes.slots] == [1, 1]
        return await counts(world)

    assert run(main()) == [b"1", b"2", b"3", b"4", b"5", b"6"]


def test_one_machine_has_one_disk() -> None:
    async def main() -> None:
        world = world_of(counted(), CALM._replace(one_disk=True), workers=2)
        world.append({SOURCE: numbers(2)})
        await world.run_to_end()
        first, second = world.processes.slots
        assert first.disk._images is second.disk._images

    run(main())


def test_a_run_that_goes_on_until_it_is_stopped() -> None:
    """What comes meanwhile is read; at the end all have stopped, and committed what they had."""

    async def main() -> list[bytes | None]:
        world = world_of(counted())
        world.append({SOURCE: numbers(1)})
        await world.run_for(10)
        assert not world.processes.alive
        world.append({SOURCE: numbers(1)})
        await world.run_for(10)
        return await counts(world)

    assert run(main()) == [b"1", b"2"]


def test_days_pass() -> None:
    """The broker compacts: of a key in the changelog the last counts are left."""

    async def main() -> tuple[int, int]:
        world = world_of(counted(), workers=1)
        for _ in range(3):
            world.append({SOURCE: numbers(5)})
            await world.run_to_end()
        changelog = next(p for p in await world.contents() if p.topic.endswith("-changelog"))
        before = len((await world.contents())[changelog])
        await world.pass_days(2)
        return before, len((await world.contents())[changelog])

    before, after = run(main())
    assert after < before


@pytest.mark.parametrize("seed", range(8))
def test_a_record_that_fails_stops_all_and_loses_nothing(seed: int) -> None:
    """In any weather the run ends with the error; once the function is mended another goes on where it stopped."""
    broken = True
    app = App("fails", idle=None, epoch_records=3)

    def checked(value: int) -> int:
        if broken and value == 7:
            raise ValueError
        return value

    @app.stream(app.topic("numbers", key=str, value=int), to=app.topic("counts", key=str, value=int))
    def count(numbers: Stream[str, int]) -> Any:
        return numbers.map(checked).key_by(lambda value: f"{value % 2}").count()

    async def main() -> list[bytes | None]:
        nonlocal broken
        world = World(app, random.Random(seed), ROUGH, workers=2)
        world.create("numbers", 2)
        for number in range(2):
            world.append({Partition("numbers", number): numbers(12)}, batch_records=2)
        with pytest.raises(RecordError, match="ValueError"):
            await world.run_to_end()
        broken = False
        await world.run_to_end()
        return await counts(world)

    assert sorted(run(main()), key=str) == sorted([b"%d" % n for n in range(1, 13)] * 2, key=str)


def test_a_live_run_behind_one_to_the_end() -> None:
    """Between runs the group forgets who was in it: else the first would say to the second where the input ends."""

    async def main() -> list[bytes | None]:
        world = world_of(counted(), workers=1)
        world.processes.on_start = lambda slot: slot.process.happens.update({60: lambda: world.processes.kill(slot)})
        world.append({SOURCE: numbers(1)})
        await world.run_for(5)
        world.processes.on_start = lambda slot: None
        world.append({SOURCE: numbers(1)})
        await world.run_to_end()
        return await counts(world)

    assert run(main()) == [b"1", b"2"]


def test_machines_have_clocks_of_their_own() -> None:
    async def main() -> list[int]:
        world = world_of(counted(), ROUGH._replace(skew_s=60.0))
        return [world.processes.new_slot().clock.now_ms() - START_MS for _ in range(20)]

    skews = run(main())
    assert len(set(skews)) == len(skews)
    assert all(-60_000 <= skew <= 60_000 for skew in skews)


def test_what_befell_the_slots() -> None:
    """They start, are killed with or without their disks, stand still, are asked to stop: the history tells it."""

    async def main() -> str:
        world = world_of(counted(), workers=1)
        processes = world.processes

        def at_start(slot: Slot) -> None:
            if len(told) == 0:
                slot.process.happens[3] = lambda: processes.kill(slot, wiped=True)
            elif len(told) == 1:
                slot.process.happens[5] = lambda: processes.pause(slot, slot.process, 2.5)
                slot.process.happens[30] = lambda: processes.leave(slot)
            told.append(slot.name)

        told: list[str] = []
        processes.on_start = at_start
        world.append({SOURCE: numbers(1)})
        await world.run_to_end()
        return "\n".join(str(happened) for happened in world.history if happened.request is None)

    history = run(main())
    for told in (
        "slot-0   starts",
        "slot-0   is killed, its disk lost",
        "stands still for 2.500 s",
        "is asked to stop",
    ):
        assert told in history


def test_the_other_program_writes_transactions_too() -> None:
    """Their markers and what is aborted leave gaps in the offsets; what can be read is what was to be written."""

    async def main() -> tuple[int, list[bytes | None]]:
        world = world_of(counted())
        world.append({SOURCE: numbers(40)}, batch_records=3, in_transactions=True)
        log = world.cluster.broker.topics.log(SOURCE)
        assert log is not None
        return log.end, (await world.contents())[SOURCE].values

    end, values = run(main())
    assert values == [b"%d" % n for n in range(40)]
    assert end > 50


def test_a_topic_grows() -> None:
    """New partitions can be written to and read."""

    async def main() -> int:
        world = world_of(counted())
        client = world.cluster.client("looks on")
        last = Partition("numbers", 2)
        fetched = (await client.send(Fetch({last: 0}, 0, 1), 1))[last]
        assert fetched.code == Code.UNKNOWN_TOPIC_OR_PARTITION
        world.grow("numbers", 3)
        world.append({last: numbers(4)})
        return len((await client.send(Fetch({last: 0}, 0, 1_000), 1))[last].offsets)

    assert run(main()) == 4


def test_a_source_that_is_not_there() -> None:
    """The run raises what the first process ended with."""

    async def main() -> None:
        world = World(counted(), random.Random(1))
        world.cluster.broker.topics.create(CreateTopic("number", 1, {}))
        await world.run_to_end()

    with pytest.raises(LogError, match="there is no topic 'numbers'; did you mean 'number'"):
        run(main())
