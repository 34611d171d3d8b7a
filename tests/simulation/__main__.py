"""Simulated worlds by hand: one seed with its history, or more seeds than the tests try.

python -m tests.simulation SEED                    what happened, what the seed stands for, what came of it
python -m tests.simulation --many N [--from SEED]  N seeds, fresh ones if none is given, until one fails
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.simulation.law import play, random_scenario

LONGEST_S = 120
"""A seed takes a fifth of a second: one that takes so long goes round in circles."""


class TooLong(KeyboardInterrupt):
    """A seed takes too long; no event loop keeps this to itself."""


def main(arguments: list[str]) -> int:
    """1: it is not as it should be."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(usage=__doc__.partition("\n\n")[2])
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
    with _limited():
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
    try:
        with _limited():
            return seed, play(seed).what
    except TooLong:
        return seed, f"it goes on for more than {LONGEST_S} s"


@contextmanager
def _limited() -> Iterator[None]:
    def too_long(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
