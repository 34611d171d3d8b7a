"""The door to a Kafka cluster: one message for each API that streamproc uses, and `Cluster`, which answers them.

What stands above this door (membership, transactions, fetching) is the same code on a real cluster and on the simulated
one, which loses, delays and repeats what passes here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from streamproc.log import Columns, Committed, LogError, Partition

R = TypeVar("R")


class Code(IntEnum):
    """The error codes of Kafka's protocol that are acted on or explained; others keep their number."""

    UNKNOWN_SERVER_ERROR = -1
    NONE = 0
    OFFSET_OUT_OF_RANGE = 1
    CORRUPT_MESSAGE = 2
    UNKNOWN_TOPIC_OR_PARTITION = 3
    LEADER_NOT_AVAILABLE = 5
    NOT_LEADER_OR_FOLLOWER = 6
    REQUEST_TIMED_OUT = 7
    MESSAGE_TOO_LARGE = 10
    OFFSET_METADATA_TOO_LARGE = 12
    NETWORK_EXCEPTION = 13
    COORDINATOR_LOAD_IN_PROGRESS = 14
    COORDINATOR_NOT_AVAILABLE = 15
    NOT_COORDINATOR = 16
    INVALID_TOPIC = 17
    RECORD_LIST_TOO_LARGE = 18
    NOT_ENOUGH_REPLICAS = 19
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
    ILLEGAL_GENERATION = 22
    INCONSISTENT_GROUP_PROTOCOL = 23
    INVALID_GROUP_ID = 24
    UNKNOWN_MEMBER_ID = 25
    INVALID_SESSION_TIMEOUT = 26
    REBALANCE_IN_PROGRESS = 27
    TOPIC_AUTHORIZATION_FAILED = 29
    GROUP_AUTHORIZATION_FAILED = 30
    CLUSTER_AUTHORIZATION_FAILED = 31
    INVALID_TIMESTAMP = 32
    UNSUPPORTED_VERSION = 35
    TOPIC_ALREADY_EXISTS = 36
    INVALID_PARTITIONS = 37
    INVALID_REPLICATION_FACTOR = 38
    INVALID_CONFIG = 40
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
    POLICY_VIOLATION = 44
    OUT_OF_ORDER_SEQUENCE = 45
    DUPLICATE_SEQUENCE = 46
    INVALID_PRODUCER_EPOCH = 47
    INVALID_TXN_STATE = 48
    INVALID_PRODUCER_ID_MAPPING = 49
    INVALID_TRANSACTION_TIMEOUT = 50
    CONCURRENT_TRANSACTIONS = 51
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53
    KAFKA_STORAGE_ERROR = 56
    UNKNOWN_PRODUCER_ID = 59
    NON_EMPTY_GROUP = 68
    GROUP_ID_NOT_FOUND = 69
    UNSUPPORTED_COMPRESSION_TYPE = 76
    MEMBER_ID_REQUIRED = 79
    GROUP_MAX_SIZE_REACHED = 81
    FENCED_INSTANCE_ID = 82
    GROUP_SUBSCRIBED_TO_TOPIC = 86
    UNSTABLE_OFFSET_COMMIT = 88
    PRODUCER_FENCED = 90
    INVALID_RECORD = 87
    TRANSACTION_ABORTABLE = 120


def code_name(code: int) -> str:
    """How Kafka calls an error code."""
    try:
        return Code(code).name
    except ValueError:
        return f"error {code}"


class Refused(LogError):
    """The cluster answered a request with an error: it has not done what was asked."""

    def __init__(self, code: int, what: str, detail: str = "") -> None:
        super().__init__(code, what, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        code, what, detail = self.args
        return f"Kafka refused {what}: {code_name(code)}" + (f" ({detail})" if detail else "")


class NoAnswer(LogError):
    """No answer came in time or the connection broke: what was asked may have been done, or not, or be done later."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why)

    def __str__(self) -> str:
        what, why = self.args
        return f"no answer from Kafka to {what}: {why}"


class Unreachable(LogError):
    """No broker of the cluster can be reached; its message says why of each, and the way out.

    lasting   one of them would refuse this client again: its password, its certificate, what it speaks
    """

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


# ---------------------------------------------------------------------------------------- what messages are made of


class Producer(NamedTuple):
    """A producer id and its epoch, as the transaction coordinator gave them. (-1, -1): none yet."""

    id: int = -1
    epoch: int = -1


class Membership(NamedTuple):
    """What the group coordinator must still believe of a member for its commit to count."""

    group: str
    generation: int
    member: str
    instance: str


class Batch(Protocol):
    """Records of one partition, packed for Produce by `Cluster.pack`; `size` in bytes, before compression."""

    @property
    def count(self) -> int: ...

    @property
    def size(self) -> int: ...


class Stamped(NamedTuple):
    """A batch with the producer it is of and the sequence number of its first record (KIP-98)."""

    batch: Batch
    producer: Producer
    sequence: int


class Produced(NamedTuple):
    """What became of a batch: the offset of its first record, or why it was refused."""

    code: int
    offset: int
    detail: str = ""


class Fetched(msgspec.Struct):
    """What a partition gave from the offset asked for.

    code            NONE, or OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER, CORRUPT_MESSAGE, ...: nothing was read
    offsets         of the records: ascending, gaps are normal
    next_offset     behind all that was read, control records and aborted ones too; the offset asked for if nothing was
    high_watermark, last_stable, start   of the partition, when it answered; -1 where the broker does not say
    size            bytes on the wire
    """

    code: int
    offsets: Sequence[int]
    columns: Columns
    next_offset: int
    high_watermark: int = -1
    last_stable: int = -1
    start: int = -1
    size: int = 0


class GroupMember(NamedTuple):
    """A member of a group as the coordinator lists it; `metadata` is what it joined with."""

    member: str
    instance: str
    metadata: bytes


class Joined(NamedTuple):
    """A generation of a group. `members` is told to the leader alone."""

    generation: int
    leader: str
    member: str
    members: Sequence[GroupMember]


class GroupState(NamedTuple):
    """A group from outside: Empty, PreparingRebalance, CompletingRebalance, Stable or Dead; who has what."""

    state: str
    members: Sequence[DescribedMember]


class DescribedMember(NamedTuple):
    """A member seen from outside; `metadata` and `assignment` as the member and the leader wrote them."""

    member: str
    instance: str
    client: str
    host: str
    metadata: bytes
    assignment: bytes


class TopicState(NamedTuple):
    """A topic: how many partitions, and its configuration where that was asked for."""

    partitions: int
    config: Mapping[str, str]


# ---------------------------------------------------------------------------------------- messages


class Request(msgspec.Struct, Generic[R], frozen=True):
    """A message to the cluster; `R` is its answer.

    `Cluster.send` raises Refused for an error that is of the whole answer; errors of single partitions are in it.
    """


# Groups, at the group's coordinator.


class JoinGroup(Request[Joined], frozen=True):
    """KIP-62, KIP-345. Answered when all have joined. `member` is '' at first; `metadata` goes to the leader."""

    group: str
    member: str
    instance: str
    session_ms: int
    rebalance_ms: int
    metadata: bytes


class SyncGroup(Request[bytes], frozen=True):
    """The leader gives each member's assignment, the others none; answered with the member's own."""

    group: str
    generation: int
    member: str
    instance: str
    assignments: Mapping[str, bytes]


class Heartbeat(Request[None], frozen=True):
    """KIP-345: with the instance id, else two holders of one id fight for ever."""

    group: str
    generation: int
    member: str
    instance: str


class LeaveGroup(Request[None], frozen=True):
    """KIP-345: a static member leaves by its instance id, whoever says so."""

    group: str
    member: str
    instance: str


class OffsetFetch(Request[Mapping[Partition, Committed]], frozen=True):
    """KIP-447: with `stable`, UNSTABLE_OFFSET_COMMIT while a transaction holds offsets of them.

    `partitions` None: all that the group has. Partitions without an offset are left out. The first error of a partition
    is raised, as one of the whole answer is.
    """

    group: str
    partitions: Sequence[Partition] | None
    stable: bool = True


class OffsetCommit(Request[Mapping[Partition, int]], frozen=True):
    """Offsets outside of a transaction; answered with the partitions refused and why."""

    membership: Membership
    offsets: Mapping[Partition, Committed]


class OffsetDelete(Request[Mapping[Partition, int]], frozen=True):
    """KIP-496: a group that reads none of these topics has no offsets of them; answered with those refused and why."""

    group: str
    partitions: Sequence[Partition]


class TxnOffsetCommit(Request[Mapping[Partition, int]], frozen=True):
    """KIP-447, KIP-890: offsets as part of the open transaction; answered with the partitions refused and why."""

    transactional_id: str
    producer: Producer
    membership: Membership
    offsets: Mapping[Partition, Committed]


class DescribeGroup(Request[GroupState], frozen=True):
    """A group from outside."""

    group: str


class DeleteGroup(Request[None], frozen=True):
    """The group, which has no members, and its offsets are gone."""

    group: str


# Transactions, at the transaction's coordinator.


class InitProducerId(Request[Producer], frozen=True):
    """KIP-98, KIP-360: a producer id and epoch; what another holder of the id has open is aborted, and it is fenced.

    With `producer`, the epoch of that one is raised, if nobody else took the id: else PRODUCER_FENCED.
    `transactional_id` None: an idempotent producer without transactions.
    """

    transactional_id: str | None
    timeout_ms: int
    producer: Producer = Producer()


class EndTxn(Request[Producer], frozen=True):
    """KIP-890, version 5: commit or abort; answered with the producer and epoch of the next transaction."""

    transactional_id: str
    producer: Producer
    commit: bool


# Records, at the partitions' leader. All partitions of one message have the same leader: see `Cluster.led_together`.


class Produce(Request[Mapping[Partition, Produced]], frozen=True):
    """KIP-890, version 12: the broker adds the partitions to the transaction. One batch a partition."""

    transactional_id: str | None
    batches: Mapping[Partition, Stamped]


class Fetch(Request[Mapping[Partition, Fetched]], frozen=True):
    """Records from these offsets on, of each partition up to `partition_bytes` (one batch at least).

    Answered as soon as there is anything, else after `wait_ms`. Only committed records, if `committed`.
    """

    offsets: Mapping[Partition, int]
    wait_ms: int
    partition_bytes: int
    committed: bool = True


End = Literal["first", "stable", "high"]


class ListOffsets(Request[Mapping[Partition, int]], frozen=True):
    """The first offset kept, the last stable offset or the high watermark. A partition's error is raised."""

    partitions: Sequence[Partition]
    end: End


class DeleteRecords(Request[None], frozen=True):
    """Records below these offsets are gone (KIP-107)."""

    before: Mapping[Partition, int]


# The cluster.


class ListTopics(Request[Mapping[str, TopicState]], frozen=True):
    """All topics, or these; those that do not exist are left out. `config` of the topics is left empty."""

    names: Collection[str] | None = None


class DescribeTopics(Request[Mapping[str, TopicState]], frozen=True):
    """These topics, which exist, with their whole configuration."""

    names: Collection[str]


class CreateTopic(Request[None], frozen=True):
    """TOPIC_ALREADY_EXISTS where it does. Replicated as the broker's default says."""

    name: str
    partitions: int
    config: Mapping[str, str]


class DeleteTopics(Request[None], frozen=True):
    """The topics are gone; those that are not there count as gone."""

    names: Collection[str]


class TransactionVersion(Request[int], frozen=True):
    """The finalized feature `transaction.version`: 2 is KIP-890. 0 where the broker knows none."""


class Cluster(Protocol):
    """Answers requests; knows who leads and coordinates, and asks anew when one says that it no longer does."""

    async def send(self, request: Request[R], timeout_s: float) -> R:
        """The answer. Raises Refused (not done) and NoAnswer (nobody knows). Sends once, never again by itself."""

    def led_together(self, partitions: Collection[Partition]) -> Sequence[Sequence[Partition]]:
        """The partitions by leader, for Fetch, Produce, ListOffsets and DeleteRecords; order kept within each.

        Those whose leader is not known are one of the groups: sending for them is Refused by LEADER_NOT_AVAILABLE, and
        makes the cluster find out.
        """

    def pack(self, columns: Columns) -> Sequence[Batch]:
        """The records as batches, none larger than a request may be but one of a single record."""

    async def close(self) -> None:
        """Give the connections back; whoever waits gets NoAnswer."""
