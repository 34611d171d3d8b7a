"""`memory://`: a log in the memory of one process, for tests, simulations and replays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from streamproc.in_process import CHUNK_RECORDS, InProcessLog
from streamproc.log import Columns, Committed, Partition, Topic


class MemoryLog(InProcessLog):
    """A log that ends with its process and keeps every record that is not purged.

    >>> import asyncio
    >>> async def goals() -> list[bytes | None]:
    ...     log = MemoryLog()
    ...     await log.create("goals", partitions=1, config={})
    ...     sink = await log.sink(None, "referee")
    ...     sink.send(Partition("goals", 0), Columns([None], [b"16:08"], [0]))
    ...     await sink.commit({})
    ...     return (await log.read(Partition("goals", 0), 0, 10)).columns.values
    >>> asyncio.run(goals())
    [b'16:08']
    """

    def __init__(self, *, chunk_records: int | Callable[[], int] = CHUNK_RECORDS) -> None:
        super().__init__(MemoryRecords(), chunk_records=chunk_records)


class MemoryRecords:
    """Topics, records and offsets as lists and dicts."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._kept: dict[Partition, Columns] = {}
        self._starts: dict[Partition, int] = {}
        self._offsets: dict[str, dict[Partition, Committed]] = {}

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""
        return self._topics

    def create(self, name: str, topic: Topic) -> None:
        """Add a topic that is not there."""
        self._topics[name] = topic
        for number in range(topic.partitions):
            self._kept[Partition(name, number)] = Columns([], [], [])
            self._starts[Partition(name, number)] = 0

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record."""
        start = self._starts[partition]
        return start, start + len(self._kept[partition])

    def read(self, partition: Partition, offset: int, limit: int) -> Columns:
        """Up to `limit` records from an offset."""
        place = offset - self._starts[partition]
        return self._kept[partition].cut(place, place + limit)

    def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What the group has committed."""
        return self._offsets.get(group, {})

    def write(self, records: Mapping[Partition, Columns], group: str, offsets: Mapping[Partition, Committed]) -> None:
        """Append the records and move the group's offsets."""
        for partition, columns in records.items():
            self._kept[partition].extend(columns)
        if offsets:
            self._offsets.setdefault(group, {}).update(offsets)

    def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are gone."""
        for partition, offset in before.items():
            kept = self._kept[partition]
            self._kept[partition] = kept.cut(offset - self._starts[partition], len(kept))
            self._starts[partition] = offset

    def forget(self, group: str, topics: Collection[str]) -> None:
        """What the group has committed is gone, and so are the topics."""
        self._offsets.pop(group, None)
        for name in topics:
            for number in range(self._topics.pop(name).partitions):
                del self._kept[Partition(name, number)], self._starts[Partition(name, number)]

    def close(self) -> None:
        """Nothing to give back."""
