"""Trouble: what the weather does to the processes of an app, one event after the other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final

from streamproc.testing.simulation import faults
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.processes import Processes
from streamproc.testing.simulation.slot import Slot
from streamproc.testing.simulation.weather import Weather

RESTARTED: Final = 0.7
"""Chance that a process comes in the place of one that was killed; else somebody may come later."""
_AT_STAKE: Final = ("TxnOffsetCommit", "EndTxn", "EndTxn", "store.write", "OffsetFetch", "JoinGroup", "SyncGroup")
_RESTART_S: Final = (0.0, 0.0, 0.5, 5.0)


class Trouble:
    """The events of one run. `most` workers live at a time, and one more."""

    def __init__(
        self, processes: Processes, cluster: SimulatedCluster, weather: Weather, rng: random.Random, *, most: int
    ) -> None:
        self._processes = processes
        self._cluster = cluster
        self._weather = weather
        self._rng = rng
        self._most = most
        self._lasts = False

    async def last(self, seconds: float) -> None:
        """One event after the other, for so long."""
        weather, rng = self._weather, self._rng
        if not seconds:
            return
        self._cluster.faults, self._lasts = weather.faults, True
        self._cluster.witness("weather", f"trouble for {seconds:g} s", None)
        asyncio.get_running_loop().call_later(seconds, self.end)
        events = (self._crash, self._crash, self._pause, self._join, self._join, self._leave, self._cluster.clean)
        while True:
            await asyncio.sleep(rng.uniform(*weather.every_s))
            if not self._lasts:
                return
            rng.choice(events)()

    def end(self) -> None:
        """It is calm again."""
        if self._lasts:
            self._cluster.faults, self._lasts = faults.CALM, False
            self._cluster.witness("weather", "it is calm", None)

    def bury(self, slot: Slot) -> None:
        """Nobody is in the slot any more; mostly, a process comes in its place."""
        if self._lasts and self._rng.random() < RESTARTED:
            asyncio.get_running_loop().call_later(self._rng.choice(_RESTART_S), self._come_back, slot)

    def _come_back(self, slot: Slot) -> None:
        if self._lasts and not slot.alive:
            self._processes.start(slot)

    def _crash(self) -> None:
        slot, rng = self._some(), self._rng
        if slot is None:
            return
        self._happens(slot, partial(self._processes.kill, slot, slot.process, wiped=rng.random() < self._weather.wiped))

    def _pause(self) -> None:
        slot, rng = self._some(), self._rng
        if slot is None:
            return
        self._happens(slot, partial(self._processes.pause, slot, slot.process, rng.uniform(*self._weather.pause_s)))

    def _happens(self, slot: Slot, what: Callable[[], None]) -> None:
        """Now, at one of the next calls of the process, or at the next of those at which most is at stake."""
        rng, process = self._rng, slot.process
        if rng.random() >= self._weather.at_a_call:
            what()
        elif rng.random() < 0.5:
            process.happens[process.now + rng.randint(0, rng.choice((3, 20, 100)))] = what
        else:
            process.at_next[rng.choice(_AT_STAKE)] = rng.randint(0, 1), what

    def _join(self) -> None:
        processes, rng = self._processes, self._rng
        gone = [slot for slot in processes.slots if not slot.alive]
        if gone and rng.random() < 0.8:
            processes.start(rng.choice(gone))
        elif len(processes.alive) <= self._most:
            processes.start(processes.new_slot())

    def _leave(self) -> None:
        slot = self._some()
        if slot is not None and len(self._processes.alive) > 1:
            self._processes.leave(slot)

    def _some(self) -> Slot | None:
        alive = self._processes.alive
        return self._rng.choice(alive) if alive else None
