"""Care: which tasks are stepped record by record, since one of their records failed in a batch, and for how long."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from streamproc.log import Partition
from streamproc.plan import TaskId
from streamproc.task import Task


class Care:
    """Begun when a batch fails and its epoch is dropped, over when what failed is committed."""

    def __init__(self) -> None:
        self._until: dict[TaskId, dict[Partition, int] | None] = {}
        """How far each task is to be read with care; None: until it has closed what it was to close."""

    def __bool__(self) -> bool:
        return bool(self._until)

    def begin(self, task: Task, *, closing: bool) -> None:
        """A task failed: until it is behind what it had read; `closing` comes behind all records: until it is done."""
        positions = {partition: reader.position for partition, reader in task.readers.items()}
        self._until[task.id] = None if closing else positions

    def closed(self, task: Task) -> None:
        """A task has closed what it was to close."""
        if self._until.get(task.id, {}) is None:
            self._until[task.id] = {}

    def apply(self, task: Task) -> None:
        """From here on the task is stepped with care, if it needs it."""
        task.flow.careful = task.id in self._until

    def committed(self, tasks: Iterable[Task]) -> None:
        """All that these tasks have done is committed: what has failed is behind those that are far enough."""
        for task in tasks:
            until = self._until.get(task.id)
            if until is not None and all(task.readers[p].position >= offset for p, offset in until.items()):
                task.flow.careful = False
                del self._until[task.id]

    def keep(self, tasks: Collection[TaskId]) -> None:
        """The others are not this worker's any more."""
        self._until = {task_id: until for task_id, until in self._until.items() if task_id in tasks}
