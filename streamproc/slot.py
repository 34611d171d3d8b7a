"""Slots: a worker process's place on its machine, with a name that outlives the process.

    STATE_DIR/APP/@slots/0      the name, and the pid of whoever holds the lock on the file
                        /1      (`@`: no stage, whose stores are beside it, is called so)

A slot's name is made once and is the worker's name in its group from then on. So a process that is started again, after
a kill -9 too, takes its own place: its tasks are not shared out anew, and the transaction that it left open is aborted
at once. The lock is held while the process lives and vanishes with it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from streamproc.errors import StreamprocError
from streamproc.log import Replaced

FOLDER: Final = "@slots"
MOST: Final = 1_000
"""More processes than this do not take slots on one machine."""
WAIT_S: Final = 1.0
"""So long a slot that was asked for is waited for: whoever held it may be about to end, or only looked."""
_PAUSE_S: Final = 0.01
_LOOKS: Final = 3
"""So often a slot is tried before it counts as held: `seen_slots` holds it for an instant."""
_NAME: Final = re.compile(rb"[a-zA-Z0-9._-]{1,249}")
_PID_DIGITS: Final = 10
_ANOTHER: Final = "name another directory with --state-dir, STREAMPROC_STATE_DIR or App(state_dir=)"


class Slot(NamedTuple):
    """A slot that this process holds."""

    number: int
    name: str
    path: Path


class SlotView(NamedTuple):
    """A slot seen from outside; `pid` of the process that holds it, None: nobody does."""

    number: int
    name: str
    pid: int | None


class SlotError(StreamprocError):
    """A slot cannot be had; its message says why and the way out."""


class SlotHeld(SlotError):
    """Another process that lives holds the slot."""

    def __init__(self, number: int, folder: Path) -> None:
        holders = [slot.pid for slot in seen_slots(folder.parent) if slot.number == number and slot.pid is not None]
        who = f"process {holders[0]}" if holders else "another process"
        super().__init__(
            f"slot {number} is held by {who}, a worker of this app on this state directory (it has the lock on "
            f"{folder / str(number)}): stop it first, or use another slot or --state-dir"
        )


class SlotTakenOver(SlotError):
    """A worker with this slot's name has joined the group from elsewhere: the state directory was copied."""

    def __init__(self, slot: Slot, error: Replaced) -> None:
        super().__init__(
            f"{error}. The name is that of slot {slot.number}, kept in {slot.path}. If this state directory is a copy "
            "of one that is in use elsewhere, delete that file in one of the two (the stores beside it may stay): a "
            "name of its own is made"
        )


@contextmanager
def taken_slot(state_folder: Path, number: int | None = None) -> Iterator[Slot]:
    """Within it, this process holds the slot of this number, else the first that is free. Raises SlotError."""
    folder = state_folder / FOLDER
    file = _first_free(folder) if number is None else _awaited(folder, number)
    os.register_at_fork(after_in_child=partial(_File.close, file))  # else a child that lives on would hold the lock
    try:
        name = file.name()
        file.write_pid()
        slot = Slot(file.number, name, file.path)
        try:
            yield slot
        except Replaced as error:
            raise SlotTakenOver(slot, error) from error
    finally:
        file.close()


@contextmanager
def all_slots(state_folder: Path) -> Iterator[None]:
    """Within it no process of the app runs on this state directory. Raises SlotError when one does."""
    folder = state_folder / FOLDER
    with ExitStack() as held:
        for number in _numbers(folder):
            held.callback(_awaited(folder, number).close)
        yield


def seen_slots(state_folder: Path) -> list[SlotView]:
    """The slots of an app on this machine, by number, and who holds them; nothing is changed."""
    found = []
    for number in _numbers(state_folder / FOLDER):
        path = state_folder / FOLDER / str(number)
        with _translated(path), suppress(FileNotFoundError):
            opened = os.open(path, os.O_RDONLY)
            try:
                name, pid = _read(opened)
                if name:
                    found.append(SlotView(number, name, None if _locked(opened, shared=True) else pid))
            finally:
                os.close(opened)
    return found


class _File:
    """The file of a slot, open and locked."""

    def __init__(self, path: Path, opened: int) -> None:
        self.path = path
        self.number = int(path.name)
        self._opened: int | None = opened

    def name(self) -> str:
        """The slot's name; made now if there is none."""
        assert self._opened is not None
        with _translated(self.path):
            name, _ = _read(self._opened)
            if not name:
                name = _made_name(self.number)
                os.pwrite(self._opened, name.encode() + b"\n", 0)
                os.fsync(self._opened)
        if not _NAME.fullmatch(name.encode()):
            raise SlotError(f"{self.path} does not hold a worker's name: delete that file, and a new one is made")
        return name

    def write_pid(self) -> None:
        """Who holds the slot can be read: in a place of its own, so that no crash costs the name."""
        assert self._opened is not None
        with _translated(self.path):
            name, _ = _read(self._opened)
            os.pwrite(self._opened, f"{os.getpid():{_PID_DIGITS}}\n".encode(), len(name) + 1)

    def close(self) -> None:
        """Give the slot back."""
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


def _numbers(folder: Path) -> list[int]:
    with _translated(folder), suppress(FileNotFoundError):
        return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return []


def _first_free(folder: Path) -> _File:
    for number in range(MOST):
        for _ in range(_LOOKS):
            file = _tried(folder, number)
            if file is not None:
                return file
            time.sleep(_PAUSE_S)
    raise SlotError(f"all {MOST} slots in {folder} are held by processes that run: give this one another --state-dir")


def _awaited(folder: Path, number: int) -> _File:
    give_up = time.monotonic() + WAIT_S
    while (file := _tried(folder, number)) is None:
        if time.monotonic() > give_up:
            raise SlotHeld(number, folder)
        time.sleep(_PAUSE_S)
    return file


def _tried(folder: Path, number: int) -> _File | None:
    """The file, locked; None if somebody else has it."""
    path = folder / str(number)
    with _translated(path):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            if not _locked(opened, shared=False):
                os.close(opened)
                return None
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(opened)):
                    return _File(path, opened)
            os.close(opened)  # it was deleted between the two calls, perhaps made anew: once more


def _locked(opened: int, *, shared: bool) -> bool:
    try:
        fcntl.flock(opened, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(opened: int) -> tuple[str, int | None]:
    """The name, '' where none was written yet, and the pid that was noted last."""
    name, _, pid = os.pread(opened, 512, 0).partition(b"\n")
    return name.decode(errors="replace"), int(pid) if pid.strip().isdigit() else None


def _made_name(number: int) -> str:
    """The host and the number are for people; what makes it the only one of its kind is random."""
    host = re.sub(r"[^a-zA-Z0-9_-]+", "-", socket.gethostname().partition(".")[0])[:63].strip("-") or "host"
    return f"{host}-{number}-{secrets.token_hex(6)}"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """What the system refuses is told with the way out."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "there is no room left on that disk: make room, then start again"
        elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            why = f"{error.strerror}: a worker keeps its name and its state there: make it writable, or {_ANOTHER}"
        else:
            why = f"{error.strerror}: a worker keeps its name and its state there: {_ANOTHER}"
        raise SlotError(f"the worker's slot {path} cannot be used: {why}") from error
