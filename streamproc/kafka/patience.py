"""Nothing waits in silence: what takes long is said, and said again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger("streamproc")

SLOW_S: Final = 5.0
"""What takes so long is said."""
AGAIN_S: Final = 60.0
"""It is said again after twice as long, each time, but after no longer than this."""


@contextmanager
def said_if_slow(waiting: Callable[[], str]) -> Iterator[None]:
    """Within it, a warning now and then that says what `waiting` says at that moment, and for how long."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    due: asyncio.TimerHandle

    def say_in(pause_s: float) -> None:
        nonlocal due
        due = loop.call_later(pause_s, say, pause_s)

    def say(paused_s: float) -> None:
        logger.warning("%s, for %.0f s now", waiting(), loop.time() - began)
        say_in(min(2 * paused_s, AGAIN_S))

    say_in(SLOW_S)
    try:
        yield
    finally:
        due.cancel()
