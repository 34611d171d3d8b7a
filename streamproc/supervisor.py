"""Supervisor: several processes of an app on one machine, each started again in its slot when it dies.

    how a process ends                             what is done
    0                                              nothing: it was at the end of the input, or was asked to stop
    an error that would come again, 2              all processes are stopped; the error is told once
    the cluster cannot be reached                  it is started again with the longest pause, for as long as that lasts
    kill -9, a crash, another error                it is started again in its slot, at once; when it dies young again,
                                                   later each time; after so many times it is given up, and leaves the
                                                   group by the supervisor's word, so that the others have its tasks

The processes are fresh interpreters. They die with the supervisor (`streamproc.reports`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Any, Final, NamedTuple

import msgspec

from streamproc.condition import Condition
from streamproc.errors import StreamprocError
from streamproc.incidents import seconds
from streamproc.log import GroupFailed, LogError
from streamproc.reports import MOST_BYTES, Began, Doing, Ended, Failed, Said, decoded
from streamproc.runner import Progress, StageProgress
from streamproc.stop import Stop

logger = logging.getLogger("streamproc")

STOP_S: Final = 10.0
"""So long a process that was told to stop may take; then it is killed."""
DISMISS_S: Final = 3.0
WRONG_CALL: Final = 2
"""The exit code of a command that was called wrongly."""
_OVER: Final = ("ended", "failed", "given up")
"""The states of a place that has no process, and gets none any more."""
_LOOK_S: Final = 0.1
_POLL_S: Final = 0.02
_LAST_WORDS_S: Final = 1.0
"""So long what a dead process had said is still read: programs that it started may hold its pipes."""


class Patience(NamedTuple):
    """When a process that dies is given up.

    young_s  one that lived longer begins anew with a clean record
    pause_s  before the second start in a row, doubled for each more
    most     so many deaths in a row are enough
    """

    young_s: float = 10.0
    pause_s: float = 1.0
    most: int = 6

    @property
    def longest_s(self) -> float:
        """The pause before the last start."""
        return self.pause_after(self.most - 1)

    def pause_after(self, deaths: int) -> float:
        """Seconds; after the first death none."""
        return 0.0 if deaths <= 1 else self.pause_s * 2 ** (deaths - 2)


class Place(msgspec.Struct):
    """One of the processes, and those that had its place before.

    state      what it does, in words
    condition  what its worker does; None: not known, or the process is gone
    progress   how far it is, or came where it ended well; None: not known, or others have its tasks
    asked      it ended because it was asked to stop
    cut_off    it is started again and again because the cluster cannot be reached
    """

    number: int
    slot: int | None = None
    name: str = ""
    pid: int | None = None
    state: str = "starting"
    condition: Condition | None = None
    progress: Progress | None = None
    starts: int = 0
    deaths: int = 0
    asked: bool = False
    cut_off: bool = False
    failed: Failed | None = None
    process: Popen[bytes] | None = None

    def __str__(self) -> str:
        return "no slot yet" if self.slot is None else f"slot {self.slot}"


class GroupStopped(StreamprocError):
    """A process met an error that would come again, so that all were stopped."""

    @classmethod
    def by(cls, failed: Failed) -> GroupStopped:
        """For this failure; its traceback, where that is known, is a note of the error: it is what tells, not ours."""
        stopped = cls(failed.message)
        if failed.traceback is not None:
            stopped.add_note(f"\nIn the process that failed:\n{failed.traceback}")
        return stopped


class Supervisor:
    """Keeps processes running. `argv_of(place, descriptor)` is the command of one, which is given the socket's number.

    `dismiss(name)` makes a member that is dead leave the group; `print_line(text, error)` shows a line that a process
    printed. The cluster has been reached before: that it cannot be reached now will pass.
    """

    def __init__(
        self,
        argv_of: Callable[[Place, int], Sequence[str]],
        processes: int,
        *,
        stop: Stop,
        dismiss: Callable[[str], Awaitable[None]],
        print_line: Callable[[str, bool], None],
        patience: Patience = Patience(),  # noqa: B008 - immutable
        stop_s: float = STOP_S,
    ) -> None:
        self.places = [Place(number) for number in range(processes)]
        self._argv_of = argv_of
        self._stop = stop
        self._dismiss = dismiss
        self._print_line = print_line
        self._patience = patience
        self._stop_s = stop_s
        self._began = time.monotonic()
        self._past: list[Progress] = []
        """How far those came whose tasks others have."""
        self._cut_short = 0
        """How many died with no word of what they had read last."""
        self._failures: list[Failed] = []
        self._ending = asyncio.Event()

    async def run(self) -> Progress:
        """All processes, until each has ended; returns how far they came. Raises GroupStopped."""
        watching = asyncio.create_task(self._watch_stop())
        ending = asyncio.create_task(self._end_all())
        keeping = [asyncio.create_task(self._keep(place)) for place in self.places]
        try:
            await asyncio.gather(*keeping)
        finally:
            for task in (watching, ending, *keeping):
                task.cancel()
            for place in self.places:  # a second signal, or a failure of our own: they do not live on
                if place.process is not None and place.process.poll() is None:
                    place.process.kill()
                    with suppress(TimeoutExpired):
                        place.process.wait(_LAST_WORDS_S)
        if self._failures:
            raise GroupStopped.by(_told(self._failures))
        if all(place.state == "given up" for place in self.places):
            raise GroupStopped("every process died again and again: what they said before tells why")
        return self.progress()

    def progress(self) -> Progress:
        """How far all of them are, those that are gone too."""
        living = [place.progress for place in self.places if place.progress is not None]
        return merged(self._past, living, seconds_=time.monotonic() - self._began, cut_short=self._cut_short)

    # ------------------------------------------------------------------------------------ one place

    async def _keep(self, place: Place) -> None:
        """A process in this place, as long as it is worth it."""
        while not self._ending.is_set():
            began = time.monotonic()
            code = await self._one_life(place)
            lived_s = time.monotonic() - began
            self._cut_short += code != 0 and place.condition is not None
            place.pid = place.process = place.condition = None
            if code == 0:
                self._end(place)
                return
            self._hand_over(place)
            if place.failed is not None and place.failed.final or code == WRONG_CALL:
                self._fail(place, code)
                return
            if self._ending.is_set():
                place.state = "ended"
                if place.failed is None:  # it was killed, or ended itself for want of time: it has not left the group
                    await self._let_go(place)
                return
            if place.failed is not None and place.failed.unreachable:
                await self._wait_for_cluster(place, place.failed)
                continue
            place.deaths = 1 if lived_s >= self._patience.young_s else place.deaths + 1
            if place.deaths >= self._patience.most:
                await self._give_up(place, code)
                return
            await self._pause(place, code)
        place.state = "ended"

    async def _one_life(self, place: Place) -> int:
        """From start to end; the exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        with theirs:
            argv = self._argv_of(place, theirs.fileno())
            process = Popen(argv, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, pass_fds=[theirs.fileno()])  # noqa: ASYNC220, S603 - takes milliseconds; our own program
        place.process, place.pid, place.failed, place.asked = process, process.pid, None, False
        place.state, place.starts = "starting", place.starts + 1
        if self._ending.is_set():  # meanwhile
            process.terminate()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MOST_BYTES)
        with ExitStack() as opened:
            opened.callback(writer.close)
            listening = asyncio.gather(
                self._hear(place, reader),
                self._relay(await _reader(process.stdout, opened), error=False),
                self._relay(await _reader(process.stderr, opened), error=True),
            )
            opened.callback(listening.cancel)
            while (code := process.poll()) is None:  # noqa: ASYNC110 - nothing tells of it on every system
                await asyncio.sleep(_POLL_S)
            await _within(listening, _LAST_WORDS_S)
        return code

    async def _hear(self, place: Place, reader: asyncio.StreamReader) -> None:
        async for line in _lines(reader):
            try:
                report = decoded(line)
            except msgspec.MsgspecError:  # a process that dies in the midst of a line
                continue
            if isinstance(report, Began):
                place.slot, place.name, place.state = report.slot, report.name, "working"
                if place.cut_off:
                    place.cut_off = False
                    logger.warning("%s: it has reached the cluster again", place)
            elif isinstance(report, Doing):
                place.condition, place.progress = report.condition, report.progress or place.progress
            elif isinstance(report, Ended):
                place.progress, place.asked = report.progress, report.asked
            elif isinstance(report, Said):
                logger.log(report.level, "%s: %s", place, report.message)
                if report.traceback is not None:
                    self._print_line(report.traceback, True)
            else:
                place.failed = report
                if report.traceback is not None and not report.final:
                    self._print_line(report.traceback, True)

    async def _relay(self, stream: asyncio.StreamReader, *, error: bool) -> None:
        """What it, or a function of the user, prints."""
        async for line in _lines(stream):
            self._print_line(line.decode(errors="replace").rstrip("\n"), error)

    def _end(self, place: Place) -> None:
        """It has left the group; where it was asked to by somebody else, the others go on with its tasks."""
        place.state = "ended"
        by_others = place.asked and not self._stop.requested and not self._ending.is_set()
        if not by_others:
            logger.info("%s: ended", place)
            return
        logger.warning("%s: ended, as somebody asked its process to stop; %s", place, self._remaining())
        if all(other.state in _OVER for other in self.places):
            self._stop.request()  # with the last of them the run was stopped
        else:
            self._hand_over(place)

    def _hand_over(self, place: Place) -> None:
        """What it has read stays read; how far its tasks are is for those to say that have them now."""
        if place.progress is not None:
            self._past.append(place.progress)
            place.progress = None

    def _remaining(self) -> str:
        count = sum(place.state not in _OVER for place in self.places)
        return f"{count or 'none'} of {len(self.places)} {'go' if count > 1 else 'goes'} on"

    async def _wait_for_cluster(self, place: Place, failed: Failed) -> None:
        pause_s = self._patience.longest_s
        if not place.cut_off:
            place.cut_off = True
            how_often = f"it is started again every {seconds(pause_s)} until it reaches the cluster"
            logger.warning("%s: %s: %s", place, how_often, failed.message)
        place.state = "waits for the cluster"
        await _within(self._ending.wait(), pause_s)

    async def _pause(self, place: Place, code: int) -> None:
        pause_s = self._patience.pause_after(place.deaths)
        when = f"in {seconds(pause_s)}" if pause_s else "at once"
        logger.warning("%s: %s; it is started again %s", place, _ending_of(place, code), when)
        place.state = "starting" if not pause_s else f"to be started {when}"
        await _within(self._ending.wait(), pause_s)

    async def _give_up(self, place: Place, code: int) -> None:
        place.state = "given up"
        how_often = f"that was {place.deaths} times in a row: it is given up; {self._remaining()}"
        logger.error("%s: %s; %s", place, _ending_of(place, code), how_often)
        await self._let_go(place)

    # ------------------------------------------------------------------------------------ all of them

    def _fail(self, place: Place, code: int) -> None:
        failed = place.failed or Failed("", final=True, message=f"{place}: {_ending_of(place, code)}")
        self._failures.append(failed)
        place.state = "failed"
        self._ending.set()

    async def _watch_stop(self) -> None:
        while not self._stop.requested:  # noqa: ASYNC110 - a signal handler sets it, and wakes no event loop
            await asyncio.sleep(_LOOK_S)
        self._ending.set()

    async def _end_all(self) -> None:
        """Once it is to end: all are told, and killed when they take too long."""
        await self._ending.wait()
        living = [place for place in self.places if place.process is not None]
        for place in living:
            _signal(place, signal.SIGTERM)
        await asyncio.sleep(self._stop_s)
        for place in living:
            if place.process is not None and place.process.poll() is None:
                logger.error("%s: not done %s after it was told to stop: killed", place, seconds(self._stop_s))
                _signal(place, signal.SIGKILL)

    async def _let_go(self, place: Place) -> None:
        """A dead member leaves the group, so that nobody waits for it."""
        if place.name:
            try:
                async with asyncio.timeout(DISMISS_S):
                    await self._dismiss(place.name)
            except (LogError, TimeoutError) as error:
                why = error or "no answer"
                logger.warning("%s could not be taken out of the group, which waits for it now: %s", place.name, why)


def merged(past: Sequence[Progress], living: Sequence[Progress], *, seconds_: float, cut_short: int) -> Progress:
    """Several processes as one: what was read adds up, lag and event time are of those that have tasks."""
    stages: dict[str, StageProgress] = {}
    late: dict[str, int] = {}
    skipped: dict[str, int] = {}
    gone = [[StageProgress(stage.name, stage.records, 0, None) for stage in progress.stages] for progress in past]
    for stage in chain(*gone, *(progress.stages for progress in living)):
        known = stages.get(stage.name, StageProgress(stage.name, 0, 0, None))
        times = [time for time in (known.event_time, stage.event_time) if time is not None]
        stages[stage.name] = StageProgress(
            stage.name, known.records + stage.records, known.lag + stage.lag, min(times, default=None)
        )
    for progress in (*past, *living):
        for total, counts in ((late, progress.late), (skipped, progress.skipped)):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
    return Progress(tuple(stages.values()), late, skipped, seconds_, cut_short)


def _told(failures: Sequence[Failed]) -> Failed:
    """The failure that the others came from."""
    return next((failed for failed in failures if failed.kind != GroupFailed.__name__), failures[0])


def _ending_of(place: Place, code: int) -> str:
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    reason = f": {place.failed.message}" if place.failed is not None else ""
    return f"its process ended with exit code {code}{reason}"


def _signal(place: Place, number: signal.Signals) -> None:
    if place.process is not None and place.process.poll() is None:
        try:
            place.process.send_signal(number)
        except ProcessLookupError:
            return  # it has just ended


async def _reader(pipe: IO[bytes] | None, opened: ExitStack) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=MOST_BYTES)
    connected = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    opened.callback(connected[0].close)
    return reader


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await stream.readline()
        except (ValueError, ConnectionError):  # longer than any line; reset, as a killed process leaves it
            line = b"(...)\n" if not stream.at_eof() else b""
        if not line:
            return
        yield line


async def _within(waiting: Coroutine[Any, Any, Any] | asyncio.Future[Any], limit_s: float) -> None:
    """Wait, not longer than this."""
    try:
        async with asyncio.timeout(limit_s):
            await waiting
    except TimeoutError:
        return
