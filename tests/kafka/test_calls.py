"""A request repeated until a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from streamproc.kafka.calls import LATER_S, LEAST_S, SOON_S, Deadline, call, together
from streamproc.kafka.requests import Cluster, Code, ListTopics, NoAnswer, Refused
from streamproc.testing.simulation.virtual_time import run


class Scripted:
    """Answers as it is told, the last for ever; None is silence. `asked` is when, and for how long it was waited."""

    def __init__(self, *answers: Any) -> None:
        self.asked: list[tuple[float, float]] = []
        self._answers = list(answers)

    async def send(self, request: Any, timeout_s: float) -> Any:
        self.asked.append((asyncio.get_running_loop().time(), timeout_s))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is None:
            await asyncio.sleep(timeout_s)
            raise NoAnswer("a test", "it is silent")
        if isinstance(answer, Code):
            raise Refused(answer, "a test")
        return answer

    def led_together(self, partitions: Any) -> Any: ...
    def pack(self, columns: Any) -> Any: ...
    async def close(self) -> None: ...


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def ran(*args: Any, **fixtures: Any) -> None:
        run(test(*args, **fixtures))

    return ran


async def asked(cluster: Cluster, seconds: float = 10.0, answer_s: float = 2.0) -> Any:
    return await call(cluster, ListTopics(), Deadline(seconds), answer_s=answer_s)


@pytest.mark.parametrize("passes", [Code.NOT_COORDINATOR, Code.CONCURRENT_TRANSACTIONS, None])
@in_virtual_time
async def test_what_passes_is_asked_again_until_it_has_passed(passes: Any) -> None:
    """The answer behind it."""
    cluster = Scripted(passes, passes, {"t": 1})
    assert await asked(cluster) == {"t": 1}
    assert len(cluster.asked) == 3


@in_virtual_time
async def test_what_does_not_pass_is_raised_at_once() -> None:
    """Asking again would be of no use."""
    cluster = Scripted(Code.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(Refused):
        await asked(cluster)
    assert len(cluster.asked) == 1


@in_virtual_time
async def test_at_the_deadline_the_last_error_is_raised() -> None:
    """And nothing is asked behind it."""
    loop = asyncio.get_running_loop()
    for answer, error in ((Code.NOT_COORDINATOR, Refused), (None, NoAnswer)):
        began = loop.time()
        with pytest.raises(error):
            await asked(Scripted(answer))
        assert loop.time() - began == pytest.approx(10, abs=LEAST_S)


@in_virtual_time
async def test_a_last_try_that_had_no_time_does_not_hide_what_was_said_before() -> None:
    """A coordinator that is elsewhere is not one that is silent."""
    with pytest.raises(Refused, match="UNSTABLE_OFFSET_COMMIT"):
        await asked(Scripted(*[Code.UNSTABLE_OFFSET_COMMIT] * 5, None), 0.05)
    with pytest.raises(NoAnswer):
        await asked(Scripted(Code.UNSTABLE_OFFSET_COMMIT, None), 5)


@in_virtual_time
async def test_pauses_are_short_at_first_where_it_passes_in_milliseconds() -> None:
    """And never long: a tenth of a second."""
    cluster = Scripted(Code.CONCURRENT_TRANSACTIONS)
    with pytest.raises(Refused):
        await asked(cluster, 60)
    pauses = [b - a for (a, _), (b, _) in zip(cluster.asked, cluster.asked[1:], strict=False)]
    assert pauses[:3] == pytest.approx([SOON_S] * 3)
    assert max(pauses) == pytest.approx(LATER_S)
    cluster = Scripted(Code.NOT_COORDINATOR)
    with pytest.raises(Refused):
        await asked(cluster, 1)
    assert len(cluster.asked) == 11


@in_virtual_time
async def test_no_answer_is_waited_for_beyond_the_deadline() -> None:
    """But for a moment."""
    cluster = Scripted(None)
    with pytest.raises(NoAnswer):
        await asked(cluster, 5, 2)
    assert [round(seconds, 2) for _, seconds in cluster.asked] == [2, 2, 0.8]


def test_a_deadline_is_over_when_a_timer_says_so() -> None:
    """Timers go off a moment early at times: who waited for a deadline does not wait for it again."""

    async def early() -> None:
        deadline = Deadline(1)
        deadline._at += 1e-9
        await asyncio.sleep(1)
        assert (deadline.left, deadline.over) == (0, True)

    run(early())


@in_virtual_time
async def test_together_ends_when_all_have_ended() -> None:
    """Though one has failed: nothing of it is left to happen later."""
    done: list[str] = []

    async def fails() -> str:
        raise ZeroDivisionError

    async def slow() -> str:
        await asyncio.sleep(3)
        done.append("slow")
        return "slow"

    with pytest.raises(ZeroDivisionError):
        await together([fails(), slow()])
    assert done == ["slow"]
    assert await together([slow(), slow()]) == ["slow", "slow"]
    cancelled = asyncio.create_task(together([slow()]))
    await asyncio.sleep(1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await asyncio.sleep(5)
    assert len(done) == 3
