"""Event times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime


def shown_time(ms: int | None) -> str:
    """An instant in UTC, to the second where it is whole; a dash where there is none.

    >>> shown_time(1_668_960_480_000), shown_time(250), shown_time(None)
    ('2022-11-20 16:08:00', '1970-01-01 00:00:00.250', '-')
    """
    if ms is None:
        return "-"
    try:
        text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"
    return f"{text}.{ms % 1000:03}" if ms % 1000 else text
