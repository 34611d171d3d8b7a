"""How long a commit takes: records to all partitions of an output and of a changelog, offsets, one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import quantiles
from typing import Final, NamedTuple
from uuid import uuid4

from streamproc.log import Assigned, Columns, Committed, Log, Partition, Sink, Source, TaskInput
from streamproc.log_url import open_log
from streamproc.settings import Settings
from tests.benchmarks.kafka.goals import line
from tests.benchmarks.kafka.topics import create, delete_all

COMMITS: Final = 300
UNCOUNTED: Final = 20
"""At first: connections are made, the broker's code is compiled."""
RECORDS: Final = 10
"""To each partition."""
WIDTHS: Final = (26, 10, 10, 16)


class Latency(NamedTuple):
    """Of commits, in ms; the CPU time is that of the worker."""

    p50: float
    p99: float
    cpu: float


async def report(broker: str) -> None:
    """Measure and print."""
    print(f"A commit: {RECORDS} records to each partition of an output and of a changelog; {COMMITS} in a row.\n")
    print(line(WIDTHS, ("partitions", "p50 ms", "p99 ms", "CPU ms a commit")))
    for partitions in (4, 16):
        found = await latency(broker, partitions)
        print(line(WIDTHS, (partitions, *(f"{figure:.1f}" for figure in found))), flush=True)
    print()


async def latency(broker: str, partitions: int) -> Latency:
    """Of an otherwise idle worker that owns a task a partition."""
    run = f"bench-commits-{uuid4().hex[:6]}"
    names = [f"{run}-{what}" for what in ("source", "results", "changelog")]
    await create(broker, dict.fromkeys(names, partitions))
    log = await open_log(Settings(broker=f"kafka://{broker}"))
    try:
        return await _of_worker(log, run, names, partitions)
    finally:
        await log.close()
        await delete_all(broker, run)


async def _of_worker(log: Log, group: str, names: Sequence[str], partitions: int) -> Latency:
    read, *written = ([Partition(name, number) for number in range(partitions)] for name in names)
    source = await log.source(group, "worker", [TaskInput("stage", p.number, (p,)) for p in read])
    sink = await log.sink(source, "worker")
    await _assigned(source)
    times, cpu = [], 0.0
    columns = Columns([b"key"] * RECORDS, [b"value" * 10] * RECORDS, [1] * RECORDS)
    for number in range(COMMITS + UNCOUNTED):
        for partition in (p for topic in written for p in topic):
            sink.send(partition, columns)
        taken, cpu_taken = await _timed(sink, {partition: Committed(number, "{}") for partition in read})
        if number >= UNCOUNTED:
            times.append(taken)
            cpu += cpu_taken
    await source.leave()
    await sink.close()
    cuts = quantiles(times, n=100)
    return Latency(1_000 * cuts[49], 1_000 * cuts[98], 1_000 * cpu / COMMITS)


async def _assigned(source: Source) -> None:
    while True:
        if any(isinstance(event, Assigned) for event in await source.poll([], 1_000)):
            return


async def _timed(sink: Sink, offsets: dict[Partition, Committed]) -> tuple[float, float]:
    began, cpu_began = time.perf_counter(), time.process_time()
    await sink.commit(offsets)
    return time.perf_counter() - began, time.process_time() - cpu_began
