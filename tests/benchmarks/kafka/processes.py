"""Processes of the engine that read a live source, and what is seen of them from outside."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from msgspec import json

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.log import Partition
from streamproc.log_url import open_log
from streamproc.settings import Settings
from streamproc.slot import SlotView, seen_slots
from tests.benchmarks.kafka.feeding import feeding
from tests.benchmarks.kafka.names import LIVE, Names
from tests.benchmarks.kafka.programs import environment
from tests.benchmarks.kafka.topics import KEEP, delete_all

LOOK_S: Final = 0.005
PATIENCE_S: Final = 60.0


class Commit(NamedTuple):
    """Who committed a partition's position last: the member's name, and the number of its epoch in this life."""

    member: str
    epoch: int


class Scene:
    """The app of a job, its live source, and its processes; all of them share a state directory."""

    def __init__(self, names: Names, log: KafkaLog, folder: Path) -> None:
        self.names = names
        self.log = log
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, command: str = "worker") -> subprocess.Popen[bytes]:
        """`streamproc worker` or `run`; what it says goes to a file."""
        target = f"tests.benchmarks.kafka.apps:{self.names.job}"
        with self._words(len(self._processes)).open("wb") as words:
            process = subprocess.Popen(
                (sys.executable, "-m", "streamproc", command, target, *arguments),
                env=environment(self.names, self._folder / "state"),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        self._processes.append(process)
        return process

    def slots(self) -> list[SlotView]:
        """The places of its workers, with the processes that hold them."""
        return seen_slots(self._folder / "state" / self.names.group)

    def name_of(self, process: subprocess.Popen[bytes]) -> str | None:
        """What a worker is called in the group, once it holds a slot."""
        return next((slot.name for slot in self.slots() if slot.pid == process.pid), None)

    async def commits(self) -> Mapping[Partition, Commit]:
        """The last of each partition."""
        committed = await self.log.committed(self.names.group)
        tokens = {partition: json.decode(at.metadata) for partition, at in committed.items()}
        return {partition: Commit(token["member"], token["epoch"]) for partition, token in tokens.items()}

    async def until(self, seen: Callable[[Mapping[Partition, Commit]], bool], what: str) -> float:
        """The instant (monotonic) at which the commits are seen to be so."""
        give_up = time.monotonic() + PATIENCE_S
        while not seen(await self.commits()):
            if time.monotonic() > give_up or all(process.poll() is not None for process in self._processes):
                said = "\n".join(self._words(number).read_text() for number in range(len(self._processes)))
                raise TimeoutError(f"not seen: {what}\n{said}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic()

    async def until_all_work(self, *processes: subprocess.Popen[bytes]) -> None:
        """Each of these workers has committed what the present sharing-out gave it."""

        def seen(commits: Mapping[Partition, Commit]) -> bool:
            return {commit.member for commit in commits.values()} == {self.name_of(p) for p in processes}

        await self.until(seen, f"commits of {len(processes)} workers")

    def end(self) -> None:
        """None of its processes runs."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _words(self, number: int) -> Path:
        return self._folder / f"words-{number}"


@asynccontextmanager
async def scene(broker: str, job: str) -> AsyncIterator[Scene]:
    """A job on topics of its own, whose source is written to."""
    names = Names(job, broker, LIVE, uuid4().hex[:6])
    log = await open_log(Settings(broker=f"kafka://{broker}"))
    assert isinstance(log, KafkaLog)
    for name, partitions in names.topics.items():
        await log.create(name, partitions=partitions, config=KEEP)
    folder = Path(tempfile.mkdtemp(prefix="streamproc-bench-"))
    made = Scene(names, log, folder)
    try:
        async with feeding(names):
            try:
                yield made
            finally:
                await asyncio.to_thread(made.end)
    finally:
        await log.close()
        shutil.rmtree(folder)
        await delete_all(broker, names.group)
