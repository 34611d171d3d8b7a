"""What a broker gives of a partition, as columns: straight from aiokafka's record batches, no object a record is kept.

    bytes  ->  batches  ->  checked: CRC, format, place  ->  not aborted, no marker  ->  records  ->  columns

A batch that is damaged is never skipped: what is before it is given, and the position stays before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

from aiokafka.errors import UnsupportedCodecError
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.memory_records import MemoryRecords

from streamproc.kafka.requests import Code, Fetched
from streamproc.log import Columns, WireHeaders

_FORMAT: Final = 2
"""The one of Kafka 0.11 and later, with producer ids and headers (KIP-98, KIP-82)."""
_HEAD: Final = struct.Struct(">8xi45xi")
"""Of a batch: the length of what follows it, and how many records it has."""
_LENGTH_IS_BEHIND: Final = 12
_PIECE: Final = 200
"""Records that exist as objects at the same time: few enough for the processor's cache and the garbage collector."""

_key, _value, _timestamp, _headers = map(attrgetter, ("key", "value", "timestamp", "headers"))


def fetched(raw: bytes, offset: int, *, aborted: Iterable[tuple[int, int]] = ()) -> Fetched:
    """The records from the offset on. A batch that is not there to its end (the last) is left to the next fetch.

    `aborted`: transactions as (producer id, first offset), of which nothing is wanted.
    The code is CORRUPT_MESSAGE, UNSUPPORTED_COMPRESSION_TYPE (its library is not installed) or
    UNSUPPORTED_FOR_MESSAGE_FORMAT (written before Kafka 0.11) where the first batch cannot be read.
    """
    reader = _Reader(raw, offset, aborted)
    code = reader.read()
    return Fetched(
        code=Code.NONE if reader.position > offset else code,
        offsets=reader.offsets,
        columns=reader.columns,
        next_offset=reader.position,
        size=len(raw),
    )


def not_fetched(code: int, offset: int) -> Fetched:
    """What a partition gave that was refused."""
    return Fetched(code, range(offset, offset), Columns([], [], []), offset)


class _Reader:
    """Passes once over batches. `position` is behind what was read."""

    def __init__(self, raw: bytes, offset: int, aborted: Iterable[tuple[int, int]]) -> None:
        self.position = offset
        self.columns = Columns([], [], [])
        self._raw = raw
        self._aborted = _Aborted(aborted)
        self._runs: list[Sequence[int]] = []
        """The offsets of the records, by batches; those that follow one another are one."""

    @property
    def offsets(self) -> Sequence[int]:
        """One a record."""
        if not self._runs:
            return range(self.position, self.position)
        return self._runs[0] if len(self._runs) == 1 else list(chain.from_iterable(self._runs))

    def read(self) -> Code:
        """Up to the end, or before a batch that cannot be read: the code says why."""
        batches = MemoryRecords(self._raw)
        if self._raw and not batches.has_next():  # a broker gives one batch whole, or nothing
            return Code.CORRUPT_MESSAGE
        at = 0
        while batches.has_next():
            before = len(self.columns)
            try:
                batch = batches.next_batch()
                code = self._trouble(batch, first=at == 0)
                if not code and not self._aborted.holds(batch) and not batch.is_control_batch:
                    self._take(batch, _HEAD.unpack_from(self._raw, at)[1])
            except UnsupportedCodecError:
                code = Code.UNSUPPORTED_COMPRESSION_TYPE
            except Exception:  # noqa: BLE001 - each codec has errors of its own, and a wrong length may raise anything
                code = Code.CORRUPT_MESSAGE
            if code:
                self.columns = self.columns.cut(0, before)  # some of its records may have been readable
                return code
            self.position = batch.next_offset
            at += _LENGTH_IS_BEHIND + _HEAD.unpack_from(self._raw, at)[0]
        return Code.NONE

    def _trouble(self, batch: Any, *, first: bool) -> Code:
        """The CRC covers neither the format nor the place of a batch."""
        if not batch.validate_crc():
            return Code.CORRUPT_MESSAGE
        if (magic := getattr(batch, "magic", 0)) != _FORMAT:
            return Code.UNSUPPORTED_FOR_MESSAGE_FORMAT if magic < _FORMAT else Code.CORRUPT_MESSAGE
        begins_before = batch.base_offset < self.position and not first
        ends_before = batch.next_offset <= self.position
        return Code.CORRUPT_MESSAGE if begins_before or ends_before else Code.NONE

    def _take(self, batch: Any, count: int) -> None:
        base, behind = batch.base_offset, batch.next_offset
        records: Iterator[Any] = chain(batch)
        run: Sequence[int]
        if count == behind - base:
            begin = max(base, self.position)
            run = range(begin, behind)
            records = islice(records, begin - base, None)
        else:
            run = offsets = list[int]()
            records = _noting_offsets(records, self.position, offsets)
        while piece := list(islice(records, _PIECE)):
            self._append(piece)
        last = self._runs[-1] if self._runs else None
        if isinstance(last, range) and isinstance(run, range) and last.stop == run.start:
            self._runs[-1] = range(last.start, run.stop)
        elif run:
            self._runs.append(run)

    def _append(self, records: list[Any]) -> None:
        columns = self.columns
        if any(map(_headers, records)):
            if columns.headers is None:
                columns.headers = [None] * len(columns)
            columns.headers += [_wire_headers(record.headers) for record in records]
        elif columns.headers is not None:
            columns.headers += [None] * len(records)
        columns.keys += map(_key, records)
        columns.values += map(_value, records)
        columns.timestamps += map(_timestamp, records)


def _noting_offsets(records: Iterator[Any], position: int, offsets: list[int]) -> Iterator[Any]:
    """The records from the position on, where compaction has left gaps."""
    for record in records:
        if record.offset >= position:
            offsets.append(record.offset)
            yield record


def _wire_headers(headers: list[tuple[str, bytes | None]]) -> WireHeaders | None:
    """A header without a value has an empty one."""
    return [(name, value or b"") for name, value in headers] or None


class _Aborted:
    """Which batches are of aborted transactions: of a producer's, from a first offset to its abort marker."""

    def __init__(self, transactions: Iterable[tuple[int, int]]) -> None:
        self._to_come = sorted(transactions, key=lambda transaction: transaction[1], reverse=True)
        self._open: set[int] = set()

    def holds(self, batch: Any) -> bool:
        """Batches are asked for in the order of the log."""
        while self._to_come and self._to_come[-1][1] < batch.next_offset:
            self._open.add(self._to_come.pop()[0])
        if batch.producer_id not in self._open or not batch.is_transactional:
            return False
        if batch.is_control_batch and ControlRecord.parse(next(batch).key) == ABORT_MARKER:
            self._open.discard(batch.producer_id)
        return True
