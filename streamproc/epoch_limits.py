"""Epoch limits: how much an epoch may hold, and how much the open one does. What fails is halved, not repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from streamproc.log import Chunk
from streamproc.settings import Settings
from streamproc.step_size import StepSize
from streamproc.task import Task
from streamproc.windows.duration import duration_ms

HALVINGS: Final = 10
"""The smallest epoch is 1/1024 of what the settings say."""
LAST_TRIES: Final = 20
"""So many of the smallest epochs are aborted in a row before it is given up."""


class EpochLimits:
    """By the settings at first; half of it after each epoch that came to nothing, doubled back by those that are whole.

    A batch that is too much for a session or a transaction would be so again, and so would be the epoch.
    """

    def __init__(self, settings: Settings) -> None:
        self._interval_ms = duration_ms(settings.epoch_interval)
        self._records = settings.epoch_records
        self._bytes = settings.epoch_bytes
        self._halvings = 0
        self._aborted = 0
        """How many of the smallest were aborted in a row."""
        self._began_ms = 0
        self._read_records = 0
        self._read_bytes = 0

    @property
    def interval_ms(self) -> int:
        """An epoch is due after so long; 0: after each batch."""
        return self._interval_ms >> self._halvings

    @property
    def records(self) -> int:
        """An epoch is due after so many records read or written."""
        return max(1, self._records >> self._halvings)

    @property
    def size_bytes(self) -> int:
        """An epoch is due after so much read or written."""
        return max(1, self._bytes >> self._halvings)

    def begin(self, now_ms: int) -> None:
        """An epoch begins."""
        self._began_ms = now_ms
        self._read_records = self._read_bytes = 0

    def read(self, chunk: Chunk) -> None:
        """The open epoch takes a chunk."""
        self._read_records += len(chunk.offsets)
        self._read_bytes += chunk.columns.size_bytes

    def due_in_ms(self, now_ms: int) -> int:
        """When the open epoch is to be committed; 0: now."""
        return max(0, self._began_ms + self.interval_ms - now_ms)

    def reached_by(self, tasks: Iterable[Task]) -> bool:
        """Whether the open epoch of these tasks has read or written as much as it may; changes of state not counted."""
        written = written_bytes = 0
        for task in tasks:
            written += task.output_count
            written_bytes += task.output_bytes
        return max(self._read_records, written) >= self.records or self._read_bytes + written_bytes >= self.size_bytes

    def parts(self, chunk: Chunk, size: StepSize) -> Iterator[Chunk]:
        """What of a chunk is stepped at once, one part after the other, as large as is allowed by then."""
        start, count = 0, len(chunk.offsets)
        if not count:
            yield chunk
        while start < count:
            stop = min(count, start + min(size.records, self.records, max(1, count >> self._halvings)))
            yield chunk.cut(start, stop) if stop - start < count else chunk
            start = stop

    def halve(self) -> None:
        """The epoch came to nothing."""
        self._halvings = min(HALVINGS, self._halvings + 1)

    def aborted(self) -> bool:
        """The same, though nothing but its size can be wrong with it; False once that is not it."""
        self._aborted = self._aborted + 1 if self._halvings == HALVINGS else 0
        self.halve()
        return self._aborted < LAST_TRIES

    def committed(self) -> None:
        """The epoch is whole."""
        self._halvings = max(0, self._halvings - 1)
        self._aborted = 0
