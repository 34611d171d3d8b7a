"""The weaker guarantee in the same worlds: records come more than once at times, and none is lost."""

from __future__ import annotations

import random
from collections import Counter

from streamproc.testing.simulation import ROUGH
from tests.law.directed import node, straight
from tests.law.inputs import random_inputs
from tests.law.oracle import Answer
from tests.law.seen import Seen
from tests.simulation.law import STORMY, Phase, Scenario, play_scenario

COPIED = straight(node("map", 0, salt=1, poison=False), node("key_by", 1, type="int", mod=3), partitions=3)
SETTINGS = {"guarantee": "at_least_once", "idle": None, "epoch_interval": "20ms", "epoch_records": 5, "fetch_bytes": 1}
STORM = ROUGH._replace(faults=STORMY, every_s=(0.05, 0.5))


def played(seed: int) -> tuple[str, int]:
    """What is missing, and how many rows too many there are."""
    more = 0

    def missing(seen: Seen, answer: Answer) -> str:
        nonlocal more
        for n, expected in answer.rows.items():
            got = seen.rows(n)
            for place, rows in expected.items():
                wanted = Counter((value, ts) for _, value, ts in rows)
                there = Counter(got.get(place, ()))
                more += (there - wanted).total()
                if wanted - there:
                    return f"rows of n{n} at {place} are missing: {dict(wanted - there)}"
        return ""

    rng = random.Random(seed)
    inputs = random_inputs(COPIED, rng)
    whole = {n: [len(some) for some in partitions] for n, partitions in inputs.records.items()}
    phases = [Phase(whole, live_s=10, steps=20), Phase(whole)]
    scenario = Scenario(COPIED, inputs, phases, STORM, workers=2, settings=SETTINGS, batch_records=3)
    return play_scenario(scenario, rng, judge=missing).what, more


def test_nothing_is_lost() -> None:
    """Whatever goes wrong, each row is there; and things do go wrong: some are there twice."""
    twice = 0
    for seed in range(30):
        what, more = played(seed)
        assert not what, f"seed {seed}: {what}"
        twice += more
    assert twice
