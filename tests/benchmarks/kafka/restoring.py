"""How fast a lost store is brought back from its changelog."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple
from uuid import uuid4

from streamproc.clock import SystemClock
from streamproc.jobs import LoopJobs
from streamproc.log import Columns, Log, Partition
from streamproc.log_url import open_log
from streamproc.restore import Restoring, restore
from streamproc.settings import Settings
from streamproc.state.rocks import RocksDisk
from tests.benchmarks.kafka.goals import Goals, line
from tests.benchmarks.kafka.topics import create, delete_all

ROWS: Final = 400_000
AN_EPOCH: Final = 20_000
ROUNDS: Final = 3
GOAL: Final = 400_000
"""Rows a second of one core."""
WIDTHS: Final = (26, 14, 14, 14)


class Rate(NamedTuple):
    """Rows a second: of CPU time, all threads of RocksDB included, and of wall time."""

    cpu: float
    wall: float


async def report(broker: str, goals: Goals) -> None:
    """Measure and print."""
    print(f"Restore: {ROWS:,} rows of a changelog, written in transactions, into RocksDB; median of {ROUNDS}.\n")
    print(line(WIDTHS, ("", "rows/CPU s", "goal", "rows/s")))
    found = await rates(broker)
    cpu, wall = median(rate.cpu for rate in found), median(rate.wall for rate in found)
    goal = goals.at_least(f"restore: {cpu:,.0f} rows a CPU second", cpu, GOAL)
    print(line(WIDTHS, ("one partition", f"{cpu:,.0f}", goal, f"{wall:,.0f}")), flush=True)
    print()


async def rates(broker: str) -> list[Rate]:
    """Of one changelog partition, each time into an empty store."""
    run = f"bench-restore-{uuid4().hex[:6]}"
    await create(broker, {run: 1})
    log = await open_log(Settings(broker=f"kafka://{broker}"))
    try:
        await _fill(log, Partition(run, 0))
        return [await _rate(log, Partition(run, 0)) for _ in range(ROUNDS)]
    finally:
        await log.close()
        await delete_all(broker, run)


async def _fill(log: Log, changelog: Partition) -> None:
    """Rows as a running count has them, each of another key."""
    sink = await log.sink(None, changelog.topic)
    for start in range(0, ROWS, AN_EPOCH):
        numbers = range(start, start + AN_EPOCH)
        keys = [b"tallies/count\0%07d" % (number * 7_919 % ROWS) for number in numbers]
        sink.send(changelog, Columns([*keys], [b"\x01%c" % (number % 128) for number in numbers], [1] * AN_EPOCH))
        await sink.commit({})
    await sink.close()


async def _rate(log: Log, changelog: Partition) -> Rate:
    with tempfile.TemporaryDirectory() as folder:
        store = RocksDisk(Path(folder)).open("store")
        progress = Restoring(changelog, SystemClock())
        began, cpu_began = time.perf_counter(), time.process_time()
        await restore(store, log, progress, LoopJobs())
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        assert progress.records == ROWS, f"{progress.records} rows"
        store.close()
    return Rate(ROWS / cpu_s, ROWS / wall_s)
