"""Which names a topic can have."""

from __future__ import annotations

import re

from streamproc.errors import DefinitionError

_LEGAL = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def checked_topic_name(name: object, *, of: str = "a topic") -> str:
    """The name, if Kafka takes it for a topic; `of` says what it is of. Raises DefinitionError.

    >>> checked_topic_name("page-views")
    'page-views'
    """
    if not isinstance(name, str):
        raise DefinitionError(f"the name of {of} is a string, not {name!r}")
    if not _LEGAL.fullmatch(name) or name in (".", ".."):
        msg = f"{name!r} is no name for {of}: 1 to 249 letters, digits, '.', '_' and '-', and not '.' or '..' alone"
        raise DefinitionError(msg)
    return name
