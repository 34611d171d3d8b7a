"""Pacing: which partitions to read next, so that state is bounded on a catch-up. The law of time does not need it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache

from streamproc.log import Partition
from streamproc.operators.batch import NEVER
from streamproc.plan import Plan
from streamproc.reader import SourceReader
from streamproc.task import Task


def readable(plan: Plan, tasks: Iterable[Task], caught_up: Collection[Partition], drift_ms: int) -> list[Partition]:
    """The partitions to read, those furthest behind in event time first.

    Of the sources in one connected part of the plan, none is read that is more than the drift ahead of one with
    more to read.
    """
    found: list[Partition] = []
    parts: dict[int, list[SourceReader]] = {}
    components = _components(plan)
    for task in tasks:
        for reader in task.readers.values():
            if isinstance(reader, SourceReader):
                parts.setdefault(components[task.id.stage], []).append(reader)
            else:
                found.append(reader.partition)
    for readers in parts.values():
        lagging = [reader.clock for reader in readers if reader.partition not in caught_up]
        limit = max(min(lagging, default=NEVER), NEVER) + drift_ms
        readers.sort(key=lambda reader: reader.clock)
        found += [r.partition for r in readers if not lagging or r.clock <= limit or r.partition in caught_up]
    return found


@cache
def _components(plan: Plan) -> dict[str, int]:
    """The connected part of the plan that each stage belongs to."""
    component = {stage.name: number for number, stage in enumerate(plan.stages)}
    for stage in plan.stages:
        for node in stage.feeds:
            joined, gone = component[stage.name], component[plan.stage_of[node.id].name]
            component = {name: joined if c == gone else c for name, c in component.items()}
    return component
