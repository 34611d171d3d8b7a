"""Random contents of source partitions: few keys, small times, disorder, records far behind, empty partitions."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streamproc import App
from streamproc.log import Columns
from tests.law.oracle import Input
from tests.law.plans import KEY_TYPES, Reading, Spec


class Inputs(NamedTuple):
    """What is in the sources.

    records  of each source, by partition
    runs     how many records of each partition there are at the end of each run
    """

    records: Mapping[int, Sequence[Sequence[Input]]]
    runs: Sequence[Mapping[int, Sequence[int]]]


def random_inputs(spec: Spec, rng: random.Random) -> Inputs:
    """Records for the sources of a plan; in one run, or first some and then the rest."""
    records = {}
    for n in spec.of_kind("source"):
        args = spec.nodes[n].args
        records[n] = [_partition(rng, args, spec.tick_ms) for _ in range(args["partitions"])]
    whole = {n: [len(some) for some in partitions] for n, partitions in records.items()}
    part = {n: [rng.randint(0, count) for count in counts] for n, counts in whole.items()}
    return Inputs(records, [part, whole] if rng.random() < 0.35 else [whole])


def _partition(rng: random.Random, args: Mapping[str, Any], tick_ms: int) -> list[Input]:
    t, records = rng.randrange(-10, 30), []
    if args["timed"] == "record":
        t += 1_000_000  # a record's own time is not negative
    for _ in range(rng.choice((0, 5, 25, 25))):
        t += rng.choice((0, 0, 1, 2, 3, 20 if rng.random() < 0.15 else 1))
        behind = rng.choice((0, 0, 0, 1, 2, 5, 12, 30 if rng.random() < 0.3 else 0))
        level, ts = rng.randrange(10_000) / 10 + 0.1, (t - behind) * tick_ms
        value = Reading(ts, level) if args["timed"] == "field" else level
        records.append(Input(_key(args["key"], rng.randrange(4)), value, ts))
    return records


def _key(kind: str, number: int) -> Any:
    return number if KEY_TYPES[kind] is int else f"k{number}" if KEY_TYPES[kind] is str else b"k%d" % number


def columns_of(app: App, n: int, records: Sequence[Input]) -> Columns:
    """The records as another program writes them."""
    topic = app.topics[f"source-{n}"]
    values = topic.encode_values([record.value for record in records])
    return Columns([topic.encode_key(record.key) for record in records], values, [max(0, r.ts) for r in records])
