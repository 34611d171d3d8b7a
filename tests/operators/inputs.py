"""Inputs for the laws: a few partitions, disorder within them, any interleaving, silences of any length."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from tests.operators.harness import Row, Step, interleaved, partition

KEYS = ("a", "b", 1, True, (1, "x"))
"""Keys of every kind of identity: raw, and those that Python could take for another."""
YEAR = 31_536_000_000


@st.composite
def inputs(
    draw: st.DrawFn, *, values: int | None = None, keys: tuple[Any, ...] = KEYS, partitions: int = 3
) -> list[Row]:
    """Rows of 1 to `partitions` partitions as one task gets them; values are distinct, or below `values`."""
    found = []
    record = st.tuples(
        st.sampled_from((0, 0, 0, 1, 1, 2, 3, 7, 20, YEAR)),
        st.sampled_from((0, 0, 0, 1, 2, 5, 12, 30)),
        st.sampled_from(keys),
    )
    for number in range(draw(st.integers(1, partitions))):
        at, records = draw(st.integers(-40, 20)), []
        for i, (step, behind, key) in enumerate(draw(st.lists(record, max_size=20))):
            at += step
            value = 100 * number + i
            records.append((key, value if values is None else value % values, at - behind))
        found.append(partition(records, number))
    return interleaved(found, draw(st.lists(st.integers(0, partitions - 1), max_size=20 * partitions)))


def made(seed: int, *, values: int | None = None, count: int = 60) -> tuple[list[Row], list[Step]]:
    """An input of two partitions and a schedule, dense enough that a planted bug seldom hides."""
    draw = Random(seed)
    found = []
    for number in range(2):
        at, records = draw.randrange(20), []
        for i in range(count):
            at += draw.choice((0, 0, 1, 2, 3, 9))
            value = 100 * number + i
            behind = draw.choice((0, 0, 0, 1, 2, 5, 12))
            records.append((draw.choice("abc"), value if values is None else value % values, at - behind))
        found.append(partition(records, number))
    steps = [Step(draw.randint(1, 4), closes=draw.random() < 0.8) for _ in range(2 * count)]
    return interleaved(found, [draw.randrange(2) for _ in range(2 * count)]), steps
