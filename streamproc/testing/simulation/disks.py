"""A simulated process's view of a disk: every call may be its last, and the disk outlives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamproc.state.memory import MemoryDisk
from streamproc.state.store import Store
from streamproc.testing.simulation.process import Process


class ProcessDisk:
    """The Disk of a process."""

    def __init__(self, disk: MemoryDisk, process: Process) -> None:
        self._disk = disk
        self._process = process

    def open(self, name: str, *, beside: bool = False) -> ProcessStore:
        """A store; see `Disk.open`."""
        return ProcessStore(self._process.call("disk.open", self._disk.open, name, beside=beside), self._process)

    def wipe(self, name: str) -> None:
        """Forget a store; see `Disk.wipe`."""
        self._process.call("disk.wipe", self._disk.wipe, name)


class ProcessStore:
    """The Store of a process."""

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process

    @property
    def position(self) -> int | None:
        """See `Store.position`."""
        return self._store.position

    @property
    def size_bytes(self) -> int:
        """See `Store.size_bytes`."""
        return self._store.size_bytes

    def get(self, key: bytes) -> bytes | None:
        """See `Store.get`."""
        return self._process.call("store.get", self._store.get, key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See `Store.scan`."""
        return iter(self._process.call("store.scan", lambda: list(self._store.scan(start, end))))

    def write(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        """See `Store.write`."""
        self._process.call("store.write", self._store.write, changes, position)

    def clear(self) -> None:
        """See `Store.clear`."""
        self._process.call("store.clear", self._store.clear)

    def close(self) -> None:
        """See `Store.close`."""
        self._process.call("store.close", self._store.close)
