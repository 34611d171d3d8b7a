"""How often what goes wrong between a client and the broker, and how long things take."""

from __future__ import annotations

import random
from typing import NamedTuple, cast

Range = tuple[float, float]
"""From, to: drawn evenly."""


class Faults(NamedTuple):
    """Chances are of each request, and add up to 1 at most: one thing goes wrong at a time. Times are in ms.

    lost         it never arrives
    unanswered   it is done, and the answer is lost
    closed       its connection breaks: all that its client waits for has no answer, at once, done or not
    late         it takes `late_ms`, be it given up meanwhile; later ones of its kind come before it
    slow         its answer takes `late_ms`
    repeated     it arrives a second time, up to `late_ms` later
    moved        refused: the coordinator is not here, or not ready; the leader is not here
    crowded      refused, where it is of a transaction: the broker is still busy with the last one
    cut          its client and the broker are cut off from one another for `cut_ms`
    parted       the same as soon as it is done, so that its client does not learn of it
    stalled      the broker stops for `stall_ms`, and does then what has come meanwhile
    restarted    the broker is gone for `restart_ms`, with all connections; what it has written down stays
    outlives     chance that what a killed client has sent, and has not arrived, does arrive
    decisive     so many times as often something goes wrong with what an epoch is decided by: offsets, and the end

    way_ms       how long a message takes, either way
    new_ms       how long a topic is unknown after it was made
    marker_ms    how long after EndTxn a partition, or a group, is told; of each, drawn for itself
    marker_late  chance that one takes `marker_late_ms` instead
    """

    lost: float = 0.0
    unanswered: float = 0.0
    closed: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    repeated: float = 0.0
    moved: float = 0.0
    crowded: float = 0.0
    cut: float = 0.0
    parted: float = 0.0
    stalled: float = 0.0
    restarted: float = 0.0
    outlives: float = 0.0
    decisive: int = 1
    way_ms: Range = (0.2, 2.0)
    new_ms: Range = (0.0, 0.0)
    late_ms: Range = (5.0, 12_000.0)
    cut_ms: Range = (100.0, 20_000.0)
    stall_ms: Range = (50.0, 5_000.0)
    restart_ms: Range = (500.0, 8_000.0)
    marker_ms: Range = (0.5, 20.0)
    marker_late: float = 0.0
    marker_late_ms: Range = (50.0, 3_000.0)

    def draw(self, rng: random.Random) -> str:
        """What goes wrong with a request; '' mostly."""
        point = rng.random()
        for name in _CHANCES:
            chance: float = getattr(self, name)
            if point < chance:
                return name
            point -= chance
        return ""

    def seconds(self, rng: random.Random, name: str) -> float:
        """One of the times."""
        start, end = cast(Range, getattr(self, f"{name}_ms"))
        return rng.uniform(start, end) / 1000

    def marker(self, rng: random.Random) -> float:
        """How long, in seconds, a marker takes."""
        return self.seconds(rng, "marker_late" if rng.random() < self.marker_late else "marker")


_CHANCES = Faults._fields[: Faults._fields.index("outlives")]

CALM = Faults()
"""Messages take their time, and none is lost."""
ROUGH = Faults(
    lost=0.004,
    unanswered=0.006,
    closed=0.003,
    late=0.004,
    slow=0.004,
    repeated=0.01,
    moved=0.01,
    crowded=0.01,
    cut=0.0005,
    parted=0.0005,
    stalled=0.0005,
    restarted=0.0003,
    outlives=0.5,
    new_ms=(0.0, 500.0),
    marker_late=0.02,
)
"""All of it happens now and then."""
