"""A scene: an app on a broker, its processes, what they read, and what they must have written in the end."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.log import Partition
from streamproc.log_url import open_log
from streamproc.murmur2 import partition_of
from streamproc.runner import run
from streamproc.settings import Settings, load_settings
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop
from tests.faults.app import OUTPUTS, PACED, Run, app_of
from tests.faults.inputs import one_of_each
from tests.faults.oracle import Given, differences, expected
from tests.faults.topics import read, rows_of, write
from tests.faults.worker_process import PATIENCE_S, WorkerProcess

TARGET: Final = "tests.faults.app:app"
FOREVER: Final = {"retention.ms": "-1"}

SETTINGS: Final[Mapping[str, str]] = {
    # many epochs, and small ones
    "epoch_interval": "50ms",
    "epoch_records": "200",
    "fetch_bytes": "4096",
    # no scene waits for what a large cluster is given time for
    "session_timeout": "3s",
    "heartbeat": "100ms",
    "rebalance_timeout": "6s",
    "transaction_timeout": "3s",
    "request_timeout": "1s",
}


class Scene:
    """Topics and an app of this scene alone, and any number of workers on any number of machines.

    `broker` is where the workers look for Kafka, through a proxy perhaps; `direct` where the scene itself does.
    A machine is a state directory: a worker started there takes the first free slot.
    """

    def __init__(
        self, folder: Path, direct: str, *, partitions: int = 4, outputs: tuple[str, ...] = OUTPUTS, **settings: str
    ) -> None:
        self.folder = folder
        self.direct = self.broker = direct
        self.run = Run(uuid4().hex[:8], outputs)
        self.settings: dict[str, str] = {**SETTINGS, **settings}
        self.source: list[list[Given]] = [[] for _ in range(partitions)]
        self._homes: dict[str, int] = {}
        self.workers: list[WorkerProcess] = []
        self.log: KafkaLog

    async def __aenter__(self) -> Self:
        log = await open_log(Settings(broker=f"kafka://{self.direct}"))
        assert isinstance(log, KafkaLog)
        self.log = log
        (self.folder / PACED).touch()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        await self.log.close()
        for worker in self.workers:  # pytest shows it where the test has failed
            print(f"--- {worker.name} ended with {worker.process.returncode} and said:\n{worker.words}")

    # ------------------------------------------------------------------------------------ what is read

    def topic(self, what: str) -> str:
        return self.run.topic(what)

    async def fill(self, given: Iterable[Given]) -> None:
        """More of the input; each user's visits go to one partition."""
        parts: list[list[Given]] = [[] for _ in self.source]
        for one in given:
            home = self._homes.setdefault(one.user, partition_of(one.user.encode(), len(parts)))
            parts[home].append(one)
        await self.add(parts)

    async def add(self, parts: Sequence[Sequence[Given]]) -> None:
        """More of the input, by partition."""
        await self.log.create(self.topic("visits"), partitions=len(self.source), config=FOREVER)
        await write(self.direct, self.topic("visits"), parts)
        for partition, more in zip(self.source, parts, strict=True):
            partition.extend(more)

    @property
    def records(self) -> int:
        return sum(map(len, self.source))

    # ------------------------------------------------------------------------------------ who reads it

    def worker(self, machine: str = "a", *, until_end: bool = True, **settings: str) -> WorkerProcess:
        """A process, just started."""
        worker = WorkerProcess(
            self.folder,
            f"worker-{len(self.workers)}-{machine}",
            TARGET,
            ["--state-dir", machine, *(["--until-end"] if until_end else [])],
            settings={"broker": f"kafka://{self.broker}", **self.settings, **settings},
            told=self.run.environment,
        )
        self.workers.append(worker)
        return worker

    async def sharing(self, *machines: str, **settings: str) -> list[WorkerProcess]:
        """Workers of these machines that share the tasks and are in the midst of it."""
        workers = [self.worker(machine, until_end=True, **settings) for machine in machines]
        tasks = 2 * len(self.source)
        for worker in workers:
            await worker.works_on({tasks // len(workers), -(-tasks // len(workers))})
        await self.more_read()
        await self.midway()
        return workers

    def lose_disk(self, machine: str, *, slots: bool = True) -> None:
        """What a machine kept is gone, its name in the group too, if that is not spared."""
        place = self.folder / machine / self.run.group
        for found in place.iterdir() if place.exists() else ():
            if slots or found.name != "@slots":
                shutil.rmtree(found)

    async def read_so_far(self) -> int:
        """How many records of the input the group is through with."""
        committed = await self.log.committed(self.run.group)
        return sum(at.offset for partition, at in committed.items() if partition.topic == self.topic("visits"))

    async def reached(self, share: float, within_s: float = PATIENCE_S) -> None:
        """So much of the input, 0 to 1, is read and committed; 0: anything is."""
        await self.until(
            lambda: self.has_read(max(1, int(share * self.records))), f"{share:.0%} of the input read", within_s
        )

    async def more_read(self, within_s: float = PATIENCE_S) -> None:
        """Something more is read and committed than now, or nothing is left."""
        target = min(self.records, await self.read_so_far() + 1)
        await self.until(lambda: self.has_read(target), "anything more read", within_s)

    async def midway(self) -> None:
        """There is something left to read: what happens now, happens in the midst of it."""
        assert await self.read_so_far() < self.records, "the run is over before anything has happened to it"

    async def has_read(self, records: int) -> bool:
        """Whether the group is through with so many records of the input; an error when nobody is left to read them."""
        alive = any(worker.running for worker in self.workers)
        found = await self.read_so_far() >= records
        assert found or alive, "all workers have ended before"
        return found

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, within_s: float = PATIENCE_S) -> None:
        give_up = time.monotonic() + within_s
        while not await condition():
            assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
            await asyncio.sleep(0.01)

    async def ended(self, *workers: WorkerProcess, within_s: float = PATIENCE_S) -> None:
        """These have read to the end and left by themselves, with exit code 0."""
        for worker in workers:
            code = await worker.ended(within_s)
            assert code == 0, f"{worker.name} ended with {code}: {worker.words}"
            assert "Traceback" not in worker.words, worker.words

    # ------------------------------------------------------------------------------------ what came of it

    async def finished(self, *workers: WorkerProcess) -> None:
        """What is left is read at full speed; these end by themselves, and all that was written is right."""
        (self.folder / PACED).unlink()
        await self.ended(*workers)
        await self.check()

    async def check(self) -> None:
        """What is visible is what the oracle says: every row, once, in the order of its key.

        And so is the state, as the changelogs have it: a worker without a disk goes on from there.
        """
        await self.settled()
        wrong = await self.wrong()
        assert not wrong, "\n".join(("what was written:", *wrong))
        await self.fill(one_of_each(self.records, [given for part in self.source for given in part]))
        await self.probe()
        wrong = await self.wrong()
        assert not wrong, "\n".join(("what was written from the state that the changelogs have:", *wrong))

    async def probe(self) -> None:
        """A worker without a disk, in this process, reads to the end."""
        settings = load_settings({}, {}, {**self.settings, "broker": f"kafka://{self.direct}"})
        log = await open_log(settings)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await run(app_of(self.run), log, MemoryDisk(), settings, stop=Stop(), until_end=True, member="probe")
        finally:
            await log.close()

    async def settled(self) -> None:
        """No transaction is open in any of the outputs, and none stays so for long."""
        partitions = [
            Partition(self.topic(name), number)
            for name in self.run.outputs
            for number in range((await self.log.topics())[self.topic(name)].partitions)
        ]

        async def done() -> bool:
            return await self.log.bounds("stable", partitions) == await self.log.ends(partitions)

        await self.until(done, "no open transaction in the outputs")

    async def wrong(self) -> list[str]:
        """How the outputs differ from what they should be."""
        topics = await self.log.topics()
        found = {
            name: rows_of(await read(self.direct, self.topic(name), topics[self.topic(name)].partitions))
            for name in self.run.outputs
        }
        return differences(expected(self.source, self.run.outputs), found)

    async def members(self) -> list[str]:
        """Who is in the group now."""
        return sorted(member.name for member in (await self.log.group(self.run.group)).members)
