"""A worker that dies at any call to the world: the cluster, its disk."""

from __future__ import annotations

import pytest

from tests.law.directed import COUNTED, POISONED, THREE_STAGES, TIMERS
from tests.law.plans import Spec
from tests.simulation.law import crashes_everywhere

RUNS = 25
"""So many moments of a life of 300 to 600, evenly spread; by hand, more: `crashes_everywhere(..., runs=600)`."""


@pytest.mark.parametrize("wiped", [False, True], ids=["disk kept", "disk lost"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "spec", [COUNTED, THREE_STAGES, TIMERS, POISONED], ids=["windows", "stages", "timers", "skips"]
)
def test_a_crash_at_any_call_changes_nothing(spec: Spec, workers: int, wiped: bool) -> None:
    """Before and behind every call: it comes back, or another one goes on, and the answer is the same."""
    assert crashes_everywhere(spec, workers=workers, wiped=wiped, runs=RUNS) == ""
