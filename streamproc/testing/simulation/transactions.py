"""The transaction coordinator, as of transaction version 2 (KIP-98, KIP-360, KIP-890).

    Empty --add--> Ongoing --EndTxn, time-out, InitProducerId--> PrepareCommit | PrepareAbort --all markers--> Complete

EndTxn is answered at Prepare. From there each partition, and the offsets of each group, is told for itself, when its
time comes; until the last of them is, the id is busy: CONCURRENT_TRANSACTIONS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from streamproc.kafka.requests import Code, EndTxn, InitProducerId, Producer, Refused
from streamproc.log import Partition

EXHAUSTED: Final = 32_766
"""The last epoch that is given to a producer; the one behind it is for fencing it."""
LONGEST_MS: Final = 900_000
"""transaction.max.timeout.ms"""

Target = Partition | str
"""What a transaction writes to: a partition, or the offsets of a group."""
Mark = Callable[[Target, Producer, bool], None]
"""Tells a target that the transaction of this producer id is over, and whether it was committed."""


class State(Enum):
    """Of a transactional id."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


_BUSY = (State.PREPARE_COMMIT, State.PREPARE_ABORT)


class _Transactional:
    """A transactional id: its producer, and its transaction.

    last       the epoch before, if the holder has not changed since; -1: it has
    previous   the producer id before this one
    next       the producer id behind this one, while that is being changed
    targets    what the open transaction has written to, and has not been told yet
    """

    __slots__ = ("due", "last", "next", "previous", "producer", "state", "targets", "timeout_ms", "timers")

    def __init__(self, producer_id: int) -> None:
        self.producer = Producer(producer_id, -1)
        self.last = -1
        self.previous = -1
        self.next: int | None = None
        self.state = State.EMPTY
        self.timeout_ms = 0
        self.targets: dict[Target, None] = {}
        self.due: asyncio.TimerHandle | None = None
        self.timers: list[asyncio.TimerHandle] = []

    @property
    def exhausted(self) -> bool:
        return self.producer.epoch >= EXHAUSTED


class TransactionCoordinator:
    """The coordinator of all transactional ids.

    mark      tells a target
    delay     draws how long, in seconds, until one is told
    look_ms   how often it looks for transactions whose time is over
              (transaction.abort.timed.out.transaction.cleanup.interval.ms)
    """

    def __init__(self, mark: Mark, delay: Callable[[], float], *, look_ms: int) -> None:
        self._mark = mark
        self._delay = delay
        self._look_s = look_ms / 1000
        self._ids: dict[str, _Transactional] = {}
        self._last_id = 0

    def state(self, transactional_id: str) -> State | None:
        """What the transaction of an id is in; None where nobody has had the id."""
        known = self._ids.get(transactional_id)
        return known.state if known is not None else None

    # ------------------------------------------------------------------------------------ requests

    def init_producer_id(self, request: InitProducerId) -> Producer:
        """A producer and epoch; first what is open is aborted, and whoever asks is to ask again."""
        if request.transactional_id is None:
            return Producer(self._new_id(), 0)
        what = f"transactional id {request.transactional_id!r}"
        if not 0 < request.timeout_ms <= LONGEST_MS:
            raise Refused(Code.INVALID_TRANSACTION_TIMEOUT, what, f"{request.timeout_ms} ms")
        known = self._ids.get(request.transactional_id)
        if known is None:
            known = self._ids[request.transactional_id] = _Transactional(self._new_id())
        asked = request.producer if request.producer != Producer() else None
        if known.state in _BUSY:
            raise Refused(Code.CONCURRENT_TRANSACTIONS, what)
        if asked is not None and not _may_hold(known, asked):
            raise Refused(Code.PRODUCER_FENCED, what)
        if known.state is State.ONGOING:
            self._prepare(known, State.PREPARE_ABORT)
            raise Refused(Code.CONCURRENT_TRANSACTIONS, what)
        self._raise_epoch(known, asked, what)
        known.timeout_ms = request.timeout_ms
        known.state = State.EMPTY
        return known.producer

    def add(self, transactional_id: str, producer: Producer, targets: Iterable[Target]) -> Code:
        """The targets are part of the open transaction, which this may begin; else why not."""
        known = self._ids.get(transactional_id)
        if known is None:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if known.state in _BUSY:
            return Code.CONCURRENT_TRANSACTIONS
        if known.producer.id != producer.id:
            return Code.INVALID_PRODUCER_ID_MAPPING
        if known.producer.epoch != producer.epoch:
            return Code.INVALID_PRODUCER_EPOCH  # PRODUCER_FENCED, which the leader translates for producers
        known.targets.update(dict.fromkeys(targets))
        known.previous = producer.id
        if known.state is not State.ONGOING:
            known.state = State.ONGOING
            self._time_out(known, asyncio.get_running_loop().time() + known.timeout_ms / 1000)
        return Code.NONE

    def end(self, request: EndTxn) -> Producer:
        """Version 5: the next producer and epoch. The same question with the epoch before is answered as it was."""
        what = f"the end of the transaction of {request.transactional_id!r}"
        known = self._ids.get(request.transactional_id)
        if known is None:
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING, what)
        if known.state in _BUSY:
            raise Refused(Code.CONCURRENT_TRANSACTIONS, what)
        asked = request.producer
        overflowed = known.previous == asked.id and asked.epoch == EXHAUSTED and known.producer.epoch == 0
        if known.producer.id != asked.id and not overflowed:
            raise Refused(Code.INVALID_PRODUCER_ID_MAPPING, what)
        complete = known.state in (State.COMPLETE_COMMIT, State.COMPLETE_ABORT)
        again = complete and (overflowed or known.producer.epoch == asked.epoch + 1)
        if not again and known.producer.epoch != asked.epoch:
            raise Refused(Code.PRODUCER_FENCED, what, f"{asked} is not {known.producer}")
        if again and request.commit == (known.state is State.COMPLETE_COMMIT):
            return known.producer
        if again or (request.commit and known.state is not State.ONGOING):
            raise Refused(Code.INVALID_TXN_STATE, what, f"it is {known.state.value}")
        self._prepare(known, State.PREPARE_COMMIT if request.commit else State.PREPARE_ABORT)
        return Producer(known.next, 0) if known.next is not None else known.producer

    def restart(self, until: float) -> None:
        """What was not told yet is told when the broker is back."""
        for known in self._ids.values():
            if known.state in _BUSY:
                for timer in known.timers:
                    timer.cancel()
                self._tell(known, until)
            elif known.due is not None and known.due.when() < until:
                known.due.cancel()
                self._time_out(known, until)

    # ------------------------------------------------------------------------------------ transitions

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _raise_epoch(self, known: _Transactional, asked: Producer | None, what: str) -> None:
        producer = known.producer
        if known.exhausted and (asked is None or asked.epoch == producer.epoch):
            known.previous = producer.id
            known.producer, known.last = Producer(self._new_id(), 0), producer.epoch if asked is not None else -1
        elif known.exhausted:
            raise Refused(Code.UNKNOWN_SERVER_ERROR, what, "the epochs of its producer id are used up")
        elif asked is None or producer.epoch in (-1, asked.epoch):
            known.last = -1 if asked is None else producer.epoch
            known.producer = Producer(producer.id, producer.epoch + 1)
            known.previous = producer.id
        elif asked.epoch != known.last:  # the same epoch as last time: its answer was lost
            raise Refused(Code.PRODUCER_FENCED, what, f"{asked} is not {producer}")

    def _prepare(self, known: _Transactional, state: State) -> None:
        """Decided: the epoch is raised, and everyone who has records of the transaction will be told."""
        if known.due is not None:
            known.due.cancel()
            known.due = None
        if known.exhausted:
            known.next = self._new_id()
        known.state = state
        known.last = known.producer.epoch
        known.previous = known.producer.id
        known.producer = Producer(known.producer.id, known.producer.epoch + 1)
        self._tell(known, asyncio.get_running_loop().time())

    def _time_out(self, known: _Transactional, over: float) -> None:
        """It is aborted at the first look behind the end of its time."""
        looks_at = (over // self._look_s + 1) * self._look_s
        known.due = asyncio.get_running_loop().call_at(looks_at, self._prepare, known, State.PREPARE_ABORT)

    def _tell(self, known: _Transactional, start: float) -> None:
        loop = asyncio.get_running_loop()
        known.timers = [loop.call_at(start + self._delay(), self._told, known, target) for target in known.targets] or [
            loop.call_at(start + self._delay(), self._complete, known)
        ]

    def _told(self, known: _Transactional, target: Target) -> None:
        self._mark(target, known.producer, known.state is State.PREPARE_COMMIT)
        del known.targets[target]
        if not known.targets:
            known.timers.append(asyncio.get_running_loop().call_later(self._delay(), self._complete, known))

    def _complete(self, known: _Transactional) -> None:
        known.state = State.COMPLETE_COMMIT if known.state is State.PREPARE_COMMIT else State.COMPLETE_ABORT
        if known.next is not None:
            known.previous = known.producer.id
            known.producer, known.next = Producer(known.next, 0), None


def _may_hold(known: _Transactional, asked: Producer) -> bool:
    """Whether the id may still be of who asks: its epoch is looked at when it is raised."""
    return (
        known.producer.epoch == -1
        or asked.id == known.producer.id
        or (asked.id == known.previous and asked.epoch >= EXHAUSTED)
    )
