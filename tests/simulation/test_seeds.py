"""Three hundred worlds, the same in every run: each gives the oracle's answer, whatever befalls it."""

from __future__ import annotations

import pytest

from tests.simulation.law import play

SEEDS = 300
TOGETHER = 25


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_a_world_gives_the_answer(first: int) -> None:
    """Rows, order per key, state and no alarm, under crashes, pauses, lost replies, lost disks and rebalances."""
    for seed in range(first, first + TOGETHER):
        what = play(seed).what
        assert not what, f"seed {seed}: {what}\nwith its history: make sim SEED={seed}"
