"""Simulated worlds by hand: one seed with its history, or more seeds than the tests try.

python -m tests.simulation SEED                    what happened, what the seed stands for, what came of it
python -m tests.simulation --many N [--from SEED]  N seeds, fresh ones if none is given, until one fails
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.law import play, random_scenario

LONGEST_S = 120
"""A seed takes a fifth of a second: one that takes so long goes round in circles."""


def main(arguments: list[str]) -> int:
    """1: it is not as it should be."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser("python -m tests.simulation", usage=__doc__.partition("\n\n")[2])
    parser.add_argument("seed", type=int, nargs="?")
    parser.add_argument("--many", type=int)
    parser.add_argument("--from", type=int, dest="first")
    options = parser.parse_args(arguments)
    if options.many is not None:
        first = random.SystemRandom().randrange(1 << 32) if options.first is None else options.first
        return _many(range(first, first + options.many))
    if options.seed is None:
        parser.error("name a seed, or --many N")
    return _one(options.seed)


def _one(seed: int) -> int:
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    what, history = play(seed)
    print(history)
    for name, value in random_scenario(random.Random(seed))._asdict().items():
        print(f"{name:>15}: {value}")
    print(f"seed {seed}: {what or 'right'}")
    return bool(what)


def _many(seeds: range) -> int:
    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        for done, (seed, what) in enumerate(processes.map(_what, seeds, chunksize=4), 1):
            if what:
                print(f"\nseed {seed}: {what}\nwith its history: make sim SEED={seed}")
                processes.shutdown(cancel_futures=True)
                return 1
            if done % 20 == 0 or done == len(seeds):
                each_s = (time.monotonic() - began) / done
                print(f"\r{done:,} of {len(seeds):,} seeds from {seeds[0]}, {each_s:.2f} s each", end="", flush=True)
    print(": all right")
    return 0


def _what(seed: int) -> tuple[int, str]:
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)
    what = play(seed).what
    faulthandler.cancel_dump_traceback_later()
    return seed, what


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
