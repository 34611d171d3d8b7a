"""More random plans than the tests try: python -m tests.law [PLANS] [SCHEDULES] [FIRST SEED]; 1 when one breaks."""

from __future__ import annotations

import sys

from tests.law.check import check


def main(plans: int = 300, schedules: int = 8, first: int = 0) -> int:
    """How many plans are broken; each is said."""
    broken = 0
    for seed in range(first, first + plans):
        if what := check(seed, schedules):
            broken += 1
            print(what, flush=True)
    print(f"{plans} plans x {schedules} schedules: {broken} broken")
    return broken


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
