"""The wall clock of a machine whose system time is set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamproc.clock import SystemClock

S = 1_000_000_000


class Machine:
    """`system_ns` may be set; `passed_ns` goes on."""

    def __init__(self) -> None:
        self.system_ns = 1_000_000 * S
        self.passed_ns = 0

    def clock(self) -> SystemClock:
        return SystemClock(system_ns=lambda: self.system_ns, monotonic_ns=lambda: self.passed_ns)

    def wait(self, seconds: int) -> None:
        self.system_ns += seconds * S
        self.passed_ns += seconds * S

    def step(self, seconds: int) -> None:
        self.system_ns += seconds * S


def test_it_shows_the_system_time() -> None:
    """Also where that was set ahead, or has gone on while the machine slept."""
    machine = Machine()
    clock = machine.clock()
    machine.wait(5)
    machine.step(3_600)
    assert clock.now_ms() == machine.system_ns // 1_000_000


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-5_000, 5_000))))
def test_it_goes_on_as_time_does_whatever_the_system_time_is_set_to(waits_and_steps: list[tuple[int, int]]) -> None:
    """It never goes back, and never stands still: between two looks there is at least what has passed."""
    machine = Machine()
    clock = machine.clock()
    before_ms = clock.now_ms()
    for wait_s, step_s in waits_and_steps:
        machine.step(step_s)
        machine.wait(wait_s)
        now_ms = clock.now_ms()
        assert now_ms - before_ms >= wait_s * 1_000
        assert now_ms >= machine.system_ns // 1_000_000
        before_ms = now_ms
