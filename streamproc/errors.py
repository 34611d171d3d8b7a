"""The errors of streamproc, each class a different action for whoever catches it.

    StreamprocError
     |- DefinitionError     the app is wrong: change the code
     |- SettingsError       a setting is wrong: change the command line, the environment or App(...)
     |- RecordError         a record cannot be processed: fix data or function, or choose another on_error
     |- PlanChanged         stored state is of another plan: go back, rename, or reset
     |- StateLost           what was committed of an app is gone in part: put it back, rename, or reset
     `- AppImportError      the module or the app in it cannot be found

Errors of logs are in `streamproc.log`, of stores in `streamproc.state.errors`.
"""

from __future__ import annotations

from typing import Any

import msgspec


class StreamprocError(Exception):
    """What streamproc raises on purpose; its text says what happened and the way out."""


class DefinitionError(StreamprocError):
    """An app is defined wrongly; raised before anything is read."""


class SettingsError(StreamprocError):
    """A setting has a value that it cannot have."""


class AppImportError(StreamprocError):
    """MODULE:APP names nothing that can be run."""


class PlanChanged(StreamprocError):
    """State was stored by a plan that this one cannot continue."""


class StateLost(StreamprocError):
    """Of an app's state and positions, committed together, one is gone: what goes on from the rest would be wrong."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}. Put back what was deleted, run under another App name, or begin anew with: streamproc reset "
            "MODULE:APP"
        )


class Where(msgspec.Struct, frozen=True):
    """Which record an error is about; None where it does not apply (a window that closed has no offset).

    operator   the step that failed, `stream.step`
    timestamp  event time in ms since the epoch
    """

    operator: str
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    key: Any = None
    timestamp: int | None = None

    def __str__(self) -> str:
        record = "" if self.topic is None else f"{self.topic}/{self.partition} at offset {self.offset}, "
        return f"{self.operator}: {record}key {self.key!r}, timestamp {self.timestamp}"


def said(error: BaseException) -> str:
    """What an error says, as text that can be written anywhere; also where its class fails to say it."""
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001 - the user's __str__ may raise anything
        return "(its text cannot be had)"


class RecordError(StreamprocError):
    """A step failed on a record, of which nothing was written and which was not consumed. Its cause is the error."""

    def __init__(self, where: Where, cause: BaseException) -> None:
        super().__init__(f"{where}: {type(cause).__name__}: {said(cause)}")
        self.where = where


class MissingKey(StreamprocError):
    """A record without a key reached an operator that needs one."""

    def __init__(self) -> None:
        super().__init__(
            "the record has no key, or key_by(...) gave None, and this step works by key: give it one or filter it out"
        )
