"""Numbers that are counted in windows behind a re-key: an app for live runs, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from streamproc import App, Stream, tumbling

SOURCE = "numbers"


def counted(name: str, *, idle: str | None) -> App:
    """How many numbers there are in each ten seconds; the stage that reads the topic keeps nothing."""
    app = App(name, idle=idle)

    @app.stream(app.topic(SOURCE, value=int, grace="1s"), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.key_by(lambda v: v % 2).window(tumbling("10s")).count().map(lambda row: [row.start, row.value])

    return app


def counts(values: Iterable[bytes | None]) -> dict[int, int]:
    """How many numbers the windows that begin at each second have, of all keys."""
    found: dict[int, int] = {}
    for value in values:
        start, count = msgspec.json.decode(value or b"")
        found[start // 1_000] = found.get(start // 1_000, 0) + count
    return found
