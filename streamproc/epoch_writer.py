"""Epoch writer: what of a sealed epoch goes where."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from streamproc.internal_topic import Mark, mark_columns
from streamproc.log import Columns, Committed, Partition, Sink
from streamproc.plan import Plan, TaskId, Topology
from streamproc.task import Sealed


class EpochWriter:
    """Outputs, marks and changelog rows into the topics, positions into the group's offsets."""

    def __init__(self, plan: Plan, topology: Topology, member: str) -> None:
        self._plan = plan
        self._topology = topology
        self._member = member
        self._stages = {stage.name: stage for stage in plan.stages}
        self._epoch = 0

    def changelog(self, task_id: TaskId) -> Partition:
        """Where the changes of a task's state go."""
        return Partition(self._plan.changelog_of(self._stages[task_id.stage]), task_id.number)

    def send(self, sink: Sink, sealed: Mapping[TaskId, Sealed], *, now_ms: int) -> None:
        """All records of the epoch, changelog rows with the wall time: retention goes by it."""
        marks: dict[str, list[Mark]] = {}
        for task_id, epoch in sealed.items():
            for partition, columns in epoch.outputs.items():
                sink.send(partition, columns)
            for topic, mark in epoch.marks.items():
                marks.setdefault(topic, []).append(mark)
            if epoch.changes:
                changes = Columns(list(epoch.changes), list(epoch.changes.values()), [now_ms] * len(epoch.changes))
                sink.send(self.changelog(task_id), changes)
        for topic, said in marks.items():  # behind the rows that they speak of
            for number in range(self._topology.partitions[topic]):
                sink.send(Partition(topic, number), mark_columns(said, now_ms))

    def offsets(self, sealed: Mapping[TaskId, Sealed]) -> dict[Partition, Committed]:
        """The position of every partition of every task, moved or not: an epoch without offsets would not be fenced.

        Beside it: what the reader keeps, how many partitions the topic has, whether the task has state and has ended,
        and which plan, member and epoch it was.
        """
        self._epoch += 1
        token = {"plan": self._plan.fingerprint, "member": self._member, "epoch": self._epoch}
        return {
            partition: Committed(
                position,
                msgspec.json.encode(
                    {
                        **metadata,
                        "partitions": self._topology.partitions[partition.topic],
                        "state": self._stages[task_id.stage].stateful,
                        "ended": epoch.ended_run,
                        **token,
                    }
                ).decode(),
            )
            for task_id, epoch in sealed.items()
            for partition, (position, metadata) in epoch.positions.items()
        }
