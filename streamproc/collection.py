"""Garbage collection: not while a batch is under way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """The cyclic collector does not run in the block.

    A batch is thousands of objects that live as long as the batch: the collector, started by their number, would walk
    them again and again and find nothing (measured: a third to a half of all CPU time where each record becomes a tuple
    or Struct). What is garbage is found between batches.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
