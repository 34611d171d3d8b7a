"""Compatibility: whether a plan can go on from what is stored of its app; nothing is made or changed.

By the very checks of a start: those of the topics (`streamproc.launch`), and those of each task that is opened
(`streamproc.opening`), from the changelogs and not from a disk: they say what holds on every machine.
"""

from __future__ import annotations

import msgspec

from streamproc.app import App
from streamproc.clock import Clock
from streamproc.errors import PlanChanged, StateLost
from streamproc.launch import compare
from streamproc.log import Log, OffsetOutOfRange, Partition
from streamproc.outside import outside_opener
from streamproc.plan import TaskId
from streamproc.restore_lag import positions
from streamproc.settings import Settings


class Compatibility(msgspec.Struct, frozen=True):
    """What a start of this plan would meet.

    refused    why it would be refused, each with its way out; empty: it would go on
    positions  partitions of which a position is committed
    tasks      tasks that have state
    other      the plans, by fingerprint, that committed last and are not this one
    makes      the topics that it would make
    """

    refused: tuple[str, ...]
    positions: int = 0
    tasks: int = 0
    other: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()


async def compatibility(app: App, log: Log, settings: Settings, clock: Clock) -> Compatibility:
    """Whether the app's plan fits what the log holds of it. Raises UnknownTopic for a source that is not there.

    The changelogs are read whole: it takes as long as it would take to restore them.
    """
    try:
        compared = await compare(app, log)
    except PlanChanged as error:
        return Compatibility((str(error),))
    committed = positions(await log.committed(app.name))
    opener = outside_opener(app, log, compared, settings, clock)
    refused: list[str] = []
    tasks = 0
    for stage in app.plan.stages:
        errors = []
        for number in range(compared.topology.tasks[stage.name]):
            inputs = [Partition(app.plan.topic_of(node), number) for node in stage.inputs]
            there = [partition for partition in inputs if partition.topic in compared.topics and partition in committed]
            has_state = stage.stateful and app.plan.changelog_of(stage) in compared.topics
            if not there and not has_state:
                continue  # it begins anew
            task_id = TaskId(stage.name, number)
            restoring = opener.restoring(task_id)
            try:
                for partition in there:
                    await log.read(partition, committed[partition].offset, 1)
                opened = await opener.open(task_id, restoring)
            except (PlanChanged, StateLost, OffsetOutOfRange) as error:
                errors.append(str(error))
            else:
                opened.task.close()
            tasks += restoring.records > 0
        tasks_too = f"{len(errors) - 1} more {'task' if len(errors) == 2 else 'tasks'}"
        more = f" (So it is with {tasks_too} of stage {stage.name}.)" if len(errors) > 1 else ""
        refused += [errors[0] + more] if errors else []
    plans = {msgspec.json.decode(at.metadata)["plan"] for at in committed.values()} - {app.plan.fingerprint}
    return Compatibility(tuple(refused), len(committed), tasks, tuple(sorted(plans)), tuple(sorted(compared.missing)))
