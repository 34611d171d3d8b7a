"""One seed, one history; and exactly once, whatever happens, for a client that asks what became of its transaction."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.contest import NUMBERS, OUT, SLOTS, Outcome, digest, outcome

ROOT = Path(__file__).parents[2]
EXPECTED = {
    partition: Counter((slot, number) for slot in SLOTS for number in range(NUMBERS) if number % len(OUT) == place)
    for place, partition in enumerate(OUT)
}


def doubled_or_lost(found: Outcome) -> list[tuple[str, int]]:
    """Numbers that are not there once."""
    wrong = []
    for partition, numbers in found.numbers.items():
        seen = Counter(numbers)
        wrong += list((seen - EXPECTED[partition]) + (EXPECTED[partition] - seen))
    return wrong


@pytest.mark.parametrize("seed", range(25))
def test_every_number_once_and_in_order(seed: int) -> None:
    """Through crashes, pauses, lost, late and repeated messages, restarts of the broker."""
    found = outcome(seed)
    assert doubled_or_lost(found) == []
    for numbers in found.numbers.values():
        for slot in SLOTS:
            of_slot = [number for of, number in numbers if of == slot]
            assert of_slot == sorted(of_slot)


def test_a_client_that_guesses_is_caught() -> None:
    """One that takes `no answer` for `not done` doubles what was done."""
    assert any(doubled_or_lost(outcome(seed, guesses=True)) for seed in range(25))


def test_a_contest_meets_everything() -> None:
    """The seeds above are not spared: what each fault leads to has happened in some of them."""
    answers = {(effect.request, effect.answer) for seed in range(25) for effect in outcome(seed).effects}
    for met in (
        ("Produce", "repeated"),
        ("EndTxn", "PRODUCER_FENCED"),
        ("Produce", "INVALID_PRODUCER_EPOCH"),
        ("TxnOffsetCommit", "INVALID_PRODUCER_EPOCH"),
        ("EndTxn", "CONCURRENT_TRANSACTIONS"),
        ("InitProducerId", "PRODUCER_FENCED"),
        ("InitProducerId", "COORDINATOR_LOAD_IN_PROGRESS"),
        ("TxnOffsetCommit", "NOT_COORDINATOR"),
        ("Produce", "LEADER_NOT_AVAILABLE"),
    ):
        assert met in answers, met


def test_one_seed_one_history() -> None:
    """In one process and in others, whatever the order of their sets; another seed has another one."""
    found = digest(1)
    assert digest(1) == found
    assert digest(2) != found
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation.contest", "1"],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            timeout=60,
        )
        assert done.stdout.strip() == found
