"""Log lines of a command, on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from streamproc.json_lines import JsonLines

DATED: Final = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
PLAIN: Final = logging.Formatter("%(levelname)s %(message)s")
JSON: Final = JsonLines()


@contextmanager
def log_lines(level: str, form: logging.Formatter) -> Iterator[None]:
    """Within it, what is logged from this level on is shown on stderr, as it is now (a live display takes it over)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    with logging_to(handler, level):
        yield


@contextmanager
def logging_to(handler: logging.Handler, level: str) -> Iterator[None]:
    """Within it, what is logged from this level on goes to the handler; of other libraries, warnings and worse."""
    root, before = logging.getLogger(), logging.getLogger("streamproc").level
    root.addHandler(handler)
    logging.getLogger("streamproc").setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        logging.getLogger("streamproc").setLevel(before)
