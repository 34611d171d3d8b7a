"""The jobs by each program: what they cost, whether their rows are right, how the engine stands beside the others."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple
from uuid import uuid4

from tests.benchmarks.kafka.check import Found, Row, compare, expected_rows
from tests.benchmarks.kafka.goals import Goals, line
from tests.benchmarks.kafka.load import load
from tests.benchmarks.kafka.measure import Cost, measure
from tests.benchmarks.kafka.names import Names
from tests.benchmarks.kafka.programs import ONCE, PROGRAMS, environment
from tests.benchmarks.kafka.topics import create, delete_all, read

RATIO_GOALS: Final = {"pass": 1.8, "count": 1.8, "tumble": 1.8}
"""Times the fast loop's CPU time at most."""
MARKERS: Final = 2
"""So many offsets at the end of a repartition topic may be no records: the end of the last transaction, and marks."""
TITLES: Final = ("job", "program", "CPU s/M", "slope s/M", "x fast", "goal", "wall s", "RSS MB", "rows right")
WIDTHS: Final = (11, 14, 10, 12, 9, 9, 9, 9, 30)


class Measured(NamedTuple):
    """One run; `found` where its rows were looked at."""

    cost: Cost
    found: Found | None


class Rounds:
    """What was measured of one job, by program and size of its input; the rounds in their order."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes = sorted(sizes)
        self.runs: dict[tuple[str, int], list[Measured]] = defaultdict(list)

    @property
    def largest(self) -> int:
        return self._sizes[-1]

    def cpu_s(self, program: str) -> float:
        """A million records, by the largest input; its share of the start-up included."""
        return median(run.cost.cpu_s for run in self.runs[program, self.largest]) / self.largest * 1e6

    def slope_s(self, program: str) -> float | None:
        """A million records more."""
        small = self.runs.get((program, self._sizes[0]))
        if len(self._sizes) == 1 or not small:
            return None
        pairs = zip(self.runs[program, self.largest], small, strict=True)
        return median(m.cost.cpu_s - n.cost.cpu_s for m, n in pairs) / (self.largest - self._sizes[0]) * 1e6

    def ratio(self, program: str, to: str) -> float | None:
        """The median of the rounds' ratios."""
        runs, others = self.runs[program, self.largest], self.runs.get((to, self.largest))
        if not others:
            return None
        return median(a.cost.cpu_s / b.cost.cpu_s for a, b in zip(runs, others, strict=False))

    def found(self, program: str) -> list[Found]:
        """Of all sizes."""
        return [run.found for (name, _), runs in self.runs.items() if name == program for run in runs if run.found]


async def report(
    broker: str, goals: Goals, sizes: Sequence[int], jobs: Sequence[str], programs: Sequence[str], rounds: int
) -> None:
    """Measure and print, job by job."""
    for records in sizes:
        await load(broker, records)
    largest = max(sizes)
    print(f"CPU time of the processes at {largest:,} records, medians of {rounds} rounds, each with all programs")
    print(f"(simple: one round). slope: from {min(sizes):,} to {largest:,} records, without the start-up.\n")
    print(line(WIDTHS, TITLES))
    for job in jobs:
        its = [program for program in programs if job in PROGRAMS[program].jobs]
        _print_job(job, await _job(broker, job, sorted(sizes), its, rounds), its, goals)
    print()


async def _job(broker: str, job: str, sizes: Sequence[int], programs: Sequence[str], rounds: int) -> Rounds:
    measured = Rounds(sizes)
    for records in sizes:
        source = Names(job, broker, records, "").source
        expected = expected_rows(job, await read(broker, source))
        for number in range(rounds):
            for program in programs:
                limit = PROGRAMS[program].rounds
                if limit is None or (number < limit and records == measured.largest):
                    names = Names(job, broker, records, f"{program}-{uuid4().hex[:6]}")
                    run = await _run(names, program, expected if number == 0 else None)
                    measured.runs[program, records].append(run)
    return measured


async def _run(names: Names, program: str, expected: Counter[Row] | None) -> Measured:
    """One job by one program, on fresh topics; its rows are compared where it is told what they must be."""
    await create(names.broker, names.topics)
    folder = Path(tempfile.mkdtemp(prefix="streamproc-bench-"))
    try:
        cost = await measure(
            PROGRAMS[program].command(names),
            broker=names.broker,
            group=names.group,
            sources=[names.source],
            markers=MARKERS,
            environment=environment(names, folder / "state"),
            words=folder / "words",
        )
        if expected is None:
            return Measured(cost, None)
        written = await read(names.broker, names.results)
        return Measured(cost, compare(expected, [record for partition in written for record in partition]))
    finally:
        shutil.rmtree(folder)
        await delete_all(names.broker, names.group)


def _print_job(job: str, rounds: Rounds, programs: Sequence[str], goals: Goals) -> None:
    for place, program in enumerate(programs):
        runs = rounds.runs[program, rounds.largest]
        ratio, slope, goal = rounds.ratio(program, "fast"), rounds.slope_s(program), ""
        if program == ONCE:
            if job in RATIO_GOALS and ratio is not None:
                goal = goals.at_most(f"{job}: {ratio:.2f} x fast", ratio, RATIO_GOALS[job])
            if (to_simple := rounds.ratio(program, "simple")) is not None:
                goals.note(f"{job}: {to_simple:.2f} x simple", met=to_simple < 1)
        found = rounds.found(program)
        right = _right(found)
        if program.startswith(ONCE):
            goals.note(f"{job} by {program}: {right}", met=not any(one.missing or one.extra for one in found))
        figures = (
            f"{rounds.cpu_s(program):.2f}",
            "-" if slope is None else f"{slope:.2f}",
            "-" if ratio is None else f"{ratio:.2f}",
            goal,
            f"{median(run.cost.wall_s for run in runs):.1f}",
            f"{median(run.cost.rss_mb for run in runs):.0f}",
            right,
        )
        print(line(WIDTHS, ("" if place else job, program, *figures)), flush=True)


def _right(found: Sequence[Found]) -> str:
    """The rows of all sizes, or what is wrong with them."""
    right, missing, extra = (sum(column) for column in zip(*found, strict=True))
    if missing or extra:
        return f"{missing:,} missing, {extra:,} extra"
    return f"all {right:,}"
