"""What state costs: how many rows there are, and what a record costs at few and at many keys."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from streamproc.state.memory import MemoryDisk
from streamproc.state.rocks import RocksDisk
from streamproc.state.store import Disk
from tests.benchmarks.engine import Run, append, cpu_us, log_of
from tests.benchmarks.inputs import Input, any_of, one_of_each, size
from tests.benchmarks.jobs import APPS

EPOCH_RECORDS = 10_000
"""Small epochs, so that stores are looked at often while they are counted."""


class Rows(NamedTuple):
    """Rows in all stores of a job.

    most    at any commit of the run
    left    after the input's end
    ever    that would be there if none were ever deleted
    """

    job: str
    most: int
    left: int
    ever: int


def count_rows(tags: Input) -> Iterator[Rows]:
    """The windowed jobs: their state is what is still open."""
    for job, slice_ms in (("tumble", 60_000), ("hop", 10_000)):
        disk = _Counted()
        run = Run(APPS[job](epoch_records=EPOCH_RECORDS), log_of("tags", tags), disk)
        run.to_end(disk.look)
        pairs = [zip(columns.keys, columns.timestamps, strict=True) for columns in tags]
        ever = {(key, timestamp // slice_ms) for pair in pairs for key, timestamp in pair}
        yield Rows(job, disk.most, disk.rows(), len(ever))


class _Counted(MemoryDisk):
    """A memory disk whose rows are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def rows(self) -> int:
        """The rows of operators in all stores; what the engine keeps of each task is not one of them."""
        return sum(not key.startswith(b"\x01") for image in self._images.values() for key in image.data.rows)

    def look(self) -> None:
        """Remember the most rows."""
        self.most = max(self.most, self.rows())


class KeyCost(NamedTuple):
    """CPU time in us a record with so many live keys; `first` is that of the records that made them."""

    job: str
    keys: int
    memory: float
    rocks: float
    rocks_first: float


def cost_by_keys(few: int, many: int, records: int) -> Iterator[KeyCost]:
    """Records of keys chosen evenly, after each key had one; the same records for both jobs and stores."""
    for keys in (few, many):
        first, more = one_of_each(keys), any_of(keys, records)
        for job in ("count", "tumble"):
            _, memory = _cost(job, first, more, MemoryDisk())
            with TemporaryDirectory(prefix="streamproc-bench-") as folder:
                made, rocks = _cost(job, first, more, RocksDisk(Path(folder)))
            yield KeyCost(job, keys, memory, rocks, made)


def _cost(job: str, first: Input, more: Input, disk: Disk) -> tuple[float, float]:
    """Of the first records, and of those after them; no window closes before the end, which is not timed."""
    log = log_of("tags", first)
    run = Run(APPS[job](idle=None), log, disk, until_end=False)
    run.assign()
    gc.collect()
    made = cpu_us(run.to_here, size(first))
    append(log, "tags", more)
    gc.collect()
    after = cpu_us(run.to_here, size(more))
    run.stop()
    return made, after
