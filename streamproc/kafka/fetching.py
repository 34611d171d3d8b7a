"""Reading ahead: while the worker computes, the next records of its partitions are on their way.

Of each partition at most one piece waits, `partition_bytes` large (or one batch, where that is larger): so memory is
bounded by what is assigned, and a partition that is not read holds back no other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final

from streamproc.kafka.calls import LATER_S, PASSING
from streamproc.kafka.patience import SLOW_S
from streamproc.kafka.requests import Cluster, Code, Fetch, Fetched, NoAnswer, Refused, code_name
from streamproc.log import Chunk, LogError, Partition

logger = logging.getLogger("streamproc")

WAIT_MS: Final = 500
"""How long a leader may wait for records when nothing of it is ready here."""
SOON_MS: Final = 20
"""The same, where another of its partitions will have to be asked for soon."""
GONE_S: Final = 10.0
"""A topic that is unknown for so long is not just new."""
SLACK_S: Final = 5.0
"""How long an answer to a fetch may take beyond the wait."""

Why = Callable[[Partition, int, int], Awaitable[LogError | None]]
"""Of a partition, an offset and the code by which it was refused: the error to raise; None: it is to be asked again."""


class _Asked:
    """A fetch under way, or, `wait_ms` None, a partition in trouble that is not to be asked for now."""

    __slots__ = ("wait_ms",)

    def __init__(self, wait_ms: int | None) -> None:
        self.wait_ms = wait_ms


class _Trouble:
    """Since when a partition cannot be read, and when that is said next."""

    __slots__ = ("say_at", "since")

    def __init__(self, now: float) -> None:
        self.since = now
        self.say_at = now + SLOW_S


class Fetcher:
    """Reads ahead in the partitions that it was told to, from where it was told.

    arrived   set when something new may be taken
    """

    def __init__(self, cluster: Cluster, why: Why, *, partition_bytes: int) -> None:
        self.arrived = asyncio.Event()
        self._cluster = cluster
        self._why = why
        self._partition_bytes = partition_bytes
        self._positions: dict[Partition, int] = {}
        """Where the next piece of each partition begins."""
        self._ready: dict[Partition, Fetched | LogError] = {}
        self._at_end: set[Partition] = set()
        self._held_up: dict[Partition, int] = {}
        self._asked: dict[Partition, _Asked] = {}
        """A seek takes its partition out: what then comes is not what is wanted."""
        self._troubles: dict[Partition, _Trouble] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._failure: BaseException | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._closed = False

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._positions

    def keep(self, partitions: Collection[Partition]) -> None:
        """Read only in these from here on."""
        for partition in [p for p in self._positions if p not in partitions]:
            self._drop(partition)
            del self._positions[partition]

    def seek(self, partition: Partition, offset: int) -> None:
        """The next piece of the partition begins at the offset."""
        if self._positions.get(partition) == offset and partition not in self._ready:
            return
        self._drop(partition)
        self._positions[partition] = offset
        self._go_on()

    def take(self, partitions: Iterable[Partition]) -> list[Chunk]:
        """What is ready of these partitions. Raises LogError for one that cannot be read; its position stays."""
        self.arrived.clear()
        if self._failure is not None:
            raise self._failure
        chunks: list[Chunk] = []
        for partition in partitions:
            piece = self._ready.get(partition)
            if piece is None or (chunks and isinstance(piece, LogError)):  # said next time: the others would be lost
                continue
            del self._ready[partition]
            if isinstance(piece, LogError):
                self._go_on()
                raise piece
            chunks.append(Chunk(partition, piece.offsets, piece.next_offset, piece.columns))
        if chunks:
            self._go_on()
        return chunks

    def at_end(self, partitions: Collection[Partition]) -> set[Partition]:
        """Those of the partitions that had nothing more to read when their leader was last asked."""
        return {p for p in partitions if p in self._at_end and p not in self._ready}

    @property
    def held_up(self) -> Mapping[Partition, int]:
        """Those that have records which may not be read, as of when they were last asked for: from which offset on.

        A transaction that is open begins there.
        """
        return self._held_up

    @property
    def unanswered_s(self) -> float:
        """For how long no leader has answered though one was asked."""
        return asyncio.get_running_loop().time() - self._heard if self._tasks else 0.0

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self.keep(())
        if self._pause is not None:
            self._pause.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------ asking

    def _drop(self, partition: Partition) -> None:
        self._ready.pop(partition, None)
        self._asked.pop(partition, None)
        self._at_end.discard(partition)
        self._held_up.pop(partition, None)
        self._troubles.pop(partition, None)

    def _go_on(self, *, soon: bool = False) -> None:
        """Ask each leader for what is wanted of it: all at once, or what can be asked for while the rest cannot."""
        if self._closed:
            return
        for group in self._cluster.led_together(sorted(self._positions)):
            wanted = [p for p in group if p not in self._asked and p not in self._ready]
            waits = {self._asked[p].wait_ms for p in group if p in self._asked}
            if not wanted or SOON_MS in waits:  # what is under way ends soon, and then all can be asked for
                continue
            if WAIT_MS in waits or (soon and not self._ready.keys().isdisjoint(group)):
                self._ask(wanted, SOON_MS)
            elif self._ready.keys().isdisjoint(group):
                self._ask(wanted, WAIT_MS)
            elif self._pause is None:
                self._pause = asyncio.get_running_loop().call_later(SOON_MS / 1000, self._after_pause)

    def _after_pause(self) -> None:
        self._pause = None
        self._go_on(soon=True)

    def _ask(self, partitions: Sequence[Partition], wait_ms: int) -> None:
        asked = _Asked(wait_ms)
        self._asked.update(dict.fromkeys(partitions, asked))
        offsets = {partition: self._positions[partition] for partition in partitions}
        self._start(self._fetch(Fetch(offsets, wait_ms, self._partition_bytes), asked))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        if not self._tasks:
            self._heard = loop.time()
        task = loop.create_task(work)
        self._tasks[task] = None
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failure = failure
            self.arrived.set()

    async def _fetch(self, request: Fetch, asked: _Asked) -> None:
        pieces: Mapping[Partition, Fetched] = {}
        code: int = Code.NETWORK_EXCEPTION
        try:
            pieces = await self._cluster.send(request, request.wait_ms / 1000 + SLACK_S)
        except NoAnswer:
            pass
        except Refused as error:
            code, self._heard = error.code, asyncio.get_running_loop().time()
        else:
            self._heard = asyncio.get_running_loop().time()
        resting, passing = _Asked(None), []
        for partition, offset in request.offsets.items():
            if self._asked.get(partition) is not asked:
                continue
            piece = pieces.get(partition)
            refused = code if piece is None else piece.code
            if piece is not None and refused == Code.NONE:
                self._take_in(partition, piece)
            elif self._passes(partition, refused):
                self._asked[partition] = resting
                passing.append(partition)
            else:
                self._asked[partition] = looking = _Asked(None)
                self._start(self._look_into(partition, offset, refused, looking))
        self._go_on()
        if passing:
            await asyncio.sleep(LATER_S)
            for partition in passing:
                self._release(partition, resting)
            self._go_on()

    def _take_in(self, partition: Partition, piece: Fetched) -> None:
        del self._asked[partition]
        self._troubles.pop(partition, None)
        moved = piece.next_offset > self._positions[partition]
        self._positions[partition] = piece.next_offset
        if 0 <= piece.last_stable <= piece.next_offset:
            self._at_end.add(partition)
        else:
            self._at_end.discard(partition)
        if 0 <= piece.last_stable <= piece.next_offset < piece.high_watermark:
            self._held_up[partition] = piece.next_offset
        else:
            self._held_up.pop(partition, None)
        if moved:
            self._ready[partition] = piece
            self.arrived.set()

    # ------------------------------------------------------------------------------------ trouble

    def _passes(self, partition: Partition, code: int) -> bool:
        """Whether a partition that could not be read may be by and by; it is said that it cannot."""
        self._at_end.discard(partition)
        self._held_up.pop(partition, None)
        now = asyncio.get_running_loop().time()
        trouble = self._troubles.setdefault(partition, _Trouble(now))
        if now >= trouble.say_at and code != Code.NETWORK_EXCEPTION:  # of silence others speak
            trouble.say_at = 2 * now - trouble.since
            logger.warning("%s/%s cannot be read, for %.0f s now: %s", *partition, now - trouble.since, code_name(code))
        return code in PASSING or (code == Code.UNKNOWN_TOPIC_OR_PARTITION and now - trouble.since <= GONE_S)

    async def _look_into(self, partition: Partition, offset: int, code: int, looking: _Asked) -> None:
        """Find out what to say of a partition; while that lasts it is not asked for."""
        error: LogError | None
        try:
            error = await self._why(partition, offset, code)
        except NoAnswer:
            error = None
        except LogError as unexplained:
            error = unexplained
        if error is None:
            await asyncio.sleep(LATER_S)
        if self._release(partition, looking) and error is not None:
            self._ready[partition] = error
            self.arrived.set()
        self._go_on()

    def _release(self, partition: Partition, asked: _Asked) -> bool:
        """It may be asked for again, if it is where it was: True."""
        if self._asked.get(partition) is not asked:
            return False
        del self._asked[partition]
        return True
