"""Transactions at their coordinators, and the offsets in them at the group's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streamproc.kafka.directory import Coordination, Coordinator
from streamproc.kafka.exchange import Anyone, Exchange, Receiver, Sending, by_topic, check
from streamproc.kafka.requests import EndTxn, InitProducerId, Producer, TxnOffsetCommit
from streamproc.kafka.wire import NO_TAGS, EndTxnV5, InitProducerIdV4, Message, TxnOffsetCommitV5
from streamproc.log import Partition

_NO_EPOCH: Final = -1


def init_producer_id(request: InitProducerId, _: Sending) -> Exchange[Producer]:
    """Any broker gives ids to those without transactions."""
    of = request.transactional_id
    what = "the request for a producer id" if of is None else f"the request for the producer id of {of!r}"
    to: Receiver = Anyone.BROKER if of is None else Coordinator(Coordination.TRANSACTION, of)
    return Exchange(
        what, to, Message(InitProducerIdV4(of, request.timeout_ms, *request.producer, NO_TAGS)), _producer(what)
    )


def end_txn(request: EndTxn, _: Sending) -> Exchange[Producer]:
    """Decided from the moment that the coordinator has written it down."""
    what = f"the {'commit' if request.commit else 'abort'} of the transaction of {request.transactional_id!r}"
    return Exchange(
        what,
        Coordinator(Coordination.TRANSACTION, request.transactional_id),
        Message(EndTxnV5(request.transactional_id, *request.producer, request.commit, NO_TAGS)),
        _producer(what),
    )


def _producer(what: str) -> Any:
    def read(answer: Any) -> Producer:
        check(answer.error_code, what)
        return Producer(answer.producer_id, answer.producer_epoch)

    return read


def txn_offset_commit(request: TxnOffsetCommit, _: Sending) -> Exchange[Mapping[Partition, int]]:
    """At the group's coordinator, which checks the membership and adds the group to the transaction."""
    membership = request.membership
    topics = [
        (topic, [(number, offset, _NO_EPOCH, metadata, NO_TAGS) for number, (offset, metadata) in rows], NO_TAGS)
        for topic, rows in by_topic(request.offsets)
    ]
    message = TxnOffsetCommitV5(
        request.transactional_id,
        membership.group,
        *request.producer,
        membership.generation,
        membership.member,
        membership.instance or None,
        topics,
        NO_TAGS,
    )
    return Exchange(
        f"the offsets of group {membership.group!r} in the transaction of {request.transactional_id!r}",
        Coordinator(Coordination.GROUP, membership.group),
        Message(message),
        _read_refused,
        refusals=dict,
    )


def _read_refused(answer: Any) -> Mapping[Partition, int]:
    return {
        Partition(topic, number): code
        for topic, partitions, _ in answer.topics
        for number, code, _ in partitions
        if code
    }
