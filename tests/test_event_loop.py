"""Who holds an event loop: threads that wait where a test makes them, looked at by a clock that moves by hand."""

import asyncio
import logging
import threading
import time
from collections.abc import Iterator

import pytest

from streamproc import App
from streamproc.condition import Condition
from streamproc.event_loop import ADVICE, HOLDS_KEPT, QUIET_S, STOOD_STILL, Pulse, Sampler
from streamproc.memory_log import MemoryLog
from streamproc.watchdog import Watchdog
from streamproc.watched_log import WatchedLog
from streamproc.worker_process import _Standing


class Held:
    """A thread in a function of the user that does not return, and what is said of it."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self._caplog = caplog
        self._released = threading.Event()
        self._holding = threading.Thread(target=hold, args=(self._released,))
        self._holding.start()
        self.pulse = Pulse(100.0)
        self.sampler = Sampler(self._holding.ident or 0, self.pulse)
        self._now_s = 100.0

    def until(self, now_s: float, *, beats: bool = False) -> str:
        """What is told once it has been looked at four times a second until then, while the loop is held or beats."""
        while self._now_s < now_s:
            self._now_s += 0.25
            if beats:
                self.pulse.beat(self._now_s)
            self.sampler.look(self._now_s)
        return self.sampler.told

    def lines(self) -> list[str]:
        """What was logged since it was asked last."""
        found = [record.getMessage().replace(self.place, "LINE") for record in self._caplog.records]
        self._caplog.clear()
        return found

    @property
    def place(self) -> str:
        return self.sampler.where

    def release(self) -> None:
        self._released.set()
        self._holding.join()


def hold(until: threading.Event) -> None:
    """A function of the user that does not return."""
    until.wait()


@pytest.fixture
def held(caplog: pytest.LogCaptureFixture) -> Iterator[Held]:
    held = Held(caplog)
    yield held
    held.release()


def test_once_when_it_has_lasted_and_once_when_it_is_over(held: Held) -> None:
    """The line of the user's code is named; it is over when it has been quiet for a while, and ends when it ended."""
    assert "test_event_loop.py" in held.place
    assert held.place.endswith("in hold: until.wait()")
    assert held.until(104.75) == ""
    assert held.lines() == []
    assert held.until(105) == f"the event loop has been blocked for 5.0 s at {held.place}"
    assert held.until(131).startswith("the event loop has been blocked for 31 s at")
    assert held.lines() == [f"the event loop is blocked at LINE, for 5.0 s now. {ADVICE}"]
    assert held.sampler.blocks
    was = f"the event loop was blocked for 31 s at {held.place}"
    assert held.until(131.25, beats=True) == was
    assert not held.sampler.blocks
    assert held.until(131 + QUIET_S, beats=True) == was
    assert held.lines() == []
    assert held.until(131.25 + QUIET_S, beats=True) == ""
    assert held.lines() == ["over after 31 s: the event loop is blocked at LINE"]


def test_again_and_again(held: Held) -> None:
    """A function that takes seven seconds a record is told once, and how often it was when it is over."""
    for record in range(10):
        now_s = 100 + 7 * record
        held.pulse.beat(now_s)
        told = held.until(now_s + 6.75)
    assert told == f"the event loop has been blocked for 6.8 s at {held.place}, 10 times in 70 s"
    held.pulse.beat(170)
    assert held.until(172) == f"the event loop was blocked 10 times in 70 s, for up to 7.0 s, mostly at {held.place}"
    assert held.lines() == [f"the event loop is blocked at LINE, for 5.0 s now. {ADVICE}"]
    held.until(201, beats=True)
    often = "It was 10 times, for up to 7.0 s, mostly at LINE"
    assert held.lines() == [f"over after 70 s: the event loop is blocked at LINE. {often}"]
    assert held.until(206) == f"the event loop has been blocked for 5.0 s at {held.place}"


def test_a_process_that_stood_still(held: Held) -> None:
    """Whoever looks was late too: it may not have been the line where the loop's thread is."""
    held.until(101, beats=True)
    held.sampler.look(161)
    assert held.lines() == [f"the event loop is blocked at LINE{STOOD_STILL}, for 60 s now. {ADVICE}"]


def test_a_short_while(held: Held) -> None:
    """What holds it for less is not said, however often."""
    for record in range(20):
        held.pulse.beat(100 + 4 * record)
        assert held.until(104 + 4 * record - 0.25) == ""
    assert held.lines() == []


def test_time_in_which_the_loop_ran() -> None:
    """Beats that are late by less than a second are of a loop that is busy, and hears what comes."""
    pulse = Pulse(0.0)
    for now_s in (0.25, 1.0, 11.0, 11.25, 31.25, 31.5):
        pulse.beat(now_s)
    assert pulse.free_s(0.0, 32.0) == 2.0
    assert pulse.free_s(6.0, 32.0) == 1.0
    assert pulse.free_s(20.0, 31.5) == 0.25
    assert pulse.free_s(31.25, 31.5) == 0.25


def test_holds_that_are_forgotten() -> None:
    """What was before those that are known is not counted as time in which the loop ran."""
    pulse = Pulse(0.0)
    for hold_ in range(HOLDS_KEPT + 5):
        pulse.beat(hold_ * 10 + 2.0)
        pulse.beat(hold_ * 10 + 2.5)
        pulse.beat(hold_ * 10 + 10.0)
    end = (HOLDS_KEPT + 5) * 10.0
    assert 0 < pulse.free_s(0.0, end) <= (HOLDS_KEPT + 5) * 0.5
    assert pulse.free_s(end - 10, end) == 0.5


async def test_what_is_answered(held: Held) -> None:
    """While the loop is held, that and no more, as nothing newer is known; behind it both; dead only by its limit."""
    app = App("held")
    watchdog = Watchdog("held", WatchedLog(MemoryLog()), "a", app.settings({}, {}))
    watchdog.condition = Condition(ready=True, reason="working on 1 task")
    watchdog.loop = held.sampler
    standing = _Standing()
    assert (standing.reason, standing.live(60.0)) == ("starting", (True, "the event loop runs"))
    standing.join("a", watchdog)
    assert (standing.reason, standing.live(60.0)) == ("working on 1 task", (True, "the event loop runs"))
    told = held.until(107)
    assert (standing.reason, standing.live(60.0)) == (told, (True, told))
    alive, reason = standing.live(0.0)
    assert not alive
    assert reason.startswith("the event loop has been blocked for ")
    assert reason.endswith(f" at {held.place}")
    told = held.until(107.25, beats=True)
    assert (standing.reason, standing.live(60.0)) == (f"working on 1 task; {told}", (True, told))


async def test_a_real_loop_that_is_held(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Seen from its thread while the loop is held, and known by the loop once it runs again."""
    monkeypatch.setattr("streamproc.event_loop.BLOCKED_S", 0.2)
    monkeypatch.setattr("streamproc.event_loop.HELD_S", 0.2)
    app = App("held")
    app.topic("numbers")
    watchdog = Watchdog("held", WatchedLog(MemoryLog()), "a", app.settings({}, {}))
    async with watchdog.watching():
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0)
        while not watchdog.loop.told:
            time.sleep(0.01)  # noqa: ASYNC251 - that is what it is about
        assert "in test_a_real_loop_that_is_held" in watchdog.loop.told
        ended = asyncio.get_running_loop().time()
        while watchdog._pulse.last_s < ended:
            await asyncio.sleep(0.01)
        assert watchdog._pulse.free_s(began, ended) < ended - began
    assert "the event loop is blocked at " in caplog.text
