"""What a job has to write, by brute force from its input, and how much of it a program has written.

Independent of the engine and of the hand-written programs: it looks at each record alone, and at each window of it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from msgspec import json

from tests.benchmarks.kafka.topics import Record

GRACE_MS = 1_000
WINDOWS = {"tumble": (60_000, 60_000), "hop": (300_000, 10_000), "trend": (60_000, 60_000)}
"""Of a job: the length of its windows, and the time between two of them."""


Row: TypeAlias = tuple[bytes | None, int, tuple[tuple[str, Any], ...]]
"""What a record says: its key, its timestamp, the fields of its value."""


class Found(NamedTuple):
    """How many rows are as they must be, are not there, or should not be there."""

    right: int
    missing: int
    extra: int


def compare(expected: Counter[Row], records: Iterable[Record]) -> Found:
    """Every row counts as often as it was written."""
    found = Counter(_row(record.key, record.timestamp, json.decode(record.value or b"null")) for record in records)
    return Found((expected & found).total(), (expected - found).total(), (found - expected).total())


def expected_rows(job: str, source: Sequence[Sequence[Record]], *, until_end: bool = False) -> Counter[Row]:
    """The rows of a job on the partitions of its source; `until_end`: with the windows that are open at its end."""
    job = job.removesuffix("-eos")
    if job == "pass":
        return Counter(_english(source))
    if job == "count":
        return Counter(_tallies(source))
    return Counter(_windows(source, *WINDOWS[job], rekeyed=job == "trend", until_end=until_end))


def _english(source: Sequence[Sequence[Record]]) -> Iterator[Row]:
    for records in source:
        for key, value, timestamp in records:
            tweet = json.decode(value or b"null")
            if tweet["lang"] == "en":
                yield _row(key, timestamp, {"user": tweet["user"], "text": tweet["text"], "n": len(tweet["text"])})


def _tallies(source: Sequence[Sequence[Record]]) -> Iterator[Row]:
    for records in source:
        counts = Counter[bytes | None]()
        for key, value, timestamp in records:
            counts[key] += 1
            yield _row(key, timestamp, {"tag": json.decode(value or b"null")["tag"], "count": counts[key]})


def _windows(
    source: Sequence[Sequence[Record]], size_ms: int, every_ms: int, *, rekeyed: bool, until_end: bool
) -> Iterator[Row]:
    """A record is late by the clock of its own partition; re-keyed, a window waits for the clocks of all of them."""
    counts: dict[int | None, Counter[tuple[str, int]]] = defaultdict(Counter)
    clocks: dict[int | None, int] = {}
    for number, records in enumerate(source):
        clock = 0
        task = None if rekeyed else number
        for _, value, timestamp in records:
            clock = max(clock, timestamp)
            content = json.decode(value or b"null")
            tags = re.findall(r"#(\w+)", content["text"].lower()) if rekeyed else [content["tag"]]
            last = timestamp - timestamp % every_ms
            for start in range(last, last - size_ms, -every_ms):
                if start + size_ms + GRACE_MS > clock:
                    for tag in tags:
                        counts[task][tag, start] += 1
        clocks[task] = min(clock, clocks.get(task, clock))
    for task, found in counts.items():
        for (tag, start), count in found.items():
            end = start + size_ms
            if until_end or end + GRACE_MS <= clocks[task]:
                yield _row(tag.encode(), end - 1, {"key": tag, "start": start, "end": end, "value": count})


def _row(key: bytes | None, timestamp: int, value: dict[str, Any]) -> Row:
    return key, timestamp, tuple(sorted(value.items()))
