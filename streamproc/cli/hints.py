"""Hints: the command that gets past an error of a log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamproc.errors import StreamprocError
from streamproc.log import UnknownTopic
from streamproc.ownership import INTERNAL
from streamproc.settings import DEFAULT_BROKER


@contextmanager
def with_hint(broker: str) -> Iterator[None]:
    """An unknown topic is told with what makes it."""
    try:
        yield
    except UnknownTopic as error:
        known = {name: topic for name, topic in error.args[1].items() if not name.endswith(INTERNAL)}
        what = UnknownTopic(error.topic, known, error.number)
        where = "" if broker == DEFAULT_BROKER else f" --broker {broker}"
        way = f"`streamproc send {error.topic} FILE{where}` makes it, or the app that writes to it"
        raise StreamprocError(f"in {broker} {what}. {way}") from error
