"""The engine beside the hand-written loop: the same bytes in, the same bytes out, the same run, round by round."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from streamproc import App
from streamproc.collection import collection_paused
from streamproc.log import Columns
from streamproc.memory_log import MemoryLog
from tests.benchmarks.by_hand import BY_HAND, Results
from tests.benchmarks.engine import cpu_us, log_of, results_of, run_to_end
from tests.benchmarks.inputs import Input, size
from tests.benchmarks.jobs import APPS

ROUNDS = 5


class Comparison(NamedTuple):
    """CPU time of a job in us a record, medians; `ratio` is the median of the rounds' ratios.

    rows   that came out, for each record
    rare   the same by an engine that commits once, at the end
    """

    job: str
    hand: float
    engine: float
    ratio: float
    rare: float
    rows: float


def compare(tweets: Input, tags: Input) -> Iterator[Comparison]:
    """Each job. Raises ValueError where the two do not give the same records."""
    for job in APPS:
        topic = tweets if job in ("pass", "trend") else tags
        name = "tweets" if topic is tweets else "tags"
        rows = _checked(job, name, topic)
        rounds = []
        for _ in range(ROUNDS):
            hand = _by_hand_us(job, topic)
            engine = _engine_us(APPS[job](), name, topic)
            rare = _engine_us(APPS[job](epoch_interval="1h", epoch_records=size(topic)), name, topic)
            rounds.append((hand, engine, engine / hand, rare))
        hand, engine, ratio, rare = (median(column) for column in zip(*rounds, strict=True))
        yield Comparison(job, hand, engine, ratio, rare, rows / size(topic))


def _checked(job: str, name: str, topic: Input) -> int:
    """How many records both give."""
    log = log_of(name, topic)
    run_to_end(APPS[job](), log)
    found: list[Columns] = results_of(log)
    expected = BY_HAND[job](topic).partitions
    if found != expected:
        counts = f"{sum(map(len, found))} and {sum(map(len, expected))}"
        raise ValueError(f"job {job}: the engine and the hand-written loop gave different records ({counts})")
    return sum(map(len, found))


def _by_hand_us(job: str, topic: Input) -> float:
    kept: list[Results] = []  # as the engine's records are kept by the log
    with collection_paused():  # else it would pay for a collector that the engine does not let run in a batch
        taken = cpu_us(lambda: kept.append(BY_HAND[job](topic)), size(topic))
    kept.clear()
    gc.collect()
    return taken


def _engine_us(app: App, name: str, topic: Input) -> float:
    log: MemoryLog = log_of(name, topic)
    gc.collect()
    return cpu_us(lambda: run_to_end(app, log), size(topic))
