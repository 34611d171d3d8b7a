"""Log lines of a command, on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_lines(level: str, *, dated: bool) -> Iterator[None]:
    """Within it, what is logged from this level on is shown on stderr, as it is now (a live display takes it over)."""
    handler = logging.StreamHandler(sys.stderr)
    line = "%(asctime)s %(levelname)-7s %(message)s" if dated else "%(levelname)s %(message)s"
    handler.setFormatter(logging.Formatter(line))
    root, before = logging.getLogger(), logging.getLogger("streamproc").level
    root.addHandler(handler)
    logging.getLogger("streamproc").setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        logging.getLogger("streamproc").setLevel(before)
