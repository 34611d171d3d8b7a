"""What a member asks of the coordinator of its group, and what the answers make of its membership (KIP-62, KIP-345)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from streamproc.kafka.calls import LATER_S, PASSING, Deadline, call
from streamproc.kafka.requests import (
    Cluster,
    Code,
    Heartbeat,
    Joined,
    JoinGroup,
    LeaveGroup,
    Membership,
    NoAnswer,
    Refused,
    Request,
    SyncGroup,
    code_name,
)
from streamproc.kafka.timing import Timing
from streamproc.log import Fenced, LogError, Replaced

logger = logging.getLogger("streamproc")

R = TypeVar("R")

LEAVE_S: Final = 2.0
"""A broker that does not answer holds up the end of a worker for no longer."""

_NO_MEMBER: Final = frozenset({Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID, Code.GROUP_ID_NOT_FOUND})

_WAYS_OUT: Final[Mapping[int, str]] = {
    Code.INCONSISTENT_GROUP_PROTOCOL: (
        "another application is in the group: give the app another name, or stop the other one"
    ),
    Code.GROUP_AUTHORIZATION_FAILED: "allow the app's user Read on the group",
    Code.INVALID_GROUP_ID: "give the app another name",
    Code.INVALID_SESSION_TIMEOUT: (
        "choose the setting session_timeout between the broker's group.min.session.timeout.ms and "
        "group.max.session.timeout.ms"
    ),
    Code.GROUP_MAX_SIZE_REACHED: "run fewer workers, or raise group.max.size of the broker",
}


class Session:
    """What a member and the coordinator of its group know of one another.

    Refusals that say that the membership is over are raised as Fenced, or Replaced when another one has the instance
    id. Whoever was expelled, or passed over, joins next as a new member, by its instance id alone; whoever does not
    know joins as the member that it was, so that it never takes the place of a newer one.
    """

    def __init__(self, cluster: Cluster, group: str, instance: str, timing: Timing) -> None:
        self._cluster = cluster
        self._group = group
        self._instance = instance
        self._timing = timing
        self._session_s = timing.session / 1000
        self._longest_s = (timing.session + timing.rebalance) / 1000
        """So long a member that joins may wait for the others; it needs no heartbeats then."""
        self._member = ""
        self._may_have_us = False
        self._heard = self._now()
        self._strays: list[float] = []
        """First joins that were never answered may still take effect, each until then, and replace this very member."""
        self.trouble: LogError | None = None
        """Why the last question was not answered, while none is."""

    @property
    def silent_s(self) -> float:
        """For how long the coordinator has not heard this member, by this member's clock."""
        return self._now() - self._heard

    async def join(self, metadata: bytes) -> Joined:
        """The next generation, when all have joined it. What passes is waited out.

        How long the others take cannot be told from a coordinator that died. So a member asks again now and then, which
        changes nothing if the coordinator lives. A process that is no member yet would take its own place, and begin
        another generation if the others have one by then: it waits for as long as it may be made to.
        """

        def request() -> JoinGroup:
            self._may_have_us = True
            timing = self._timing
            return JoinGroup(self._group, self._member, self._instance, timing.session, timing.rebalance, metadata)

        joined = await self._ask(request)
        self._member = joined.member
        return joined

    async def sync(self, joined: Joined, assignments: Mapping[str, bytes]) -> bytes | None:
        """The member's assignment; None when the group changes again."""
        request = SyncGroup(self._group, joined.generation, joined.member, self._instance, assignments)
        try:
            return await self._ask(lambda: request)
        except Refused as error:
            if error.code == Code.REBALANCE_IN_PROGRESS:
                return None
            raise

    async def beat(self, membership: Membership) -> bool:
        """Be heard, if the coordinator can be reached; whether the group changes.

        Raises Fenced when it has not heard this member for a session, too: it may have given its tasks away.
        """
        request = Heartbeat(self._group, membership.generation, membership.member, self._instance)
        sent = self._now()
        patience_s = max(self._session_s - self.silent_s, self._session_s / 10)
        try:
            await self._cluster.send(request, min(self._timing.request_s, self._session_s / 3, patience_s))
        except Refused as error:
            if error.code == Code.REBALANCE_IN_PROGRESS:
                self._heard, self.trouble = sent, None
                return True
            if error.code not in PASSING:
                raise self.over(error) from error
            self._unheard(error, self._session_s)
        except NoAnswer as error:
            self._unheard(error, self._session_s)
        else:
            self._heard, self.trouble = sent, None
        return False

    async def leave(self) -> None:
        """The group goes on without this member, at once if the coordinator answers within LEAVE_S."""
        if not self._may_have_us:
            return
        request = LeaveGroup(self._group, self._member, self._instance)
        try:
            await call(self._cluster, request, Deadline(LEAVE_S), answer_s=LEAVE_S / 2)
            logger.info("%s: left group %r", self._instance, self._group)
        except (Refused, NoAnswer) as error:
            if not isinstance(error, Refused) or error.code not in _NO_MEMBER:
                logger.warning(
                    "%s: could not leave group %r, so its tasks wait for its session to end (%g s): %s",
                    self._instance,
                    self._group,
                    self._session_s,
                    error,
                )

    def over(self, refused: Refused) -> LogError:
        """What to raise for a refusal that does not pass."""
        code = refused.code
        if code == Code.UNKNOWN_MEMBER_ID or (code == Code.FENCED_INSTANCE_ID and self._by_a_stray()):
            self._forget()
            return Fenced(f"{self._instance!r} was taken for dead and expelled from group {self._group!r}")
        if code == Code.FENCED_INSTANCE_ID:
            self._forget()
            return Replaced(self._instance)
        if code == Code.ILLEGAL_GENERATION:
            self._member = ""
            return Fenced(
                f"group {self._group!r} went on without {self._instance!r}, which had not joined again in time "
                f"(rebalance_timeout is {self._timing.rebalance / 1000:g} s)"
            )
        if code in _WAYS_OUT:
            return LogError(f"group {self._group!r} cannot be joined: {code_name(code)}: {_WAYS_OUT[code]}")
        return refused

    def _forget(self) -> None:
        self._member, self._may_have_us = "", False

    async def _ask(self, request: Callable[[], Request[R]]) -> R:
        while True:
            message = request()
            try:
                answer = await self._cluster.send(message, self._patience_s(message))
            except Refused as error:
                if error.code == Code.REBALANCE_IN_PROGRESS:
                    raise
                if error.code == Code.MEMBER_ID_REQUIRED:  # KIP-394; its detail is the id to join with
                    self._member = error.args[2]
                elif error.code not in PASSING:
                    raise self.over(error) from error
                self._unheard(error, self._longest_s)
            except NoAnswer as error:
                self._doubt(message)
                self._unheard(error, self._longest_s)
            except asyncio.CancelledError:
                self._doubt(message)
                raise
            else:
                self._heard, self.trouble = self._now(), None
                return answer
            await asyncio.sleep(LATER_S)

    def _patience_s(self, message: Request[R]) -> float:
        """How long an answer may take before it is asked for again."""
        answer_s = self._timing.request_s
        if not isinstance(message, JoinGroup):
            return answer_s
        return max(answer_s, self._session_s / 3) if message.member else self._timing.rebalance / 1000 + answer_s

    def _doubt(self, message: Request[R]) -> None:
        if isinstance(message, JoinGroup) and not message.member:
            self._strays = [*self._still(), self._now() + self._longest_s]

    def _by_a_stray(self) -> bool:
        """Whether it was this member itself that has taken its instance id; each stray can have been it once."""
        self._strays, strays = self._still()[1:], self._still()
        return bool(strays)

    def _still(self) -> list[float]:
        return [until for until in self._strays if self._now() < until]

    def _unheard(self, why: LogError, longest_s: float) -> None:
        self.trouble = why
        if self.silent_s > longest_s:
            raise Fenced(
                f"the coordinator of group {self._group!r} has not heard {self._instance!r} for {self.silent_s:.0f} s "
                f"(session_timeout is {self._session_s:g} s), so that it counts as dead: {why}"
            ) from why

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
