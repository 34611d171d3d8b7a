"""The rows of what has closed, in the order that depends on nothing but the input."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from operator import itemgetter
from typing import Any, NamedTuple

from streamproc.operators.batch import Batch
from streamproc.operators.operator import CloseError, Context, Operator
from streamproc.state.keys import bytes_of, key_of
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.results import WindowResult


class Closed(NamedTuple):
    """A window of a key, with nothing more to come; `key` is its identity."""

    end: int
    start: int
    key: Hashable
    accumulator: Any


def final_rows(
    operator: Operator,
    context: Context,
    aggregate: Aggregate[Any, Any],
    closed: Iterable[Closed],
    *,
    before_end_ms: int,
) -> Batch:
    """A `WindowResult` row for each window, `before_end_ms` before its end, sorted by (end, start, key bytes).

    A result that fails is a `CloseError` of the unit (end, start, key identity); discarded units have no row.
    """
    ordered = sorted(((*window[:2], bytes_of(window.key), window) for window in closed), key=itemgetter(0, 1, 2))
    ordered = [row for row in ordered if row[3][:3] not in operator.discarded]
    results = [_result(aggregate, window, before_end_ms) for *_, window in ordered]
    origins = [(context.node, end, start, key, context.task) for end, start, key, _ in ordered]
    return Batch(
        [result.key for result in results],
        results,
        [end - before_end_ms for end, *_ in ordered],
        None,
        origins if context.keeps_origins else None,
    )


def _result(aggregate: Aggregate[Any, Any], window: Closed, before_end_ms: int) -> WindowResult[Any, Any]:
    end, start, identity, accumulator = window
    key = key_of(identity)
    try:
        return WindowResult(key, start, end, aggregate.result(accumulator))
    except Exception as error:
        raise CloseError((end, start, identity), key, end - before_end_ms) from error
