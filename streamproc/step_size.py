"""Step size: how many records a stage takes at once, by how long it took for the last ones.

A step holds the event loop, heartbeats too. Functions that take 20 ms a record are given five of them, and those that
take a microsecond whatever there is.
"""

from __future__ import annotations

from typing import Final

STEP_MS: Final = 100
"""So long a step is to take: a third of the default time between heartbeats."""
GROWTH: Final = 4
"""How much larger than the last step the next may be."""


class StepSize:
    """Of one stage; begins with a single record, since nothing is known of its functions.

    >>> size = StepSize()
    >>> size.took(1, ms=10)
    >>> size.took(4, ms=40)
    >>> size.records
    10
    """

    __slots__ = ("records",)

    def __init__(self) -> None:
        self.records = 1

    def took(self, records: int, *, ms: int) -> None:
        """A step of so many records took so long; one that was smaller than it might have been shows no way up."""
        fitting = records * STEP_MS // max(1, ms)
        if ms > STEP_MS:
            self.records = max(1, fitting)
        elif records >= self.records:
            self.records = min(GROWTH * records, fitting)
