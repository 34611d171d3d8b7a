"""How long the parts of the Kafka log wait."""

from __future__ import annotations

from typing import NamedTuple

from streamproc.settings import Settings
from streamproc.windows.duration import duration_ms


class Timing(NamedTuple):
    """All in ms.

    session        a member that is not heard of for so long is expelled
    heartbeat      between two heartbeats
    rebalance      for giving up tasks when the group changes
    transaction    after which the broker aborts an open transaction
    request        for one answer
    """

    session: int = 45_000
    heartbeat: int = 300
    rebalance: int = 60_000
    transaction: int = 15_000
    request: int = 8_000

    @property
    def request_s(self) -> float:
        """For one answer, in seconds."""
        return self.request / 1000


def timing_of(settings: Settings) -> Timing:
    """As the settings say."""
    return Timing(
        duration_ms(settings.session_timeout),
        duration_ms(settings.heartbeat),
        duration_ms(settings.rebalance_timeout),
        duration_ms(settings.transaction_timeout),
        duration_ms(settings.request_timeout),
    )
