"""Launch: what is checked and made on a log before an app's first worker starts."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from streamproc.app import App
from streamproc.counted import counted
from streamproc.end_of_input import EndOfInput
from streamproc.errors import PlanChanged
from streamproc.graph import RepartitionNode
from streamproc.log import Committed, Log, Partition, Topic, UnknownTopic
from streamproc.ownership import internal_topics
from streamproc.plan import Plan, Topology
from streamproc.restore import TOMBSTONES_MS

logger = logging.getLogger("streamproc")

KEPT: Final = {"retention.ms": "-1", "message.timestamp.after.max.ms": str((1 << 63) - 1)}
"""Event times may be years old or ahead: with a broker's own settings such records are deleted within minutes, or
refused. So topics that streamproc makes keep them, those of the user too, where it was not told for how long."""
CHANGELOG: Final = {**KEPT, "cleanup.policy": "compact", "delete.retention.ms": str(TOMBSTONES_MS)}


class Launch(NamedTuple):
    """An app on a log, ready for workers."""

    plan: Plan
    topology: Topology
    partitions_of: Callable[[str], int]


async def prepare(app: App, log: Log) -> Launch:
    """The app's plan with its numbers of partitions; its output and internal topics exist.

    Raises UnknownTopic for a source that does not exist, PlanChanged where internal topics are those of another plan.
    """
    compared = await compare(app, log)
    for name, (partitions, config) in compared.missing.items():
        await log.create(name, partitions=partitions, config=config)
    topics = await log.topics()

    def partitions_of(name: str) -> int:
        if name not in topics:
            raise UnknownTopic(name, topics)
        return topics[name].partitions

    return Launch(app.plan, compared.topology, partitions_of)


class Compared(NamedTuple):
    """An app beside a log whose topics are right for it.

    missing   the topics that it writes and that are to be made: name -> (partitions, configuration)
    """

    topology: Topology
    topics: Mapping[str, Topic]
    missing: Mapping[str, tuple[int, Mapping[str, str]]]


async def compare(app: App, log: Log) -> Compared:
    """What `prepare` checks and would make; nothing is made. Raises UnknownTopic and PlanChanged, as it does."""
    plan = app.plan
    committed = await log.committed(app.name)  # before: topics may grow meanwhile, and others go on from there
    topics = await log.topics()
    for source in plan.sources:
        if source.name not in topics:
            raise UnknownTopic(source.name, topics)
    counts = {name: topic.partitions for name, topic in topics.items()}
    topology = plan.resolve(counts.__getitem__, counts.get)
    _check_sources(app, topology, committed)
    own = topics.keys() & await internal_topics(app.name, log)  # other workers may start, and make some, meanwhile
    _check_internal(plan, topology, topics, await _with_records(sorted(own), topics, log))
    wanted = _wanted(app, plan, topology)
    return Compared(topology, topics, {name: how for name, how in wanted.items() if name not in topics})


async def end_of_input(launch: Launch, log: Log) -> EndOfInput:
    """The sources' end offsets now: where a run until the end stops. One snapshot is for the whole group."""
    partitions = [
        Partition(topic.name, number)
        for topic in launch.plan.sources
        for number in range(launch.topology.partitions[topic.name])
    ]
    offsets = dict(await log.ends(partitions))
    return EndOfInput(offsets, zlib.crc32(repr(sorted(offsets.items())).encode()) or 1)


def _check_sources(app: App, topology: Topology, committed: Mapping[Partition, Committed]) -> None:
    """Their numbers of partitions are as they were, or may be larger. Before internal topics, which follow them."""
    sources = {source.name for source in app.plan.sources}
    of_sources = {partition: at for partition, at in committed.items() if partition.topic in sources}
    grown = {p.topic for p, at in of_sources.items() if topology.check_partitions(app.name, p.topic, at)}
    for topic in sorted(grown):
        known = 1 + max(partition.number for partition in of_sources if partition.topic == topic)
        new = range(known, topology.partitions[topic])
        if new:
            logger.warning(
                "topic %r has gained partitions %s: they are read from their first record on. Those of their records "
                "that belong to what has closed already are late",
                topic,
                ", ".join(map(str, new)),
            )


def _wanted(app: App, plan: Plan, topology: Topology) -> dict[str, tuple[int, Mapping[str, str]]]:
    """The topics that the app writes: name -> (partitions, configuration)."""
    widest = max(topology.tasks.values())
    sources = {topic.name for topic in plan.sources}
    wanted: dict[str, tuple[int, Mapping[str, str]]] = {}
    for name, topic in app.topics.items():
        if name not in sources:
            retention = {} if topic.retention_ms is None else {"retention.ms": str(topic.retention_ms)}
            wanted[name] = (topic.partitions or widest, {**KEPT, **retention})
    for name in app.dead_letter_topics:
        wanted.setdefault(name, (1, KEPT))
    for node in plan.nodes:
        if isinstance(node.kind, RepartitionNode):
            name = plan.topic_of(node)
            wanted[name] = (topology.partitions[name], KEPT)
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
            what = (
                f"there is state in topic {name!r}, for which this plan has no stage. Is there another app named "
                f"{plan.app!r}? Then give one of the two another name. If it is of an earlier version of this one"
            )
            raise PlanChanged(f"{what}: {_WAY_OUT}")
        expected = changelogs.get(name) or repartitions.get(name)
        if expected is not None and topic.partitions != expected:
            what = f"topic {name!r} has {counted(topic.partitions, 'partition')} and this plan needs {expected}"
            raise PlanChanged(f"{what}, so keyed state would no longer be where its keys are: {_WAY_OUT}")


_WAY_OUT = (
    "give steps and streams their old names (name='...'), run this version under another App name, or forget the state "
    "of the whole app with: streamproc reset MODULE:APP"
)
