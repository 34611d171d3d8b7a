"""Incidents: what goes on that should not is said once when it has lasted a while, and once when it is over."""

from __future__ import annotations

import logging
from typing import Any, Final, NamedTuple

logger = logging.getLogger("streamproc")

SHOWN_S: Final = 1.0
"""What has not even lasted so long yet has just begun: how long is not said."""


class _Incident(NamedTuple):
    since: float
    what: str
    told: bool


class Incidents:
    """What goes on now, by name; one thread at a time. Times are of the caller's clock, in seconds."""

    def __init__(self) -> None:
        self._open: dict[str, _Incident] = {}

    def see(
        self,
        name: str,
        what: str | None,
        *,
        now_s: float,
        after_s: float = 0.0,
        since_s: float | None = None,
        note: str = "",
        **fields: Any,
    ) -> None:
        """It goes on (None: it does not), since now or as far back as is known; told once it has lasted `after_s`.

        `note` is said behind what this call makes known. `fields` go into the log line's record, for logs that are
        JSON.
        """
        known = self._open.get(name)
        if what is None:
            if known is not None:
                self._end(name, known, now_s, note, fields)
            return
        if known is None:
            known = self._open[name] = _Incident(now_s if since_s is None else since_s, what, told=False)
        lasted = now_s - known.since
        if not known.told and lasted >= after_s:
            self._open[name] = _Incident(known.since, what, told=True)
            so_far = f", for {seconds(lasted)} now" if lasted >= SHOWN_S else ""
            record = {**fields, "seconds": round(lasted, 1)}
            logger.warning("%s%s%s", what, so_far, _sentence(note), extra=record)

    def lasting_s(self, name: str, now_s: float) -> float | None:
        """How long it has gone on; None: it does not."""
        known = self._open.get(name)
        return None if known is None else now_s - known.since

    def names(self) -> list[str]:
        """What goes on, told or not."""
        return list(self._open)

    def _end(self, name: str, known: _Incident, now_s: float, note: str, fields: dict[str, Any]) -> None:
        del self._open[name]
        if known.told:
            lasted = now_s - known.since
            record = {**fields, "seconds": round(lasted, 1)}
            logger.info("over after %s: %s%s", seconds(lasted), known.what, _sentence(note), extra=record)


def _sentence(note: str) -> str:
    return f". {note}" if note else ""


def seconds(lasted: float) -> str:
    """A time as people read it.

    >>> seconds(40.2), seconds(7.26), seconds(600)
    ('40 s', '7.3 s', '600 s')
    """
    return f"{lasted:.0f} s" if lasted >= 10 else f"{lasted:.1f} s"
