"""The law in simulated worlds: random plans of `tests.law`, run on a cluster where everything goes wrong that can."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

from streamproc import App, purging
from streamproc.log import Columns, Partition
from streamproc.purging import PURGE_RECORDS
from streamproc.testing.simulation import CALM, ROUGH, Faults, History, Weather, World, faults, transactions
from streamproc.testing.simulation.broker import AS_SHIPPED, BrokerSettings
from streamproc.testing.simulation.slot import Slot
from streamproc.testing.simulation.topics import DEFAULTS
from streamproc.testing.simulation.transactions import EXHAUSTED
from streamproc.testing.simulation.virtual_time import run
from tests.law.inputs import Inputs, columns_of, random_inputs
from tests.law.oracle import Answer, Oracle
from tests.law.plans import Spec, build, random_spec
from tests.law.seen import Seen, differs

Limits = Mapping[int, Sequence[int]]
"""Of each source and partition: how many records there are."""


class Phase(NamedTuple):
    """A run of the app.

    days     pass before it
    limits   what there is to read when it ends
    live_s   it goes on for so long, and records come meanwhile; 0: it runs to the end of the input
    steps    in which they come; 0: when the script says so
    slot     it begins in this slot and the next ones, with their disks
    """

    limits: Limits
    days: int = 0
    live_s: float = 0.0
    steps: int = 1
    slot: int = 0


class Scenario(NamedTuple):
    """What a seed stands for.

    epochs   of so many epochs of a producer id the last is given
    topics   what is configured for all topics that say nothing else
    """

    spec: Spec
    inputs: Inputs
    phases: Sequence[Phase]
    weather: Weather = CALM
    workers: int = 1
    settings: Mapping[str, Any] = {}
    broker: BrokerSettings = AS_SHIPPED
    batch_records: int = 100
    in_transactions: bool = False
    purge_records: int = PURGE_RECORDS
    epochs: int = EXHAUSTED
    topics: Mapping[str, str] = {}


def random_scenario(rng: random.Random) -> Scenario:
    """Any."""
    spec = random_spec(rng)
    inputs = random_inputs(spec, rng)
    return Scenario(
        spec,
        inputs,
        _random_phases(inputs, rng),
        random_weather(rng),
        workers=rng.choice((1, 2, 2, 3)),
        settings=random_settings(rng),
        broker=AS_SHIPPED._replace(first_delay=rng.choice((0, 3_000))),
        batch_records=rng.choice((1, 5, 5, 100)),
        in_transactions=rng.random() < 0.3,
        purge_records=rng.choice((2, 20, PURGE_RECORDS)),
        epochs=rng.choice((4, EXHAUSTED)),
        topics=rng.choice(({}, {"max.message.bytes": "5000"}, {"segment.bytes": "1000"})),
    )


def _random_phases(inputs: Inputs, rng: random.Random) -> list[Phase]:
    count = rng.choice((1, 1, 2, 2, 3))
    cuts = {
        n: [sorted([*(rng.randint(0, len(some)) for _ in range(count - 1)), len(some)]) for some in partitions]
        for n, partitions in inputs.records.items()
    }
    return [
        Phase(
            {n: [cut[number] for cut in partitions] for n, partitions in cuts.items()},
            days=rng.choice((0, 0, 1, 8, 20)) if number else 0,
            live_s=rng.choice((0.0, 3.0, 15.0)) if number < count - 1 else 0.0,
            steps=rng.choice((1, 4, 20)),
            slot=rng.choice((0, 0, 1, 2)),
        )
        for number in range(count)
    ]


def random_weather(rng: random.Random) -> Weather:
    """Calm at times. What takes long meets more of it."""
    if rng.random() < 0.1:
        return CALM
    chances = rng.choice((faults.CALM, faults.ROUGH, faults.ROUGH, STORMY, STORMY, APART, CONFUSED))
    return ROUGH._replace(
        faults=chances._replace(
            decisive=rng.choice((1, 5, 10)), way_ms=rng.choice(((0.2, 2.0), (2.0, 20.0), (5.0, 50.0)))
        ),
        trouble_s=rng.choice((5.0, 15.0, 40.0)),
        every_s=rng.choice(((0.05, 0.5), (0.2, 2.0), (0.5, 4.0))),
        pause_s=rng.choice(((0.05, 1.0), (0.5, 10.0), (5.0, 30.0))),
        wiped=rng.choice((0.0, 0.15, 0.5)),
        one_disk=rng.random() < 0.4,
        skew_s=rng.choice((0.0, 0.0, 600.0)),
    )


STORMY = faults.ROUGH._replace(
    lost=0.01,
    unanswered=0.02,
    closed=0.01,
    late=0.01,
    slow=0.01,
    repeated=0.03,
    cut=0.002,
    parted=0.002,
    marker_late=0.2,
)
APART = Faults(cut=0.002, parted=0.005, cut_ms=(1_000.0, 25_000.0), outlives=0.5, marker_late=0.2)
"""Clients are cut off for long: whether an epoch was committed is not known."""
CONFUSED = Faults(moved=0.1, crowded=0.1, slow=0.05, late_ms=(5.0, 3_000.0), outlives=0.5, marker_late=0.5)
"""Coordinators move, and take their time."""


def random_settings(rng: random.Random) -> dict[str, Any]:
    """Small epochs, small fetches, short patience: or as they are by default."""
    return {
        "idle": None,
        "epoch_interval": rng.choice(("20ms", "200ms", "1s")),
        "epoch_records": rng.choice((3, 20, 100_000)),
        "fetch_bytes": rng.choice((1, 300, 1 << 20)),
        "drift": rng.choice(("1ms", "5ms", "1m")),
        "cache_bytes": rng.choice((1, 64 << 20)),
        "session_timeout": rng.choice(("6s", "10s", "45s")),
        "rebalance_timeout": rng.choice(("5s", "60s")),
        "transaction_timeout": rng.choice(("5s", "15s")),
        "request_timeout": rng.choice(("2s", "8s")),
    }


# ------------------------------------------------------------------------------------ who writes, and what else happens


class Program:
    """What writes the sources of a scenario."""

    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._sent = {n: [0] * len(some) for n, some in scenario.inputs.records.items()}

    def append(self, limits: Limits) -> None:
        """The sources grow up to here."""
        more: dict[Partition, Columns] = {}
        for n, counts in limits.items():
            for number, (before, after) in enumerate(zip(self._sent[n], counts, strict=True)):
                if before < after:
                    records = self._scenario.inputs.records[n][number][before:after]
                    more[Partition(f"source-{n}", number)] = columns_of(self._world.app, n, records)
            self._sent[n] = list(counts)
        self._world.append(
            more, batch_records=self._scenario.batch_records, in_transactions=self._scenario.in_transactions
        )

    def append_share(self, share: float, *, of: Collection[int] | None = None) -> None:
        """All source partitions, or those of these numbers, grow up to this share of their records."""
        self.append(
            {
                n: [
                    int(len(some) * share) if of is None or number in of else self._sent[n][number]
                    for number, some in enumerate(partitions)
                ]
                for n, partitions in self._scenario.inputs.records.items()
            }
        )

    async def append_slowly(self, phase: Phase, rng: random.Random) -> None:
        """The sources grow up to the limits of a phase, little by little."""
        before = {n: list(counts) for n, counts in self._sent.items()}
        for step in range(1, phase.steps + 1):
            await asyncio.sleep(rng.uniform(0, phase.live_s / phase.steps))
            self.append(
                {
                    n: [a + (b - a) * step // phase.steps for a, b in zip(before[n], counts, strict=True)]
                    for n, counts in phase.limits.items()
                }
            )


Script = Callable[[World, Program], Coroutine[None, None, None]]
"""What happens beside the weather."""


async def _nothing(world: World, program: Program) -> None:
    """The weather is all that happens."""


# ------------------------------------------------------------------------------------ playing one


class Played(NamedTuple):
    """What came of a scenario: '' where it was the answer."""

    what: str
    history: History


def play(seed: int) -> Played:
    """What a seed stands for, played."""
    rng = random.Random(seed)
    return play_scenario(random_scenario(rng), rng)


def crashes_everywhere(spec: Spec, *, workers: int, wiped: bool, runs: int) -> str:
    """'' where a crash of the first worker changes nothing, at so many of the moments of its life, evenly spread."""
    records = {n: [some[:6] for some in p] for n, p in random_inputs(spec, random.Random(5)).records.items()}
    whole = {n: [len(some) for some in partitions] for n, partitions in records.items()}
    settings = {"idle": None, "epoch_records": 5, "fetch_bytes": 1, "session_timeout": "6s"}
    broker = AS_SHIPPED._replace(first_delay=0)
    scenario = Scenario(
        spec,
        Inputs(records, ()),
        [Phase(whole)],
        workers=workers,
        settings=settings,
        broker=broker,
        batch_records=3,
        purge_records=1,
    )
    calls: list[str] = []

    def first_dies(at: int | None) -> Script:
        async def script(world: World, program: Program) -> None:
            started: list[Slot] = []

            def on_start(slot: Slot) -> None:
                if not started and at is None:
                    slot.process.calls = calls
                elif not started and at is not None:
                    slot.process.happens[at] = partial(world.processes.kill, slot, wiped=wiped)
                started.append(slot)

            world.processes.on_start = on_start

        return script

    what = play_scenario(scenario, random.Random(0), first_dies(None)).what
    step = 2 * len(calls) // runs | 1  # odd: before calls and behind them
    for moment in range(0, 2 * len(calls), step):
        what = what or play_scenario(scenario, random.Random(0), first_dies(moment)).what
        if what:
            return f"moment {moment} of {2 * len(calls)}, {calls[moment // 2]}: {what}"
    return ""


def play_scenario(
    scenario: Scenario,
    rng: random.Random,
    script: Script = _nothing,
    judge: Callable[[Seen, Answer], str] = differs,
) -> Played:
    """A scenario, played to its end; whatever stops it is no answer."""
    app = build(scenario.spec, **scenario.settings)
    history = History()
    try:
        with (
            patch.object(purging, "PURGE_RECORDS", scenario.purge_records),
            patch.object(transactions, "EXHAUSTED", scenario.epochs),
            patch.dict(DEFAULTS, scenario.topics),
        ):
            seen = run(_seen(scenario, app, rng, history, script))
        return Played(judge(seen, answer_of(scenario)), history)
    except Exception as error:  # noqa: BLE001 - whatever stops a run is no answer
        return Played(f"{type(error).__name__}: {error}", history)


def answer_of(scenario: Scenario) -> Answer:
    """What every run of the plan on these inputs must give."""
    oracle = Oracle(scenario.spec, build(scenario.spec), scenario.inputs.records)
    for phase in scenario.phases:
        if not phase.live_s:
            oracle.run(phase.limits)
    return oracle.answer()


async def _seen(scenario: Scenario, app: App, rng: random.Random, history: History, script: Script) -> Seen:
    world = World(app, rng, scenario.weather, workers=scenario.workers, broker=scenario.broker, history=history)
    for n in scenario.spec.of_kind("source"):
        world.create(f"source-{n}", scenario.spec.nodes[n].args["partitions"])
    program = Program(scenario, world)
    playing = asyncio.create_task(script(world, program), name="script")
    await asyncio.sleep(0)  # it begins before the first process does
    try:
        for phase in scenario.phases:
            if phase.days:
                await world.pass_days(phase.days)
            if phase.live_s:
                coming = asyncio.create_task(program.append_slowly(phase, rng))
                await world.run_for(phase.live_s, slot=phase.slot)
                await coming
            else:
                program.append(phase.limits)
                await world.run_to_end(slot=phase.slot)
    except BaseException:
        playing.cancel()
        raise
    await playing
    contents, processes = await world.contents(), world.processes
    assert processes.launch is not None
    calm = scenario.weather == CALM and script is _nothing
    counts = (processes.late, processes.skipped) if calm else None
    return Seen(scenario.spec, app, processes.launch, contents.__getitem__, alarms=world.alarms, counts=counts)
