"""The test of the simulation: each rule of exactly-once, forgotten in the real engine, is noticed. `-v` lists the bugs.

seeds        by random scenarios, from seed 0 on, within so many
under        by random scenarios under one weather, within so many
by hand      by one of `scenes` or `live_scenes`
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamproc.testing.simulation import ROUGH, Faults, Weather
from tests.bugs import Catch, assert_noticed, by_hand
from tests.simulation import live_scenes, scenes
from tests.simulation.law import play, play_scenario, random_scenario
from tests.simulation.planted import BUGS

MOVING = ROUGH._replace(faults=Faults(moved=0.2), every_s=(0.2, 2))
"""Coordinators and leaders move."""
CRASHING = ROUGH._replace(faults=Faults(outlives=0.5), every_s=(0.05, 0.6), pause_s=(0.05, 1), one_disk=True)
"""The network is good, and processes are not."""


def seeds(within: int) -> Catch:
    return lambda: next((what for seed in range(within) if (what := play(seed).what)), "")


def under(weather: Weather, within: int, **changes: Any) -> Catch:
    def catch() -> str:
        for seed in range(within):
            rng = random.Random(seed)
            scenario = random_scenario(rng)._replace(weather=weather, **changes)
            if what := play_scenario(scenario, rng).what:
                return f"seed {seed}: {what}"
        return ""

    return catch


CATCHES: dict[str, Catch] = {
    # memberships: aiokafka's D1, D8; holes C1
    "offsets are committed without a membership": scenes.expelled_in_mid_commit,
    "the membership is read at commit time": scenes.expelled_in_mid_commit,
    "a task is kept though another worker had it": scenes.owned_elsewhere_meanwhile,
    "heartbeats without the instance id": scenes.two_of_one_name,
    "the leader fences a live member": scenes.workers_that_come_and_leave,
    "the gone are not fenced": scenes.killed_in_mid_commit,
    "a first join that takes long is given up": scenes.first_joins_that_take_long,
    "who comes back does not take back its id": scenes.away_for_a_generation,
    # transactions: D2, D3; B4, B9
    "a failed epoch is not aborted": scenes.given_up_before_the_end,
    "after an abort the tables are not rolled back": scenes.given_up_before_the_end,
    "a refused batch is ignored": under(MOVING, 5),
    "a batch without an answer is sent under another number": scenes.written_and_not_told,
    "numbers go on behind an epoch": seeds(3),
    "outputs in a transaction of their own": scenes.killed_before_its_offsets,
    "a transaction without offsets": seeds(100),
    "an Unknown is taken for aborted": scenes.decided_and_not_told,
    "an Unknown is taken for committed": scenes.not_decided_and_not_told,
    # reading: D4, D5, D10
    "offsets are read unstable": scenes.handed_over_while_markers_are_on_their_way,
    "a coordinator that moved has no offsets": under(MOVING, 10),
    "what is out of range is read from the beginning": scenes.dropped_before_it_was_read,
    "what is out of range is believed at once": scenes.purged_while_it_stood_still,
    "aborted records are read": seeds(5),
    # idle partitions: A9
    "a partition is idle though a transaction is open at its end": live_scenes.a_transaction_open_at_the_end,
    "a partition is idle as it was at its end before": live_scenes.stood_still_for_longer_than_idle,
    # state: B1 - B3, B8, B10, B12; design 4
    "restore to the last stable offset": scenes.handed_over_while_markers_are_on_their_way,
    "no replay of the changelog": seeds(5),
    "disk before log": scenes.killed_before_its_offsets,
    "a store older than the tombstones is caught up": scenes.a_disk_that_is_too_old,
    "changelogs keep event time, and no longer than outputs": seeds(5),
    "a locked store ends the worker": under(CRASHING, 10),
    "purged before the outcome is known": scenes.given_up_behind_a_re_key,
    "a new source partition is read at once": live_scenes.old_records_in_a_new_partition,
}


@pytest.mark.parametrize("name", CATCHES)
def test_it_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug, planted, gives another answer, an alarm, an error or a run that hangs."""
    assert_noticed(BUGS[name], CATCHES[name], monkeypatch)


def test_every_bug_has_its_test() -> None:
    """Whatever can be planted is, and nothing else is looked for."""
    assert BUGS.keys() == CATCHES.keys()


@pytest.mark.parametrize("scene", by_hand(CATCHES, __name__))
def test_without_a_bug_there_is_nothing_to_notice(scene: Catch) -> None:
    """The worlds made by hand give the oracle's answer."""
    assert scene() == ""
