"""The test of the tests: each rule of the law, forgotten in the real engine, is noticed. `-v` lists the bugs.

random      by random plans, from seed 0 on, within so many
on a plan   by one of `directed`, within so many seeds of inputs
by hand     by a schedule of `scripts` or `live`
"""

from __future__ import annotations

import pytest

from tests.bugs import Catch, assert_noticed, by_hand
from tests.law import live, scripts
from tests.law.check import check, check_plan, crashes_everywhere
from tests.law.directed import (
    DEDUPLICATED,
    FORKED,
    IN_ORDER_TIMERS,
    POISONED,
    SESSIONS,
    SHORT_SESSIONS,
    THREE_STAGES,
    TOP,
    TWO_BRANCHES,
)
from tests.law.plans import Spec
from tests.law.planted import BUGS


def random_plans(within: int) -> Catch:
    return lambda: next(filter(None, (check(seed, schedules=4) for seed in range(within))), "")


def on(spec: Spec, within: int) -> Catch:
    return lambda: check_plan(spec, range(within), schedules=4)


CATCHES: dict[str, Catch] = {
    # holes A1, A13: order
    "last by arrival": random_plans(10),
    "ties by arrival": random_plans(10),
    "in_order's ties by arrival": random_plans(10),
    "float +=": random_plans(10),
    "fold by arrival": random_plans(10),
    "one number for all values of a flat_map": random_plans(20),
    "the branch is not in the origin": on(FORKED, 3),
    "the origin of a derived row is without its task": random_plans(20),
    "rows of windows have no origin": random_plans(10),
    "unsorted emission": random_plans(20),
    "heap insertion order in top": on(TOP, 5),
    # A2 - A4, A10: lateness and hold-back
    "the clock is what reaches the operator": random_plans(10),
    "lateness by the batch": random_plans(5),
    "lateness by the watermark of the operator": random_plans(5),
    "shared slices for partly late records": random_plans(10),
    "a session is late by its merged end": random_plans(20),
    "a session is late a gap later": on(SESSIONS, 3),
    "a session is late at ts + grace, not behind it": random_plans(20),
    "a session holds back its grace alone": random_plans(10),
    "a window holds nothing back": random_plans(20),
    "in_order holds nothing back": on(THREE_STAGES, 10),
    "deduplicate holds nothing back": on(DEDUPLICATED, 8),
    "a session closes at end + gap + grace, not behind it": on(SHORT_SESSIONS, 20),
    "the floor of the next re-key alone": random_plans(10),
    "with_timestamp keeps the clock of the old timestamps": random_plans(10),
    "timers at the watermark alone": random_plans(10),
    "the past of a timer is the watermark's": scripts.timers_in_fine_and_coarse_batches,
    "sparse clocks before timers": scripts.timers_in_fine_and_coarse_batches,
    # A5, A6, A12: batches that fail, watermarks between tasks
    "a failing batch is run again without rollback": on(POISONED, 5),
    "the clock behind a re-key is the largest timestamp seen": random_plans(10),
    "the second stream reads the user's topic": random_plans(10),
    "marks by task number alone": random_plans(20),
    "the mark of one branch for all": on(TWO_BRANCHES, 6),
    "a mark is written before the rows it speaks of": random_plans(10),
    # A9, A11: live runs
    "idle by the wall clock alone": live.slow_fetch,
    "that a partition was idle is not recorded": live.idle_and_a_crash,
    "what was closed without an idle partition is not recorded": live.idle_and_a_crash_of_a_stage_without_state,
    "a record after idleness is judged by its partition's old clock": live.idle_without_a_crash,
    "one record seventy years ahead moves the clock": live.from_the_future,
    # B5, B6 and design 8: epochs, state, restarts
    "one dirty set for two epochs": scripts.overlapped_epochs,
    "an abort keeps the vector of marks": random_plans(20),
    "the clock is not stored with the offset": random_plans(20),
    "closed up to where is not stored": random_plans(20),
    "the vector of marks is not stored": scripts.lost_disk_with_an_ended_upstream,
    "no replay of the changelog": random_plans(10),
    "disk before log": lambda: crashes_everywhere(THREE_STAGES, wipe=False),
    "outputs outside the transaction": random_plans(10),
    "no fencing": scripts.stopped_before_its_commit,
    "a task is kept though another worker had it": scripts.owned_elsewhere_meanwhile,
    # B1, B4, design 7: commits that are aborted, not answered, or not fenced
    "an Unknown is taken for aborted": random_plans(10),
    "an Unknown is taken for committed": random_plans(5),
    "a transaction without offsets": random_plans(40),
    "after an abort the tables are not rolled back": random_plans(10),
    "restore before the offsets are read": scripts.dead_before_it_was_decided,
    "restore to the last stable offset": random_plans(5),
    # B7: the end of the input
    "each worker takes its own end of the input": scripts.two_workers_and_a_source_that_grows,
    "a task that is opened again commits that it has not ended": random_plans(50),
    "the end is stored as an infinite watermark": random_plans(20),
    "the end forgets what it closed": random_plans(20),
    "an end of an earlier run counts": random_plans(20),
    "the end fires timers beyond the watermark": on(IN_ORDER_TIMERS, 5),
}


@pytest.mark.parametrize("name", CATCHES)
def test_it_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug, planted, gives another answer, an alarm, an error or a run that hangs."""
    assert_noticed(BUGS[name], CATCHES[name], monkeypatch)


def test_every_bug_has_its_test() -> None:
    """Whatever can be planted is, and nothing else is looked for."""
    assert BUGS.keys() == CATCHES.keys()


@pytest.mark.parametrize("script", [*by_hand(CATCHES, __name__), live.silent_but_not_for_long])
def test_without_a_bug_there_is_nothing_to_notice(script: Catch) -> None:
    """The schedules written by hand give the oracle's answer."""
    assert script() == ""
