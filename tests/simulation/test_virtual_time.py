"""asyncio in virtual time."""

import asyncio
import socket
import time

import pytest

from streamproc.testing.simulation.process import Crash
from streamproc.testing.simulation.virtual_time import Deadlock, Livelock, VirtualClock, VirtualTimeLoop, run


def test_hours_take_no_time() -> None:
    """Sleeps, time-outs, tasks and events are the real ones; only the waiting is left out."""

    async def main() -> list[str]:
        said = []
        event = asyncio.Event()

        async def waits() -> None:
            await event.wait()
            said.append(f"event at {round(asyncio.get_running_loop().time())}")

        task = asyncio.create_task(waits())
        asyncio.get_running_loop().call_later(7_200, event.set)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3_600):
                await asyncio.sleep(10_000)
        said.append(f"time-out at {round(asyncio.get_running_loop().time())}")
        await task
        await asyncio.sleep(30 * 86_400)
        said.append(f"slept until {round(asyncio.get_running_loop().time())}")
        return said

    began = time.process_time()
    assert run(main()) == ["time-out at 3600", "event at 7200", "slept until 2599200"]
    assert time.process_time() - began < 5


def test_what_is_ready_comes_before_the_next_timer() -> None:
    """Time moves only when nothing else is left to do."""

    async def main() -> list[float]:
        times = []
        for _ in range(100):
            await asyncio.sleep(0)
            times.append(asyncio.get_running_loop().time())
        return times

    assert set(run(main())) == {0.0}


def test_timers_fire_in_order() -> None:
    """Each at its time, from a tenth of a microsecond apart."""

    async def main() -> list[int]:
        fired: list[int] = []
        loop = asyncio.get_running_loop()
        for number in (3, 1, 2, 0):
            loop.call_later(1 + number * 1e-7, fired.append, number)
        await asyncio.sleep(2)
        return fired

    assert run(main()) == [0, 1, 2, 3]


def test_a_deadlock_is_told() -> None:
    """Nobody could ever wake the tasks that wait: they are named, with the place at which they do."""

    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(waits_for_nobody(), name="orphan")

    with pytest.raises(
        Deadlock, match=r"nothing is scheduled, so these 2 tasks would wait for ever: .*orphan at .*:\d+"
    ):
        run(main())


def test_the_wall_clock_begins_where_it_is_told() -> None:
    """And goes as fast as the loop."""

    async def main() -> tuple[int, int]:
        clock = VirtualClock(1_700_000_000_000)
        before = clock.now_ms()
        await asyncio.sleep(1.5)
        return before, clock.now_ms()

    assert run(main()) == (1_700_000_000_000, 1_700_000_001_500)


def test_there_are_no_threads_and_no_sockets() -> None:
    """What would take a time that no seed knows is refused."""

    async def thread() -> None:
        await asyncio.to_thread(time.sleep, 0)

    async def connection() -> None:
        with socket.socket() as unconnected:
            unconnected.setblocking(False)
            await asyncio.get_running_loop().sock_connect(unconnected, ("127.0.0.1", 1))

    with pytest.raises(RuntimeError, match="in virtual time there is none"):
        run(thread())
    with pytest.raises(NotImplementedError):
        run(connection())


def test_tasks_that_are_left_are_cancelled() -> None:
    """As at the end of asyncio.run."""
    said = []

    async def goes_on() -> None:
        try:
            await asyncio.sleep(1_000_000)
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def main() -> None:
        said.append(asyncio.create_task(goes_on()).get_name())
        await asyncio.sleep(1)

    run(main())
    assert said[1:] == ["cancelled"]


def test_a_crash_that_nobody_awaits_is_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks of a dead process end with Crash; any other error that nobody hears is logged as ever."""

    async def ends(error: BaseException) -> None:
        raise error

    async def main(error: BaseException) -> None:
        task = asyncio.create_task(ends(error))
        await asyncio.sleep(1)
        del task

    run(main(Crash("worker")))
    assert not caplog.records
    run(main(ValueError("lost")))
    assert "never retrieved" in caplog.text


def test_whoever_waits_until_an_instant_finds_that_it_has_come() -> None:
    """However its floats round: a timer that fires a little early would be set again and again."""

    async def main() -> int:
        loop, looks = asyncio.get_running_loop(), 0
        for step in range(1, 300):
            until = loop.time() + step / 7
            while (left := until - loop.time()) > 0:
                await asyncio.sleep(left)
                looks += 1
        return looks

    assert run(main()) < 2 * 300


def test_going_round_in_circles_is_told() -> None:
    """Time does not go on while somebody is always ready: who it may be is told, as is the time."""

    async def circles() -> None:
        event = asyncio.Event()
        event.set()
        while True:
            await event.wait()
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.sleep(7)
        await asyncio.create_task(circles(), name="dervish")

    with pytest.raises(Livelock, match=r"at 7\.0+ s something goes on without ever waiting; .*dervish at .*:\d+"):
        run(main())


def test_a_timer_of_this_instant_fires_behind_work() -> None:
    """However long somebody has worked: what is due now is not due at a later instant that never comes."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        for seconds in (0.1, 5.0, 30.0, 1_000.0):
            loop.work(seconds)
            due = asyncio.Event()
            loop.call_at(loop.time(), due.set)
            await due.wait()

    run(main())
