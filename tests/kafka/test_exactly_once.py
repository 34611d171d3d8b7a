"""Workers copy records, and at every moment something happens to one of them. What comes out is what went in.

Each run is a function of its moment, or of its seed, so that one that fails can be run again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.requests import Cluster, Producer, Request, Stamped
from streamproc.kafka.timing import Timing
from streamproc.log import Partition, Replaced
from streamproc.testing.simulation.batches import pack
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.faults import CALM, ROUGH
from streamproc.testing.simulation.process import Process
from streamproc.testing.simulation.virtual_time import VirtualClock, run
from tests.kafka.copying import Copier, content, rows
from tests.kafka.meddling import Fate, Meddled, closed, done_and_closed, late, lost, unanswered
from tests.simulation.bench import LIKE_THE_TESTS_BROKER, NOW_MS

QUICK = Timing(session=1_500, heartbeat=300, rebalance=2_000, transaction=2_000, request=400)
PATIENT = QUICK._replace(session=4_000, rebalance=4_000)
PARTITIONS = 2
GIVE_UP_S = 300.0
AWFUL = ROUGH._replace(
    lost=0.03,
    unanswered=0.04,
    closed=0.02,
    late=0.02,
    slow=0.02,
    repeated=0.05,
    moved=0.04,
    crowded=0.04,
    late_ms=(5.0, 1_500.0),
    cut_ms=(100.0, 3_000.0),
)
"""One request in four is in trouble."""


class Story:
    """One run: a cluster, and the workers of a group that copies topic `in` to topic `out`."""

    def __init__(self, timing: Timing, seed: int = 1) -> None:
        self.cluster = SimulatedCluster(random.Random(seed), VirtualClock(NOW_MS), settings=LIKE_THE_TESTS_BROKER)
        self.log = KafkaLog(self.cluster.client("outside"), timing)
        self.sent: dict[int, list[str]] = {number: [] for number in range(PARTITIONS)}
        self.copiers: list[Copier] = []
        self.lives: list[asyncio.Task[None]] = []
        self._timing = timing

    async def begin(self) -> None:
        for topic in ("in", "out"):
            await self.log.create(topic, partitions=PARTITIONS, config={"retention.ms": "-1"})
        self.feed()

    def worker(self, name: str, process: Process, meddle: Callable[[Cluster], Cluster] = lambda one: one) -> Copier:
        log = KafkaLog(meddle(self.cluster.client(name, process)), self._timing)
        copier = Copier(log, "group", name, ("in", "out"), PARTITIONS)
        self.copiers.append(copier)
        self.lives.append(asyncio.create_task(copier.run(), name=name))
        return copier

    def feed(self) -> None:
        """Two records for each partition come, by whatever way: not by this network."""
        count = len(self.sent[0])
        for number, sent in self.sent.items():
            new = [f"{number}-{count + i}" for i in range(2)]
            log = self.cluster.broker.topics.log(Partition("in", number))
            assert log is not None
            [batch] = pack(rows(*new))
            log.append(Stamped(batch, Producer(), -1), NOW_MS, transactional=False)
            sent.extend(new)

    async def end(self) -> None:
        """All that went in has come out, once and in order, and no worker has met what it should not."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + GIVE_UP_S
        out: dict[int, list[str]] = {}
        while loop.time() < give_up:
            out = {number: await content(self.log, Partition("out", number)) for number in self.sent}
            if all(len(out[number]) >= len(self.sent[number]) for number in out):
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(5)  # nothing more comes
        out = {number: await content(self.log, Partition("out", number)) for number in self.sent}
        assert out == self.sent, self.words()
        for copier in self.copiers:
            assert copier.ended is None or isinstance(copier.ended, Replaced), self.words()

    def words(self) -> str:
        return "\n".join(f"{copier.member}: {copier.events} {copier.ended!r}" for copier in self.copiers)


# ------------------------------------------------------------------------------------ at every moment


async def joins_and_leaves(
    process: Process, restart_s: float | None = None, meddle: Callable[[Cluster], Cluster] = lambda one: one
) -> Story:
    """`a` is there first, `b` joins, `a` leaves, and records come before, between and after.

    `process` is that of `a`; where it dies, another one of its name may come after so long.
    """
    story = Story(QUICK)
    await story.begin()
    a = story.worker("a", process, meddle)
    await asyncio.sleep(0.3)
    story.feed()
    story.worker("b", Process("b"))
    await asyncio.sleep(1.0)
    story.feed()
    await asyncio.sleep(0.2)
    story.feed()
    await asyncio.sleep(0.2)
    a.leaving = True
    await asyncio.sleep(0.1)
    story.feed()
    if process.dead and restart_s is not None:
        await asyncio.sleep(restart_s)
        story.worker("a", Process("a"))
    await asyncio.sleep(0.5)
    return story


async def to_the_end(story: Coroutine[Any, Any, Story]) -> None:
    await (await story).end()


def calls() -> int:
    """How many there are in the life of `a` when nothing happens to it."""
    process = Process("a")
    run(joins_and_leaves(process))
    return len(process.calls)


FATES: dict[str, tuple[Callable[[Process], None], float | None]] = {
    "crashes": (Process.kill, None),
    "crashes and comes back": (Process.kill, 0.1),
    "stands still": (lambda process: process.pause(0.7), None),
    "stands still for longer than its session": (lambda process: process.pause(4.0), None),
}


@pytest.mark.parametrize("fate", FATES)
def test_at_every_moment(fate: str) -> None:
    """Before and behind each call of the worker and of what goes on beside it."""
    happens, restart_s = FATES[fate]
    for moment in range(2 * calls()):
        with named(f"moment {moment}"):
            run(to_the_end(joins_and_leaves(disturbed(moment, happens), restart_s)))


LOSSES: dict[str, Fate] = {
    "lost": lost,
    "closed": closed,
    "unanswered": unanswered,
    "done and closed": done_and_closed,
    "late": late(1.0),
    "later": late(3.0),
}


@pytest.mark.parametrize("fate", LOSSES)
def test_each_request_in_its_turn(fate: str) -> None:
    """One of them, and the one behind it, is lost, or its answer is, or it comes when nobody waits for it any more."""
    for call in range(calls()):

        def meddle(cluster: Cluster, call: int = call) -> Cluster:
            meddled = Meddled(cluster)
            meddled.meddle(Request, LOSSES[fate], after=call, times=2)
            return meddled

        with named(f"call {call}"):
            run(to_the_end(joins_and_leaves(Process("a"), meddle=meddle)))


# ------------------------------------------------------------------------------------ at any moment


class Trouble:
    """Workers come, leave, die, stand still, come a second time; the network and the broker are what they are."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._story = Story(PATIENT, seed)
        self._there: dict[str, tuple[Process, Copier, asyncio.Task[None]]] = {}

    async def story(self) -> Story:
        rng, story, loop = self._rng, self._story, asyncio.get_running_loop()
        await story.begin()
        story.cluster.faults = rng.choice([CALM, ROUGH, AWFUL, AWFUL._replace(lost=0.08, unanswered=0.08)])
        self._begin("a")
        until = loop.time() + rng.uniform(2, 10)
        while loop.time() < until:
            await asyncio.sleep(rng.uniform(0, 0.6))
            happens, _ = rng.choices(self._EVENTS, [weight for _, weight in self._EVENTS])[0]
            happens(self)
        story.cluster.faults = CALM
        story.worker("last", Process("last"))
        return story

    def _begin(self, name: str) -> None:
        process = Process(name)
        if self._rng.random() < 0.5:
            process = disturbed(self._rng.randrange(200), FATES[self._rng.choice(sorted(FATES))][0], name)
        self._there[name] = process, self._story.worker(name, process), self._story.lives[-1]

    def _some(self) -> tuple[Process, Copier, asyncio.Task[None]]:
        return self._there[self._rng.choice(sorted(self._there))]

    def _feed(self) -> None:
        self._story.feed()

    def _come(self) -> None:
        name = self._rng.choice("abc")
        if name not in self._there or self._there[name][2].done() or self._rng.random() < 0.1:
            self._begin(name)

    def _pause(self) -> None:
        self._some()[0].pause(self._rng.choice((0.2, 0.7, 2.0, 5.0)))

    def _kill(self) -> None:
        process, _, life = self._some()
        process.kill()
        life.cancel()

    def _leave(self) -> None:
        self._some()[1].leaving = True

    def _restart(self) -> None:
        self._story.cluster.restart(self._rng.uniform(0.1, 3))

    def _stall(self) -> None:
        self._story.cluster.stall(self._rng.uniform(0.1, 2))

    _EVENTS = ((_feed, 35), (_come, 25), (_pause, 10), (_kill, 8), (_leave, 7), (_restart, 3), (_stall, 3))


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens(seed: int) -> None:
    """Nothing is lost, nothing comes twice, and it goes on as soon as it can."""
    run(to_the_end(Trouble(seed).story()))


def disturbed(moment: int, happens: Callable[[Process], None], name: str = "a") -> Process:
    process = Process(name)
    process.happens[moment] = lambda: happens(process)
    return process


@contextmanager
def named(moment: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(moment)
        raise
