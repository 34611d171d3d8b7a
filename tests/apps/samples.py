"""Made input for the apps, where real data may not be shipped: the same on every machine."""

import random
from datetime import UTC, datetime

from streamproc import match_day

MORNING_MS = int(datetime(2022, 6, 15, 6, tzinfo=UTC).timestamp()) * 1_000
HOUR_MS = 3_600_000
EVERY_MS = 31_000
SILENT = {3: (1.2, 1.5), 7: (2.9, 4.0)}
"""From when to when, in hours, a mote says nothing: one comes back, one does not."""
SELDOM = 12
"""It speaks every four minutes: if one of its readings comes late, it is missed."""


def tweets() -> list[bytes]:
    """Those of the demo's match day: arriving up to four seconds late, as JSON objects."""
    return list(match_day.json_lines(count=8_000))


def readings() -> list[bytes]:
    """Twelve motes for three hours, most of them every half minute, in order of time."""
    rng = random.Random(11)
    times = [
        (MORNING_MS + n * EVERY_MS + rng.randrange(EVERY_MS), n, mote) for n in range(348) for mote in range(1, 13)
    ]
    return [_reading(rng, at, mote) for at, n, mote in sorted(times) if _speaks(mote, n, (at - MORNING_MS) / HOUR_MS)]


def _speaks(mote: int, nth: int, hours: float) -> bool:
    begin, end = SILENT.get(mote, (0, 0))
    return not begin <= hours < end and (mote != SELDOM or nth % 8 == 0)


def _reading(rng: random.Random, at: int, mote: int) -> bytes:
    """As the motes of a real library write it: decimal commas, and a space within larger sequence numbers."""
    celsius = f"{rng.uniform(-1, 30):.2f}".replace(".", ",")
    return f"{at} {mote} {rng.choice(('7', '1 234'))} 21,21 2,81 51,53 {celsius} 20 28".encode()
