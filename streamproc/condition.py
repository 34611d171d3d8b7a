"""Condition: what a worker is doing, in words, from what has passed between it and the log."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from streamproc.counted import counted
from streamproc.event_loop import Pulse
from streamproc.plan import TaskId
from streamproc.restore import Restoring
from streamproc.watched_log import Traffic

SILENT_S: Final = 5.0
"""So long an answer may take before that is said."""
NAMED: Final = 5
"""So many tasks are named, the others are counted."""


class Condition(msgspec.Struct, frozen=True):
    """What a worker is doing.

    ready   it has opened the tasks it owns, or there are none for it
    tasks   those it has opened, as `stage/number`
    """

    ready: bool
    reason: str
    tasks: tuple[str, ...] = ()


def condition_of(
    app: str,
    traffic: Traffic,
    opened: Collection[TaskId],
    restoring: Mapping[TaskId, Restoring],
    *,
    pulse: Pulse,
    now_s: float,
) -> Condition:
    """The condition of a worker of this app that has opened some tasks; `now_s` on the event loop's clock.

    While the loop was held no answer could be heard: by `pulse`, that time is not counted.
    """
    tasks = tuple(f"{stage}/{number}" for stage, number in sorted(opened))
    reason = _hindrance(traffic, pulse, now_s) or _way_to_tasks(app, traffic, opened, restoring)
    if reason is not None:
        return Condition(ready=False, reason=reason, tasks=tasks)
    if not tasks:
        more = "the group has more workers than tasks"
        why = "most workers of the group run another version of the app" if traffic.outvoted else more
        return Condition(ready=True, reason=f"no tasks: {why}")
    return Condition(ready=True, reason=f"working on {counted(len(tasks), 'task')}", tasks=tasks)


def silent_s(traffic: Traffic, pulse: Pulse, now_s: float) -> float:
    """For how long the log has not answered though it was asked, and could have been heard."""
    return pulse.free_s(now_s - traffic.unanswered_s, now_s)


def _hindrance(traffic: Traffic, pulse: Pulse, now_s: float) -> str | None:
    silent = silent_s(traffic, pulse, now_s)
    if silent >= SILENT_S:
        return f"Kafka has not answered for {silent:.0f} s"
    if calls := traffic.calls:
        waited = pulse.free_s(calls[0].since, now_s)
        if waited >= SILENT_S:
            return f"waiting for {waited:.0f} s for the log to answer: {calls[0].name}"
    return None


def _way_to_tasks(
    app: str, traffic: Traffic, opened: Collection[TaskId], restoring: Mapping[TaskId, Restoring]
) -> str | None:
    """What is missing until it has opened what it owns."""
    if traffic.leaving:
        return f"leaving group {app!r}"
    if traffic.assigned is None:
        return "the group shares out its tasks anew" if traffic.was_assigned else f"joining group {app!r}"
    missing = sorted({TaskId(*task) for task in traffic.assigned} - set(opened))
    if not missing:
        return None
    shown = ", ".join(_opening(task, restoring.get(task)) for task in missing[:NAMED])
    return shown + (f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else "")


def _opening(task: TaskId, restoring: Restoring | None) -> str:
    if restoring is None or restoring.share >= 1:
        return f"opening {task.stage}/{task.number}"
    return f"restoring {task.stage}/{task.number}: {restoring.share:.0%}"
