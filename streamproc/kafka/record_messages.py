"""Records at the leaders of their partitions: Produce, Fetch, ListOffsets, DeleteRecords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.protocol.admin import DeleteRecordsRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.offset import OffsetRequest

from streamproc.kafka.batches import PackedBatch
from streamproc.kafka.columns import fetched, not_fetched
from streamproc.kafka.connections import Lane
from streamproc.kafka.exchange import Exchange, Leader, Sending, by_topic, check, named, way_out
from streamproc.kafka.requests import (
    Code,
    DeleteRecords,
    End,
    Fetch,
    Fetched,
    ListOffsets,
    Produce,
    Produced,
    Stamped,
)
from streamproc.kafka.wire import NO_TAGS, Message, ProduceV9, ProduceV12
from streamproc.log import Partition

_ALL_REPLICAS: Final = -1
_NO_REPLICA: Final = -1
"""A client asks, not a follower."""
_UNCOMMITTED: Final = 0
_COMMITTED: Final = 1
_LARGEST: Final = 2**31 - 1
_READING: Final = Lane("read", 8)
"""Reads that do not wait: those of many tasks that are restored at once."""
_ENDS: Final[Mapping[End, tuple[str, int, int]]] = {
    "first": ("first offset", -2, _UNCOMMITTED),
    "stable": ("last stable offset", -1, _COMMITTED),
    "high": ("high watermark", -1, _UNCOMMITTED),
}


def produce(request: Produce, sending: Sending) -> Exchange[Mapping[Partition, Produced]]:
    """What one producer sends to one leader arrives in order, or not at all."""
    transactional = request.transactional_id is not None
    records = {
        partition: _bytes(stamped, transactional=transactional) for partition, stamped in request.batches.items()
    }
    topics = [
        (topic, [(number, batch, NO_TAGS) for number, batch in rows], NO_TAGS) for topic, rows in by_topic(records)
    ]
    fields = (request.transactional_id, _ALL_REPLICAS, sending.timeout_ms, topics, NO_TAGS)
    versions = [ProduceV12] if transactional else [ProduceV12, ProduceV9]
    producers = {stamped.producer for stamped in request.batches.values()}
    return Exchange(
        f"records for {named(request.batches)}",
        Leader(request.batches),
        Message(*(version(*fields) for version in versions)),
        _read_produced,
        lane=Lane(("produce", *sorted(producers)), 1),
        refusals=lambda answer: {partition: produced.code for partition, produced in answer.items()},
    )


def _bytes(stamped: Stamped, *, transactional: bool) -> bytearray:
    assert isinstance(stamped.batch, PackedBatch)  # by `Cluster.pack`
    return stamped.batch.stamped(stamped, transactional=transactional)


def _read_produced(answer: Any) -> Mapping[Partition, Produced]:
    produced = {}
    for topic, partitions, _ in answer.topics:
        for number, code, offset, _, _, record_errors, message, _ in partitions:
            details = [detail for _, detail, _ in record_errors or () if detail]
            produced[Partition(topic, number)] = Produced(
                code, offset, way_out(code, details[0] if details else message)
            )
    return produced


def fetch(request: Fetch, sending: Sending) -> Exchange[Mapping[Partition, Fetched]]:
    """Another partition comes first each time: a batch larger than what is asked for is given to the first alone."""
    offsets = request.offsets
    partitions = list(offsets)
    first = sending.turn % max(1, len(partitions))
    rows = by_topic((partition, offsets[partition]) for partition in partitions[first:] + partitions[:first])
    size = request.partition_bytes

    def read(answer: Any) -> Mapping[Partition, Fetched]:
        check(answer.error_code, what)
        return {
            Partition(topic, number): _read_fetched(offsets[Partition(topic, number)], row)
            for topic, rows in answer.topics
            for number, *row in rows
        }

    what = f"the fetch from {named(offsets)}"
    return Exchange(
        what,
        Leader(offsets),
        FetchRequest(
            request.wait_ms,
            1,
            min(size * len(offsets), _LARGEST),
            _COMMITTED if request.committed else _UNCOMMITTED,
            [(topic, [(number, offset, size) for number, offset in numbers]) for topic, numbers in rows],
        ),
        read,
        lane=None if request.wait_ms else _READING,
        refusals=lambda answer: {partition: piece.code for partition, piece in answer.items()},
    )


def _read_fetched(offset: int, row: Sequence[Any]) -> Fetched:
    code, high_watermark, last_stable, start, aborted, _, records = row
    piece = not_fetched(code, offset) if code else fetched(records or b"", offset, aborted=aborted or ())
    piece.high_watermark, piece.last_stable, piece.start = high_watermark, last_stable, start
    return piece


def list_offsets(request: ListOffsets, _: Sending) -> Exchange[Mapping[Partition, int]]:
    """KIP-98: the last stable offset is the end for those who read committed records."""
    name, time, isolation = _ENDS[request.end]
    what = f"the request for the {name} of {named(request.partitions)}"

    def read(answer: Any) -> Mapping[Partition, int]:
        found = {}
        for topic, partitions in answer.topics:
            for number, code, _, offset in partitions:
                check(code, f"the request for the {name} of {topic}/{number}")
                found[Partition(topic, number)] = offset
        return found

    topics = by_topic(dict.fromkeys(request.partitions, time))
    return Exchange(what, Leader(request.partitions), OffsetRequest(_NO_REPLICA, isolation, topics), read)


def delete_records(request: DeleteRecords, sending: Sending) -> Exchange[None]:
    """The first error of a partition is raised."""

    def read(answer: Any) -> None:
        for topic, partitions, *_tags in answer.topics:
            for number, _, code, *_ in partitions:
                detail = "cleanup.policy of the topic is without delete" if code == Code.POLICY_VIOLATION else ""
                check(code, f"the deletion of records of {topic}/{number}", detail)

    what = f"the deletion of records of {named(request.before)}"
    message = DeleteRecordsRequest(by_topic(request.before), sending.timeout_ms)
    return Exchange(what, Leader(request.before), message, read)
