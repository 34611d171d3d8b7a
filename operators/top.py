"""top: the results of a window with the largest values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from heapq import nlargest
from operator import itemgetter
from typing import Any, TypeAlias

from streamproc.operators.batch import EMPTY, Batch, Origin
from streamproc.operators.lateness import on_time
from streamproc.operators.operator import CloseError, Context, Operator
from streamproc.state.keys import encode_key, encode_keys, identities, key_of, sorted_by_bytes
from streamproc.state.table import Table
from streamproc.windows.results import Item, WindowResult
from streamproc.windows.results import Top as TopResult

Candidate: TypeAlias = tuple[Any, Any, Any, int]
"""Score, key, value, and the task that found it."""
Partial: TypeAlias = tuple[int, int, list[Candidate]]
"""What a task has of a window, from the first level to the second: start, end, candidates."""

SPARE = 64
"""So many candidates beyond n are kept before those that are too small are looked for and dropped."""
_SCORE = itemgetter(0)


class Top(Operator):
    """The n results of each window with the largest value, or by(value); of equal ones those with the smaller key.

    Two levels. `final=False`, in every task, gives `Partial` rows, keyed by per(result) or None. `final=True` takes
    them, in one task or re-keyed by that key, and gives `Top` rows. A row comes when the watermark reaches its window's
    end, at end - 1; of sessions (`sessions=True`) when it has passed their end, at the end. They are sorted by (end,
    start, key bytes). A value without a place in the order (NaN) is an error, as are values that do not compare.

    State is one row for each window and per(result): at most n + SPARE candidates.
    """

    stateful = True
    record_wise = False
    closes_on = (True,)
    graces = (0,)

    def __init__(
        self,
        n: int,
        *,
        by: Callable[[Any], Any] | None = None,
        per: Callable[[WindowResult[Any, Any]], Any] | None = None,
        sessions: bool = False,
        final: bool,
    ) -> None:
        if n < 1:
            raise ValueError(f"top({n}) is empty: n is at least 1")
        self.n = n
        self.by = by
        self.per = per
        self.before_end_ms = 0 if sessions else 1
        self.final = final
        self.signature = {"verb": "top", "n": n, "per": per is not None, "sessions": sessions, "final": final}

    def open(self, context: Context) -> None:
        self._context = context
        self._open: Table[list[Candidate]] = context.table(timed=True)

    # ---------------------------------------------------------------------------------------- rows in

    def process(self, batch: Batch, side: int = 0) -> Batch:
        batch = on_time(self, batch)
        if len(batch):
            self._add(self._partials(batch) if self.final else self._results(batch))
        return EMPTY

    def _results(self, batch: Batch) -> list[tuple[Any, Partial]]:
        """Each result as a partial of one candidate, with what it is grouped by."""
        results, task = batch.values, self._context.task
        values = [result.value for result in results]
        scores = values if self.by is None else [self.by(value) for value in values]
        groups = [None] * len(results) if self.per is None else [self.per(result) for result in results]
        for result, score in zip(results, scores, strict=True):
            if score != score:  # noqa: PLR0124 - so is NaN, of whatever type
                raise ValueError(f"top: {score} of key {result.key!r} has no place in an order: filter it out before")
        rows = zip(groups, results, scores, values, strict=True)
        return [(group, (r.start, r.end, [(score, r.key, value, task)])) for group, r, score, value in rows]

    def _partials(self, batch: Batch) -> list[tuple[Any, Partial]]:
        return list(zip(batch.keys, batch.values, strict=True))

    def _add(self, partials: Sequence[tuple[Any, Partial]]) -> None:
        found: dict[int, list[int]] = defaultdict(list)
        for i, (_, (_, end, _)) in enumerate(partials):
            found[end].append(i)
        windows = identities([(start, group) for group, (start, _, _) in partials])
        for end, members in found.items():
            if end < self.watermark + self.before_end_ms:
                self._context.alarm(f"window ending at {end} had closed", len(members))
            mine = {windows[i] for i in members}
            rows = self._open.rows(mine, end)
            for i in members:
                rows.setdefault(windows[i], []).extend(partials[i][1][2])
            for window in mine:
                if len(rows[window]) > self.n + SPARE:
                    rows[window] = self._largest(rows[window])
            self._open.changed(mine, end)

    def _largest(self, candidates: list[Candidate]) -> list[Candidate]:
        """The n largest, largest first; equal scores by key bytes, equal keys by task."""
        if len(candidates) > self.n:
            least = nlargest(self.n, map(_SCORE, candidates))[-1]
            candidates = [candidate for candidate in candidates if candidate[0] >= least]
        keys = encode_keys([key for _, key, _, _ in candidates])
        ordered = sorted(zip(keys, candidates, strict=True), key=lambda pair: (pair[0], pair[1][3]))
        return sorted([candidate for _, candidate in ordered], key=_SCORE, reverse=True)[: self.n]

    # ---------------------------------------------------------------------------------------- rows out

    def close(self, watermark: int) -> Batch:
        closing = self._open.due(watermark + self.before_end_ms)
        windows = [(end, window) for end in closing for window in sorted_by_bytes(self._open.whole(end))]
        windows = [unit for unit in windows if unit not in self.discarded]
        rows = [self._row(end, window, self._open.whole(end)[window]) for end, window in windows]
        for end in closing:
            self._open.drop(end)
        if not rows:
            return EMPTY
        keys, values, timestamps, origins = zip(*rows, strict=True)
        return Batch(keys, values, timestamps, None, origins if self._context.keeps_origins else None)

    def _row(self, end: int, window: Hashable, candidates: list[Candidate]) -> tuple[Any, Any, int, Origin]:
        start, group = key_of(window)
        timestamp = end - self.before_end_ms
        try:
            largest = self._largest(candidates)
        except Exception as error:
            raise CloseError((end, window), group, timestamp) from error
        value: Any = (start, end, largest)
        if self.final:
            value = TopResult(start, end, [Item(key, value) for _, key, value, _ in largest])
        return group, value, timestamp, (self._context.node, end, start, encode_key(group), self._context.task)
