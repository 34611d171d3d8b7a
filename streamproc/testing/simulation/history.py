"""The history of a world: all that happened, in order and in virtual time, as lines of text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from streamproc.kafka.requests import (
    CreateTopic,
    DeleteRecords,
    EndTxn,
    Fetch,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Produce,
    Producer,
    Request,
    SyncGroup,
    TxnOffsetCommit,
)
from streamproc.log import Committed, Partition


class Happened(NamedTuple):
    """At a virtual second, to a process or to the broker. With a request: what became of it.

    >>> print(Happened(1.5, "slot-0", "done", Heartbeat("totals", 3, "slot-0-1", "slot-0")))
        1.5000 slot-0   Heartbeat generation 3 as slot-0-1: done
    """

    at: float
    who: str
    what: str
    request: Request[Any] | None = None

    def __str__(self) -> str:
        told = self.what if self.request is None else f"{type(self.request).__name__}{_details(self.request)}: "
        return f"{self.at:10.4f} {self.who:<8} {told}" + (self.what if self.request is not None else "")


class History(list[Happened]):
    """What happened so far; `str` of it is one line for each."""

    def note(self, who: str, what: str, request: Request[Any] | None = None) -> None:
        """It happens now."""
        self.append(Happened(asyncio.get_running_loop().time(), who, what, request))

    def __str__(self) -> str:
        return "\n".join(map(str, self))


@contextmanager
def heard(history: History, alarms: list[str]) -> Iterator[None]:
    """What the engine logs goes into a history, and is heard nowhere else; its errors are alarms."""
    ears = _Ears(history, alarms)
    loggers = [logging.getLogger(name) for name in ("streamproc", "asyncio")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(ears)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(ears)
            logger.setLevel(level)
            logger.propagate = propagate


class _Ears(logging.Handler):
    def __init__(self, history: History, alarms: list[str]) -> None:
        super().__init__()
        self._history = history
        self._alarms = alarms

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            said = f"{said}: {record.exc_info[1]!r}"
        self._history.note("says", said)
        if record.levelno >= logging.ERROR:
            self._alarms.append(said)


def _details(request: Request[Any]) -> str:
    """What of a request tells one from another."""
    details = _DETAILS.get(type(request))
    return "" if details is None else f" {details(request)}"


def _sent(request: Produce) -> str:
    producers = {stamped.producer for stamped in request.batches.values()}
    counts = {partition: stamped.batch.count for partition, stamped in request.batches.items()}
    return f"{_producer(*producers)}:{_numbers(counts)}"


def _producer(producer: Producer) -> str:
    return f"producer {producer.id}/{producer.epoch}"


def _offsets(offsets: Mapping[Partition, Committed]) -> str:
    return _numbers({partition: committed.offset for partition, committed in offsets.items()})


def _numbers(numbers: Mapping[Partition, int]) -> str:
    return "".join(f" {topic}/{number}={value}" for (topic, number), value in numbers.items())


def _names(partitions: Collection[Partition] | None) -> str:
    return "all" if partitions is None else " ".join(f"{topic}/{number}" for topic, number in partitions)


_DETAILS: Final[Mapping[type[Request[Any]], Callable[[Any], str]]] = {
    JoinGroup: lambda r: f"as {r.member or 'nobody yet'}",
    LeaveGroup: lambda r: f"as {r.member or r.instance}",
    SyncGroup: lambda r: f"generation {r.generation} as {r.member}",
    Heartbeat: lambda r: f"generation {r.generation} as {r.member}",
    OffsetFetch: lambda r: _names(r.partitions),
    OffsetCommit: lambda r: f"generation {r.membership.generation}:{_offsets(r.offsets)}",
    OffsetDelete: lambda r: _names(r.partitions),
    TxnOffsetCommit: lambda r: (
        f"{_producer(r.producer)} generation {r.membership.generation} as {r.membership.member}:{_offsets(r.offsets)}"
    ),
    InitProducerId: lambda r: f"{r.transactional_id} {_producer(r.producer)}",
    EndTxn: lambda r: f"{_producer(r.producer)} commit={r.commit}",
    Produce: _sent,
    Fetch: lambda r: _numbers(r.offsets).lstrip(),
    ListOffsets: lambda r: f"{r.end} {_names(r.partitions)}",
    DeleteRecords: lambda r: _numbers(r.before).lstrip(),
    CreateTopic: lambda r: r.name,
}
