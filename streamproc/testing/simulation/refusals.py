"""How a broker refuses a whole request: some answers have a place for that, others only one for each partition."""

from __future__ import annotations

import random
from typing import Any, Final

from streamproc.kafka.requests import (
    Code,
    DeleteGroup,
    DeleteRecords,
    DescribeGroup,
    EndTxn,
    Fetch,
    Fetched,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Produce,
    Produced,
    Refused,
    Request,
    SyncGroup,
    TxnOffsetCommit,
)
from streamproc.log import Columns

_OF_GROUPS: Final = (
    JoinGroup,
    SyncGroup,
    Heartbeat,
    LeaveGroup,
    OffsetFetch,
    OffsetCommit,
    OffsetDelete,
    TxnOffsetCommit,
    DescribeGroup,
    DeleteGroup,
)
_OF_TRANSACTIONS: Final = (InitProducerId, EndTxn)
_OF_PARTITIONS: Final = (Produce, Fetch, ListOffsets, DeleteRecords)
_ELSEWHERE: Final = (Code.NOT_COORDINATOR, Code.COORDINATOR_LOAD_IN_PROGRESS, Code.COORDINATOR_NOT_AVAILABLE)
_LED_ELSEWHERE: Final = (Code.NOT_LEADER_OR_FOLLOWER, Code.LEADER_NOT_AVAILABLE)


def refusal(request: Request[Any], code: Code) -> Any:
    """The answer that says so; a Refused is one to raise."""
    if code == Code.LEADER_NOT_AVAILABLE:  # said by the client itself
        return Refused(code, type(request).__name__, "simulated")
    if isinstance(request, OffsetCommit | TxnOffsetCommit):
        return dict.fromkeys(request.offsets, code)
    if isinstance(request, Produce):
        return dict.fromkeys(request.batches, Produced(code, -1))
    if isinstance(request, Fetch):
        return {p: Fetched(code, (), Columns([], [], []), offset) for p, offset in request.offsets.items()}
    return Refused(code, type(request).__name__, "simulated")


def code_of(request: Request[Any], answer: Any) -> int:
    """The error of an answer, or the first of its partitions'; NONE: it has none."""
    if isinstance(answer, Refused):
        return answer.code
    if isinstance(request, OffsetCommit | OffsetDelete | TxnOffsetCommit):
        return next(iter(answer.values()), Code.NONE)
    if isinstance(request, Produce | Fetch):
        return next((part.code for part in answer.values() if part.code), Code.NONE)
    return Code.NONE


def is_coordinated(request: Request[Any]) -> bool:
    """Whether a coordinator answers it, which may be loading what it has written down."""
    return isinstance(request, _OF_GROUPS + _OF_TRANSACTIONS)


def moved(request: Request[Any], rng: random.Random) -> Code | None:
    """What is said where the leader or coordinator is another one, or not ready; None: this cannot happen to it."""
    if is_coordinated(request):
        return rng.choice(_ELSEWHERE)
    return rng.choice(_LED_ELSEWHERE) if isinstance(request, _OF_PARTITIONS) else None


def crowded(request: Request[Any]) -> Code | None:
    """What is said where the last transaction is not over yet; None: this cannot happen to it."""
    transactional = isinstance(request, (*_OF_TRANSACTIONS, TxnOffsetCommit)) or (
        isinstance(request, Produce) and request.transactional_id is not None
    )
    return Code.CONCURRENT_TRANSACTIONS if transactional else None
