"""What the app has to write, by brute force over its whole input: no batches, no watermarks, no state to lose."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from tests.faults.app import MODULUS, Visit

GRACE_MS = 1_000
SIZE_MS, EVERY_MS = 10_000, 2_000

Row: TypeAlias = tuple[Any, int]
"""What is said of a record: its value, decoded, and its timestamp."""
Rows: TypeAlias = dict[str, list[Row]]
"""By key, in order."""


class Given(NamedTuple):
    """A record of the input: whose it is, and what."""

    user: str
    visit: Visit


def expected(source: Sequence[Sequence[Given]], outputs: Sequence[str]) -> Mapping[str, Rows]:
    """By output, then by key: the rows, in their order."""
    of = {"plain": plain, "chains": chains, "windows": windows, "ordered": ordered}
    return {name: of[name](source) for name in outputs}


def plain(source: Sequence[Sequence[Given]]) -> Rows:
    rows: Rows = defaultdict(list)
    for partition in source:
        for user, visit in partition:
            rows[user].append(({"n": visit.n, "padding": "x" * visit.size}, visit.at))
    return rows


def chains(source: Sequence[Sequence[Given]]) -> Rows:
    rows: Rows = defaultdict(list)
    for partition in source:
        for user, visit in partition:
            before = rows[user][-1][0] if rows[user] else 0
            rows[user].append(((before * 31 + visit.n + 1) % MODULUS, visit.at))
    return rows


def windows(source: Sequence[Sequence[Given]]) -> Rows:
    """A visit counts in each window that it is in, and that has not ended by the clock of its partition, with grace."""
    counts: dict[tuple[int, str], int] = defaultdict(int)
    for visit, clock in _clocked(source):
        start = visit.at // EVERY_MS * EVERY_MS
        while start + SIZE_MS > visit.at:
            if start + SIZE_MS + GRACE_MS > clock:
                for word in visit.words:
                    counts[start, word] += 1
            start -= EVERY_MS
    rows: Rows = defaultdict(list)
    for (start, word), count in sorted(counts.items()):
        end = start + SIZE_MS
        rows[word].append(({"key": word, "start": start, "end": end, "value": count}, end - 1))
    return rows


def ordered(source: Sequence[Sequence[Given]]) -> Rows:
    """By time, then partition and place in it, then place in the visit; without those behind by the grace."""
    found: dict[str, list[tuple[int, int, int, int, int]]] = defaultdict(list)
    for number, partition in enumerate(source):
        for place, (visit, clock) in enumerate(_clocked([partition])):
            if visit.at + GRACE_MS >= clock:
                for nth, word in enumerate(visit.words):
                    found[word].append((visit.at, number, place, nth, visit.n))
    rows: Rows = {}
    for word, visits in found.items():
        rows[word], value = [], 0
        for at, _, _, _, n in sorted(visits):
            value = (value * 31 + n + 1) % MODULUS
            rows[word].append((value, at))
    return rows


def _clocked(source: Sequence[Sequence[Given]]) -> Iterator[tuple[Visit, int]]:
    """Each visit, and the largest time in its partition so far."""
    for partition in source:
        clock = 0
        for _, visit in partition:
            clock = max(clock, visit.at)
            yield visit, clock


def differences(expected: Mapping[str, Rows], found: Mapping[str, Rows]) -> list[str]:
    """Where they differ, in words, a few of the places; nothing where they are the same."""
    said = []
    for name, rows in expected.items():
        for key in sorted(rows.keys() | found[name].keys()):
            should, does = rows.get(key, []), found[name].get(key, [])
            if should != does:
                at = next((i for i, (a, b) in enumerate(zip(should, does, strict=False)) if a != b), -1)
                at = min(len(should), len(does)) if at < 0 else at
                said.append(
                    f"{name} of {key!r}: {len(does)} rows and {len(should)} expected; from row {at} on: "
                    f"{does[at : at + 3]}, expected: {should[at : at + 3]}"
                )
    return said[:5] + ([f"... and {len(said) - 5} more keys"] if len(said) > 5 else [])
