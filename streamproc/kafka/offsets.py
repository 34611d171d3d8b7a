"""Where partitions begin and end, where groups are, and why a partition cannot be read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

from streamproc.kafka.calls import LATER_S, PASSING, PATIENCE_S, Deadline, call, together
from streamproc.kafka.committing import OLD_MEMBERSHIP
from streamproc.kafka.patience import said_if_slow
from streamproc.kafka.requests import (
    Cluster,
    Code,
    End,
    ListOffsets,
    ListTopics,
    Membership,
    NoAnswer,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Refused,
    Request,
    code_name,
)
from streamproc.kafka.timing import Timing
from streamproc.log import Committed, LogCorrupt, LogError, OffsetOutOfRange, Partition, Rejected, Topic, UnknownTopic

R = TypeVar("R")

UNKNOWN_S: Final = 2.0
"""A topic that nobody knows for so long is not just new."""


class Offsets:
    """Questions to a cluster, each asked until it is answered, or for PATIENCE_S."""

    def __init__(self, cluster: Cluster, timing: Timing) -> None:
        self._cluster = cluster
        self._timing = timing

    async def ask(self, request: Request[R]) -> R:
        """The answer. Raises Refused and NoAnswer."""
        return await call(self._cluster, request, Deadline(PATIENCE_S), answer_s=self._timing.request_s)

    async def ask_leaders(
        self,
        request: Callable[[Sequence[Partition]], Request[R]],
        partitions: Collection[Partition],
        *,
        unknown_s: float = UNKNOWN_S,
    ) -> list[R]:
        """The answers of all that lead these partitions, wherever leaders move meanwhile. Raises UnknownTopic too."""
        deadline, known_by = Deadline(PATIENCE_S), Deadline(unknown_s)
        while True:
            groups = self._cluster.led_together(partitions)
            try:
                return await together(self._cluster.send(request(group), self._timing.request_s) for group in groups)
            except NoAnswer:
                if deadline.over:
                    raise
            except Refused as error:
                if error.code == Code.UNKNOWN_TOPIC_OR_PARTITION:
                    if known_by.over and (unknown := await self._unknown(partitions)) is not None:
                        raise unknown from error
                elif error.code not in PASSING:
                    raise
                if deadline.over:
                    raise
            await asyncio.sleep(LATER_S)

    async def bounds(
        self, end: End, partitions: Collection[Partition], *, unknown_s: float = UNKNOWN_S
    ) -> Mapping[Partition, int]:
        """The first offsets kept, the last stable ones, or the high watermarks. Raises UnknownTopic."""
        answers = await self.ask_leaders(
            lambda group: ListOffsets(group, end), sorted(set(partitions)), unknown_s=unknown_s
        )
        return {partition: offset for answer in answers for partition, offset in answer.items()}

    async def stable(self, group: str, partitions: Sequence[Partition]) -> Mapping[Partition, Committed]:
        """Committed positions, when no transaction holds them any more (KIP-447); for that is waited, and said."""
        names = ", ".join(f"{topic}/{number}" for topic, number in partitions)
        what = f"the committed offsets of group {group!r} in {names} are waited for: a transaction holds some of them"
        with said_if_slow(lambda: what):
            while True:
                try:
                    return await self.ask(OffsetFetch(group, partitions)) if partitions else {}
                except Refused as error:
                    if error.code != Code.UNSTABLE_OFFSET_COMMIT:
                        raise

    async def note(
        self, membership: Membership, kept: Mapping[Partition, Committed], gone: Sequence[Partition]
    ) -> None:
        """Offsets that nobody reads on from are there, others gone. Asked once; raises Rejected, Refused, NoAnswer."""
        try:
            if kept:
                await self._once(OffsetCommit(membership, kept))
            if gone:
                await self._once(OffsetDelete(membership.group, gone))
        except Refused as error:
            if error.code in PASSING or error.code in OLD_MEMBERSHIP:
                raise
            raise Rejected(str(error)) from error

    async def why_unreadable(self, partition: Partition, offset: int, code: int) -> LogError | None:
        """What to say of a partition that refused to be read; None where by now it may not refuse any more."""
        name = f"{partition.topic}/{partition.number}"
        if code in PASSING:
            return None
        if code == Code.UNKNOWN_TOPIC_OR_PARTITION:
            return await self._unknown([partition])
        if code == Code.OFFSET_OUT_OF_RANGE:
            first, high = await together(self.bounds(end, [partition]) for end in ("first", "high"))
            if first[partition] <= offset <= high[partition]:
                return None
            return OffsetOutOfRange(partition, offset, first[partition], high[partition])
        if code == Code.CORRUPT_MESSAGE:
            return LogCorrupt(f"Kafka, partition {name}", f"the batch at offset {offset} does not have its checksum")
        if code == Code.UNSUPPORTED_COMPRESSION_TYPE:
            return LogError(
                f"partition {name} is compressed, from offset {offset} on, by a codec whose library is not installed: "
                "pip install cramjam (snappy, lz4 and zstd)"
            )
        if code == Code.TOPIC_AUTHORIZATION_FAILED:
            return LogError(f"partition {name} may not be read: allow the app's user Read on the topic")
        return LogError(f"partition {name} cannot be read at offset {offset}: {code_name(code)}")

    async def _once(self, request: Request[Mapping[Partition, int]]) -> None:
        """Done for all of its partitions, or Refused with the first refusal."""
        for (topic, number), code in (await self._cluster.send(request, self._timing.request_s)).items():
            raise Refused(code, f"the offset of {topic}/{number}")

    async def _unknown(self, partitions: Collection[Partition]) -> UnknownTopic | None:
        topics = {name: Topic(state.partitions, {}) for name, state in (await self.ask(ListTopics())).items()}
        for topic, number in partitions:
            if topic not in topics or not 0 <= number < topics[topic].partitions:
                return UnknownTopic(topic, topics, number)
        return None
