"""Which operator keeps which kind of window."""

from __future__ import annotations

from typing import Any

from streamproc.operators.assigned_window import AssignedWindow
from streamproc.operators.counting import Counting
from streamproc.operators.operator import Operator
from streamproc.operators.session import Session
from streamproc.operators.window import Window
from streamproc.windows.aggregate import Aggregate
from streamproc.windows.kinds import CountingWindows, FixedWindows, SessionWindows, WindowKind


def window_operator(windows: WindowKind, aggregate: Aggregate[Any, Any], *, grace_ms: int) -> Operator:
    """The operator that gives the aggregate of each key and window."""
    if isinstance(windows, FixedWindows):
        return Window(windows, aggregate, grace_ms=grace_ms)
    if isinstance(windows, SessionWindows):
        return Session(windows.gap_ms, aggregate, grace_ms=grace_ms)
    if isinstance(windows, CountingWindows):
        return Counting(windows.n, windows.every, aggregate)
    return AssignedWindow(windows, aggregate, grace_ms=grace_ms)
