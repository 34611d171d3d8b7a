"""When a store was last brought up to its changelog: one that has missed too much must be rebuilt, not caught up."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from streamproc.state.store import Store

_KEY = b"\x01settled"
"""No table's row: names of tables end in a zero byte before anything of theirs."""


def settle(store: Store, changes: Mapping[bytes, bytes | None], position: int, *, now_ms: int) -> None:
    """Write an epoch's changes, with the wall time at which the store stood at this position."""
    store.write({**changes, _KEY: b"%d" % now_ms}, position)


def settled_ms(store: Store) -> int | None:
    """The wall time of the last `settle`; None where there was none."""
    data = store.get(_KEY)
    return None if data is None else int(data)


def holds_rows(store: Store) -> bool:
    """Whether a store has any row of a table."""
    return any(key != _KEY for key, _ in islice(store.scan(b"", b"\xff"), 2))  # names are text: no key begins so
