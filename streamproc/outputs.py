"""Outputs: what a task has written in the open epoch, as columns by partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from streamproc.log import Columns, Partition, WireHeaders, size_bytes


class Outputs:
    """Records on their way to the sink; a failed step adds none of a batch. `size_bytes` is an estimate."""

    def __init__(self) -> None:
        self._columns: dict[Partition, Columns] = {}
        self.count = 0
        self.size_bytes = 0

    def add(
        self,
        partition: Partition,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[WireHeaders | None] | None = None,
    ) -> None:
        """Append records to a partition, behind those that are there."""
        self.count += len(timestamps)
        self.size_bytes += size_bytes(keys) + size_bytes(values)
        columns = self._columns.get(partition)
        if columns is None:
            columns = self._columns[partition] = Columns([], [], [])
        if headers is not None and columns.headers is None:
            columns.headers = [None] * len(columns.timestamps)
        if columns.headers is not None:
            columns.headers.extend(headers if headers is not None else [None] * len(timestamps))
        columns.keys.extend(keys)
        columns.values.extend(values)
        columns.timestamps.extend(timestamps)

    def add_routed(
        self,
        topic: str,
        routes: Iterable[tuple[int, Sequence[int] | None, Sequence[bytes | None]]],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[WireHeaders | None] | None,
    ) -> None:
        """Append records of one topic, each to its partition: number, which rows go there (None: all), their keys."""
        for number, rows, keys in routes:
            partition = Partition(topic, number)
            if rows is None:
                self.add(partition, keys, values, timestamps, headers)
            else:
                self.add(
                    partition,
                    keys,
                    [values[i] for i in rows],
                    [timestamps[i] for i in rows],
                    None if headers is None else [headers[i] for i in rows],
                )

    def mark(self) -> dict[Partition, int]:
        """How much there is, for `cut`."""
        return {partition: len(columns) for partition, columns in self._columns.items()}

    def cut(self, mark: dict[Partition, int]) -> None:
        """What was added since the mark is taken back."""
        self._columns = {p: self._columns[p].cut(0, count) for p, count in mark.items()}
        self.count = sum(map(len, self._columns.values()))
        self.size_bytes = sum(columns.size_bytes for columns in self._columns.values())

    def take(self) -> dict[Partition, Columns]:
        """What was added since the last call."""
        taken, self._columns = self._columns, {}
        self.count = self.size_bytes = 0
        return taken
