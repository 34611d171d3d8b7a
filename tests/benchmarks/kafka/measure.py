"""What a program costs that works through a topic: its processes' CPU time and memory, and how long it takes."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from tests.benchmarks.kafka.topics import administering

LOOK_SECONDS = 0.2
STOP_SECONDS = 20


class Cost(NamedTuple):
    """Of all processes of a program, from its start until it has committed the end of its inputs."""

    cpu_s: float
    """User and system time."""
    wall_s: float
    rss_mb: float
    """The sum of the processes' peaks."""


async def measure(
    command: Sequence[str],
    *,
    broker: str,
    group: str,
    sources: Sequence[str],
    markers: int,
    environment: Mapping[str, str],
    words: Path,
    timeout_s: float = 600,
) -> Cost:
    """Start a program, and end it (SIGTERM) when its group has committed the end of all topics that it reads.

    These are `sources`, and whatever else the group commits positions of; there `markers` offsets may be left, for what
    ends a transaction is no record. What the program says goes to the file `words`.
    Raises RuntimeError when the program ends by itself, and TimeoutError.
    """
    with words.open("wb") as said:
        program = subprocess.Popen(  # noqa: ASYNC220  # is quick
            command, env=environment, stdout=said, stderr=said, start_new_session=True
        )
    began = time.monotonic()
    try:
        async with (
            asyncio.timeout(timeout_s),
            administering(broker) as admin,
            AIOKafkaConsumer(bootstrap_servers=broker) as consumer,
        ):
            while not await _through(admin, consumer, group, sources, markers):
                if program.poll() is not None:
                    raise RuntimeError(f"{' '.join(command)} ended with {program.returncode}: look into {words}")
                await asyncio.sleep(LOOK_SECONDS)
        wall_s = time.monotonic() - began
        cpu_s, rss_mb = usage(program.pid)
    finally:
        _end(program)
    return Cost(cpu_s, wall_s, rss_mb)


async def _through(
    admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str, sources: Sequence[str], markers: int
) -> bool:
    try:
        committed = {tp: at.offset for tp, at in (await admin.list_consumer_group_offsets(group)).items()}
    except GroupCoordinatorNotAvailableError:  # the first group of a broker makes the topic of positions
        return False
    described = await admin.describe_topics(sources)
    read = {TopicPartition(one["topic"], part["partition"]) for one in described for part in one["partitions"]}
    ends = await consumer.end_offsets([*read, *(committed.keys() - read)])
    return all(end - committed.get(tp, 0) <= (0 if tp in read else markers) for tp, end in ends.items())


def usage(root: int) -> tuple[float, float]:
    """CPU seconds and peak megabytes of a process and those below it."""
    ticks, peak_kb = 0, 0
    for process in _tree(root):
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))  # its own, and those of its children that have ended
        peak_kb += next(int(line.split()[1]) for line in (process / "status").open() if line.startswith("VmHWM"))
    return ticks / os.sysconf("SC_CLK_TCK"), peak_kb / 1024


def _tree(root: int) -> list[Path]:
    process = Path("/proc", str(root))
    children = [int(pid) for task in process.glob("task/*/children") for pid in task.read_text().split()]
    return [process, *(found for child in children for found in _tree(child))]


def _end(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()
