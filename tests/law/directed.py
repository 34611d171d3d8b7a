"""Plans for one thing each, where random ones meet it seldom."""

from __future__ import annotations

from typing import Any

from tests.law.plans import Node, Spec


def source(partitions: int, *, key: str = "str", timed: str = "field", function: int = 0) -> Node:
    return Node("source", (), {"partitions": partitions, "timed": timed, "key": key}, function)


def node(kind: str, *parents: int, function: int = 0, **args: Any) -> Node:
    return Node(kind, parents, args, function)


def window(parent: int, agg: str, *, size: int = 10, every: int = 0, grace: int = 0, function: int = 0) -> Node:
    args = {"size": size, "every": every or size, "offset": 0, "grace": grace, "agg": agg, "all": False, "own": False}
    return Node("window", (parent,), args, function)


def session(parent: int, agg: str, *, gap: int = 5, grace: int = 3) -> Node:
    return node("session", parent, gap=gap, grace=grace, agg=agg, all=False)


def rekeyed(*behind: Node, partitions: int = 3, kind: str = "int", mod: int = 3) -> Spec:
    """A source, re-keyed (2); verbs of a stream function behind it."""
    key_by = node("key_by", 0, type=kind, mod=mod)
    return Spec([source(partitions), key_by, node("rekey", 1, to="key"), *behind], 1)


def straight(*behind: Node, partitions: int = 2) -> Spec:
    """A source (0), and verbs behind it."""
    return Spec([source(partitions), *behind], 1)


def process(parent: int, *, after: int = 3, alarm: int | None = None, poison: bool = False) -> Node:
    return node("process", parent, after=after, alarm=alarm, echo=1, poison=poison)


WINDOWED = rekeyed(window(2, "sum", size=20, every=10, grace=3))
COUNTED = rekeyed(window(2, "count", grace=3))
SESSIONS = rekeyed(session(2, "last"), node("late", 3, topic=True), window(3, "count"))
SHORT_SESSIONS = straight(session(0, "count", gap=2, grace=0), partitions=1)
TOP = rekeyed(
    window(2, "odd"),
    node("partial", 3, n=1, per=False, sessions=False),
    node("rekey", 4, to="one"),
    node("top", 5, n=1, per=False, sessions=False),
    mod=8,
)
TIMERS = straight(process(0, alarm=9), node("filter", 0, salt=1, mod=2), process(2))
IN_ORDER_TIMERS = rekeyed(node("in_order", 2, grace=3), process(3, alarm=9))
DEDUPLICATED = straight(
    node("deduplicate", 0, within=4, grace=15, mod=3),
    node("key_by", 1, type="int", mod=3),
    node("rekey", 2, to="key"),
    window(3, "count"),
)
TWO_BRANCHES = Spec(
    [
        source(2),
        window(0, "count", grace=15),
        node("map", 0, salt=1, poison=False),
        node("chain", 1, 2, function=1, key="bytes", partitions=2),
        node("key_by", 3, function=1, type="int", mod=3),
        node("rekey", 4, function=1, to="key"),
        window(5, "sum", grace=3, function=1),
    ],
    1,
)
"""Two branches of a stage, one of them held back, feed one topic."""
THREE_STAGES = rekeyed(
    node("in_order", 2, grace=3),
    node("running", 3, agg="sum"),
    node("key_by", 4, type="str", mod=2),
    node("rekey", 5, to="key"),
    window(6, "collect", size=15, every=5),
)
POISONED = straight(
    node("running", 0, agg="sum"),
    node("map", 1, salt=3, poison=True),
    node("key_by", 2, type="int", mod=3),
    node("rekey", 3, to="key"),
    window(4, "fragile", grace=3),
)
"""State stands before the function that fails."""
FLAT = straight(
    node("flat_map", 0, salt=1),
    node("flat_map", 1, salt=2),
    node("key_by", 2, type="int", mod=2),
    node("rekey", 3, to="key"),
    window(4, "collect", size=20),
)
FORKED = rekeyed(
    node("pick", 2, salt=1, side=0),
    node("map", 2, salt=2, poison=False),
    node("merge", 3, 4),
    window(5, "collect", size=20),
    node("in_order", 5, grace=0),
)
"""Each record may come twice, by two branches."""
CHAINED_SESSIONS = Spec(
    [
        source(3, timed="record"),
        session(0, "count"),
        node("chain", 1, function=1, key="str", partitions=2),
        window(2, "last", function=1, size=25),
    ],
    1,
)
EVERY_PLAN = {name: value for name, value in list(globals().items()) if isinstance(value, Spec) and name.isupper()}
