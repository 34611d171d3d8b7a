"""reduce and fold: a function of the user's, applied value by value.

In windows they keep the records and are folded in order of (timestamp, origin) where the result is asked for;
with `merge=` the user promises that order does not matter, and what is kept is the folded state. Running forms fold
each value as it arrives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from streamproc.windows.aggregate import Aggregate, Contribution
from streamproc.windows.ordered import Collect

_UNCHANGEABLE = frozenset({NoneType, bool, int, float, str, bytes, datetime, date, timedelta, Decimal, UUID})


class Reduce(Collect):
    """f(f(f(v1, v2), v3), ...) of the values in order; f changes neither of its arguments."""

    def __init__(self, f: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self._reduce = f

    def result(self, accumulator: list[Contribution]) -> Any:
        return functools.reduce(self._reduce, super().result(accumulator))

    def running(self) -> Aggregate[Any, Any]:
        return RunningReduce(self._reduce)


class Fold(Collect):
    """f(f(initial(), v1), v2), ... of the values in order; f may change its first argument; what it returns counts."""

    def __init__(self, initial: Callable[[], Any], f: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self._initial = initial
        self._fold = f

    def result(self, accumulator: list[Contribution]) -> Any:
        return functools.reduce(self._fold, super().result(accumulator), self._initial())

    def running(self) -> Aggregate[Any, Any]:
        return RunningFold(self._initial, self._fold)


class RunningReduce(Aggregate[Any, Any]):
    """f(result so far, value), beginning with the first value; the accumulator is a tuple of the result."""

    def __init__(self, f: Callable[[Any, Any], Any]) -> None:
        self._reduce = f

    def initial(self) -> tuple[Any, ...]:
        return ()

    def add(self, accumulator: tuple[Any, ...], item: Any) -> tuple[Any, ...]:
        return (self._reduce(accumulator[0], item),) if accumulator else (item,)

    def result(self, accumulator: tuple[Any, ...]) -> Any:
        return accumulator[0]


class RunningFold(Aggregate[Any, Any]):
    """f(state so far, value), beginning with initial(); the accumulator is a tuple of the state.

    A state that could be changed in place is copied for each result (a few us).
    """

    def __init__(self, initial: Callable[[], Any], f: Callable[[Any, Any], Any]) -> None:
        self._initial = initial
        self._fold = f

    def initial(self) -> tuple[Any]:
        return (self._initial(),)

    def add(self, accumulator: tuple[Any], item: Any) -> tuple[Any]:
        return (self._fold(accumulator[0], item),)

    def result(self, accumulator: tuple[Any]) -> Any:
        return _own(accumulator[0])


class MergingFold(RunningFold):
    """A fold whose states can be merged in any order: merge(fold(a), fold(b)) is fold(a + b), and fold(b + a) too."""

    def __init__(
        self, initial: Callable[[], Any], f: Callable[[Any, Any], Any], merge: Callable[[Any, Any], Any]
    ) -> None:
        super().__init__(initial, f)
        self._merge = merge

    def merge(self, parts: Iterable[tuple[Any]]) -> tuple[Any]:
        # The user's merge may change either argument, or keep a piece of it: each is a copy.
        return (functools.reduce(self._merge, [_own(state) for (state,) in parts]),)

    def __repr__(self) -> str:
        return "fold(merge)"


def _own(state: Any) -> Any:
    """The state, sharing nothing that can be changed."""
    return state if type(state) in _UNCHANGEABLE else deepcopy(state)
