"""The processes of an app: workers that start, are killed, stand still, and end, each in a slot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from streamproc.app import App
from streamproc.kafka.calls import PASSING
from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.requests import Cluster, NoAnswer, Refused
from streamproc.kafka.timing import timing_of
from streamproc.launch import Launch, end_of_input, prepare
from streamproc.log import GroupFailed, Replaced
from streamproc.state.memory import MemoryDisk
from streamproc.testing.simulation.cluster import SimulatedCluster
from streamproc.testing.simulation.disks import ProcessDisk
from streamproc.testing.simulation.history import History
from streamproc.testing.simulation.process import Process
from streamproc.testing.simulation.slot import Slot
from streamproc.testing.simulation.virtual_time import VirtualClock
from streamproc.testing.simulation.weather import Weather
from streamproc.worker import Worker

POLL_MS: Final = 200


class Processes:
    """The workers of one app on a simulated cluster.

    slots           all that there ever were; their machines' clocks show about `start_ms` at first
    until_end       what starts runs to the end of the input as it is then; else until it is asked to stop
    door            what stands between a process and its client of the cluster: nothing, unless a test meddles
    on_start        called with each slot in which a process begins, before it does anything
    on_gone         called with each slot whose process was killed, or has ended by what passes
    launch          the app on the cluster, as the process that came last has found it
    late, skipped   records by step, as workers counted them; of those that were killed, nothing
    """

    def __init__(
        self, app: App, cluster: SimulatedCluster, history: History, rng: random.Random, weather: Weather, start_ms: int
    ) -> None:
        self.slots: list[Slot] = []
        self.until_end = True
        self.door: Callable[[Slot, Cluster], Cluster] = lambda slot, client: client
        self.on_start: Callable[[Slot], None] = _nothing
        self.on_gone: Callable[[Slot], None] = _nothing
        self.launch: Launch | None = None
        self.late: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self._app = app
        self._settings = app.settings({}, {})
        self._cluster = cluster
        self._start_ms = start_ms
        self._history = history
        self._rng = rng
        self._weather = weather
        self._machine = MemoryDisk(undo_writes=weather.lost_writes)
        self._failures: list[BaseException] = []

    @property
    def alive(self) -> list[Slot]:
        """The slots with a process in them."""
        return [slot for slot in self.slots if slot.alive]

    def begin(self, *, until_end: bool) -> None:
        """Another run begins: what starts from here on is of it."""
        self.until_end = until_end
        self._failures.clear()
        for slot in self.slots:
            slot.done = False

    def check(self) -> None:
        """Raise what has ended a process that should not have ended, rather than what the others were told of it."""
        told = [error for error in self._failures if isinstance(error, GroupFailed)]
        if len(told) < len(self._failures):
            raise next(error for error in self._failures if error not in told)
        if told and not self.alive:
            raise told[0]

    def new_slot(self) -> Slot:
        """Another place, on the one machine or on one of its own."""
        lost = self._weather.lost_writes
        disk = self._machine.beside() if self._weather.one_disk else MemoryDisk(undo_writes=lost)
        skew_ms = round(1_000 * self._rng.uniform(-1, 1) * self._weather.skew_s)
        slot = Slot(f"slot-{len(self.slots)}", disk, VirtualClock(self._start_ms + skew_ms))
        self.slots.append(slot)
        return slot

    # ------------------------------------------------------------------------------------ what befalls one

    def start(self, slot: Slot) -> None:
        """A process begins in a slot that has none."""
        self._history.note(slot.name, "starts")
        process = slot.process = Process(slot.name)
        slot.leaving, slot.done, slot.worker = False, False, None
        slot.life = asyncio.create_task(self._live(slot, process), name=slot.name)
        slot.life.add_done_callback(partial(self._ended, slot))
        self.on_start(slot)

    def kill(self, slot: Slot, process: Process | None = None, *, wiped: bool = False) -> None:
        """SIGKILL to the process in a slot, or to this one if it is there still; `wiped`: the disk goes with it."""
        if slot.life is None or process not in (None, slot.process):
            return
        self._history.note(slot.name, "is killed" + (", its disk lost" if wiped else ""))
        slot.process.kill()
        slot.life.cancel()
        slot.disk.crash(lost_writes=0 if wiped else self._rng.randint(0, self._weather.lost_writes))
        if wiped:
            slot.disk.burn()

    def pause(self, slot: Slot, process: Process, seconds: float) -> None:
        """SIGSTOP to a process, if it is there still, and SIGCONT after so long."""
        if slot.life is not None and process is slot.process:
            self._history.note(slot.name, f"stands still for {seconds:.3f} s")
            process.pause(seconds)

    def leave(self, slot: Slot) -> None:
        """The process in a slot is asked to stop."""
        if not slot.leaving:
            self._history.note(slot.name, "is asked to stop")
            slot.leaving = True

    # ------------------------------------------------------------------------------------ what one does

    async def _live(self, slot: Slot, process: Process) -> None:
        client = self.door(slot, self._cluster.client(slot.name, process))
        log = KafkaLog(client, timing_of(self._settings), fetch_bytes=self._settings.fetch_bytes)
        launch = self.launch = await prepare(self._app, log)
        worker = slot.worker = Worker(
            launch.plan,
            launch.topology,
            log,
            ProcessDisk(slot.disk, process),
            self._app.codec(),
            settings=self._settings,
            clock=slot.clock,
            member=slot.name,
            partitions_of=launch.partitions_of,
            end=await end_of_input(launch, log) if self.until_end else None,
        )
        await worker.start()
        try:
            while not (slot.leaving or (self.until_end and worker.done)):
                await worker.turn(POLL_MS)
            slot.done = not slot.leaving
            await worker.stop()
        except Exception:
            await worker.abandon()
            raise
        finally:
            _count(self.late, worker.late)
            _count(self.skipped, worker.skipped)

    def _ended(self, slot: Slot, life: asyncio.Task[None]) -> None:
        """The process is gone, and all that went on in it: killed, by an error, or as it should."""
        killed = slot.process.dead
        slot.process.kill()
        slot.life = None
        error = None if life.cancelled() else life.exception()
        if not killed:
            self._history.note(slot.name, "ends" if error is None else f"ends: {type(error).__name__}: {error}")
            slot.disk.crash()  # what it had open is not locked any more
        if killed or (error is not None and _passes(error)):
            self.on_gone(slot)
        elif error is not None:
            self._failures.append(error)


def _passes(error: BaseException) -> bool:
    """Whether who ends by it is started again.

    A late request of the slot's last process has replaced it, or nobody has answered for longer than it is patient,
    perhaps because it stood still itself.
    """
    return isinstance(error, Replaced | NoAnswer) or (isinstance(error, Refused) and error.code in PASSING)


def _count(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _nothing(slot: Slot) -> None:
    """Nobody wants to know."""
