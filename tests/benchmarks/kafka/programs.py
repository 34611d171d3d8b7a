"""What is compared: the jobs by hand, twice, and by the engine."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks.kafka.compiled import compiled_environment
from tests.benchmarks.kafka.names import JOBS, Names

_ENGINE: Final = ("-m", "streamproc", "run", "tests.benchmarks.kafka.apps:{app}", "--epoch-interval")
ONCE: Final = "engine"
"""The engine, exactly once in epochs of a second, as often as the others commit."""


class Program(NamedTuple):
    """How a job is run, until it is told to stop.

    jobs    those that it is measured with
    rounds  how often, at most; None: as often as the others
    """

    arguments: tuple[str, ...]
    jobs: Collection[str] = JOBS
    rounds: int | None = None

    def command(self, names: Names) -> list[str]:
        """Of a run."""
        app = {"pass": "pass_"}.get(names.job, names.job.replace("-", "_"))
        return [sys.executable, *(argument.format(job=names.job, app=app) for argument in self.arguments)]


PROGRAMS: Final[Mapping[str, Program]] = {
    "simple": Program(("-m", "tests.benchmarks.kafka.simple", "{job}"), rounds=1),
    "fast": Program(("-m", "tests.benchmarks.kafka.fast", "{job}")),
    ONCE: Program((*_ENGINE, "1s")),
    "engine-200ms": Program((*_ENGINE, "200ms"), jobs=("trend",)),
    "engine-alo": Program(
        (*_ENGINE, "1s", "--guarantee", "at_least_once"), jobs=[job for job in JOBS if not job.endswith("-eos")]
    ),
}


def environment(names: Names, state_dir: Path) -> dict[str, str]:
    """Of a process: the run that it is, and what the engine is told of it."""
    return {
        **compiled_environment(),
        **names.environment(),
        "STREAMPROC_BROKER": f"kafka://{names.broker}",
        "STREAMPROC_STATE_DIR": str(state_dir),
    }
