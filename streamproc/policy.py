"""Error policies: what happens to a record that cannot be processed."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from streamproc.errors import DefinitionError
from streamproc.topic_name import checked_topic_name


class DeadLetter(msgspec.Struct, frozen=True):
    """The record goes to a topic, with its original bytes and headers that say where it failed and why."""

    topic: str

    def __post_init__(self) -> None:
        checked_topic_name(self.topic)


OnError: TypeAlias = Literal["fail", "skip"] | DeadLetter
"""fail: the app stops, and the record is not consumed; skip: it is counted, logged and left out; or a dead letter."""


def dead_letter(topic: str) -> DeadLetter:
    """The policy by which a record that fails goes to a topic of this name, as it came.

    >>> dead_letter("access-bad")
    DeadLetter(topic='access-bad')
    """
    return DeadLetter(topic)


def checked_policy(on_error: object) -> OnError:
    """The policy, if it is one. Raises DefinitionError."""
    if on_error == "fail":
        return "fail"
    if on_error == "skip":
        return "skip"
    if isinstance(on_error, DeadLetter):
        return on_error
    raise DefinitionError(f'on_error={on_error!r} is no policy: it is "fail", "skip" or dead_letter("a-topic")')
