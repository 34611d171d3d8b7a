"""with_previous: each window's value beside those of the windows before it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from copy import deepcopy
from itertools import groupby
from typing import Any

from streamproc.operators.batch import EMPTY, FOREVER, Batch
from streamproc.operators.operator import Context, Operator
from streamproc.state.keyed_state import UNCHANGEABLE
from streamproc.state.keys import identities
from streamproc.state.table import Table
from streamproc.windows.results import Previous, WindowResult


class WithPrevious(Operator):
    """The value of each window becomes Previous(now, before), with the values of the n windows of its key before it.

    Those are the ones that end at its start, one size apart, oldest first; `fill` where there was none (a copy of it
    where it could be changed in place). It takes the final rows of tumbling or hopping windows and passes them on as
    they come. A row of state is the (start, value) of a window, kept until the last that may ask has closed.
    """

    keyed = True
    stateful = True

    def __init__(self, n: int, fill: Any) -> None:
        if n < 1:
            raise ValueError(f"with_previous({n}) has no windows before: n is at least 1")
        self.n = n
        self.fill = fill
        self.signature = {"verb": "with_previous", "n": n}

    def open(self, context: Context) -> None:
        self._context = context
        self._windows: Table[tuple[int, Any]] = context.table(timed=True)
        self._size_ms: int | None = None

    def process(self, batch: Batch, side: int = 0) -> Batch:
        results: Sequence[WindowResult[Any, Any]] = batch.values
        self._size_ms = self._checked_size(results)
        keys = identities(batch.keys)
        values: list[Any] = []
        for start, rows in groupby(range(len(results)), key=lambda i: results[i].start):
            mine = list(rows)
            values += self._with_previous(start, [keys[i] for i in mine], [results[i] for i in mine])
        return batch.with_values(values)

    def close(self, watermark: int) -> Batch:
        """Forgets; the end of the input is no reason to."""
        if self._size_ms is not None and watermark < FOREVER:
            for end in self._windows.due(watermark - self.n * self._size_ms + 1):
                self._windows.drop(end)
        return EMPTY

    def _with_previous(
        self, start: int, keys: Sequence[Hashable], results: Sequence[WindowResult[Any, Any]]
    ) -> list[WindowResult[Any, Any]]:
        """The results of windows that begin together, each of another key."""
        assert self._size_ms is not None
        size, end = self._size_ms, start + self._size_ms
        if end <= self.watermark:
            self._context.alarm(f"windows before the one ending at {end} may be forgotten", len(keys))
        columns = [self._column(start - back * size, keys) for back in reversed(range(self.n))]
        held = self._windows.rows(keys, end)
        held.update((key, (start, result.value)) for key, result in zip(keys, results, strict=True))
        self._windows.changed(keys, end)
        return [
            WindowResult(result.key, start, end, Previous(result.value, list(before)))
            for result, *before in zip(results, *columns, strict=True)
        ]

    def _column(self, end: int, keys: Sequence[Hashable]) -> list[Any]:
        """The value of each key's window with this end."""
        if not self._windows.has(end):
            return [self._fill() for _ in keys]
        held = self._windows.rows(keys, end)
        found = [held.get(key) for key in keys]
        for window in found:
            if window is not None and end - window[0] != self._size_ms:
                raise _unequal(end - window[0], self._size_ms)
        return [self._fill() if window is None else window[1] for window in found]

    def _fill(self) -> Any:
        return self.fill if type(self.fill) in UNCHANGEABLE else deepcopy(self.fill)

    def _checked_size(self, results: Sequence[WindowResult[Any, Any]]) -> int:
        sizes = {result.end - result.start for result in results}
        if self._size_ms is not None:
            sizes.add(self._size_ms)
        if len(sizes) > 1:
            raise _unequal(*sorted(sizes)[:2])
        return sizes.pop()


def _unequal(one: int, other: int | None) -> ValueError:
    return ValueError(f"with_previous: windows of {one} ms and of {other} ms; it works on windows of one size")
