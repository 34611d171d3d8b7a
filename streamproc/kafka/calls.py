"""A request repeated until a deadline, and which answers are worth a repetition."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, Final, TypeVar

from streamproc.kafka.requests import Cluster, Code, NoAnswer, Refused, Request

R = TypeVar("R")

PASSING: Final = frozenset(
    {
        Code.LEADER_NOT_AVAILABLE,
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.REQUEST_TIMED_OUT,
        Code.NETWORK_EXCEPTION,
        Code.COORDINATOR_LOAD_IN_PROGRESS,
        Code.COORDINATOR_NOT_AVAILABLE,
        Code.NOT_COORDINATOR,
        Code.NOT_ENOUGH_REPLICAS,
        Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code.CONCURRENT_TRANSACTIONS,
        Code.KAFKA_STORAGE_ERROR,
        Code.UNSTABLE_OFFSET_COMMIT,
    }
)
"""A cluster that moves leaders and coordinators about, or finishes a transaction, answers so; it passes by itself."""
PATIENCE_S: Final = 60.0
"""What a cluster is asked for outside of an epoch may take so long: a broker's restart (default.api.timeout.ms)."""
SOON_S: Final = 0.005
"""A transaction's markers are written within milliseconds, mostly."""
LATER_S: Final = 0.1
LEAST_S: Final = 0.01
"""The last try before a deadline is waited for so long at least."""
TICK_S: Final = 1e-6
"""A timer may go off a moment before its time; what is left then is nothing."""


class Deadline:
    """An instant of the event loop's clock."""

    def __init__(self, seconds: float) -> None:
        self._at = asyncio.get_running_loop().time() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 when it has passed."""
        left = self._at - asyncio.get_running_loop().time()
        return left if left > TICK_S else 0.0

    @property
    def over(self) -> bool:
        """Whether it has passed."""
        return self.left == 0

    def at_most(self, answer_s: float) -> float:
        """How long an answer may take."""
        return min(answer_s, max(self.left, LEAST_S))


def pause_s(code: int) -> float:
    """How long to wait before asking again behind a refusal that passes."""
    return SOON_S if code in (Code.CONCURRENT_TRANSACTIONS, Code.UNSTABLE_OFFSET_COMMIT) else LATER_S


async def call(
    cluster: Cluster,
    request: Request[R],
    deadline: Deadline,
    *,
    answer_s: float,
    passing: Collection[int] = PASSING,
) -> R:
    """Send until there is an answer other than one that passes, or the deadline: then the last error is raised.

    Every answer is waited for `answer_s` at most. Repeats are safe for requests that do the same when they come twice:
    all but Produce, which is numbered, and EndTxn, whose answer is the outcome of an epoch.
    """
    refused: Refused | None = None
    tries = 0
    while True:
        try:
            return await cluster.send(request, deadline.at_most(answer_s))
        except Refused as error:
            if error.code not in passing or deadline.over:
                raise
            refused, pause = error, pause_s(error.code)
        except NoAnswer:
            if deadline.over:
                if refused is not None:  # that says more than a last try which had no time
                    raise refused from None
                raise
            refused, pause = None, LATER_S
        tries += 1
        await asyncio.sleep(min(pause * (1 + tries // 4), LATER_S, deadline.left))


async def together(coroutines: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """What all of them return. When one of them fails, the others have ended too before that is raised."""
    results = await asyncio.gather(*coroutines, return_exceptions=True)
    done: list[R] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
