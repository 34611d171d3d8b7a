"""An even pace, far below what a worker can do: how late results are, and what epochs cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from statistics import quantiles
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from streamproc.internal_topic import count_rows
from streamproc.log import Partition
from tests.benchmarks.inputs import PARTITIONS
from tests.benchmarks.kafka.feeding import RATE
from tests.benchmarks.kafka.goals import line
from tests.benchmarks.kafka.measure import usage
from tests.benchmarks.kafka.processes import Scene, scene

SECONDS: Final = 10.0
WARM_S: Final = 2.0
READ_RECORDS: Final = 10_000
LATENCY_WIDTHS: Final = (26, 10, 10, 10, 18)
COST_WIDTHS: Final = (26, 10, 10, 10, 10, 18)


class Delay(NamedTuple):
    """From a record's being sent to its result's being read, committed; in ms."""

    p50: float
    p99: float
    worst: float


async def report(broker: str) -> None:
    """Measure and print."""
    print(f"Job count at {RATE:,} records a second, {SECONDS:g} s: from a record's sending to its committed result.\n")
    print(line(LATENCY_WIDTHS, ("epochs of", "p50 ms", "p99 ms", "worst ms", "CPU ms a second")))
    for epoch in ("200ms", "50ms"):
        delay, cpu = await delays(broker, epoch)
        figures = (*(f"{figure:.0f}" for figure in delay), f"{1_000 * cpu:.0f}")
        print(line(LATENCY_WIDTHS, (epoch, *figures)), flush=True)
    print(f"\nJob trend at {RATE:,} records a second: what stands in its repartition topic, a second.\n")
    print(line(COST_WIDTHS, ("epochs of", "epochs", "rows", "marks", "markers", "CPU ms a second")))
    for epoch in ("200ms", "1s"):
        found = await costs(broker, epoch)
        print(line(COST_WIDTHS, (epoch, *(f"{figure:.1f}" for figure in found))), flush=True)
    print()


async def delays(broker: str, epoch: str) -> tuple[Delay, float]:
    """The delays of results, and the CPU time of the worker, in seconds a second."""
    async with scene(broker, "count") as app:
        worker = app.start("--epoch-interval", epoch)
        await app.until_all_work(worker)
        async with AIOKafkaConsumer(
            bootstrap_servers=broker, isolation_level="read_committed", auto_offset_reset="latest"
        ) as consumer:
            consumer.assign([TopicPartition(app.names.results, number) for number in range(PARTITIONS)])
            await _read(consumer, WARM_S)
            cpu_began, _ = usage(worker.pid)
            found = await _read(consumer, SECONDS)
            cpu = usage(worker.pid)[0] - cpu_began
    cuts = quantiles(found, n=100)
    return Delay(cuts[49], cuts[98], max(found)), cpu / SECONDS


async def _read(consumer: AIOKafkaConsumer, for_s: float) -> list[float]:
    """How late each record is."""
    until = time.monotonic() + for_s
    found: list[float] = []
    while time.monotonic() < until:
        records = [r for some in (await consumer.getmany(timeout_ms=50)).values() for r in some]
        now_ms = time.time() * 1_000
        found += [now_ms - record.timestamp for record in records]
    return found


class Costs(NamedTuple):
    """What a second of a re-keyed job at an even pace writes, and its CPU time in ms."""

    epochs: float
    rows: float
    marks: float
    markers: float
    cpu_ms: float


async def costs(broker: str, epoch: str) -> Costs:
    """Of one worker."""
    async with scene(broker, "trend") as app:
        worker = app.start("--epoch-interval", epoch)
        await app.until_all_work(worker)
        await asyncio.sleep(WARM_S)
        topic = f"{app.names.group}-trends-key_by-repartition"
        partitions = [Partition(topic, number) for number in range(PARTITIONS)]
        epochs, begin, (cpu_began, _) = await _epochs(app), await app.log.ends(partitions), usage(worker.pid)
        began = time.monotonic()
        await asyncio.sleep(SECONDS)
        cpu = usage(worker.pid)[0] - cpu_began
        end, epochs = await app.log.ends(partitions), await _epochs(app) - epochs
        seconds = time.monotonic() - began
        rows, records = await _count(app, begin, end)
        offsets = sum(end.values()) - sum(begin.values())
    per_s = (figure / seconds for figure in (epochs, rows, records - rows, offsets - records, 1_000 * cpu))
    return Costs(*per_s)


async def _epochs(app: Scene) -> int:
    return max(commit.epoch for commit in (await app.commits()).values())


async def _count(app: Scene, begin: Mapping[Partition, int], end: Mapping[Partition, int]) -> tuple[int, int]:
    """Rows and records; what is neither is a transaction's marker."""
    rows = records = 0
    for partition, position in begin.items():
        at = position
        while at < end[partition]:
            chunk = await app.log.read(partition, at, min(READ_RECORDS, end[partition] - at))
            inside: Collection[int] = [offset for offset in chunk.offsets if offset < end[partition]]
            rows += count_rows(chunk.columns.cut(0, len(inside)))
            records += len(inside)
            at = chunk.next_offset
    return rows, records
