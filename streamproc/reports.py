"""Reports: what a supervised process says to its supervisor, as JSON lines over a socket that both hold.

The socket is also the life-line: when the supervisor is gone, however it died, the process reads its end and stops.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import traceback
from typing import Final, TypeAlias

import msgspec

from streamproc.condition import Condition
from streamproc.errors import StreamprocError
from streamproc.kafka.requests import NoAnswer, Unreachable
from streamproc.log import GroupFailed, LogCorrupt, Rejected, UnknownTopic
from streamproc.runner import Progress
from streamproc.slot import SlotHeld
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


class Ended(msgspec.Struct, tag="ended"):
    """It has left well, and how far it came.

    asked   it was asked to stop; else it has read to the end
    """

    progress: Progress
    asked: bool


class Failed(msgspec.Struct, tag="failed"):
    """What it ends with.

    kind         the error's class
    final        it would come again: nobody is to start the process anew
    message      as shown to people
    unreachable  the cluster could not be reached, which is no fault of the process
    traceback    with --debug
    """

    kind: str
    final: bool
    message: str
    unreachable: bool = False
    traceback: str | None = None

    @classmethod
    def by(cls, error: Exception, message: str, *, debug: bool) -> Failed:
        """What is reported of an error; with its traceback to `debug`."""
        trace = "".join(traceback.format_exception(error)) if debug else None
        return cls(type(error).__name__, is_final(error), message, _is_unreachable(error), trace)


Report: TypeAlias = Began | Doing | Said | Ended | Failed

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
    if isinstance(error, SlotHeld):  # whoever holds it may end
        return False
    return isinstance(error, (StreamprocError, GroupFailed, Rejected, UnknownTopic, LogCorrupt))


def _is_unreachable(error: BaseException) -> bool:
    """Whether the cluster does not answer, to whichever process."""
    return isinstance(error, (Unreachable, NoAnswer))


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
            trace = logging.Formatter().formatException(record.exc_info) if error else None  # type: ignore[arg-type]
            message = record.getMessage().encode(errors="backslashreplace").decode()
            self._reporter.send(Said(record.levelno, message, trace))
        except Exception:  # noqa: BLE001 - as every handler does
            self.handleError(record)
