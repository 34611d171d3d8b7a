"""Offsets on their way to the coordinator of their group, which checks the membership under which they were read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from streamproc.kafka.calls import PASSING, Deadline, call, pause_s
from streamproc.kafka.requests import Cluster, Code, Refused, Request, code_name
from streamproc.log import Committed, Fenced, Partition

OLD_MEMBERSHIP: Final = frozenset(
    {Code.ILLEGAL_GENERATION, Code.UNKNOWN_MEMBER_ID, Code.FENCED_INSTANCE_ID, Code.REBALANCE_IN_PROGRESS}
)
"""How the group coordinator says that a membership is over."""
_PASSING: Final = PASSING | {Code.UNKNOWN_TOPIC_OR_PARTITION}
"""A new topic is not known everywhere at once."""

Offsets = Mapping[Partition, Committed]


class OldMembership(Fenced):
    """The group coordinator refused the offsets; `code` says what it thinks of the member."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the group coordinator refused the epoch's offsets with {code_name(code)}")
        self.code = code


async def commit_offsets(
    cluster: Cluster,
    request: Callable[[Offsets], Request[Mapping[Partition, int]]],
    offsets: Offsets,
    deadline: Deadline,
    *,
    answer_s: float,
) -> None:
    """The offsets are taken, those whose refusal passes when it has passed.

    Raises OldMembership, and Refused and NoAnswer: then some of them may have been taken.
    """
    left = offsets
    while left:
        refused = await call(cluster, request(left), deadline, answer_s=answer_s)
        for partition, code in refused.items():
            if code in OLD_MEMBERSHIP:
                raise OldMembership(code)
            if code not in _PASSING or deadline.over:
                raise Refused(code, f"the offset of {partition.topic}/{partition.number}")
        left = {partition: offsets[partition] for partition in refused}
        await asyncio.sleep(max(map(pause_s, refused.values()), default=0.0))
