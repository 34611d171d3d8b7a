"""Launch: what is checked and made on a log before an app's first worker starts."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from streamproc.app import App
from streamproc.errors import PlanChanged
from streamproc.graph import RepartitionNode
from streamproc.log import Log, Partition, Topic, UnknownTopic
from streamproc.ownership import internal_topics
from streamproc.plan import Plan, Topology
from streamproc.restore import TOMBSTONES_MS
from streamproc.worker import EndOfInput

INTERNAL_TOPIC: Final = {"retention.ms": "-1", "message.timestamp.after.max.ms": str((1 << 63) - 1)}
"""Event times may be years old or ahead; such records must neither be deleted nor refused."""
CHANGELOG: Final = {**INTERNAL_TOPIC, "cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONES_MS)}


class Launch(NamedTuple):
    """An app on a log, ready for workers."""

    plan: Plan
    topology: Topology
    partitions_of: Callable[[str], int]


async def prepare(app: App, log: Log) -> Launch:
    """The app's plan with its numbers of partitions; its output and internal topics exist.

    Raises UnknownTopic for a source that does not exist, PlanChanged where internal topics are those of another plan.
    """
    plan = app.plan
    topics = await log.topics()
    for source in plan.sources:
        if source.name not in topics:
            raise UnknownTopic(source.name, topics)
    topology = plan.resolve(lambda name: topics[name].partitions)
    sources = {source.name for source in plan.sources}
    for partition, committed in (await log.committed(app.name)).items():
        if partition.topic in sources:  # first: internal topics follow the sources
            topology.check_partitions(app.name, partition.topic, committed)
    _check_internal(plan, topology, topics, await _with_records(await internal_topics(app.name, log), topics, log))
    for name, (partitions, config) in _wanted(app, plan, topology).items():
        if name not in topics:
            await log.create(name, partitions=partitions, config=config)
    topics = await log.topics()

    def partitions_of(name: str) -> int:
        if name not in topics:
            raise UnknownTopic(name, topics)
        return topics[name].partitions

    return Launch(plan, topology, partitions_of)


async def end_of_input(launch: Launch, log: Log) -> EndOfInput:
    """The sources' end offsets now: where a run until the end stops. One snapshot is for the whole group."""
    partitions = [
        Partition(topic.name, number)
        for topic in launch.plan.sources
        for number in range(launch.topology.partitions[topic.name])
    ]
    offsets = dict(await log.ends(partitions))
    return EndOfInput(offsets, zlib.crc32(repr(sorted(offsets.items())).encode()) or 1)


def _wanted(app: App, plan: Plan, topology: Topology) -> dict[str, tuple[int, Mapping[str, str]]]:
    """The topics that the app writes: name -> (partitions, configuration)."""
    widest = max(topology.tasks.values())
    sources = {topic.name for topic in plan.sources}
    wanted: dict[str, tuple[int, Mapping[str, str]]] = {}
    for name, topic in app.topics.items():
        if name not in sources:
            retention = {} if topic.retention_ms is None else {"retention.ms": str(topic.retention_ms)}
            wanted[name] = (topic.partitions or widest, retention)
    for name in app.dead_letter_topics:
        wanted.setdefault(name, (1, {}))
    for node in plan.nodes:
        if isinstance(node.kind, RepartitionNode):
            name = plan.topic_of(node)
            wanted[name] = (topology.partitions[name], INTERNAL_TOPIC)
    for stage in plan.stages:
        if stage.stateful:
            wanted[plan.changelog_of(stage)] = (topology.tasks[stage.name], CHANGELOG)
    return wanted


async def _with_records(names: Collection[str], topics: Mapping[str, Topic], log: Log) -> Collection[str]:
    """Those of the topics that anything was written to: one made for a plan that was refused holds no state."""
    partitions = [Partition(name, number) for name in names for number in range(topics[name].partitions)]
    ends = await log.ends(partitions)
    return {partition.topic for partition in partitions if ends[partition]}


def _check_internal(plan: Plan, topology: Topology, topics: Mapping[str, Topic], own: Collection[str]) -> None:
    changelogs = {plan.changelog_of(stage): topology.tasks[stage.name] for stage in plan.stages if stage.stateful}
    repartitions = {
        plan.topic_of(node): topology.partitions[plan.topic_of(node)]
        for node in plan.nodes
        if isinstance(node.kind, RepartitionNode)
    }
    for name, topic in topics.items():
        if name in own and name.endswith("-changelog") and name not in changelogs:
            what = f"there is state of an earlier plan in topic {name!r}, for which this plan has no stage"
            raise PlanChanged(f"{what}: {_WAY_OUT}")
        expected = changelogs.get(name) or repartitions.get(name)
        if expected is not None and topic.partitions != expected:
            what = f"topic {name!r} has {topic.partitions} partitions and this plan needs {expected}"
            raise PlanChanged(f"{what}, so keyed state would no longer be where its keys are: {_WAY_OUT}")


_WAY_OUT = (
    "give steps and streams their old names (name='...'), run this version under another App name, or forget the state "
    "with: streamproc reset MODULE:APP"
)
