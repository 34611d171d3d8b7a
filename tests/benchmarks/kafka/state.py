"""What a hand-written job keeps in memory, and the durable copy of it: a changelog, and RocksDB."""

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rocksdict import Options, Rdict, WriteBatch

from tests.benchmarks.by_hand import Slices
from tests.benchmarks.kafka.columns import TopicWriter

_pack = struct.Struct(">q").pack

Changes = Mapping[bytes, bytes | None]
"""Rows to be written; None deletes."""


class Counts:
    """The running counts of one task."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._changed: set[str] = set()

    def add(self, keys: Sequence[str]) -> list[int]:
        """Each key's count so far, this time included."""
        counts, get = self._counts, self._counts.get
        found = []
        for key in keys:
            counts[key] = count = get(key, 0) + 1
            found.append(count)
        self._changed.update(keys)
        return found

    def changes(self) -> Changes:
        """What is new since the last call."""
        changed, self._changed = self._changed, set()
        return {key.encode(): _pack(self._counts[key]) for key in changed}


class Windows:
    """The windows of one task. Records of a window that has been given out are late: counted, and left out."""

    def __init__(self, slices: Slices) -> None:
        self.clocks: dict[int, int] = {}
        """How far each of the partitions is that the task's records come from."""
        self.late = 0
        self._slices = slices
        self._open_from = 0
        self._changed_from: int | None = None
        self._stored: dict[int, list[bytes]] = {}

    def add(self, keys: Sequence[str], timestamps: Sequence[int]) -> None:
        """Count records."""
        first = min(timestamps)
        if first < self._open_from:
            good = [(key, at) for key, at in zip(keys, timestamps, strict=True) if at >= self._open_from]
            self.late += len(keys) - len(good)
            if not good:
                return
            keys, timestamps = [key for key, _ in good], [at for _, at in good]
            first = min(timestamps)
        self._slices.add(keys, timestamps)
        if self._changed_from is None or first < self._changed_from:
            self._changed_from = first

    def close(self, to: int) -> Iterator[tuple[int, int, list[tuple[str, int]]]]:
        """The windows that end at or before `to`: (start, end, counts by key)."""
        yield from self._slices.close(to)
        self._open_from = max(self._open_from, to // self._slices.slice_ms * self._slices.slice_ms)

    def changes(self) -> Changes:
        """The slices that have changed since the last call, and those that are over. A slice is written as a whole."""
        changed: dict[bytes, bytes | None] = {}
        counts, size = self._slices.counts, self._slices.slice_ms
        for start in [start for start in self._stored if start not in counts]:
            changed.update(dict.fromkeys(self._stored.pop(start)))
        if self._changed_from is not None:
            for start in [start for start in counts if start + size > self._changed_from]:
                rows = {_pack(start) + key.encode(): _pack(count) for key, count in counts[start].items()}
                self._stored[start] = list(rows)
                changed.update(rows)
        self._changed_from = None
        return changed


class Store:
    """The durable rows of all tasks. A row's key begins with the number of its task."""

    def __init__(self, folder: Path, changelog: TopicWriter) -> None:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        self._rows = Rdict(str(folder), options)
        self._changelog = changelog
        self._changes: dict[bytes, bytes | None] = {}

    def put(self, task: int, changes: Changes) -> None:
        """The changes are on their way to the changelog, and noted for `write`."""
        count = len(changes)
        now = int(time.time() * 1000)
        self._changelog.add_to([task] * count, list(changes), list(changes.values()), [now] * count)
        head = bytes((task,))
        self._changes.update((head + key, value) for key, value in changes.items())

    def write(self) -> None:
        """What was put is on disk; the changelog has it by now."""
        batch = WriteBatch(raw_mode=True)
        for key, value in self._changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._rows.write(batch)
        self._changes.clear()
