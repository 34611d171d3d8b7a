"""Made visits: seeded, about a hundred a second of event time, some of them late."""

import random
from collections.abc import Sequence

from tests.faults.app import Visit
from tests.faults.oracle import Given

START_MS = 1_700_000_000_000
STEP_MS = 10
USERS, WORDS = 40, 30
LATE_MS = (0,) * 12 + (300, 900, 1_500, 5_000, 12_000)


def visits(count: int, *, seed: int = 1, takes_ms: float = 0, every: int = 8) -> list[Given]:
    """So many visits; one of so many takes its time."""
    rng = random.Random(seed)
    found = []
    for n in range(count):
        at = START_MS + n * STEP_MS - rng.choice(LATE_MS)
        words = [f"w{rng.randrange(WORDS)}" for _ in range(rng.choice((0, 1, 1, 2, 3)))]
        found.append(Given(f"u{rng.randrange(USERS)}", Visit(n, at, words, takes_ms=0 if n % every else takes_ms)))
    return found


def one_of_each(first: int, after: Sequence[Given]) -> list[Given]:
    """A visit of each user, with each word once in all, behind everything else in time; numbered from `first` on."""
    at = max(given.visit.at for given in after) + 60_000
    return [
        Given(f"u{place}", Visit(first + place, at + place, [f"w{place}"] if place < WORDS else []))
        for place in range(USERS)
    ]
