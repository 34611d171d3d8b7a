"""Given: the records that a test gives an app, as they lie in its source topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from streamproc.app import App
from streamproc.errors import DefinitionError
from streamproc.log import Columns, Partition
from streamproc.murmur2 import partition_of
from streamproc.operators.batch import FOREVER
from streamproc.topic import BadRecord, Topic
from streamproc.windows.duration import Instant, instant_ms


class Record(NamedTuple):
    """An input record. `timestamp` is the log's, in ms since the epoch or an aware datetime; None: that of the value.

    `value` is of the topic's type, or bytes to be decoded as they would be from the log.
    """

    value: Any
    key: Any = None
    timestamp: Instant | None = None


def given(app: App, inputs: Mapping[str, Iterable[Any]]) -> dict[Topic[Any, Any], list[Record]]:
    """The records for each source of the app; those for anything else are a DefinitionError."""
    sources = app.plan.sources  # first: stream functions may declare topics
    for name in inputs:
        if name not in app.topics:
            known = ", ".join(sorted(app.topics))
            msg = f"app {app.name!r} has no topic {name!r}: its topics are {known}"
            raise DefinitionError(msg)
        if app.topics[name] not in sources:
            msg = f"topic {name!r} is not read by app {app.name!r} from outside: inputs are for its sources"
            raise DefinitionError(msg)
    return {
        topic: [one if isinstance(one, Record) else Record(one) for one in inputs.get(topic.name, ())]
        for topic in sources
    }


def spread(topic: Topic[Any, Any], records: Sequence[Record], partitions: int) -> dict[Partition, Columns]:
    """The records by partition, in order: by their keys, as Kafka's clients do it, and those without one in turn."""
    columns: dict[Partition, Columns] = {}
    for place, record in enumerate(records):
        key = record.key if isinstance(record.key, bytes) else topic.encode_key(record.key)
        number = place % partitions if key is None else partition_of(key, partitions)
        one = Columns([key], [_encoded(topic, record)], [time_of(topic, record)])
        columns.setdefault(Partition(topic.name, number), Columns([], [], [])).extend(one)
    return columns


def time_of(topic: Topic[Any, Any], record: Record) -> int:
    """The log's timestamp: the one given, else that of the value, so that no payload is ahead of it; else 0."""
    if record.timestamp is not None:
        return instant_ms(record.timestamp)
    if topic.timestamp is None:
        return 0
    try:
        *_, timestamps = topic.decode_columns(Columns([None], [_encoded(topic, record)], [0]), ahead_ms=FOREVER)
    except BadRecord:
        return 0
    return timestamps[0] if timestamps else 0


def _encoded(topic: Topic[Any, Any], record: Record) -> bytes | None:
    return record.value if isinstance(record.value, bytes) else topic.encode_values([record.value])[0]
