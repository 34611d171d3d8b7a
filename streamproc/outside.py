"""Outside: an app's tasks opened by who is not in its group, on what the log holds of them, with no disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from streamproc.app import App
from streamproc.assembly import Assembly
from streamproc.clock import Clock
from streamproc.jobs import LoopJobs
from streamproc.launch import Compared
from streamproc.log import Committed, Log, Partition
from streamproc.opening import Opener
from streamproc.settings import Settings
from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Store
from streamproc.task import FACTS
from streamproc.watched_log import WatchedLog
from streamproc.windows.duration import duration_ms


def outside_opener(app: App, log: Log, compared: Compared, settings: Settings, clock: Clock) -> Opener:
    """Opens tasks with what the engine keeps of them; operators find none of their own state."""
    made = _AsMade(log, compared)
    assembly = Assembly(
        app.plan,
        compared.topology,
        app.codec(),
        partitions_of=made.partitions_of,
        ahead_ms=duration_ms(settings.ahead),
    )
    return Opener(
        app.plan,
        compared.topology,
        made,
        _Outside(app.name, made),
        _FactsDisk(),
        assembly,
        clock=clock,
        jobs=LoopJobs(),
        exactly_once=settings.guarantee == "exactly_once",
        until_end=False,
    )


class _AsMade(WatchedLog):
    """The log as it would be with the topics that a start would make: empty."""

    def __init__(self, log: Log, compared: Compared) -> None:
        super().__init__(log)
        self._compared = compared

    def partitions_of(self, topic: str) -> int:
        """How many it has, or would have."""
        known = self._compared.topics.get(topic)
        return known.partitions if known is not None else self._compared.missing[topic][0]

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        there = [partition for partition in partitions if partition.topic in self._compared.topics]
        return {**dict.fromkeys(partitions, 0), **await super().ends(there)}


class _Outside:
    """The group's positions, for who is not in it."""

    def __init__(self, group: str, log: Log) -> None:
        self._group = group
        self._log = log

    async def committed(self, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        committed = await self._log.committed(self._group)
        return {partition: committed[partition] for partition in partitions if partition in committed}

    async def first_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)  # where the readers would begin: nothing is read by them

    async def end_offsets(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return await self._log.ends(partitions)


class _FactsDisk:
    """Stores in memory that keep of the rows written to them what the engine keeps of a task, and no user's state."""

    def __init__(self) -> None:
        self._disk = MemoryDisk()

    def open(self, name: str, *, beside: bool = False) -> Store:
        return _FactsStore(self._disk.open(name))

    def wipe(self, name: str) -> None:
        self._disk.wipe(name)


class _FactsStore:
    def __init__(self, store: Store) -> None:
        self._store = store
        self.get, self.scan, self.clear, self.close = store.get, store.scan, store.clear, store.close

    @property
    def position(self) -> int | None:
        return self._store.position

    @property
    def size_bytes(self) -> int:
        return self._store.size_bytes

    def write(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        own = {key: value for key, value in changes.items() if key[:1] == _ENGINE}
        self._store.write(own, position)


_ENGINE: Final = FACTS[:1].encode()
"""How keys of the engine's own rows begin; names of steps do not."""
