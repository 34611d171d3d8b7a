"""Reports: what a supervised process says to its supervisor, as JSON lines over a socket that both hold.

The socket is also the life-line: when the supervisor is gone, however it died, the process reads its end and stops.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Final, TypeAlias

import msgspec

from streamproc.condition import Condition
from streamproc.errors import StreamprocError
from streamproc.log import GroupFailed, LogCorrupt, Rejected, UnknownTopic
from streamproc.runner import Progress
from streamproc.stop import Stop


class Began(msgspec.Struct, tag="began"):
    """The process has its slot (in memory: none)."""

    slot: int | None
    name: str


class Doing(msgspec.Struct, tag="doing"):
    """What the worker is doing, and how far it is, once it works."""

    condition: Condition
    progress: Progress | None


class Said(msgspec.Struct, tag="said"):
    """A line of its log; `level` as in `logging`."""

    level: int
    message: str
    traceback: str | None = None


class Failed(msgspec.Struct, tag="failed"):
    """What it ends with.

    kind      the error's class
    final     it would come again: nobody is to start the process anew
    message   as shown to people
    """

    kind: str
    final: bool
    message: str


Report: TypeAlias = Began | Doing | Said | Failed

MOST_BYTES: Final = 1 << 24
"""A report is not longer."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


def decoded(line: bytes) -> Report:
    """The report of a line."""
    report: Report = _decode(line)
    return report


def is_final(error: BaseException) -> bool:
    """Whether a process that is started anew would fail by the same error."""
    return isinstance(error, (StreamprocError, GroupFailed, Rejected, UnknownTopic, LogCorrupt))


class Reporter:
    """The end of the socket that the supervised process holds; any thread may send."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # what this process starts must not hold the life-line
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.RLock()  # a signal handler may log in the midst of a report

    def send(self, report: Report) -> None:
        """Send; where nobody listens any more, the life-line sees to the end of the process."""
        line = _encode(report) + b"\n"
        with self._lock:
            try:
                self._socket.sendall(line)
            except OSError:
                return

    def stop_with_supervisor(self, stop: Stop) -> None:
        """When the supervisor is gone the process is asked to stop."""
        threading.Thread(target=self._hold, args=(stop,), name="life-line", daemon=True).start()

    def _hold(self, stop: Stop) -> None:
        try:
            while self._socket.recv(64):
                pass
        except OSError:
            pass  # reset: as gone as by its end
        stop.request()


class ReportedLog(logging.Handler):
    """Log records as reports."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        """Send it."""
        try:
            error = record.exc_info and record.exc_info[0] is not None
            traceback = logging.Formatter().formatException(record.exc_info) if error else None  # type: ignore[arg-type]
            message = record.getMessage().encode(errors="backslashreplace").decode()
            self._reporter.send(Said(record.levelno, message, traceback))
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)
