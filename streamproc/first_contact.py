"""First contact: a service that is started before its Kafka, or while that is down, waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from streamproc.kafka.patience import said_if_slow
from streamproc.kafka.requests import Unreachable
from streamproc.log import Log
from streamproc.log_url import open_log
from streamproc.settings import Settings
from streamproc.stop import Stop

logger = logging.getLogger("streamproc")

AGAIN_S: Final = 1.0
"""Between two tries."""
_LOOK_S: Final = 0.1


async def awaited_log(settings: Settings, stop: Stop, unreached: Callable[[str], None]) -> Log | None:
    """The log, once a broker answers; None: it was asked to stop before that.

    `unreached` is told why none does, each time. Raises what `open_log` raises, and Unreachable where that lasts.
    """
    reaching = asyncio.create_task(_reached(settings, unreached))
    try:
        while not reaching.done() and not stop.requested:
            await asyncio.wait([reaching], timeout=_LOOK_S)
    finally:
        reaching.cancel()
    await asyncio.wait([reaching])
    return None if reaching.cancelled() else reaching.result()


async def _reached(settings: Settings, unreached: Callable[[str], None]) -> Log:
    with ExitStack() as waiting:
        said = False
        while True:
            try:
                log = await open_log(settings)
            except Unreachable as error:
                if error.lasting:
                    raise
                if not said:
                    said = True
                    logger.warning("waiting until Kafka answers: %s", error)
                    waiting.enter_context(said_if_slow(lambda: f"{settings.broker} cannot be reached"))
                unreached(str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                if said:
                    logger.warning("%s answers", settings.broker)
                return log
