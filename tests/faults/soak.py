"""`trend` again and again, with what happens to workers: python -m tests.faults.soak MINUTES [RECORDS] [SEED].

Each run is of one, two or three processes; every few seconds one is killed, paused, stopped, or another one joins. Then
each window is compared with what a brute-force computation gives. A line a run, and one for all; the first run that is
wrong ends the soak, with exit code 1, and leaves what its processes said.
"""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.benchmarks.kafka.check import Found, Row, compare, expected_rows
from tests.benchmarks.kafka.load import load
from tests.benchmarks.kafka.names import Names
from tests.benchmarks.kafka.topics import delete_all, read
from tests.faults.worker_process import WorkerProcess
from tests.kafka.server import KafkaServer

TARGET: Final = "tests.benchmarks.kafka.apps:trend"
SETTINGS: Final = {"session_timeout": "5s", "fetch_bytes": "262144"}
WORKERS: Final = (1, 2, 3)
MOST: Final = 5
EVERY_S: Final = (0.5, 3.0)
"""Between two of what happens."""
PAUSE_S: Final = (0.3, 8.0)
"""A session is over within it, or is not."""
DISK_LOST: Final = 0.2
STUCK_S: Final = 180.0
"""A run takes a few seconds."""


class Troubled:
    """A run of the app, and what happens to its workers: `happened`, by kind."""

    def __init__(self, rng: random.Random, folder: Path, names: Names) -> None:
        self.happened = Counter[str]()
        self._rng, self._folder, self._names = rng, folder, names
        self._living: dict[str, WorkerProcess] = {}
        self._all: list[WorkerProcess] = []

    async def run(self, workers: int) -> None:
        """From the first worker's start until all that live have ended by themselves."""
        give_up = time.monotonic() + STUCK_S
        try:
            for _ in range(workers):
                self._join()
            while not self._over():
                await asyncio.sleep(self._rng.uniform(*EVERY_S))
                if not self._over():
                    await self._trouble()
                assert time.monotonic() < give_up, "the run does not end"
            for worker in self._living.values():
                code = await worker.ended(STUCK_S)
                assert code == 0, f"{worker.name} ended with {code}"
            for worker in self._all:
                assert "Traceback" not in worker.words, f"{worker.name} met an error"
        finally:
            for worker in self._all:
                worker.kill()

    def _over(self) -> bool:
        return any(not worker.running for worker in self._living.values())

    async def _trouble(self) -> None:
        troubles: list[Callable[[], Awaitable[None]]] = [self._kill, self._kill, self._pause, self._leave, self._come]
        await self._rng.choice(troubles)()

    async def _kill(self) -> None:
        machine = self._rng.choice(sorted(self._living))
        self._living[machine].kill()
        self.happened["kill"] += 1
        disk = self._folder / machine
        if self._rng.random() < DISK_LOST and disk.exists():
            shutil.rmtree(disk)
            self.happened["disk lost"] += 1
        await asyncio.sleep(self._rng.choice((0, 0, 7)))  # at once, or when its session is over
        self._start(machine)

    async def _pause(self) -> None:
        worker = self._living[self._rng.choice(sorted(self._living))]
        self.happened["pause"] += 1
        worker.pause()
        await asyncio.sleep(self._rng.uniform(*PAUSE_S))
        worker.go_on()

    async def _leave(self) -> None:
        if len(self._living) == 1:
            return
        worker = self._living.pop(self._rng.choice(sorted(self._living)))
        self.happened["leave"] += 1
        worker.signal(signal.SIGTERM)
        code = await worker.ended(STUCK_S)
        assert code in (0, -signal.SIGTERM), f"{worker.name} ended with {code}"

    async def _come(self) -> None:
        if len(self._living) < MOST:
            self._join()
            self.happened["join"] += 1

    def _join(self) -> None:
        self._start(next(name for name in "abcdefgh" if name not in self._living))

    def _start(self, machine: str) -> None:
        worker = WorkerProcess(
            self._folder,
            f"{len(self._all) + 1}-{machine}",
            TARGET,
            ["--until-end", "--state-dir", machine],
            settings={"broker": f"kafka://{self._names.broker}", **SETTINGS},
            told=self._names.environment(),
        )
        self._living[machine] = worker
        self._all.append(worker)


async def one_run(
    rng: random.Random, broker: str, records: int, workers: int, expected: Counter[Row]
) -> tuple[int, Counter[str]]:
    """How many windows it wrote, all of them right, and what happened to its workers.

    Raises AssertionError, which says where the processes' words are, when it is wrong.
    """
    names = Names("trend", broker, records, uuid4().hex[:6])
    folder = Path(tempfile.mkdtemp(prefix="streamproc-soak-"))
    troubled = Troubled(rng, folder, names)
    try:
        await troubled.run(workers)
        windows = await judged(names, expected)
    except AssertionError as error:
        raise AssertionError(f"{_said(troubled.happened)}: {error}. What was said is in {folder}") from error
    shutil.rmtree(folder)
    await delete_all(broker, names.group)
    return windows, troubled.happened


async def judged(names: Names, expected: Counter[Row]) -> int:
    """How many windows the run has written, each of which is as it must be; raises AssertionError."""
    found = compare(expected, [row for partition in await read(names.broker, names.results) for row in partition])
    assert found == Found(expected.total(), 0, 0), f"{found.missing} windows are missing, {found.extra} are extra"
    return found.right


def _said(happened: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(happened.items())) or "nothing happened"


async def soak(broker: str, minutes: float, records: int, seed: int) -> None:
    """Run after run, until the time is over."""
    await load(broker, records)
    source = await read(broker, Names("trend", broker, records, "").source)
    expected = expected_rows("trend", source, until_end=True)
    rng = random.Random(seed)
    until, number, all_happened = time.monotonic() + 60 * minutes, 0, Counter[str]()
    while (began := time.monotonic()) < until:
        workers = WORKERS[number % len(WORKERS)]
        number += 1
        windows, happened = await one_run(rng, broker, records, workers, expected)
        all_happened += happened
        took = f"{time.monotonic() - began:5.1f} s"
        print(f"{number:4}  {workers} at first  {took}  {windows:,} windows right  {_said(happened)}", flush=True)
    print(f"{number} runs of {records:,} records, all of them right: {_said(all_happened)}")


def main() -> None:
    """The command line."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10
    records = int(sys.argv[2]) if len(sys.argv) > 2 else 500_000
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    with KafkaServer() as server:
        try:
            asyncio.run(soak(server.bootstrap, minutes, records, seed))
        except AssertionError as error:
            sys.exit(f"wrong: {error}")


if __name__ == "__main__":
    main()
