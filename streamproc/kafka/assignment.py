"""Who gets which task: what the members of a group say, and what its leader makes of that.

The leader is a member like any other, chosen anew by the coordinator when it goes. It knows nothing but what the
members say as they join, so that whoever leads decides alike.

    Subscription   a member to the leader
    Assignment     the leader to a member

Both travel as user data of Kafka's own messages, behind a prefix that names the format. A later version may add fields
to it; one that changes a field is another format.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from streamproc.group import Task, share_out
from streamproc.kafka.consumer_protocol import (
    pack_assignment,
    pack_subscription,
    unpack_assignment,
    unpack_subscription,
)
from streamproc.kafka.requests import GroupMember
from streamproc.log import LogError, TaskInput

T = TypeVar("T")

_PREFIX: Final = b"streamproc"
_FORMAT: Final = b"\x01"


class Subscription(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member says when it joins.

    instance     its name in the group
    plan         fingerprint of what it runs
    inputs       the tasks it can run, and what each reads
    generation   the last in which it was assigned anything; 0: none yet
    owned        the tasks it got then: its claims
    peers        the instances that were in that generation
    shared       what the group agreed on, or what it would have the group agree on
    agreed       the generation in which the group agreed on it; 0: the group has not
    failure      why the whole group must stop; "": it need not
    attempt      raised when it wants another decision though it has nothing new to say
    """

    instance: str
    plan: str
    inputs: tuple[TaskInput, ...]
    generation: int = 0
    owned: tuple[Task, ...] = ()
    peers: tuple[str, ...] = ()
    shared: bytes = b""
    agreed: int = 0
    failure: str = ""
    attempt: int = 0

    @property
    def offer(self) -> str:
        """Tells members apart that run another plan or offer other tasks."""
        packed = msgspec.msgpack.encode((self.plan, sorted(self.inputs)))
        return hashlib.blake2b(packed, digest_size=8).hexdigest()


class Assignment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a member is given for a generation.

    member    the id of the member that it was made for: who restarts is given its predecessor's
    offer     what that member had said of itself
    plan      the plan whose tasks are shared out
    peers     the instances in the generation
    tasks     what the member owns, and reads
    shared    what the group has agreed on
    failure   why the whole group stops; "": it does not
    refusal   why this member cannot be in the group; "": it can
    """

    member: str
    offer: str
    plan: str
    peers: tuple[str, ...]
    tasks: tuple[TaskInput, ...] = ()
    shared: bytes = b""
    failure: str = ""
    refusal: str = ""

    @property
    def owned(self) -> tuple[Task, ...]:
        """The tasks by name."""
        return tuple((task.stage, task.number) for task in self.tasks)


class Decision(NamedTuple):
    """A leader's decision.

    assignments   by member id
    gone          instances of the last generation that are in this one no more
    plan          the plan whose tasks are shared out
    unowned       tasks that only members of other plans offer, so that nobody has them
    """

    assignments: Mapping[str, Assignment]
    gone: Sequence[str]
    plan: str
    unowned: Sequence[Task]


def decide(members: Mapping[str, Subscription]) -> Decision:
    """Share out the tasks: sticky, even, each whole; a function of what is said alone, whatever the order.

    `members` by member id. Where plans differ, the plan of most members is served; if two have as many, the one whose
    members owned tasks last.

    >>> from streamproc.log import Partition
    >>> says = Subscription(instance="w1", plan="p", inputs=(TaskInput("count", 0, (Partition("tweets", 0),)),))
    >>> decide({"w1-a": says}).assignments["w1-a"].owned
    (('count', 0),)
    """
    said = sorted(members.values(), key=lambda member: (-member.generation, member.instance))
    plan = _plan_of_most(said)
    served = [member for member in said if member.plan == plan]
    inputs, refused = _agree_on_inputs(served)
    able = [member for member in served if member.instance not in refused]
    failure = min(((member.instance, member.failure) for member in said if member.failure), default=("", ""))[1]
    offers = {member.instance: [_task(given) for given in member.inputs] for member in able}
    shares = {} if failure else share_out(offers, _owners(able))
    shared = _agreed(able)
    peers = tuple(sorted(member.instance for member in said))
    assignments = {
        member_id: Assignment(
            member=member_id,
            offer=member.offer,
            plan=plan,
            peers=peers,
            tasks=tuple(inputs[task] for task in sorted(shares.get(member.instance, ()))),
            shared=shared if member.instance in offers else b"",
            failure=failure,
            refusal=refused.get(member.instance, ""),
        )
        for member_id, member in members.items()
    }
    gone = sorted({peer for member in said for peer in member.peers}.difference(peers))
    unowned = sorted({_task(given) for member in said for given in member.inputs}.difference(inputs))
    return Decision(assignments, gone, plan, unowned)


def _plan_of_most(members: Iterable[Subscription]) -> str:
    by_plan: dict[str, list[Subscription]] = {}
    for member in members:
        by_plan.setdefault(member.plan, []).append(member)

    def rank(plan: str) -> tuple[int, int, str]:
        owned_last = max((member.generation for member in by_plan[plan] if member.owned), default=0)
        return -len(by_plan[plan]), -owned_last, plan

    return min(by_plan, key=rank)


def _agree_on_inputs(members: Iterable[Subscription]) -> tuple[Mapping[Task, TaskInput], Mapping[str, str]]:
    """What each task reads, and the members that disagree with one before them, with what to tell them."""
    inputs: dict[Task, TaskInput] = {}
    said_by: dict[Task, str] = {}
    refused: dict[str, str] = {}
    for member in members:
        wrong = [_task(given) for given in member.inputs if inputs.get(_task(given), given) != given]
        if wrong:
            stage, number = wrong[0]
            refused[member.instance] = (
                f"for {member.instance!r} task {stage}/{number} reads other partitions than for {said_by[wrong[0]]!r}; "
                "stop the workers of the old version first"
            )
            continue
        for given in member.inputs:
            inputs[_task(given)] = given
            said_by.setdefault(_task(given), member.instance)
    return inputs, refused


def _owners(members: Sequence[Subscription]) -> Mapping[str, Collection[Task]]:
    """Who had a task last. Of claims to one task the highest generation wins, then the first name."""
    had: dict[Task, str] = {}
    for member in members:  # the highest generation comes first
        for task in member.owned:
            had.setdefault(task, member.instance)
    owners: dict[str, list[Task]] = {}
    for task, instance in had.items():
        owners.setdefault(instance, []).append(task)
    return owners


def _agreed(members: Iterable[Subscription]) -> bytes:
    """What was agreed on last, else what the first by name brings; of those that have anything."""
    having = [member for member in members if member.shared]
    return min(having, key=lambda member: (-member.agreed, member.instance)).shared if having else b""


def _task(given: TaskInput) -> Task:
    return given.stage, given.number


# ------------------------------------------------------------------------------------ on the wire


def encode_subscription(says: Subscription) -> bytes:
    """As `JoinGroup.metadata`."""
    topics = sorted({partition.topic for task in says.inputs for partition in task.partitions})
    return pack_subscription(topics, _pack(says))


def decode_subscription(member: GroupMember) -> Subscription:
    """What a member said. Raises LogError, naming it, for one that is no worker, or of another version."""
    what = f"member {member.member!r} of the group"
    says = _unpack(member.metadata, unpack_subscription, Subscription, what)
    if says.instance != member.instance:
        raise LogError(f"{what} says that it is {says.instance!r}, but joined as {member.instance!r}: {_WAY_OUT}")
    return says


def encode_assignment(gives: Assignment) -> bytes:
    """As in `SyncGroup.assignments`."""
    return pack_assignment((partition for task in gives.tasks for partition in task.partitions), _pack(gives))


def decode_assignment(packed: bytes) -> Assignment:
    """What the leader gave. Raises LogError when that is no worker, or of another version."""
    return _unpack(packed, unpack_assignment, Assignment, "the leader of the group")


def tasks_of(packed: bytes) -> frozenset[Task]:
    """The tasks in an assignment seen from outside; none in one that is empty. Raises LogError if it is not ours."""
    return frozenset(decode_assignment(packed).owned) if packed else frozenset()


def _pack(struct: Subscription | Assignment) -> bytes:
    # The coordinator keeps what all members say in one record, which may have 1 MB.
    return _PREFIX + _FORMAT + zlib.compress(msgspec.msgpack.encode(struct))


_WAY_OUT: Final = "is another application using this group's name? Give the app another name, or stop the other one"


def _unpack(packed: bytes, unwrap: Callable[[bytes], bytes], kind: type[T], what: str) -> T:
    try:
        data = unwrap(packed)
    except ValueError as error:
        raise LogError(f"{what} says nothing that Kafka's consumer protocol knows ({error}): {_WAY_OUT}") from error
    if not data.startswith(_PREFIX):
        raise LogError(f"{what} is no worker of streamproc: {_WAY_OUT}")
    rest = data[len(_PREFIX) :]
    if not rest.startswith(_FORMAT):
        raise LogError(f"{what} is a worker of another version of streamproc, not understood here: stop it first")
    try:
        return msgspec.msgpack.decode(zlib.decompress(rest[len(_FORMAT) :]), type=kind)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LogError(f"what {what} says is damaged ({error}): {_WAY_OUT}") from error
