"""A slot: the place of one process at a time, with what outlasts it: a name in the group and a disk."""

from __future__ import annotations

import asyncio

from streamproc.clock import Clock
from streamproc.state.memory import MemoryDisk
from streamproc.testing.simulation.process import Process
from streamproc.worker import Worker


class Slot:
    """A place for a worker's process.

    clock     the wall clock of its machine
    process   the one that runs in it, or did last
    life      what it does; None: nobody is in the slot
    leaving   it was asked to stop
    done      it has come to the end of the input
    """

    def __init__(self, name: str, disk: MemoryDisk, clock: Clock) -> None:
        self.name = name
        self.disk = disk
        self.clock = clock
        self.process = Process(name)
        self.life: asyncio.Task[None] | None = None
        self.leaving = False
        self.done = False
        self.worker: Worker | None = None

    @property
    def alive(self) -> bool:
        """Whether a process is in it."""
        return self.life is not None

    def __str__(self) -> str:
        if not self.alive:
            return f"{self.name}: nobody"
        if self.worker is None:
            return f"{self.name}: about to begin"
        tasks = self.worker.tasks.values()
        ended = sum(bool(task.ended_run) for task in tasks)
        return f"{self.name}: {len(tasks)} tasks, {ended} of them at the end; {len(self.worker.restoring)} being opened"
