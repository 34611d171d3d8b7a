"""CPU time of the engine, beside a hand-written loop: `make bench`, or python -m tests.benchmarks [RECORDS]."""

from __future__ import annotations

import gc
import platform
import sys

from tests.benchmarks.compared import ROUNDS, Comparison, compare
from tests.benchmarks.inputs import PARTITIONS, tweets_and_tags
from tests.benchmarks.state import cost_by_keys, count_rows

RECORDS = 200_000
FEW_KEYS = 1_000
MANY_KEYS = 1_000_000
GOALS = {"pass": 1.8, "tumble": 1.8}
"""Times the hand-written loop at most."""
HOP_GOAL = 3.0
"""Times the engine's tumbling windows at most."""


def main(records: int) -> None:
    """Measure and print."""
    tweets, tags = tweets_and_tags(records)
    gc.collect()
    gc.freeze()  # the input is as large as a log, and is not what a collection should walk through
    print(f"{records:,} records in {PARTITIONS} partitions of a log in memory, Python {platform.python_version()};")
    print(f"CPU time in us a record, medians of {ROUNDS} rounds, each with both; JSON decoded and encoded.\n")
    _print_jobs(list(compare(tweets, tags)))
    print("\nRows of state (all tasks, memory store, epochs of 10,000 records)")
    print(f"{'job':8}{'most':>10}{'at the end':>12}{'ever':>10}")
    for rows in count_rows(tags):
        print(f"{rows.job:8}{rows.most:10,}{rows.left:12,}{rows.ever:10,}")
    print(f"\nCPU time in us a record at so many live keys, chosen evenly ({records:,} records after each key had one)")
    print(f"{'job':8}{'keys':>10}{'memory store':>14}{'RocksDB':>10}{'RocksDB, new keys':>19}")
    for cost in cost_by_keys(FEW_KEYS, MANY_KEYS, records):
        print(f"{cost.job:8}{cost.keys:10,}{cost.memory:14.2f}{cost.rocks:10.2f}{cost.rocks_first:19.2f}", flush=True)


def _print_jobs(found: list[Comparison]) -> None:
    titles = ("by hand", "engine", "ratio", "goal", "one epoch", "200 ms epochs", "rows a record")
    print("job     " + "".join(f"{title:>{len(title) + 3}}" for title in titles))
    tumble = next(one.engine for one in found if one.job == "tumble")
    for one in found:
        goal = f"<= {GOALS[one.job]}" if one.job in GOALS else ""
        line = f"{one.job:8}{one.hand:10.2f}{one.engine:9.2f}{one.ratio:8.2f}{goal:>7}{one.rare:12.2f}"
        print(f"{line}{one.engine - one.rare:+16.2f}{one.rows:16.2f}")
    hop = next(one.engine for one in found if one.job == "hop")
    print(f"\nhop / tumble: {hop / tumble:.2f} (goal: <= {HOP_GOAL:.0f})")
    missed = [one.job for one in found if one.job in GOALS and one.ratio > GOALS[one.job]]
    missed += ["hop"] if hop > HOP_GOAL * tumble else []
    print(f"goals missed: {', '.join(missed)}" if missed else "all goals are met")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
