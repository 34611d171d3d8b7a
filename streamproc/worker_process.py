"""One process of an app: its log, its slot, its watchdog, its health, and the run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final, NamedTuple

import msgspec

from streamproc.app import App
from streamproc.condition import Condition
from streamproc.first_contact import awaited_log
from streamproc.incidents import seconds
from streamproc.log import Log
from streamproc.log_url import open_log
from streamproc.runner import Progress, Run, open_disk, run, state_folder
from streamproc.settings import Settings
from streamproc.slot import Slot, taken_slot
from streamproc.stop import GIVE_BACK_S, Stop, done_within
from streamproc.watchdog import Watchdog
from streamproc.watched_log import WatchedLog

logger = logging.getLogger("streamproc")

_RUNS: Final = "the event loop runs"


class Health(msgspec.Struct, frozen=True):
    """Where a process says how it is, and for how long a function may hold its event loop before it is said dead."""

    address: tuple[str, int]
    live_within_s: float


class Process(NamedTuple):
    """A process of an app that has its slot (in memory: none), for those that look on."""

    app: App
    slot: Slot | None
    watchdog: Watchdog


class Onlooker:
    """Looks on; this one does nothing with it."""

    async def began(self, process: Process) -> None:
        """Called once, before the worker joins its group."""

    async def turned(self, run: Run) -> None:
        """Called after each turn, so it does little, and seldom."""


async def work(
    app: App,
    settings: Settings,
    *,
    stop: Stop,
    until_end: bool,
    onlooker: Onlooker,
    slot: int | None = None,
    health: Health | None = None,
    patient: bool = False,
) -> Progress:
    """Run an app in this process until it is asked to stop, or to the end of its input; returns how far it came.

    The worker is called by its slot, the one of this number or the first that is free; in memory it needs none.
    `patient`: a Kafka that cannot be reached is waited for; else that is an error.
    """
    async with AsyncExitStack() as stack:
        standing = _Standing()
        if health is not None:
            stack.enter_context(_answering(health, app, standing))
        opened = await (awaited_log(settings, stop, standing.wait) if patient else open_log(settings))
        if opened is None:
            return Progress((), {}, {}, 0.0)
        log = WatchedLog(opened)
        stack.push_async_callback(_give_back, log)
        held: Slot | None = None
        if settings.broker.startswith("memory://"):
            await _warn_of_memory(app, log)
        else:
            held = stack.enter_context(taken_slot(state_folder(app, settings), slot))
        member = held.name if held is not None else f"worker-{os.getpid()}"
        watchdog = Watchdog(app.name, log, member, settings)
        await stack.enter_async_context(watchdog.watching())
        standing.join(member, watchdog)
        await onlooker.began(Process(app, held, watchdog))

        async def watch(under_way: Run) -> None:
            await watchdog.watch(under_way)
            await onlooker.turned(under_way)

        return await run(
            app, log, open_disk(app, settings), settings, stop=stop, until_end=until_end, watch=watch, member=member
        )
    raise AssertionError


class _Standing:
    """How a process stands, for other threads that ask: until it has its log and its name, what it waits for."""

    def __init__(self) -> None:
        self.member: str | None = None
        self._condition = Condition(ready=False, reason="starting")
        self._watchdog: Watchdog | None = None

    def wait(self, reason: str) -> None:
        """It waits for its log."""
        self._condition = Condition(ready=False, reason=reason)

    def join(self, member: str, watchdog: Watchdog) -> None:
        """From here on the watchdog knows."""
        self.member, self._watchdog = member, watchdog

    @property
    def condition(self) -> Condition:
        return self._condition if self._watchdog is None else self._watchdog.condition

    @property
    def reason(self) -> str:
        """What it does. While a function holds the event loop, that: what was true before may not be any more."""
        told = "" if self._watchdog is None else self._watchdog.loop.told
        if self._watchdog is None or not told:
            return self.condition.reason
        return told if self._watchdog.loop.blocks else f"{self.condition.reason}; {told}"

    def live(self, within_s: float) -> tuple[bool, str]:
        """Whether the event loop has shown within this time that it runs; and what holds it, or did a moment ago."""
        if self._watchdog is None:  # nothing runs yet that could hold it
            return True, _RUNS
        loop, blocked_s = self._watchdog.loop, self._watchdog.blocked_s
        if blocked_s < within_s:
            return True, loop.told or _RUNS
        return False, f"the event loop has been blocked for {seconds(blocked_s)} at {loop.where}"


@contextmanager
def _answering(health: Health, app: App, standing: _Standing) -> Iterator[None]:
    """Within it the process's health is told over HTTP."""
    from streamproc.health import Answer, answering, shown_address  # noqa: PLC0415 - loads a web server

    def live() -> Answer:
        ok, reason = standing.live(health.live_within_s)
        return Answer(ok, {"live": ok, "reason": reason, "app": app.name, "member": standing.member})

    def ready() -> Answer:
        lives, condition = live(), standing.condition
        ok = lives.ok and condition.ready
        reason = standing.reason if lives.ok else lives.body["reason"]
        body = {"ready": ok, "reason": reason, "app": app.name, "member": standing.member, "tasks": condition.tasks}
        return Answer(ok, body)

    with answering(health.address, {"/live": live, "/ready": ready}) as port:
        logger.info("health: http://%s/live and /ready", shown_address(health.address[0], port))
        yield


async def _warn_of_memory(app: App, log: Log) -> None:
    logger.warning(
        "memory:// is empty at the start and forgotten at the end, and no other process sees it: this run has nothing "
        "to read. Use local://DIR; to try an app on given records there is streamproc.testing.replay"
    )
    for topic in app.plan.sources:
        await log.create(topic.name, partitions=1, config={})


async def _give_back(log: Log) -> None:
    if not await done_within(log.close(), GIVE_BACK_S):
        logger.warning("the log was not closed in time; what was committed is committed")
