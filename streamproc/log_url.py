"""Which log a URL names."""

from __future__ import annotations

from pathlib import Path

from streamproc.log import Log, LogError


def open_log(url: str, *, read_only: bool = False) -> Log:
    """The log that a URL names: `memory://` (a fresh one, whatever its name) or `local://DIR` (in DIR/log).

    `read_only` opens a local log beside the process that writes it. Raises LogError.

    >>> open_log("amqp://rabbit")
    Traceback (most recent call last):
    streamproc.log.LogError: 'amqp://rabbit' names no log: use local://DIR or memory://
    """
    scheme, separator, place = url.partition("://")
    if scheme == "memory" and separator:
        from streamproc.memory_log import MemoryLog

        return MemoryLog()
    if scheme == "local" and separator:
        if not place:
            msg = f"{url!r} names no directory: write local://DIR, such as local://.streamproc or local:///var/lib/app"
            raise LogError(msg)
        from streamproc.local_log import LocalLog  # loads RocksDB

        return LocalLog(Path(place) / "log", read_only=read_only)
    if scheme == "kafka" and separator:
        msg = f"{url!r} cannot be opened: this version reads memory:// and local:// logs"
        raise LogError(msg)
    msg = f"{url!r} names no log: use local://DIR or memory://"
    raise LogError(msg)
