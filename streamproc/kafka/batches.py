"""Columns as record batches for Produce, on aiokafka's builder: compressed and signed when they are first sent."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from streamproc.kafka.requests import Stamped
from streamproc.log import Columns

BATCH_BYTES: Final = 900_000
"""Below a topic's usual `max.message.bytes`, 1,048,588."""

COMPRESSIONS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

_FORMAT: Final = 2
_CRC_AT: Final = 17
_ATTRIBUTES_AT: Final = 21
"""Here begins what the CRC is of."""
_PRODUCER_AT: Final = 43
_TRANSACTIONAL: Final = 0x10


class PackedBatch:
    """Records of one partition as one record batch; it is not known yet in which transaction it goes.

    size   bytes, before compression
    """

    __slots__ = ("_builder", "_data", "_stamp", "count", "size")

    def __init__(self, builder: Any, count: int) -> None:
        self.count = count
        self.size: int = builder.size()
        self._builder = builder
        self._data = bytearray()
        self._stamp: tuple[int, int, int, bool] | None = None

    def stamped(self, stamp: Stamped, *, transactional: bool) -> bytearray:
        """The batch on the wire; the same bytes for the same stamp."""
        wanted = (*stamp.producer, stamp.sequence, transactional)
        if self._stamp == wanted:
            return self._data
        if self._builder is not None:
            self._builder.set_producer_state(*stamp.producer, stamp.sequence)
            self._data, self._builder = self._builder.build(), None
            self._stamp = (*stamp.producer, stamp.sequence, True)
        if self._stamp != wanted:
            self._stamp_anew(wanted)
        return self._data

    def _stamp_anew(self, stamp: tuple[int, int, int, bool]) -> None:
        data = self._data
        (attributes,) = struct.unpack_from(">h", data, _ATTRIBUTES_AT)
        attributes = attributes | _TRANSACTIONAL if stamp[3] else attributes & ~_TRANSACTIONAL
        struct.pack_into(">h", data, _ATTRIBUTES_AT, attributes)
        struct.pack_into(">qhi", data, _PRODUCER_AT, *stamp[:3])
        struct.pack_into(">I", data, _CRC_AT, calc_crc32c(memoryview(data)[_ATTRIBUTES_AT:]))
        self._stamp = stamp


def packed(columns: Columns, *, compression: int = 0, batch_bytes: int = BATCH_BYTES) -> list[PackedBatch]:
    """The records as batches of up to `batch_bytes`, before compression; a larger record has a batch of its own."""
    batches = []
    builder, count = _builder(compression, batch_bytes), 0
    append = builder.append
    for timestamp, key, value, headers in zip(
        columns.timestamps, columns.keys, columns.values, _headers(columns), strict=False
    ):
        if append(count, timestamp, key, value, headers) is None:  # it is full
            batches.append(PackedBatch(builder, count))
            builder, count = _builder(compression, batch_bytes), 0
            append = builder.append
            append(0, timestamp, key, value, headers)
        count += 1
    if count:
        batches.append(PackedBatch(builder, count))
    return batches


def _builder(compression: int, batch_bytes: int) -> Any:
    return DefaultRecordBatchBuilder(_FORMAT, compression, 1, -1, -1, -1, batch_bytes)


def _headers(columns: Columns) -> Iterable[list[tuple[str, bytes]]]:
    """The builder takes lists alone. Most records have none, even of a partition in which some have: marks."""
    none: list[tuple[str, bytes]] = []
    if columns.headers is None:
        return repeat(none)
    return [list(headers) if headers else none for headers in columns.headers]
