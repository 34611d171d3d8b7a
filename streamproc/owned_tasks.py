"""Owned tasks: those that a worker steps, what they read, and what is committed for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamproc.log import Committed, Partition
from streamproc.plan import TaskId
from streamproc.reader import Reader, SourceReader
from streamproc.task import Task


class OwnedTasks(Mapping[TaskId, Task]):
    """The tasks by their ids; `known` is what is committed for their partitions, as far as the worker knows."""

    def __init__(self) -> None:
        self.known: dict[Partition, Committed] = {}
        self._tasks: dict[TaskId, Task] = {}
        self._owners: dict[Partition, Task] = {}

    def __getitem__(self, task_id: TaskId) -> Task:
        return self._tasks[task_id]

    def __iter__(self) -> Iterator[TaskId]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: Task, committed: Mapping[Partition, Committed]) -> None:
        """A task that was opened on these positions."""
        self._tasks[task.id] = task
        self._owners.update(dict.fromkeys(task.readers, task))
        self.known.update(committed)

    def close(self, task_id: TaskId) -> None:
        """The task is not stepped any more; its store is given back."""
        task = self._tasks.pop(task_id)
        for partition in task.readers:
            del self._owners[partition]
            self.known.pop(partition, None)
        task.close()

    def reading(self, partition: Partition) -> Task:
        """The task that reads a partition."""
        return self._owners[partition]

    def reader(self, partition: Partition) -> Reader:
        """How it does."""
        return self._owners[partition].readers[partition]

    def reads_source(self, partition: Partition) -> bool:
        """Whether it is a partition of a source topic, not of an internal one."""
        return self._owners[partition].reads_source(partition)

    @property
    def partitions(self) -> list[Partition]:
        """All that they read."""
        return list(self._owners)

    @property
    def source_readers(self) -> list[SourceReader]:
        """The readers of source topics."""
        return [r for task in self._tasks.values() for r in task.readers.values() if isinstance(r, SourceReader)]

    @property
    def dirty(self) -> bool:
        """Whether the open epoch has anything to commit."""
        return any(task.dirty for task in self._tasks.values())

    def moved(self, committed: Mapping[Partition, Committed]) -> set[TaskId]:
        """The tasks for which somebody else has committed."""
        return {task.id for p, task in self._owners.items() if committed.get(p) != self.known.get(p)}
