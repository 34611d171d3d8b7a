"""What the leader of a group does between JoinGroup and SyncGroup: share out the tasks, fence who is gone (KIP-98)."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from streamproc.counted import counted
from streamproc.kafka.assignment import Decision, decide, decode_subscription, encode_assignment
from streamproc.kafka.calls import Deadline, call
from streamproc.kafka.requests import Cluster, InitProducerId, Joined, NoAnswer, Refused
from streamproc.kafka.timing import Timing

logger = logging.getLogger("streamproc")

FENCE_S: Final = 5.0
"""A generation waits no longer for the transactions of members that are gone to be aborted."""


def transactional_id(group: str, instance: str) -> str:
    """The id under which an instance writes its transactions; whoever takes it aborts what the instance has open."""
    return f"{group}-{instance}"


async def lead(cluster: Cluster, group: str, instance: str, joined: Joined, timing: Timing) -> dict[str, bytes]:
    """The assignments of a generation by member id, after nothing is open any more of those that are gone.

    Their open transactions would hold up whoever reads what they touched, until they time out. That an instance of the
    last generation is gone is certain: all members of this one have joined.
    Raises LogError for a member that is no worker.
    """
    decision = decide({member.member: decode_subscription(member) for member in joined.members})
    _say(f"{instance}: leads generation {joined.generation} of group {group!r}", joined, decision)
    await asyncio.gather(*(_fence(cluster, group, gone, timing) for gone in decision.gone))
    return {member: encode_assignment(gives) for member, gives in decision.assignments.items()}


def _say(what: str, joined: Joined, decision: Decision) -> None:
    workers, gone = counted(len(joined.members), "worker"), ", ".join(decision.gone) or "nobody"
    logger.info("%s: %s; gone: %s", what, workers, gone)
    if decision.unowned:
        names = ", ".join(f"{stage}/{number}" for stage, number in decision.unowned)
        logger.warning(
            "%s: workers of two versions of the app, so nobody has tasks that only the fewer offer: %s", what, names
        )


async def _fence(cluster: Cluster, group: str, gone: str, timing: Timing) -> None:
    request = InitProducerId(transactional_id(group, gone), timing.transaction)
    patience_s = min(FENCE_S, timing.session / 3000)
    try:
        await call(cluster, request, Deadline(patience_s), answer_s=patience_s / 2)
    except (Refused, NoAnswer) as error:
        logger.warning(
            "group %r: what %s, who is gone, has open could not be aborted, so it holds others up until its time-out "
            "(transaction_timeout is %g s): %s",
            group,
            gone,
            timing.transaction / 1000,
            error,
        )
