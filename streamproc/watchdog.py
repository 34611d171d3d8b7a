"""Watchdog: a worker that lives and does not work says so.

    what it sees                                       how
    a function that blocks the event loop              a thread samples where the loop's thread is
    a turn that does not end, a poll that hangs        the calls of the log under way
    an epoch that does not commit                      tasks with something to commit, and no commit
    a broker that does not answer                      what was asked and is unanswered
    a partition that a transaction holds up            records behind its last stable offset
    tasks that nobody has, a group that never settles  one worker looks at the group now and then

Each is said once when it has lasted, and once when it is over. How far a restore is, the restore says itself.
While a function holds the event loop nothing can be heard, so that time is nobody's silence (`streamproc.event_loop`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from streamproc.condition import SILENT_S, Condition, condition_of, silent_s
from streamproc.event_loop import BEAT_S, Pulse, Sampler
from streamproc.frames import waits_in
from streamproc.held_up import held_up, way_out
from streamproc.incidents import Incidents, seconds
from streamproc.log import GroupView, LogError
from streamproc.runner import Run
from streamproc.settings import Settings
from streamproc.watched_log import WatchedLog
from streamproc.windows.duration import duration_ms

logger = logging.getLogger("streamproc")

TURN_S: Final = 15.0
"""So long a turn of the worker may take."""
COMMIT_S: Final = 30.0
"""So long records may be read and not committed; three epochs at least."""
JOIN_S: Final = 30.0
"""So long joining a group, or sharing out its tasks, may take."""
HELD_UP_S: Final = 30.0
"""So long a transaction of somebody's may hold a partition up; three epochs at least, as it may be of this group."""
OWNERLESS_S: Final = 20.0
"""So long a task may be without an owner."""
GROUP_EVERY_S: Final = 10.0
DEEP: Final = 4
"""So many of the innermost coroutines are named."""


class Watchdog:
    """Watches the worker of this process, which works through `log`, until `watching` is left.

    Made in the thread of the event loop that the worker runs in.
    """

    def __init__(self, app: str, log: WatchedLog, member: str, settings: Settings) -> None:
        self.condition = Condition(ready=False, reason="starting")
        """What the worker is doing; set anew with each beat, and read by any thread."""
        self._app = app
        self._log = log
        self._member = member
        three_epochs_s = 3 * duration_ms(settings.epoch_interval) / 1000
        self._commit_s = max(COMMIT_S, three_epochs_s)
        self._held_up_s = max(HELD_UP_S, three_epochs_s)
        self._broker = settings.broker
        self._run: Run | None = None
        self._turned_s: float | None = None
        self._commits = 0
        self._uncommitted_since: float | None = None
        self._incidents = Incidents()
        self._main: asyncio.Task[Any] | None = None
        self._pulse = Pulse(time.monotonic())
        self.loop = Sampler(threading.get_ident(), self._pulse)
        """Who holds the event loop; asked by any thread."""

    # ------------------------------------------------------------------------------------ driven by

    async def watch(self, run: Run) -> None:
        """Called after each turn."""
        self._run = run
        self._turned_s = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Within it, the thread and the looks at the group go on."""
        left = threading.Event()
        threading.Thread(target=self.loop.run, args=(left,), name="watchdog", daemon=True).start()
        self._main = asyncio.current_task()
        looking = [asyncio.create_task(self._keep_looking()), asyncio.create_task(self._keep_looking_at_group())]
        try:
            yield
        finally:
            left.set()
            for task in looking:
                task.cancel()
            for ended in await asyncio.gather(*looking, return_exceptions=True):
                if not isinstance(ended, asyncio.CancelledError):
                    logger.error("the watchdog failed; please report this", exc_info=ended)

    @property
    def blocked_s(self) -> float:
        """For how long the event loop has not shown that it runs; asked by other threads."""
        return time.monotonic() - self._pulse.last_s

    async def _keep_looking(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            self._pulse.beat(clock())
            self.look(clock())
            await asyncio.sleep(BEAT_S)

    async def _keep_looking_at_group(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(GROUP_EVERY_S)
            try:
                async with asyncio.timeout(GROUP_EVERY_S):
                    view = await self._log.log.group(self._app)
            except (LogError, TimeoutError) as error:
                logger.debug("the group could not be looked at: %r", error)
            else:
                self.look_at_group(view, clock())

    # ------------------------------------------------------------------------------------ what it sees

    def look(self, now_s: float) -> None:
        """Look at the worker, at this instant of the event loop's clock."""
        traffic = self._log.traffic
        worker = self._run.worker if self._run is not None else None
        opened, restoring = (worker.tasks, worker.restoring) if worker is not None else ({}, {})
        self.condition = condition_of(self._app, traffic, opened, restoring, pulse=self._pulse, now_s=now_s)
        if traffic.leaving:
            return
        self._look_at_turn(now_s)
        self._look_at_commit(now_s)
        self._look_at_partitions(now_s)
        unheard_s = silent_s(traffic, self._pulse, now_s)
        silent = unheard_s >= SILENT_S
        self._incidents.see(
            "log",
            "Kafka does not answer" if silent else None,
            now_s=now_s,
            since_s=now_s - unheard_s if silent else None,
        )
        joining = None if traffic.assigned is not None or silent else self.condition.reason
        self._incidents.see("join", joining, now_s=now_s, after_s=JOIN_S)

    def _look_at_turn(self, now_s: float) -> None:
        since = self._turned_s
        stuck = since is not None and self._pulse.free_s(since, now_s) >= TURN_S
        self._incidents.see("turn", self._stuck(now_s) if stuck else None, now_s=now_s, since_s=since)

    def _stuck(self, now_s: float) -> str:
        waits = [
            f"{call.name} for {seconds(self._pulse.free_s(call.since, now_s))}" for call in self._log.traffic.calls
        ]
        if waits:
            return f"the worker is stuck: the log has not answered ({', '.join(waits)})"
        where = f" (it is in {' > '.join(waits_in(self._main.get_coro())[-DEEP:])})" if self._main is not None else ""
        return f"the worker is stuck, and not because of the log: please report this{where}"

    def _look_at_commit(self, now_s: float) -> None:
        traffic = self._log.traffic
        dirty = self._run is not None and any(task.dirty for task in self._run.worker.tasks.values())
        dirty = dirty or traffic.commit_error is not None  # aborted, it is clean, and its records are unread again
        if not dirty or traffic.commits != self._commits:
            self._uncommitted_since = None
        self._commits = traffic.commits
        if dirty and self._uncommitted_since is None:
            self._uncommitted_since = now_s
        since = self._uncommitted_since
        overdue = since is not None and now_s - since >= self._commit_s
        why = f" (the last try: {traffic.commit_error})" if traffic.commit_error is not None else ""
        self._incidents.see(
            "commit", f"no epoch has been committed{why}" if overdue else None, now_s=now_s, since_s=since
        )

    def _look_at_partitions(self, now_s: float) -> None:
        now = {f"held up {p.topic}/{p.number} {offset}": (p, offset) for p, offset in self._log.traffic.held_up.items()}
        for name in sorted(name for name in self._incidents.names() if name.startswith("held up ") and name not in now):
            self._incidents.see(name, None, now_s=now_s)
        for name, (partition, offset) in sorted(now.items()):
            what, advice = held_up(partition, offset), way_out(partition, offset, self._broker)
            self._incidents.see(name, what, now_s=now_s, after_s=self._held_up_s, note=advice)

    def look_at_group(self, view: GroupView, now_s: float) -> None:
        """One worker, the first of those that have tasks, says which tasks of the plan nobody has."""
        changing = "the group is sharing out its tasks" if view.changing else None
        self._incidents.see("group", changing, now_s=now_s, after_s=JOIN_S)
        if view.changing:
            return
        owned = {task for member in view.members for task in member.tasks}
        working = [member.name for member in view.members if member.tasks] or [member.name for member in view.members]
        speaker = min(working, default=None) == self._member
        ownerless = {f"{stage}/{number}" for stage, number in self._log.traffic.offered - owned} if speaker else set()
        told = {name.removeprefix("owner ") for name in self._incidents.names() if name.startswith("owner ")}
        for task in sorted(ownerless | told):
            what = f"task {task} has no owner, and holds back what comes behind it" if task in ownerless else None
            self._incidents.see(f"owner {task}", what, now_s=now_s, after_s=OWNERLESS_S, task=task)
