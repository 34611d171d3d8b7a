"""Ownership: which internal topics are an app's. Names alone do not say: `shop-eu` begins like a topic of `shop`."""

from __future__ import annotations

from typing import Final

from streamproc.log import Log

INTERNAL: Final = ("-changelog", "-repartition")
"""How the names of internal topics end."""


async def internal_topics(app: str, log: Log) -> list[str]:
    """The internal topics that an app of this name has made, those of its earlier plans too.

    A topic that could be of an app with a longer name is that app's, if it has committed anything on this log.
    """
    prefix = f"{app}-"
    found = [name for name in await log.topics() if name.startswith(prefix) and name.endswith(INTERNAL)]
    return [name for name in found if not await _others(name, prefix, log)]


async def _others(topic: str, prefix: str, log: Log) -> bool:
    """Whether an app with a longer name, another beginning of the topic's, has committed anything."""
    parts = topic.removeprefix(prefix).split("-")[:-1]
    for count in range(1, len(parts)):
        if await log.committed(prefix + "-".join(parts[:count])):
            return True
    return False
