"""Clock repair: an app's clocks set back to an instant, after a record with a time from the future moved them.

Such a record makes all that come after it late, for ever: its time is the clock of its partition, and through the marks
of its task the watermark of all that is behind a re-key. What is set back, in one epoch of the group:

    clocks of source partitions            beside their committed positions
    watermarks and vectors of marks        rows of the changelogs: every store follows, on whatever machine
    marks and clocks that wait unread      in repartition topics: written again behind, without what is beyond
    in repartition topics

What was closed by the wrong time stays closed: it has been written. A window that is open at the instant begins anew,
and is written a second time, with what comes from now on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from streamproc.app import App
from streamproc.clock import Clock
from streamproc.end_of_input import encode_end
from streamproc.epoch_writer import EpochWriter
from streamproc.errors import StreamprocError
from streamproc.internal_topic import set_back
from streamproc.launch import compare
from streamproc.log import Assigned, Columns, Log, Partition, Source, TaskInput
from streamproc.outside import outside_opener
from streamproc.plan import TaskId
from streamproc.reader import InternalReader
from streamproc.settings import Settings
from streamproc.task import Task

JOIN_S: Final = 30.0
"""So long the group is waited for that nobody else is in."""
WAITING_RECORDS: Final = 10_000
POLL_MS: Final = 200


class Beyond(NamedTuple):
    """What is beyond an instant: a clock or a watermark, and its time in ms."""

    what: str
    at_ms: int


async def clocks_beyond(app: App, log: Log, settings: Settings, clock: Clock, *, at_ms: int) -> list[Beyond]:
    """The clocks and watermarks of an app that are beyond an instant; nothing is changed."""
    tasks = await _tasks(app, log, settings, clock)
    return [Beyond(*found) for task in tasks.values() for found in task.beyond(at_ms)]


async def set_clocks_back(app: App, log: Log, settings: Settings, clock: Clock, *, to_ms: int, member: str) -> None:
    """No clock of the app is beyond the instant, and nothing that waits brings one back.

    All that waits between stages is in memory at once. Raises StreamprocError while the group has members.
    """
    await check_nobody(app.name, log)
    compared = await compare(app, log)
    stages = {stage.name: stage for stage in app.plan.stages}
    tasks = [TaskId(name, number) for name in stages for number in range(compared.topology.tasks[name])]
    inputs = [TaskInput(*task, _inputs(app, compared.topology.partitions, task)) for task in tasks]
    plan = f"{app.plan.fingerprint}-{compared.topology.fingerprint}"
    source = await log.source(app.name, member, inputs, plan=plan, shared=encode_end(None))
    try:
        await _alone(source, set(tasks), app.name)
        sink = await log.sink(source, member, exactly_once=settings.guarantee == "exactly_once")
        try:
            opened = await _tasks(app, log, settings, clock)
            for task in opened.values():
                for partition, columns in (await _waiting(task, log)).items():
                    sink.send(partition, set_back(columns, to_ms))
                task.set_back(to_ms)
            writer = EpochWriter(app.plan, compared.topology, member)
            sealed = {task_id: task.seal() for task_id, task in opened.items()}
            writer.send(sink, sealed, now_ms=clock.now_ms())
            await sink.commit(writer.offsets(sealed))
        finally:
            await sink.close()
    finally:
        await source.leave()


async def check_nobody(group: str, log: Log) -> None:
    """Raise StreamprocError while the group has members: they would commit on."""
    members = (await log.group(group)).members
    if members:
        names = ", ".join(sorted(member.name for member in members))
        raise StreamprocError(
            f"group {group!r} has members, {names}: stop its workers first. One that was killed counts as a member "
            "until its session is over (session_timeout, 45 s), or until it is started again and stopped"
        )


async def _tasks(app: App, log: Log, settings: Settings, clock: Clock) -> Mapping[TaskId, Task]:
    """The tasks that have committed anything, with what the engine keeps of them."""
    compared = await compare(app, log)
    committed = await log.committed(app.name)
    opener = outside_opener(app, log, compared, settings, clock)
    found = {}
    for stage in app.plan.stages:
        for number in range(compared.topology.tasks[stage.name]):
            task_id = TaskId(stage.name, number)
            if any(partition in committed for partition in _inputs(app, compared.topology.partitions, task_id)):
                found[task_id] = (await opener.open(task_id, opener.restoring(task_id))).task
    return found


def _inputs(app: App, partitions: Mapping[str, int], task: TaskId) -> tuple[Partition, ...]:
    [stage] = [stage for stage in app.plan.stages if stage.name == task.stage]
    topics = [app.plan.topic_of(node) for node in stage.inputs]
    return tuple(Partition(topic, task.number) for topic in topics if task.number < partitions[topic])


async def _alone(source: Source, tasks: set[TaskId], group: str) -> None:
    """All tasks are this member's: so nobody else commits, and nobody's commit is overtaken."""
    try:
        async with asyncio.timeout(JOIN_S):
            while True:
                for event in await source.poll((), POLL_MS):
                    if isinstance(event, Assigned) and set(map(TaskId._make, event.tasks)) == tasks:
                        return
                    await source.release()
    except TimeoutError:
        raise StreamprocError(f"group {group!r} has other members: stop its workers first") from None


async def _waiting(task: Task, log: Log) -> Mapping[Partition, Columns]:
    """What of its internal topics the task has not read; it counts as read."""
    found = {}
    for partition, reader in task.readers.items():
        if isinstance(reader, InternalReader):
            waiting = Columns([], [], [])
            end = (await log.ends([partition]))[partition]
            while reader.position < end:
                chunk = await log.read(partition, reader.position, WAITING_RECORDS)
                if chunk.next_offset == reader.position:  # what a worker that was killed had open: it ends by itself
                    await asyncio.sleep(POLL_MS / 1000)
                waiting.extend(chunk.columns)
                reader.position = chunk.next_offset
            if len(waiting):
                found[partition] = waiting
    return found
