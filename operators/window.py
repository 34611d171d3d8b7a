"""Tumbling and hopping windows, kept by slices: one update a record, however many windows it falls into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from streamproc.operators.batch import NEVER, Batch, Origin
from streamproc.operators.contributions import items_of
from streamproc.operators.operator import CloseError, Context, Operator
from streamproc.state.keys import bytes_of, identities, key_of, sorted_by_bytes
from streamproc.state.table import Table
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.kinds import FixedWindows
from streamproc.windows.results import WindowResult

NEIGHBOURS = 64
"""How many rows are looked at together for the slice they are in."""


class Window(Operator):
    """The aggregate of each key and window [start, end), once, when the watermark reaches end + grace.

    Rows come sorted by (end, start, key bytes), at end - 1. A record is late for a window iff end + grace <= its
    clock; it may be late for one of its hopping windows and on time for the next.

        slices    |--a--|--b--|--c--|      every record is added to one slice
        windows   [-----a+b---)            closing a window merges its slices, or, where the aggregate is
                        [---b+c-----)      invertible, adds the one that came and removes the one that went

    The slice of a partly late record is its own, labelled with the first window that still takes it.
    Slices: Li et al., "No pane, no gain", SIGMOD Record 2005.
    """

    keyed = True
    stateful = True
    record_wise = False
    closes_on = (True,)

    def __init__(self, windows: FixedWindows, aggregate: Aggregate[Any, Any], *, grace_ms: int) -> None:
        self.windows = windows
        self.aggregate = aggregate
        self.graces = (grace_ms,)
        self.hold = grace_ms
        self.sorts = aggregate.ordered
        self.signature = {
            "verb": "window",
            "windows": repr(windows),
            "aggregate": repr(aggregate),
            "grace_ms": grace_ms,
        }

    def open(self, context: Context) -> None:
        self._context = context
        self._slices: Table[Any] = context.table(timed=True)
        self._partly: Table[Any] = context.table("partly-late", timed=True)
        self._totals = self._fresh_totals()

    def _fresh_totals(self) -> _Totals | None:
        slides = self.windows.size_ms > self.windows.slice_ms
        return _Totals(self.aggregate) if slides and self.aggregate.invertible else None

    # ---------------------------------------------------------------------------------------- records in

    def process(self, batch: Batch, side: int = 0) -> Batch:
        if batch.clocks is not None or min(batch.timestamps) <= self.ended_to:
            batch = self._without_late(batch)
        if len(batch):
            self._add(batch, items_of(self.aggregate, batch))
        return Batch((), (), ())

    def _add(self, batch: Batch, items: Sequence[Any]) -> None:
        keys = identities(batch.keys)
        width, offset = self.windows.slice_ms, self.windows.offset_ms
        low, high = min(batch.timestamps), max(batch.timestamps)
        first = low - (low - offset) % width
        if high < first + width:
            self._add_to_slice(first, keys, items)
        else:
            for start, (some_keys, some_items) in self._by_slice(batch.timestamps, keys, items).items():
                self._add_to_slice(start, some_keys, some_items)

    def _by_slice(
        self, timestamps: Sequence[int], keys: Sequence[Hashable], items: Sequence[Any]
    ) -> Mapping[int, tuple[list[Hashable], list[Any]]]:
        """Keys and items of each slice, in order. Neighbours are mostly of one slice, and then go there together."""
        width, offset = self.windows.slice_ms, self.windows.offset_ms
        slices: dict[int, tuple[list[Hashable], list[Any]]] = defaultdict(lambda: ([], []))
        for at in range(0, len(timestamps), NEIGHBOURS):
            times = timestamps[at : at + NEIGHBOURS]
            some_keys, some_items = keys[at : at + NEIGHBOURS], items[at : at + NEIGHBOURS]
            low = min(times)
            first = low - (low - offset) % width
            if max(times) < first + width:
                slice_keys, slice_items = slices[first]
                slice_keys.extend(some_keys)
                slice_items.extend(some_items)
            else:
                for timestamp, key, item in zip(times, some_keys, some_items, strict=True):
                    slice_keys, slice_items = slices[timestamp - (timestamp - offset) % width]
                    slice_keys.append(key)
                    slice_items.append(item)
        return slices

    def _add_to_slice(self, start: int, keys: Sequence[Hashable], items: Sequence[Any]) -> None:
        ends = self.windows.ends_of_slice(start)
        if not ends:
            return  # hops longer than windows leave gaps: these records are in no window
        if ends[0] + self.hold <= self.watermark:
            self._context.alarm(f"window ending at {ends[0]} had closed", len(keys))
            self._add_to_open(start, keys, items)
            return
        self.aggregate.add_rows(self._slices.rows(keys, start), keys, items)
        self._slices.changed(keys, start)
        self.reach = max(self.reach, ends[-1] - 1)

    def _add_to_open(self, start: int, keys: Sequence[Hashable], items: Sequence[Any]) -> None:
        """What is closed stays closed: to the windows of the slice that are still open, if any."""
        takes = next((end for end in self.windows.ends_of_slice(start) if end + self.hold > self.watermark), None)
        if takes is not None:
            for key, item in zip(keys, items, strict=True):
                self._add_partly(start, takes, key_of(key), item)

    def _without_late(self, batch: Batch) -> Batch:
        """The rows on time for all their windows; the others are late, those that some windows take are kept apart."""
        rows, late, partly = [], [], []
        clocks = batch.clocks or [None] * len(batch)
        for i, (timestamp, clock) in enumerate(zip(batch.timestamps, clocks, strict=True)):
            ends = self.windows.ends_of_slice(self.windows.slice_of(timestamp))
            closed_to = max(self.ended_to + 1, NEVER if clock is None else clock - self.hold)
            if not ends or ends[0] > closed_to:
                rows.append(i)
                continue
            late.append(i)
            takes = next((end for end in ends if end > closed_to), None)
            if takes is not None:
                partly.append((i, takes))
        if late:
            self.late = batch.select(late)
        if partly:
            some = batch.select([i for i, _ in partly])
            for row, (_, takes), item in zip(range(len(some)), partly, items_of(self.aggregate, some), strict=True):
                self._add_partly(self.windows.slice_of(some.timestamps[row]), takes, some.keys[row], item)
        return batch.select(rows)

    def _add_partly(self, start: int, takes: int, key: Any, item: Any) -> None:
        """To the windows of the slice from the one that ends at `takes` on."""
        label = identities([(takes, key)])
        self.aggregate.add_rows(self._partly.rows(label, start), label, [item])
        self._partly.changed(label, start)
        self.reach = max(self.reach, self.windows.ends_of_slice(start)[-1] - 1)

    # ---------------------------------------------------------------------------------------- windows out

    def close(self, watermark: int) -> Batch:
        keys: list[Any] = []
        results: list[Any] = []
        timestamps: list[int] = []
        origins: list[Origin] | None = [] if self._context.keeps_origins else None
        for end, rows in self._closing(watermark - self.hold):
            start, result = end - self.windows.size_ms, self.aggregate.result
            for identity in sorted_by_bytes(rows):
                if (end, identity) in self.discarded:
                    continue
                key = key_of(identity)
                try:
                    results.append(WindowResult(key, start, end, result(rows[identity])))
                except Exception as error:
                    raise CloseError((end, identity), key, end - 1) from error
                keys.append(key)
                if origins is not None:
                    origins.append((self._context.node, end, start, bytes_of(identity), self._context.task))
            timestamps += [end - 1] * (len(keys) - len(timestamps))
        return Batch(keys, results, timestamps, None, origins)

    def _closing(self, to: int) -> Iterator[tuple[int, dict[Hashable, Any]]]:
        """The windows with end <= to that are not empty: the accumulator of each key. Slices are dropped on the way."""
        windows = self.windows
        last = windows.last_end(self.watermark - self.hold) if self.watermark > NEVER else NEVER
        live = sorted({*self._slices.due(to), *self._partly.due(to)})
        while live:
            end = max(last + windows.every_ms, windows.ends_of_slice(live[0])[0])
            if end > to:
                return
            rows = self._rows(end, [start for start in live if start < end])
            if rows:
                yield end, rows
            last = end
            while live and windows.ends_of_slice(live[0])[-1] <= end:
                self._drop(live.pop(0))

    def _rows(self, end: int, starts: list[int]) -> dict[Hashable, Any]:
        """The accumulators of one window, of whose slices `starts` are not empty."""
        parts = {(start, label): rows for start in starts for label, rows in self._parts(start) if label <= end}
        if self._totals is not None:
            return self._totals.enter(parts)
        if len(parts) == 1:
            return next(iter(parts.values()))
        found: dict[Hashable, list[Any]] = defaultdict(list)
        for rows in parts.values():
            for identity, accumulator in rows.items():
                found[identity].append(accumulator)
        return {
            identity: self._merged(end, identity, accumulators)
            for identity, accumulators in found.items()
            if (end, identity) not in self.discarded
        }

    def _merged(self, end: int, identity: Hashable, accumulators: list[Any]) -> Any:
        try:
            return self.aggregate.merge(accumulators)
        except Exception as error:
            raise CloseError((end, identity), key_of(identity), end - 1) from error

    def _parts(self, start: int) -> Iterator[tuple[int, dict[Hashable, Any]]]:
        """The rows of a slice by label: the first window that takes them, NEVER where all windows do."""
        if self._slices.has(start):
            yield NEVER, self._slices.whole(start)
        if self._partly.has(start):
            parts: dict[int, dict[Hashable, Any]] = defaultdict(dict)
            for label, accumulator in self._partly.whole(start).items():
                takes, key = key_of(label)
                parts[takes][identities([key])[0]] = accumulator
            yield from parts.items()

    def _drop(self, start: int) -> None:
        if self._totals is not None:
            self._totals.leave({(start, label): rows for label, rows in self._parts(start)})
        self._slices.drop(start)
        self._partly.drop(start)


class _Totals:
    """The running total of a sliding window: derived, kept in memory alone, made anew from the slices after a restart.

    A part enters when the first window that takes it closes: none of its records can come later (design: closing).
    """

    def __init__(self, aggregate: Aggregate[Any, Any]) -> None:
        self._aggregate = aggregate
        self._rows: dict[Hashable, Any] = {}
        self._entered: set[tuple[int, int]] = set()

    def enter(self, parts: Mapping[tuple[int, int], dict[Hashable, Any]]) -> dict[Hashable, Any]:
        """The total with the parts that were not in it."""
        for part in parts.keys() - self._entered:
            self._aggregate.merge_rows(self._rows, parts[part])
        self._entered.update(parts)
        return self._rows

    def leave(self, parts: Mapping[tuple[int, int], dict[Hashable, Any]]) -> None:
        """The total without the parts that were in it."""
        for part in parts.keys() & self._entered:
            self._aggregate.remove_rows(self._rows, parts[part])
        self._entered.difference_update(parts)
