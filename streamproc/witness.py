"""The witness of a local log: the number of its last acknowledged epoch, kept apart from the epochs themselves.

RocksDB, opened after a bit of its write-ahead log has flipped, silently gives the state before that bit: a whole and
consistent, but older one. Nothing inside can tell; a number outside can.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

_SLOT = struct.Struct("<4sQIQ36s")
_MAGIC = b"spw1"
_SECTOR = 512
_SIZE = _SLOT.size + 4
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Seen(NamedTuple):
    """What the witness says.

    sequence   number of the last acknowledged epoch
    chain      checksum of all epochs up to it
    durable    number of the last epoch that was on the disk itself, not only in the page cache
    boot       the run of the machine in which `sequence` was noted; empty where the system does not tell
    """

    sequence: int
    chain: int
    durable: int
    boot: str


class Witness:
    """The file, open for noting. Two slots in turn, a sector each: a torn note leaves the one before."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self._boot = boot_id.encode()
        self._turn = 0

    def note(self, sequence: int, chain: int, durable: int, *, sync: bool) -> None:
        """The epoch is acknowledged. Survives the process; with `sync` the machine too."""
        slot = _SLOT.pack(_MAGIC, sequence, chain, durable, self._boot)
        os.pwrite(self._file, slot + zlib.crc32(slot).to_bytes(4, "little"), self._turn * _SECTOR)
        self._turn = 1 - self._turn
        if sync:
            os.fsync(self._file)

    def close(self) -> None:
        """Give the file back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def seen(path: Path) -> Seen | None:
    """The last whole note; None when there is no file. Raises ValueError when neither slot is whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    notes = [note for at in (0, _SECTOR) if (note := _whole(content[at : at + _SIZE])) is not None]
    if not notes:
        msg = f"{path} holds no whole note"
        raise ValueError(msg)
    return max(notes)


def boot() -> str:
    """What names this run of the machine, "" where nothing does."""
    try:
        return _BOOT_ID.read_text().strip()[:36]
    except OSError:
        return ""


def _whole(slot: bytes) -> Seen | None:
    body, checksum = slot[: _SLOT.size], slot[_SLOT.size :]
    if len(slot) < _SIZE or zlib.crc32(body) != int.from_bytes(checksum, "little"):
        return None
    magic, sequence, chain, durable, boot_id = _SLOT.unpack(body)
    return Seen(sequence, chain, durable, boot_id.rstrip(b"\0").decode()) if magic == _MAGIC else None
