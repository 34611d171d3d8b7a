"""The group coordinator of the logs that live in one process: who owns which task, and until when.

Eager protocol, as of Kafka's consumer groups: a change of the membership revokes everything, and once every member
that held tasks has released them (or left, or was expelled) they are shared out again, sticky and even.

What the members have agreed on, and what one of them has failed with, lasts until the last of them has gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

from streamproc.log import Assigned, LogError, Partition, Revoked, TaskInput

Task: TypeAlias = tuple[str, int]


class Member:
    """One membership: from a join until it leaves, is expelled or is replaced.

    offers       the tasks it can run, with the partitions each reads
    plan         what it runs; members of another plan share no tasks with it
    tasks        what the last sharing out gave it
    holds        it was told `tasks` and has not released them: its commits are good
    generation   the group's when it was told
    replaced     another one joined under its name
    """

    __slots__ = ("generation", "holds", "name", "offers", "pending", "plan", "replaced", "tasks")

    def __init__(self, name: str, tasks: Sequence[TaskInput], plan: str = "") -> None:
        self.name = name
        self.offers: Mapping[Task, tuple[Partition, ...]] = {(t.stage, t.number): t.partitions for t in tasks}
        self.plan = plan
        self.tasks: frozenset[Task] = frozenset()
        self.pending: Assigned | Revoked | None = None
        self.holds = False
        self.generation = 0
        self.replaced = False


class Group:
    """The members of a group and the tasks they share. Pure bookkeeping: nothing in here waits.

    changing   the tasks are to be shared out anew, as soon as nobody holds any
    shared     what the first member that had anything to share brought
    failure    why all members have to stop; None: they need not

    >>> tasks = [TaskInput("count", number, ()) for number in range(2)]
    >>> group = Group("trending")
    >>> a = group.join("a", tasks)
    >>> sorted(group.event(a).tasks)
    [('count', 0), ('count', 1)]
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.changing = False
        self.shared = b""
        self.failure: str | None = None

    def join(self, name: str, tasks: Sequence[TaskInput], *, plan: str = "", shared: bytes = b"") -> Member:
        """A new member; one of the same name is replaced and its tasks pass over without a new sharing out."""
        member = Member(name, tasks, plan)
        self._same_inputs(member)
        before = self.members.get(name)
        self.members[name] = member
        self.shared = self.shared or shared
        if before is None:
            self._change()
            return member
        before.replaced = True
        member.tasks = before.tasks
        if self.changing or (before.offers.keys(), before.plan) != (member.offers.keys(), member.plan):
            self._change()
        else:
            self._assign(member)
        return member

    def has(self, member: Member) -> bool:
        """Whether the membership goes on."""
        return self.members.get(member.name) is member

    def event(self, member: Member) -> Assigned | Revoked | None:
        """What the member has to be told next; it counts as told."""
        told, member.pending = member.pending, None
        if isinstance(told, Assigned):
            member.holds = True
            member.generation = self.generation
        return told

    def tell_again(self, member: Member) -> None:
        """The member begins anew with the tasks it has: it is told them once more, if nothing else comes."""
        if member.holds and not self.changing:
            self._assign(member)

    def release(self, member: Member) -> None:
        """The member, asked to, gives up its tasks."""
        if self.changing and self.has(member):
            member.pending = None
            member.holds = False
            self._settle()

    def remove(self, name: str) -> None:
        """The member left or is dead: what it held is free."""
        if self.members.pop(name, None) is None:
            return
        if not self.members:
            self.shared, self.failure = b"", None
        self._change()

    def fail(self, reason: str) -> None:
        """All members have to stop; the first reason is the one that counts."""
        self.failure = self.failure or reason

    def _assign(self, member: Member) -> None:
        member.pending = Assigned(member.tasks, self.shared)

    def _same_inputs(self, member: Member) -> None:
        for other in self.members.values():
            if other.plan != member.plan or other.name == member.name:
                continue
            for task in sorted(member.offers.keys() & other.offers.keys()):
                if member.offers[task] != other.offers[task]:
                    msg = (
                        f"{member.name!r} cannot join group {self.name!r}: for it task {task[0]}/{task[1]} reads other "
                        f"partitions than for {other.name!r}; stop the workers of the old version first"
                    )
                    raise LogError(msg)

    def _change(self) -> None:
        for member in self.members.values():
            if not member.holds:
                member.pending = None  # it was not told its tasks yet: there is nothing to give up
            elif not self.changing:
                member.pending = Revoked()
        self.changing = True
        self._settle()

    def _settle(self) -> None:
        if any(member.holds for member in self.members.values()):
            return
        self.changing = False
        self.generation += 1
        served = self._of_most_common_plan()
        shares = share_out(
            {member.name: member.offers.keys() for member in served}, {member.name: member.tasks for member in served}
        )
        for name, member in self.members.items():
            member.tasks = shares.get(name, frozenset())
            self._assign(member)

    def _of_most_common_plan(self) -> list[Member]:
        """The members of the plan that most have; of several such plans, of the one that was there first."""
        counts = Counter(member.plan for member in self.members.values())
        plan = max(counts, key=counts.__getitem__, default="")
        return [member for member in self.members.values() if member.plan == plan]


def share_out(
    offers: Mapping[str, Collection[Task]], owned: Mapping[str, Iterable[Task]]
) -> dict[str, frozenset[Task]]:
    """Each task to one member that offers it: members keep what they owned, within one of an even share.

    Even over all tasks and over those of each stage, when all offer the same and nothing was owned unevenly; a function
    of its arguments alone, whatever the order of the members.

    >>> both = [("count", 0), ("count", 1)]
    >>> share_out({"a": both, "b": both}, {"a": both}) == {"a": {("count", 0)}, "b": {("count", 1)}}
    True
    """
    free = {task for tasks in offers.values() for task in tasks}
    kept: dict[str, list[Task]] = {}
    for name in sorted(offers):
        kept[name] = sorted(free.intersection(owned.get(name, ())).intersection(offers[name]))
        free.difference_update(kept[name])
    # Members that own most take the larger shares, so that fewest tasks move.
    floor, larger = divmod(len(free) + sum(map(len, kept.values())), max(1, len(kept)))
    for place, name in enumerate(sorted(kept, key=lambda name: (-len(kept[name]), name))):
        quota = floor + (place < larger)
        while len(kept[name]) > quota:
            task = _to_give_up(kept[name], free)
            kept[name].remove(task)
            free.add(task)
    for task in sorted(free):
        able = [name for name in kept if task in offers[name]]
        kept[min(able, key=lambda name: (len(kept[name]), _of_stage(task, kept[name]), name))].append(task)
    return {name: frozenset(tasks) for name, tasks in kept.items()}


def _to_give_up(kept: Iterable[Task], free: Iterable[Task]) -> Task:
    """One of the stage of which most are kept, and then fewest are free.

    >>> _to_give_up([("count", 4), ("visits", 1), ("visits", 4)], [("visits", 2)])
    ('visits', 4)
    """
    mine, others = (Counter(stage for stage, _ in tasks) for tasks in (kept, free))
    return max(kept, key=lambda task: (mine[task[0]], -others[task[0]], task))


def _of_stage(task: Task, tasks: Iterable[Task]) -> int:
    return sum(stage == task[0] for stage, _ in tasks)
