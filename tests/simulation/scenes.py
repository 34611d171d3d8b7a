"""Worlds by hand, for what the weather brings seldom; each gives '' or what differed from what it should be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from streamproc import App, Stream
from streamproc.kafka.requests import (
    Cluster,
    CreateTopic,
    EndTxn,
    Fetch,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    Produce,
    Request,
    SyncGroup,
    TxnOffsetCommit,
)
from streamproc.log import Columns, OffsetOutOfRange, Partition
from streamproc.state.memory import MemoryDisk
from streamproc.testing.simulation import CALM, Faults, Weather, World
from streamproc.testing.simulation.slot import Slot
from streamproc.testing.simulation.virtual_time import run
from streamproc.worker import Worker
from tests.kafka.meddling import Fate, Meddled, closed, lost, unanswered
from tests.law.directed import COUNTED, TIMERS, process, straight
from tests.law.inputs import Inputs, random_inputs
from tests.law.oracle import Input
from tests.law.plans import Reading, Spec
from tests.simulation.law import Limits, Phase, Program, Scenario, Script, play_scenario

Records = Mapping[int, Sequence[Sequence[Input]]]
A, B = "slot-0", "slot-1"
ALL = 6
"""Tasks of COUNTED."""
SESSION_S = 6
KEPT = straight(process(0), partitions=4)
"""Four tasks, each with state."""
IMPATIENT: Mapping[str, Any] = {"transaction_timeout": "5s", "request_timeout": "2s"}
SETTINGS: Mapping[str, Any] = {"idle": None, "epoch_interval": "20ms", "epoch_records": 5, "fetch_bytes": 1}


def played(
    script: Script,
    *,
    spec: Spec = COUNTED,
    workers: int = 2,
    live_s: float = 0.0,
    steps: int = 0,
    weather: Weather = CALM,
    purge_records: int = 50_000,
    settings: Mapping[str, Any] = {},
) -> str:
    """Counted windows behind a re-key; first live for so long, with the records of the script, then to the end.

    Half of the records come by themselves meanwhile, if that is to be in any `steps`.
    """
    records = {0: [_records(number) for number in range(spec.nodes[0].args["partitions"])]}
    whole = {0: [len(some) for some in records[0]]}
    half = {0: [count // 2 for count in whole[0]]}
    phases = [Phase(half, live_s=live_s, steps=steps), Phase(whole)] if live_s else [Phase(whole)]
    scenario = Scenario(
        spec,
        Inputs(records, ()),
        phases,
        weather,
        workers=workers,
        settings={**SETTINGS, **settings},
        batch_records=3,
        purge_records=purge_records,
    )
    return play_scenario(scenario, random.Random(1), script).what


def _records(partition: int) -> list[Input]:
    """Of one source partition: in disorder now and then."""
    rng, t, records = random.Random(partition), 0, []
    for _ in range(60):
        t += rng.choice((0, 1, 1, 2, 3))
        ts = t - rng.choice((0, 0, 0, 1, 4))
        records.append(Input(f"k{rng.randrange(4)}", Reading(ts, rng.randrange(10_000) / 10), ts))
    return records


def doors(world: World) -> dict[str, Meddled]:
    """The doors of the processes that started last, by slot."""
    found: dict[str, Meddled] = {}

    def door(slot: Slot, client: Cluster) -> Cluster:
        found[slot.name] = Meddled(client)
        return found[slot.name]

    world.processes.door = door
    return found


async def until(happened: Callable[[], bool]) -> None:
    """Look every hundredth of a second, for a minute."""
    async with asyncio.timeout(60):
        while not happened():
            await asyncio.sleep(0.01)


def worker_of(world: World, number: int) -> Worker:
    """The worker in a slot."""
    worker = world.processes.slots[number].worker
    assert worker is not None
    return worker


def tasks_of(world: World, number: int) -> int:
    """How many tasks the worker in a slot, if there is one, has open."""
    slots = world.processes.slots
    worker = slots[number].worker if number < len(slots) else None
    return 0 if worker is None else len(worker.tasks)


def has_tasks(world: World, number: int, count: int) -> bool:
    """Whether these are so many."""
    return tasks_of(world, number) == count


def positions(world: World, number: int) -> int:
    """How far the worker in a slot is in what it reads, added up."""
    return sum(reader.position for task in worker_of(world, number).tasks.values() for reader in task.readers.values())


def expelled_in_mid_commit() -> str:
    """A has sent what it wrote, and its offsets not yet, when it is taken out of the group; nobody can fence it.

    While A hears nothing B has the tasks, and goes on from what is committed. A, which has joined
    again by then, commits its offsets under the membership that it had.
    """

    async def script(world: World, program: Program) -> None:
        found = doors(world)
        outside = world.cluster.client("outside")

        async def slow(cluster: Cluster, request: Request[Any], timeout_s: float) -> Any:
            answer = await cluster.send(request, timeout_s)
            found[A].meddle(Heartbeat, closed, times=25)
            await outside.send(LeaveGroup(world.app.name, "", A), 5)
            await asyncio.sleep(10)
            return answer

        await until(lambda: {A, B} <= found.keys())
        found[A].meddle(Produce, slow, after=3)
        found[B].meddle(InitProducerId, lost, where=lambda request: request.transactional_id.endswith(A), times=99)

    return played(script)


def owned_elsewhere_meanwhile() -> str:
    """A gives up tasks to B and does not hear of the generation in which B has them; B leaves, and A has them again."""

    async def script(world: World, program: Program) -> None:
        found, processes = doors(world), world.processes
        await until(lambda: tasks_of(world, 0) == ALL)
        found[A].meddle(SyncGroup, unanswered, times=5)
        processes.start(processes.new_slot())
        await until(lambda: tasks_of(world, 1) == ALL // 2)
        program.append_share(0.5)
        began = positions(world, 1)
        await until(lambda: positions(world, 1) > began + 5)
        processes.leave(processes.slots[1])
        found[A].heal()

    return played(script, workers=1, live_s=40)


def purged_while_it_stood_still() -> str:
    """A stands still for longer than a session; B goes on, and purges what it has read. A finds it gone.

    A does not know at once that it is out of the group: it stops as a heartbeat is answered, and the next is due later.
    """

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        await until(lambda: tasks_of(world, 0) == tasks_of(world, 1) == ALL // 2)
        program.append_share(0.3)
        await until(lambda: positions(world, 0) > 10)
        await asyncio.sleep(2)  # nothing is left to commit, at which A would find out
        first = processes.slots[0]
        first.process.at_next["Heartbeat"] = (1, partial(processes.pause, first, first.process, 25))
        await until(lambda: first.process.paused)
        await asyncio.sleep(1)  # A must not be given any of what comes: it would find out when it commits
        theirs = {task.number for task in worker_of(world, 1).tasks if task.stage == "source-0"}
        program.append_share(0.6, of=theirs)

    return played(script, live_s=40, purge_records=1, settings={"session_timeout": f"{SESSION_S}s"})


def two_of_one_name() -> str:
    """Two machines have the same name: the one that came first ends, and does not come back."""

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        await until(lambda: tasks_of(world, 0) == 4)
        await asyncio.sleep(2)  # it has nothing to commit, at which it would find out
        processes.slots.append(Slot(A, MemoryDisk(), world.clock))
        processes.start(processes.slots[1])
        await asyncio.sleep(20)
        first, second = processes.slots
        assert not first.alive, "the first goes on"
        assert tasks_of(world, 1) == 4, f"{second}"

    return played(script, spec=KEPT, workers=1, live_s=40)


def workers_that_come_and_leave() -> str:
    """In calm weather no epoch is dropped by it."""

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        for number in (1, 2):
            await until(partial(has_tasks, world, 0, ALL // number))
            processes.start(processes.new_slot())
            await until(partial(has_tasks, world, number, ALL // (number + 1)))
        processes.leave(processes.slots[1])
        await until(lambda: tasks_of(world, 0) == tasks_of(world, 2) == ALL // 2)
        dropped = [str(told) for told in world.history if "epoch was dropped" in told.what]
        assert not dropped, dropped[0]

    return played(script, workers=1, live_s=40, steps=200)


def first_joins_that_take_long() -> str:
    """An empty group waits for more members, for longer than a third of a session: nobody joins a second time."""

    async def script(world: World, program: Program) -> None:
        await until(lambda: sum(tasks_of(world, number) for number in range(4)) == ALL)
        joined = [h.who for h in world.history if isinstance(h.request, JoinGroup) and h.what == "waits"]
        assert len(joined) == len(set(joined)), f"joins: {', '.join(joined)}"

    return played(script, workers=4, settings={"session_timeout": f"{SESSION_S}s"})


def away_for_a_generation() -> str:
    """A stands still for longer than a session; B has led a generation without it, and fenced it. A joins once.

    That it is out of the group A learns by a heartbeat: there is nothing to commit.
    """

    async def script(world: World, program: Program) -> None:
        found, processes = doors(world), world.processes
        await until(lambda: tasks_of(world, 0) == tasks_of(world, 1) == ALL // 2)
        await asyncio.sleep(2)
        first = processes.slots[0]
        processes.pause(first, first.process, 3 * SESSION_S)
        await until(lambda: tasks_of(world, 1) == ALL)
        found[A].meddle(Fetch, closed, times=10)
        await until(lambda: tasks_of(world, 0) == tasks_of(world, 1) == ALL // 2)
        began = positions(world, 0)
        program.append_share(0.6)
        await until(lambda: positions(world, 0) > began + 5)
        await asyncio.sleep(2)
        joins = [str(told) for told in world.history if told.what.startswith(f"{A}: joins")]
        assert len(joins) == 2, joins[-1]

    return played(script, live_s=60, settings={"session_timeout": f"{SESSION_S}s"})


def killed_in_mid_commit() -> str:
    """A is killed when its offsets are under way. B has its tasks when A's session is over, not its transaction."""

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        await until(lambda: tasks_of(world, 0) == tasks_of(world, 1) == ALL // 2)
        program.append_share(0.5)
        dies = partial(processes.kill, processes.slots[0])
        processes.slots[0].process.at_next["TxnOffsetCommit"] = (1, dies)
        await until(lambda: not processes.slots[0].alive)
        killed = asyncio.get_running_loop().time()
        await until(lambda: tasks_of(world, 1) == ALL)
        took_s = asyncio.get_running_loop().time() - killed
        assert took_s < SESSION_S + 2, f"its tasks were open elsewhere after {took_s:.1f} s"

    return played(script, live_s=60, settings={"session_timeout": f"{SESSION_S}s", "transaction_timeout": "15s"})


def dropped_before_it_was_read() -> str:
    """The broker drops records that were not read yet: the run ends, and says so."""
    app = App("numbers", idle=None)

    @app.stream(app.topic("numbers", value=int), to=app.topic("copies", value=int))
    def copies(numbers: Stream[bytes, int]) -> Stream[bytes, int]:
        return numbers

    async def main() -> str:
        world = World(app, random.Random(1))
        world.cluster.broker.topics.create(CreateTopic("numbers", 1, {"retention.ms": "86400000"}))
        for days in (0, 3, 0):
            await world.pass_days(days)
            if not days:
                world.append({Partition("numbers", 0): _numbers(world.clock.now_ms())})
                await world.run_to_end()
                world.append({Partition("numbers", 0): _numbers(world.clock.now_ms())})
        return "what was dropped is passed over"

    try:
        return run(main())
    except OffsetOutOfRange:
        return ""


def _numbers(at_ms: int) -> Columns:
    return Columns([None] * 5, [b"%d" % n for n in range(5)], [at_ms] * 5)


def a_disk_that_is_too_old() -> str:
    """What was deleted while its task was elsewhere, and whose deletion is forgotten, does not come back with it."""
    for seed in range(3):
        records = random_inputs(TIMERS, random.Random(seed)).records

        def part(number: int, records: Records = records) -> Limits:
            return {n: [len(some) * number // 3 for some in partitions] for n, partitions in records.items()}

        phases = [Phase(part(1)), Phase(part(2), slot=1), Phase(part(3), days=20)]
        scenario = Scenario(TIMERS, Inputs(records, ()), phases, settings=SETTINGS, batch_records=1)
        if what := play_scenario(scenario, random.Random(seed)).what:
            return f"seed {seed}: {what}"
    return ""


def handed_over_while_markers_are_on_their_way() -> str:
    """Tasks go to and fro between workers that come and leave; offsets are told before the rest."""

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        await until(lambda: tasks_of(world, 0) == 4)
        for number in range(1, 7):
            processes.start(processes.new_slot())
            await until(partial(has_tasks, world, number, 2))
            await asyncio.sleep(1)
            processes.leave(processes.slots[number])
            await until(lambda: tasks_of(world, 0) == 4)
            await asyncio.sleep(1)

    late = Weather(Faults(marker_late=0.5, marker_late_ms=(1_000, 1_000)), trouble_s=120, every_s=(200, 200))
    return played(script, spec=KEPT, workers=1, live_s=120, steps=400, weather=late)


def decided_and_not_told() -> str:
    """An epoch is committed, and who committed it has no answer in time: it is not known whether it was."""
    return _in_doubt(unanswered)


def not_decided_and_not_told() -> str:
    """The end of an epoch never arrives, and it is not known that it has not."""
    return _in_doubt(lost)


def _in_doubt(fate: Fate) -> str:
    async def script(world: World, program: Program) -> None:
        found = doors(world)
        await until(lambda: A in found)
        found[A].meddle(EndTxn, fate, after=5, times=3)

    return played(script, spec=KEPT, workers=1, settings=IMPATIENT)


def given_up_before_the_end(epoch: int = 5, **options: Any) -> str:
    """An epoch is given up when its records are there, as its offsets never arrive."""

    async def script(world: World, program: Program) -> None:
        found = doors(world)
        await until(lambda: A in found)
        found[A].meddle(TxnOffsetCommit, lost, after=epoch, times=3)

    return played(script, workers=1, settings=IMPATIENT, **{"spec": KEPT, **options})


def given_up_behind_a_re_key() -> str:
    """The same, and what it had read is of an internal topic, which is purged."""
    return next(filter(None, (given_up_before_the_end(n, spec=COUNTED, purge_records=1) for n in range(5, 9))), "")


def written_and_not_told() -> str:
    """Records have arrived, and the answer has not: they are sent again."""

    async def script(world: World, program: Program) -> None:
        found = doors(world)
        await until(lambda: A in found)
        found[A].meddle(Produce, unanswered, after=5)

    return played(script, spec=KEPT, workers=1)


def killed_before_its_offsets() -> str:
    """A worker dies when it has written records, and not its offsets yet; it comes back."""

    async def script(world: World, program: Program) -> None:
        processes = world.processes
        await until(lambda: tasks_of(world, 0) == 4 and positions(world, 0) > 20)
        first = processes.slots[0]
        first.process.at_next["TxnOffsetCommit"] = (0, partial(processes.kill, first))

    return played(script, spec=KEPT, workers=1, weather=CALM._replace(lost_writes=0))
