"""Log records as lines of JSON, for whoever collects logs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

FIELDS: Final = ("app", "member", "task", "step", "topic", "partition", "offset", "count", "seconds", "key")
"""What a line may have beside time, level and message: given with `extra=` where it is known."""


class JsonLines(logging.Formatter):
    """A record as one line: time (UTC), level, message, of FIELDS those it has, and the traceback of an error.

    >>> said = {"name": "streamproc", "msg": "late", "levelname": "INFO", "created": 0, "count": 2}
    >>> record = logging.makeLogRecord(said)
    >>> JsonLines().format(record)
    '{"time":"1970-01-01T00:00:00.000Z","level":"info","message":"late","count":2}'
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return msgspec.json.encode(line_of(record), enc_hook=repr).decode()


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record's line."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = record.getMessage().encode(errors="backslashreplace").decode()  # names of files may be any bytes
    line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "message": message}
    if record.name.partition(".")[0] != "streamproc":
        line["logger"] = record.name
    line.update({name: getattr(record, name) for name in FIELDS if hasattr(record, name)})
    if record.exc_info and record.exc_info[0] is not None:
        line["traceback"] = logging.Formatter().formatException(record.exc_info)
    return line
