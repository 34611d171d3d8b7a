"""The names of a run: a job, by some program, on the topics of so many records."""

import os
from typing import Final, NamedTuple, Self

from tests.benchmarks.inputs import PARTITIONS

JOBS: Final = ("pass", "count", "tumble", "hop", "trend", "trend-eos")

LIVE: Final = 0

_BROKER, _RECORDS, _RUN = "BENCH_BROKER", "BENCH_RECORDS", "BENCH_RUN"


class Names(NamedTuple):
    """Told to programs by the environment: an app has no arguments."""

    job: str
    broker: str
    records: int
    """How many the source has; LIVE: it is the run's own, which is written to while that is read."""
    run: str
    """No two runs have the same."""

    @classmethod
    def told(cls, job: str) -> Self:
        """Those of the run that this process is."""
        return cls(job, os.environ[_BROKER], int(os.environ[_RECORDS]), os.environ[_RUN])

    def environment(self) -> dict[str, str]:
        """What tells the process of a run."""
        return {_BROKER: self.broker, _RECORDS: str(self.records), _RUN: self.run}

    @property
    def group(self) -> str:
        """The group; also the transactional id, and the name of the app."""
        return f"bench-{self.job}-{self.run}"

    @property
    def source(self) -> str:
        """What the job reads."""
        if self.records == LIVE:
            return f"{self.group}-source"
        return source_name("tweets" if self.job in {"pass", "trend", "trend-eos"} else "tags", self.records)

    @property
    def results(self) -> str:
        """What it writes."""
        return f"{self.group}-results"

    @property
    def repartition(self) -> str:
        """Where a hand-written program sends what another key is for."""
        return f"{self.group}-by-tag"

    @property
    def changelog(self) -> str:
        """Where a hand-written program keeps its state."""
        return f"{self.group}-changelog"

    @property
    def topics(self) -> dict[str, int]:
        """The topics that are made before the run, with their partitions."""
        made = (self.results, self.repartition, self.changelog)
        return dict.fromkeys((*made, self.source) if self.records == LIVE else made, PARTITIONS)


def source_name(kind: str, records: int) -> str:
    """bench-tweets or bench-tags, with the size if that is not the usual one."""
    return f"bench-{kind}" if records == 1_000_000 else f"bench-{kind}-{records}"
