"""Event loop: that it runs, and which line holds it when it does not.

A function of the user holds it for as long as it runs. The loop shows by its beats that it runs; a thread of its own
sees that a beat is overdue, and where the loop's thread is meanwhile.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from streamproc.frames import where_it_is
from streamproc.incidents import Incidents, seconds

BEAT_S: Final = 0.25
"""The event loop shows that it runs so often."""
HELD_S: Final = 1.0
"""Between beats that are farther apart the loop was held, and nothing could be heard."""
BLOCKED_S: Final = 5.0
"""So long a function may hold the event loop before it is said."""
QUIET_S: Final = 30.0
"""Once nothing has blocked it for so long, that is over; before, it is said once, however often it is blocked."""
HOLDS_KEPT: Final = 100

ADVICE: Final = (
    "Until that returns the worker does nothing else; on Kafka its tasks go to others if that takes longer than "
    "session_timeout"
)
"""Said with the line that blocks."""
STOOD_STILL: Final = " (no other thread ran either: the process was stopped, or native code let none run)"
"""Said where the thread that looks was late itself, so that it is not known who held the loop."""


class Pulse:
    """The beats of an event loop, on its clock; of its thread, but for the last one, which any may ask for."""

    def __init__(self, now_s: float) -> None:
        self.last_s = now_s
        self._holds: deque[tuple[float, float]] = deque()
        self._forgotten_s = -math.inf
        """Holds that ended until then are not known any more."""

    def beat(self, now_s: float) -> None:
        """The loop runs, at this instant."""
        if now_s - self.last_s >= HELD_S:
            self._holds.append((self.last_s, now_s))
            if len(self._holds) > HOLDS_KEPT:
                _, self._forgotten_s = self._holds.popleft()
        self.last_s = now_s

    def free_s(self, since_s: float, now_s: float) -> float:
        """For how much of the time since then the loop ran, so that what came was heard; rather less than more.

        >>> pulse = Pulse(0.0)
        >>> for now_s in (0.25, 6.25, 6.5): pulse.beat(now_s)
        >>> pulse.free_s(0.0, 6.5), pulse.free_s(3.0, 6.5)
        (0.5, 0.25)
        """
        since_s = max(since_s, self._forgotten_s)
        held_s = sum(end - max(begin, since_s) for begin, end in self._holds if end > since_s)
        return now_s - since_s - held_s


@dataclass(slots=True)
class _Spell:
    """The loop is blocked, or has been, once or again and again; times are of the monotonic clock, in seconds."""

    since: float
    beat: float
    """The last one before it was blocked the last time."""
    until: float
    holding: bool = True
    times: int = 1
    longest: float = 0.0

    def goes_on(self, beat: float, now_s: float) -> None:
        if beat != self.beat:
            self.beat, self.times = beat, self.times + 1
        self.holding, self.until = True, now_s
        self.longest = max(self.longest, self.until - self.beat)

    def pauses(self, beat: float) -> None:
        if self.holding:
            self.holding, self.until = False, beat
            self.longest = max(self.longest, self.until - self.beat)

    def told(self, place: str) -> str:
        lasted = seconds(self.until - self.since)
        often = f"{self.times} times in {lasted}"
        if self.holding:
            again = f", {often}" if self.times > 1 else ""
            return f"the event loop has been blocked for {seconds(self.until - self.beat)} at {place}{again}"
        how = f"{often}, for up to {seconds(self.longest)}, mostly" if self.times > 1 else f"for {lasted}"
        return f"the event loop was blocked {how} at {place}"


class Sampler:
    """Sees, from a thread of its own, that the thread of the event loop is held, and by which line."""

    def __init__(self, thread: int, pulse: Pulse) -> None:
        self.told = ""
        """What of it is to be known now, or was a short while ago; '' if nothing. Read by any thread."""
        self._thread = thread
        self._pulse = pulse
        self._incidents = Incidents()
        self._spell: _Spell | None = None
        self._places: Counter[str] = Counter()
        self._looked_s = pulse.last_s

    def run(self, left: threading.Event) -> None:
        """Look until it is left."""
        while not left.wait(BEAT_S):
            self.look(time.monotonic())

    @property
    def blocks(self) -> bool:
        """Whether `told` is of now: nothing that the loop said of itself before is to be relied on."""
        spell = self._spell
        return spell is not None and spell.holding

    @property
    def where(self) -> str:
        """Where the thread is now."""
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - documented, for debuggers
        return "its end" if frame is None else where_it_is(frame)

    def look(self, now_s: float) -> None:
        """Look at the thread, at this instant of the monotonic clock."""
        beat = self._pulse.last_s
        held_s = now_s - beat
        if held_s >= HELD_S:
            self._places[self.where + (STOOD_STILL if now_s - self._looked_s >= HELD_S else "")] += 1
        self._looked_s = now_s
        if held_s >= BLOCKED_S:
            self._block(beat, now_s)
        elif self._spell is not None:
            self._pause(self._spell, beat, now_s)
        elif held_s < HELD_S:
            self._places.clear()

    def _block(self, beat: float, now_s: float) -> None:
        if self._spell is None:
            self._spell = _Spell(beat, beat, now_s)
        self._spell.goes_on(beat, now_s)
        [(place, _)] = self._places.most_common(1)
        self.told = self._spell.told(place)
        what = f"the event loop is blocked at {place}"
        self._incidents.see("loop", what, now_s=now_s, since_s=self._spell.since, note=ADVICE)

    def _pause(self, spell: _Spell, beat: float, now_s: float) -> None:
        spell.pauses(beat)
        [(place, _)] = self._places.most_common(1)
        self.told = spell.told(place)
        if now_s - spell.until >= QUIET_S:
            often = f"It was {spell.times} times, for up to {seconds(spell.longest)}, mostly at {place}"
            self._incidents.see("loop", None, now_s=spell.until, note=often if spell.times > 1 else "")
            self._spell, self.told = None, ""
            self._places.clear()
