"""The engine on a real broker: python -m tests.benchmarks.kafka [--records N ...] [--rounds N] [--only PART ...]."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from tests.benchmarks.kafka import commits, compared, recovery, restoring, steady
from tests.benchmarks.kafka.compiled import compile_all
from tests.benchmarks.kafka.goals import Goals
from tests.benchmarks.kafka.names import JOBS
from tests.benchmarks.kafka.programs import PROGRAMS
from tests.kafka.class_path import MissingProgram
from tests.kafka.server import KafkaServer

HEAP = "1g"
PARTS = ("jobs", "commits", "restore", "recovery", "steady")


async def report(broker: str, options: argparse.Namespace) -> None:
    """Measure and print, as it comes."""
    goals = Goals()
    print(f"Load of this machine of {os.cpu_count()} cores at the start: {os.getloadavg()[0]:.1f}.")
    if "jobs" in options.only:
        await compared.report(broker, goals, options.records, options.jobs, options.programs, options.rounds)
    if "commits" in options.only:
        await commits.report(broker)
    if "restore" in options.only:
        await restoring.report(broker, goals)
    if "recovery" in options.only:
        await recovery.report(broker, goals)
    if "steady" in options.only:
        await steady.report(broker)
    print(f"Load at the end: {os.getloadavg()[0]:.1f}.\n{goals}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kafka", description=__doc__)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=JOBS)
    parser.add_argument("--broker", help="one that runs already; else one is started")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the programs under way are ended too
    compile_all()
    if options.broker:
        asyncio.run(report(options.broker, options))
        return
    try:
        server = KafkaServer(heap=HEAP)
    except MissingProgram as missing:
        sys.exit(f"The engine on Kafka is not measured. {missing}")
    with server:
        asyncio.run(report(server.bootstrap, options))


if __name__ == "__main__":
    main()
