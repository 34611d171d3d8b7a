"""`memory://`: a log in the memory of one process, for tests, simulations and replays."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence

from streamproc.compaction import COMPACT_RECORDS, Compacted, Survey, tombstones_ms
from streamproc.in_process import CHUNK_RECORDS, InProcessLog, with_offsets
from streamproc.log import Chunk, Columns, Committed, Partition, Topic


class MemoryLog(InProcessLog):
    """A log that ends with its process and keeps every record that is not purged or compacted away.

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

    def __init__(
        self,
        *,
        chunk_records: int | Callable[[], int] = CHUNK_RECORDS,
        compact_records: int = COMPACT_RECORDS,
    ) -> None:
        super().__init__(MemoryRecords(compact_records=compact_records), chunk_records=chunk_records)


class _Kept:
    """The records of a partition; `offsets` are those of the records up to the last compaction, in which are gaps."""

    def __init__(self) -> None:
        self.columns = Columns([], [], [])
        self.offsets: list[int] = []
        self.start = self.end = 0
        self.compacted = Compacted()

    def place(self, offset: int) -> int:
        """Where the first record at or behind an offset is."""
        place = bisect_left(self.offsets, offset)
        return place if place < len(self.offsets) else place + max(0, offset - self._dense)

    def places(self, start: int, stop: int) -> Sequence[int]:
        """The offsets of the records at these places."""
        gaps = len(self.offsets)
        dense = range(self._dense + max(0, start - gaps), self._dense + max(0, stop - gaps))
        return [*self.offsets[start:stop], *dense] if start < gaps else dense

    def purge(self, offset: int) -> None:
        """Records below the offset are gone."""
        place = self.place(offset)
        self.columns = self.columns.cut(place, len(self.columns))
        self.offsets = self.offsets[place:]
        self.start = offset

    def compact(self, retention_ms: int) -> None:
        """Keep the last record of each key."""
        offsets = self.places(0, len(self.columns))
        survey = Survey(self.end, retention_ms=retention_ms)
        survey.see(offsets, self.columns)
        rows = survey.kept(offsets, self.columns)
        self.columns = self.columns.pick(rows)
        self.offsets = [offsets[row] for row in rows]
        self.compacted = Compacted(self.end, len(rows))

    @property
    def _dense(self) -> int:
        """From this offset on there is a record at each."""
        return max(self.start, self.compacted.behind)


class MemoryRecords:
    """Topics, records and offsets as lists and dicts."""

    def __init__(self, *, compact_records: int) -> None:
        self._compact_records = compact_records
        self._topics: dict[str, Topic] = {}
        self._kept: dict[Partition, _Kept] = {}
        self._offsets: dict[str, dict[Partition, Committed]] = {}

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""
        return self._topics

    def create(self, name: str, topic: Topic) -> None:
        """Add a topic that is not there."""
        self._topics[name] = topic
        self._kept.update((Partition(name, number), _Kept()) for number in range(topic.partitions))

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record."""
        kept = self._kept[partition]
        return kept.start, kept.end

    def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` records from an offset."""
        kept = self._kept[partition]
        start = kept.place(offset)
        stop = min(start + limit, len(kept.columns))
        offsets = kept.places(start, stop)
        return Chunk(partition, offsets, offsets[-1] + 1, kept.columns.cut(start, stop))

    def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What the group has committed."""
        return self._offsets.get(group, {})

    def write(
        self, records: Mapping[Partition, Columns], group: str, offsets: Mapping[Partition, Committed | None]
    ) -> None:
        """Append the records and move the group's offsets."""
        for partition, columns in records.items():
            kept = self._kept[partition]
            kept.columns.extend(columns)
            kept.end += len(columns)
            retention_ms = tombstones_ms(self._topics[partition.topic])
            if retention_ms is not None and kept.compacted.is_due(kept.start, kept.end, self._compact_records):
                kept.compact(retention_ms)
        if offsets:
            self._offsets[group] = with_offsets(self._offsets.get(group, {}), offsets)

    def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are gone."""
        for partition, offset in before.items():
            self._kept[partition].purge(offset)

    def forget(self, group: str, topics: Collection[str]) -> None:
        """What the group has committed is gone, and so are the topics."""
        self._offsets.pop(group, None)
        for name in topics:
            for number in range(self._topics.pop(name).partitions):
                del self._kept[Partition(name, number)]

    def close(self) -> None:
        """Nothing to give back."""
