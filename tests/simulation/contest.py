"""Processes that take one another's place and copy numbers in transactions, under all faults: by requests alone.

`python -m tests.simulation.contest SEED` prints a digest of everything that reached the broker.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    EndTxn,
    InitProducerId,
    NoAnswer,
    OffsetFetch,
    Produce,
    Producer,
    Refused,
    Request,
    Stamped,
    TxnOffsetCommit,
)
from streamproc.log import Columns, Committed, Partition
from streamproc.testing.simulation.client import SimulatedClient
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.faults import CALM, ROUGH
from streamproc.testing.simulation.network import Effect
from streamproc.testing.simulation.process import Crash, Process
from streamproc.testing.simulation.virtual_time import VirtualClock, run
from tests.simulation.asking import NOBODY, PASSES, ask, read, settled
from tests.simulation.bench import NOW_MS

R = TypeVar("R")

NUMBERS = 40
SLOTS = ("a", "b")
OUT = [Partition("out", number) for number in range(3)]
GROUP = NOBODY._replace(group="g")
TIMEOUT_MS = 5_000
ANSWER_S = 2.0


class Doubt(Exception):
    """Whether the transaction was committed is not known."""


class Outcome(NamedTuple):
    """The numbers that each partition shows, in order, and what has reached the broker."""

    numbers: Mapping[Partition, list[tuple[str, int]]]
    effects: list[Effect]


async def insist(client: SimulatedClient, request: Request[R]) -> R:
    """The answer to something that may be asked as often as one likes."""
    while True:
        try:
            return await client.send(request, ANSWER_S)
        except Refused as error:
            if error.code not in (*PASSES, Code.UNSTABLE_OFFSET_COMMIT, Code.UNKNOWN_TOPIC_OR_PARTITION):
                raise
        except NoAnswer:
            pass
        await asyncio.sleep(0.05)


class Copier:
    """One process in a slot: it takes the slot's transactional id, and goes on from the slot's offset.

    guesses   the planted bug: what was not answered counts as not done
    """

    def __init__(self, client: SimulatedClient, slot: str, rng: random.Random, *, guesses: bool) -> None:
        self._client = client
        self._slot = slot
        self._source = Partition("in", SLOTS.index(slot))
        self._rng = rng
        self._guesses = guesses

    async def copy(self) -> None:
        """All numbers are copied. Raises Refused when another process has the slot."""
        producer = await insist(self._client, InitProducerId(self._slot, TIMEOUT_MS))
        position = await self._position()
        while position < NUMBERS:
            end = min(NUMBERS, position + self._rng.randint(1, 5))
            try:
                producer = await self._transaction(producer, range(position, end))
                position = end
            except (Refused, NoAnswer, Doubt):
                producer = await insist(self._client, InitProducerId(self._slot, TIMEOUT_MS, producer))
                if not self._guesses:
                    position = await self._position()

    async def _position(self) -> int:
        committed = await insist(self._client, OffsetFetch("g", [self._source]))
        return committed[self._source].offset if self._source in committed else 0

    async def _transaction(self, producer: Producer, numbers: range) -> Producer:
        waiting = {}
        for place, partition in enumerate(OUT):
            values: list[bytes | None] = [b"%s %d" % (self._slot.encode(), n) for n in numbers if n % len(OUT) == place]
            if values:
                columns = Columns([None] * len(values), values, [NOW_MS] * len(values))
                waiting[partition] = Stamped(self._client.pack(columns)[0], producer, 0)
        while waiting:
            answers = await self._client.send(Produce(self._slot, waiting), ANSWER_S)
            for partition, answer in answers.items():
                if answer.code == Code.NONE:
                    del waiting[partition]
                elif answer.code not in PASSES:
                    raise Refused(answer.code, f"records for {partition}")
            await asyncio.sleep(0.02 if waiting else 0)
        offsets = {self._source: Committed(numbers.stop, "")}
        while refused := await self._client.send(TxnOffsetCommit(self._slot, producer, GROUP, offsets), ANSWER_S):
            if refused[self._source] not in PASSES:
                raise Refused(refused[self._source], "the offset")
            await asyncio.sleep(0.02)
        return await self._end(producer)

    async def _end(self, producer: Producer) -> Producer:
        while True:
            try:
                return await self._client.send(EndTxn(self._slot, producer, commit=True), ANSWER_S)
            except NoAnswer as error:
                raise Doubt from error
            except Refused as error:
                if error.code not in PASSES:
                    raise
            await asyncio.sleep(0.02)


class Contest:
    """Slots, and the processes that come and go in them until all numbers of each are copied."""

    def __init__(self, seed: int, *, guesses: bool) -> None:
        self._rng = random.Random(seed)
        self._guesses = guesses
        self._names = 0
        self.cluster = SimulatedCluster(self._rng, VirtualClock(NOW_MS), ROUGH)

    async def outcome(self) -> Outcome:
        """Of the whole contest."""
        outside = self.cluster.client("outside")
        self.cluster.faults = CALM
        for topic in ("in", "out"):
            await ask(outside, CreateTopic(topic, 3, {}))
        self.cluster.faults = ROUGH
        await asyncio.gather(*map(self._fill, SLOTS))
        self.cluster.faults = CALM
        await asyncio.sleep(60)
        await settled(outside, *OUT)
        numbers = {}
        for partition in OUT:
            values = [(value or b"").decode().split() for value in await read(outside, partition)]
            numbers[partition] = [(slot, int(number)) for slot, number in values]
        return Outcome(numbers, self.cluster.effects)

    async def _fill(self, slot: str) -> None:
        lives = []
        while True:
            self._names += 1
            process = Process(f"{slot}{self._names}")
            copier = Copier(self.cluster.client(process.name, process), slot, self._rng, guesses=self._guesses)
            life = asyncio.create_task(copier.copy(), name=process.name)
            lives.append(life)
            self._plant(process)
            while not (life.done() or process.paused):
                await asyncio.wait([life], timeout=0.01)
            if life.done() and not isinstance(life.exception(), Crash | Refused):
                life.result()
                break
        await asyncio.gather(*lives, return_exceptions=True)

    def _plant(self, process: Process) -> None:
        """It crashes, or stands still longer than its successor needs, at one of its next calls; or lives on."""
        moment, kind = self._rng.randint(0, 60), self._rng.random()
        if kind < 0.4:
            process.happens[moment] = process.crash
        elif kind < 0.7:
            pause_s = self._rng.uniform(0.1, 20)
            process.happens[moment] = lambda: process.pause(pause_s)


def outcome(seed: int, *, guesses: bool = False) -> Outcome:
    """A function of the seed."""

    async def main() -> Outcome:
        return await Contest(seed, guesses=guesses).outcome()

    return run(main())


def digest(seed: int) -> str:
    """Of everything that reached the broker, and what it shows then."""
    return hashlib.sha256(repr(outcome(seed)).encode()).hexdigest()


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))
