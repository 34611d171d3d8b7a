"""Repartition topics: rows on their way to the task of their key, and the marks that carry watermarks.

A row is an ordinary record: key and value in the codec of internal topics (of a chained topic: as on the user's topic),
its event time as the timestamp, and headers only where needed: the clock of a record that may be late downstream, its
origin where something downstream sorts. A mark is a record with a header of its own and a vector as its value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from streamproc.log import Columns, WireHeaders
from streamproc.operators.batch import EMPTY, NEVER, Batch
from streamproc.operators.operator import Operator
from streamproc.outputs import Outputs
from streamproc.routing import Router
from streamproc.row_decoder import OnBad, RowDecoder

CLOCK: Final = "streamproc-clock"
ORIGIN: Final = "streamproc-origin"
MARK: Final = "streamproc-mark"
INTERNAL_HEADERS: Final = frozenset((CLOCK, ORIGIN, MARK))
"""Names that mean something between tasks; a record that comes with one of them from outside loses it."""

ACTIVE: Final = 0
IDLE: Final = 1
ENDED: Final = 2

_encode = msgspec.msgpack.Encoder().encode


class Mark(NamedTuple):
    """What a task says to those that read what it writes.

    watermark  no row that it writes from here on is older
    flag       ACTIVE, IDLE (left out of the minimum until it speaks again) or ENDED (nothing more comes in this run)
    run        the run that has ended: an end of an earlier run says nothing about this one
    last       ENDED: how far time has gone, for timers; NEVER: nothing ever had a record
    """

    stage: str
    task: int
    watermark: int
    flag: int
    run: int
    last: int = NEVER

    def up_to(self, to_ms: int) -> Mark:
        """The same, of times not beyond the instant."""
        return self._replace(watermark=min(self.watermark, to_ms), last=min(self.last, to_ms))


def mark_columns(marks: Sequence[Mark], timestamp: int) -> Columns:
    """One record that holds the marks of a worker's tasks."""
    return Columns([None], [_encode(marks)], [timestamp], [[(MARK, b"")]])


_decode_marks = msgspec.msgpack.Decoder(list[Mark]).decode
_decode_origin = msgspec.msgpack.Decoder().decode


class RepartitionWriter(Operator):
    """The last step of a stage towards a repartition topic."""

    def __init__(
        self,
        topic: str,
        router: Router,
        encode_values: Callable[[Sequence[Any]], Sequence[bytes | None]],
        outputs: Outputs,
        *,
        keeps_origins: bool,
        several: bool,
    ) -> None:
        self._topic = topic
        self._router = router
        self._encode_values = encode_values
        self._outputs = outputs
        self._keeps_origins = keeps_origins
        self._several = several

    def process(self, batch: Batch, side: int = 0) -> Batch:
        values = self._encode_values(batch.values)
        headers = self._headers(batch, side)
        self._outputs.add_routed(self._topic, self._router.split(batch.keys), values, batch.timestamps, headers)
        return EMPTY

    def _headers(self, batch: Batch, side: int) -> list[WireHeaders | None] | None:
        origins = batch.origins if self._keeps_origins else None
        if batch.clocks is None and origins is None and batch.headers is None:
            return None
        nothing: Sequence[None] = [None] * len(batch)
        columns = zip(batch.clocks or nothing, origins or nothing, batch.headers or nothing, strict=True)
        rows: list[WireHeaders | None] = []
        for clock, origin, user in columns:
            row: list[tuple[str, bytes]] = list(user.items()) if user else []
            if clock is not None:
                row.append((CLOCK, b"%d" % clock))
            if origin is not None:
                row.append((ORIGIN, _encode((*origin, side) if self._several else origin)))
            rows.append(row or None)
        return rows


def read_rows(columns: Columns, decoder: RowDecoder, on_bad: OnBad, *, keeps_origins: bool) -> tuple[Batch, list[Mark]]:
    """The rows of a chunk, and the marks in it in their order.

    Every mark may count as read behind all rows of the chunk: a watermark that rises later is never wrong.
    """
    headers = columns.headers or ()
    marked = [i for i, row in enumerate(headers) if _is_mark(row)]
    marks = [mark for i in marked for mark in _decode_marks(columns.values[i] or b"")]
    if marked:
        columns = _without(columns, marked)
    columns, keys, values = decoder.decode(columns, lambda row, error: on_bad(_place(row, marked), error))
    if not len(columns):
        return EMPTY, marks
    batch = Batch(keys, values, columns.timestamps)
    if columns.headers is not None:
        _set_sparse(batch, columns.headers, keeps_origins=keeps_origins)
    return batch, marks


def set_back(columns: Columns, to_ms: int) -> Columns:
    """The records, rows and marks, as they would be had no clock been beyond the instant; their own times stay."""
    if columns.headers is None:
        return columns
    values, headers = list(columns.values), list(columns.headers)
    for i, row in enumerate(headers):
        if _is_mark(row):
            values[i] = _encode([mark.up_to(to_ms) for mark in _decode_marks(values[i] or b"")])
        elif row:
            headers[i] = [(n, b"%d" % min(int(data), to_ms) if n == CLOCK else data) for n, data in row]
    return Columns(columns.keys, values, columns.timestamps, headers)


def has_rows(columns: Columns) -> bool:
    """Whether there is anything but marks."""
    return count_rows(columns) > 0


def count_rows(columns: Columns) -> int:
    """How many records are no marks."""
    return len(columns) - sum(map(_is_mark, columns.headers or ()))


def _is_mark(headers: WireHeaders | None) -> bool:
    return bool(headers) and headers[0][0] == MARK  # type: ignore[index] # not None where it is true


def _place(row: int, marked: Sequence[int]) -> int:
    """Where the row of this number, marks not counted, is in the chunk."""
    for mark in marked:
        row += mark <= row
    return row


def _without(columns: Columns, rows: Sequence[int]) -> Columns:
    """The records but those of some rows, ascending; without headers where no other has any."""
    kept = columns.cut(0, rows[0])
    for row, following in zip(rows, [*rows[1:], len(columns)], strict=True):
        kept.extend(columns.cut(row + 1, following))
    return kept


def _set_sparse(batch: Batch, headers: Iterable[WireHeaders | None], *, keeps_origins: bool) -> None:
    named: list[Mapping[str, bytes]] = [dict(row) if row else {} for row in headers]
    if any(CLOCK in row for row in named):
        batch.clocks = [int(row[CLOCK]) if CLOCK in row else None for row in named]
    if keeps_origins:
        batch.origins = [_tuples(_decode_origin(row[ORIGIN])) for row in named]
    if any(row.keys() - INTERNAL_HEADERS for row in named):
        users = [{name: data for name, data in row.items() if name not in INTERNAL_HEADERS} for row in named]
        batch.headers = [headers or None for headers in users]


def _tuples(origin: Any) -> Any:
    """MessagePack has one kind of sequence; origins are tuples all the way down."""
    return tuple(_tuples(item) if type(item) is list else item for item in origin)
