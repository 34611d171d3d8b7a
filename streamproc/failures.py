"""Failures: what the error policy makes of a record that cannot be processed."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from streamproc.errors import RecordError, Where, said
from streamproc.graph import Node
from streamproc.log import Chunk
from streamproc.policy import DeadLetter
from streamproc.step import Failure
from streamproc.task import Task

logger = logging.getLogger("streamproc")

LOGGED_EACH = 10
"""So many skipped records of a step are logged one by one; then each 2nd, 4th, 8th ... time so many."""


class Failures:
    """The error policy of one task: fail raises RecordError, skip counts, dead_letter writes the bytes aside."""

    def __init__(self) -> None:
        self._task: Task | None = None
        self._seen: dict[str, int] = {}

    def attach(self, task: Task) -> None:
        """Decide for this task."""
        self._task = task

    def bad_record(self, node: Node, chunk: Chunk, place: int, error: Exception) -> None:
        """A record of a source that cannot be decoded, or has no good time."""
        columns = chunk.columns
        offset = chunk.offsets[place]
        where = Where(
            f"{chunk.partition.topic} (read)", *chunk.partition, offset, columns.keys[place], columns.timestamps[place]
        )
        self._decide(node, where, error, (columns.keys[place], columns.values[place]))

    def failed(self, failure: Failure) -> None:
        """A step that failed on a row, or on what it closed."""
        assert self._task is not None
        topic = partition = offset = None
        original = (_bytes(failure.key), _bytes(failure.value))
        if self._task.reading is not None and not failure.closing:
            chunk, place = self._task.reading
            topic, partition, offset = chunk.partition.topic, chunk.partition.number, chunk.offsets[place]
            if self._task.reads_source(chunk.partition):
                original = (chunk.columns.keys[place], chunk.columns.values[place])
        where = Where(failure.node.name, topic, partition, offset, failure.key, failure.timestamp)
        self._decide(failure.node, where, failure.cause, original)

    def _decide(
        self, node: Node, where: Where, cause: BaseException, original: tuple[bytes | None, bytes | None]
    ) -> None:
        assert self._task is not None
        policy = node.on_error
        if isinstance(policy, DeadLetter):
            self._task.writers.raw(policy.topic, *original, where.timestamp or 0, _headers(where, cause))
        elif policy != "skip":
            raise RecordError(where, cause) from cause
        self._task.skipped[where.operator] = self._task.skipped.get(where.operator, 0) + 1
        self._say(where, cause, policy)

    def _say(self, where: Where, cause: BaseException, policy: Any) -> None:
        seen = self._seen[where.operator] = self._seen.get(where.operator, 0) + 1
        if seen <= LOGGED_EACH or seen & (seen - 1) == 0:
            done = f"sent to {policy.topic}" if isinstance(policy, DeadLetter) else "skipped"
            logger.warning("%s: %s: %s: %s (%s so far)", where, type(cause).__name__, said(cause), done, seen)


def _headers(where: Where, cause: BaseException) -> list[tuple[str, bytes]]:
    found = {
        "operator": where.operator,
        "topic": where.topic,
        "partition": where.partition,
        "offset": where.offset,
        "timestamp": where.timestamp,
        "type": type(cause).__name__,
        "message": said(cause),
    }
    return [
        (f"streamproc-error-{name}", str(value).encode(errors="backslashreplace"))
        for name, value in found.items()
        if value is not None
    ]


def _bytes(value: Any) -> bytes | None:
    """A value as it would be written; where that is not possible, as Python shows it."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="surrogateescape")
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):
        return repr(value).encode()
