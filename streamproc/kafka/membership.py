"""A member of a consumer group, from its first join until it leaves: the eager protocol of Kafka's classic groups.

    join ---> lead, if chosen: share out, fence who is gone ---> sync ---> Assigned
     ^                                                                        |
     |                                                                    heartbeats
     |                                                                        |
     '--- release (the worker has committed) <--- Revoked <--- the group changes

All of that is one task beside the worker, which is told by `event` what it has to know, and by `check` that the
membership is over; then nothing goes on until the worker, which has dropped what it had, asks for events again.
While the worker gives up its tasks heartbeats go on: a slow last commit costs no session.

Who restarts joins by an instance id that is in the group, takes that member's place and is given its assignment,
without a new generation. Nobody else notices.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from streamproc.counted import counted
from streamproc.kafka.assignment import (
    Assignment,
    Subscription,
    decode_assignment,
    encode_subscription,
)
from streamproc.kafka.calls import LATER_S, SOON_S
from streamproc.kafka.leadership import lead
from streamproc.kafka.patience import SLOW_S, said_if_slow
from streamproc.kafka.requests import Cluster, Code, Joined, Membership, Refused
from streamproc.kafka.session import Session
from streamproc.kafka.timing import Timing
from streamproc.log import Assigned, Fenced, GroupFailed, LogError, Replaced, Revoked, TaskInput

logger = logging.getLogger("streamproc")

STOP_S: Final = 0.5
"""What waits for an answer is given so long to let go of it."""
LONGEST_PAUSE_S: Final = 1.0
"""Between two attempts to get into a generation, when one after the other ends before it began."""
PAUSES: Final = 10
"""So many of them fit into the time that the members have for joining: who pauses must not miss the next one."""


class Member:
    """A static member of a group (KIP-345); everything here belongs to one event loop.

    changed   set while there is something to tell: look at `check`, then at `event`
    outvoted  most members of its generation run another plan, so that it has no tasks
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        instance: str,
        tasks: Sequence[TaskInput],
        timing: Timing,
        *,
        plan: str = "",
        shared: bytes = b"",
    ) -> None:
        self.group = group
        self.instance = instance
        self.changed = asyncio.Event()
        self.outvoted = False
        self._cluster = cluster
        self._timing = timing
        self._session = Session(cluster, group, instance, timing)
        self._says = Subscription(instance=instance, plan=plan, inputs=tuple(tasks), shared=shared)
        self._life: asyncio.Task[None] | None = None
        self._joined = Membership(group, 0, "", instance)
        """The generation that it is in, told or not."""
        self._told: Membership | None = None
        """The generation of the last `Assigned` that was told, until it is released."""
        self._has_tasks = False
        """Whether the worker may have tasks open: then it has to be told when others may have them."""
        self._assigned = Assigned(frozenset())
        self._pending: Assigned | Revoked | None = None
        self._revoked = False
        self._released = asyncio.Event()
        self._ended: Exception | None = None
        self._waits_for = ""
        self._left = False

    # ------------------------------------------------------------------------------------ what the worker sees

    def start(self) -> None:
        """Begin to join."""
        self._life = asyncio.create_task(self._live())

    def check(self) -> None:
        """Raise what ended the membership: Fenced once, whatever is for good (Replaced, GroupFailed, ...) each time."""
        if self._ended is not None:
            raise self._take_end(self._ended)

    def event(self) -> Assigned | Revoked | None:
        """What the worker has to be told next; it counts as told. Behind a Fenced, joins again."""
        if self._left:
            msg = f"{self.instance!r} has left group {self.group!r}: join it again with Log.source"
            raise LogError(msg)
        if self._life is None and self._ended is None:
            self.start()
        event = self._pending
        self._tell(None)
        if isinstance(event, Assigned):
            self._told, self._has_tasks = self._joined, True
        return event

    @property
    def membership(self) -> Membership:
        """What to commit under: as of the last `Assigned` that was told. Raises Fenced when that is over."""
        if self._left:
            reason = f"{self.instance!r} has left group {self.group!r}"
            raise Fenced(reason)
        if isinstance(self._ended, Fenced):
            raise self._take_end(self._ended)
        if self._told is None:
            reason = f"{self.instance!r} was not assigned any tasks of group {self.group!r}, or has released them"
            raise Fenced(reason)
        return self._told

    @property
    def told(self) -> Membership | None:
        """As of the last `Assigned` that was told, until it is released or known to be over."""
        return self._told

    @property
    def holds(self) -> bool:
        """Whether the worker may read: it was told its tasks, and they were not revoked since."""
        return self._told is not None and not self._revoked

    async def confirm(self) -> None:
        """Return when the coordinator has said that the membership as last told goes on; else raise Fenced."""
        told = self.membership
        while True:
            try:
                await self._session.beat(told)
            except Fenced as error:
                self._lose(error)
                raise
            if self._session.trouble is None:
                return
            await asyncio.sleep(LATER_S)

    def release(self) -> None:
        """Answer a `Revoked`: join the next generation. Without one to answer, nothing happens."""
        if self._revoked:
            self._revoked, self._told = False, None
            self._tell(None)
            self._released.set()

    def tell_again(self) -> None:
        """The worker begins anew with the tasks that it has: it is told them once more, if nothing else comes."""
        if self._told == self._joined and self._pending is None and not self._revoked:
            self._tell(self._assigned)

    def lost(self, reason: str, code: int = Code.NONE) -> Fenced:
        """The worker, by a refused commit, knows that its membership is over; the next `event` joins again.

        Returns what to raise. `code` is what the group's coordinator said: REBALANCE_IN_PROGRESS, that it takes nothing
        of this generation any more, is as good as ILLEGAL_GENERATION. Without a code (the transactional id was taken
        over) the member joins as what it was, and learns whether another one has its instance id: Replaced.
        """
        over = self._session.over(Refused(code, reason))
        self._lose(over)
        return over if isinstance(over, Fenced) else Fenced(reason)

    def _lose(self, over: LogError) -> None:
        self._cancel()
        self._drop()
        if isinstance(over, Replaced):
            self._end(over)
        elif self._ended is not None:
            self._take_end(self._ended)

    async def leave(self) -> None:
        """The group goes on without this member, at once if its coordinator answers within two seconds."""
        if self._left:
            return
        self._left = True
        await self._stop()
        self._drop()
        await self._session.leave()

    async def fail(self, reason: str) -> None:
        """Every member's next `check` raises GroupFailed; this one is in no generation any more, and is to leave.

        Returns when the leader has told the others, or when they had time enough to give up their tasks.
        """
        if self._left or isinstance(self._ended, (Replaced, GroupFailed)):
            return
        await self._stop()
        self._drop()
        self._end(GroupFailed(reason))
        self._says = msgspec.structs.replace(self._says, failure=reason)
        try:
            async with asyncio.timeout(self._timing.rebalance / 1000):
                await self._join()
        except GroupFailed:
            await asyncio.sleep(self._timing.heartbeat / 1000)  # who is slow still finds the generation
        except (LogError, TimeoutError) as error:
            why = str(error) or "the others did not give up their tasks in time"
            logger.warning("%s: could not tell group %r that it must stop: %s", self.instance, self.group, why)

    # ------------------------------------------------------------------------------------ its life

    async def _live(self) -> None:
        try:
            while True:
                await self._join()
                await self._hold()
        except Exception as error:  # noqa: BLE001 - whatever it is, `check` raises it
            self._life = None
            self._drop()
            self._end(error)

    async def _join(self) -> None:
        """Until a generation has begun with this member in it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        offered = counted(len(self._says.inputs), "task")
        logger.info("%s: joins group %r, offers %s", self.instance, self.group, offered)
        pause_s, longest_s = SOON_S, min(LONGEST_PAUSE_S, self._timing.rebalance / 1000 / PAUSES)
        with said_if_slow(self._waiting):
            while (assignment := await self._generation()) is None:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, longest_s)
        logger.info(
            "%s: is in generation %s of group %r after %.2f s, with %s of its %s; workers: %s",
            self.instance,
            self._joined.generation,
            self.group,
            loop.time() - began,
            len(assignment.tasks),
            offered,
            len(assignment.peers),
        )
        self.outvoted = assignment.plan != self._says.plan
        if self.outvoted:
            logger.warning(
                "%s: most workers of group %r run another version of the app, so this one has no tasks: stop those of "
                "the old version",
                self.instance,
                self.group,
            )

    async def _generation(self) -> Assignment | None:
        """An attempt to be in the next generation; None when it was over before it began."""
        self._waits_for = "the others to give up their tasks and join too"
        try:
            joined = await self._session.join(encode_subscription(self._says))
            if joined.leader == joined.member:
                self._waits_for = "the transactions of those that are gone to be aborted"
                gives = await lead(self._cluster, self.group, self.instance, joined, self._timing)
            else:
                gives = {}
            self._waits_for = "the leader to share out the tasks"
            answer = await self._session.sync(joined, gives)
        except Replaced:
            raise
        except Fenced:
            if self._has_tasks:
                raise
            return None
        return None if answer is None else self._take(joined, answer)

    def _take(self, joined: Joined, answer: bytes) -> Assignment | None:
        """What the leader gave is what this member has; None when it was meant for somebody else."""
        assignment = decode_assignment(answer) if answer else None
        if assignment is None or self._is_old(assignment, joined.member):
            self._says = msgspec.structs.replace(self._says, attempt=self._says.attempt + 1)
            return None
        if assignment.failure:
            raise GroupFailed(assignment.failure)
        if assignment.refusal:
            raise LogError(f"{self.instance!r} cannot be in group {self.group!r}: {assignment.refusal}")
        self._says = msgspec.structs.replace(
            self._says, generation=joined.generation, owned=assignment.owned, peers=assignment.peers
        )
        if assignment.shared:
            self._says = msgspec.structs.replace(self._says, shared=assignment.shared, agreed=joined.generation)
        self._joined = Membership(self.group, joined.generation, joined.member, self.instance)
        self._assigned = Assigned(frozenset(assignment.owned), assignment.shared)
        self._tell(self._assigned)
        return assignment

    def _is_old(self, assignment: Assignment, member: str) -> bool:
        """Whether it was made for this instance's last process, and does not fit this one."""
        if self._says.failure and not assignment.failure:
            return True
        fits = not assignment.failure and not assignment.refusal and assignment.offer == self._says.offer
        return assignment.member != member and not fits

    async def _hold(self) -> None:
        """Be heard, until the group changes and the worker has nothing to give up any more."""
        loop = asyncio.get_running_loop()
        beat_s = min(self._timing.heartbeat, self._timing.session / 3) / 1000
        say_at_s = SLOW_S
        self._waits_for = "the coordinator to hear this worker"
        self._released.clear()
        while not self._released.is_set():
            due = loop.time() + beat_s
            with suppress(TimeoutError):
                async with asyncio.timeout(beat_s):
                    await self._released.wait()
                    return
            self._say_if_late(loop.time() - due)
            if await self._session.beat(self._joined):
                if self._told != self._joined:  # the worker does not know of this generation: it has nothing of it
                    self._tell(None)
                    return
                self._revoke()
            if self._session.trouble is None:
                say_at_s = SLOW_S
            elif self._session.silent_s >= say_at_s:
                logger.warning("%s, for %.0f s now", self._waiting(), self._session.silent_s)
                say_at_s *= 2

    def _say_if_late(self, late_s: float) -> None:
        if late_s > self._timing.session / 2000:
            logger.warning(
                "%s: for %.1f s nothing else could run in this process, no heartbeat either: a function of the app "
                "took so long, or the process was stopped. After session_timeout, %g s, a worker is taken for dead",
                self.instance,
                late_s,
                self._timing.session / 1000,
            )

    def _revoke(self) -> None:
        if not self._revoked:
            logger.info("%s: group %r changes, its tasks are to be given up", self.instance, self.group)
            self._revoked = True
            self._tell(Revoked())

    def _waiting(self) -> str:
        trouble = self._session.trouble
        why = "" if trouble is None else f" ({trouble})"
        return f"{self.instance}, in group {self.group!r}, waits for {self._waits_for}{why}"

    # ------------------------------------------------------------------------------------ its end

    def _tell(self, event: Assigned | Revoked | None) -> None:
        self._pending = event
        if event is not None or self._ended is not None:
            self.changed.set()
        else:
            self.changed.clear()

    def _drop(self) -> None:
        """The worker has, or will have when it is told what comes, no tasks."""
        self._told, self._has_tasks, self._revoked = None, False, False
        self._tell(None)

    def _end(self, error: Exception) -> None:
        self._ended = error
        self.changed.set()

    def _take_end(self, error: Exception) -> Exception:
        if isinstance(error, Fenced) and not isinstance(error, Replaced):
            self._ended = None
            self._tell(self._pending)
        return error

    def _cancel(self) -> asyncio.Task[None] | None:
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
        return life

    async def _stop(self) -> None:
        life = self._cancel()
        if life is not None:
            await asyncio.wait({life}, timeout=STOP_S)
