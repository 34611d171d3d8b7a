"""The doors to durable rows: Store, the ordered rows of one task, and Disk, where the stores of a worker are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol


class Store(Protocol):
    """Ordered rows of bytes, written whole epochs at a time, with the changelog position they stand for.

    One owner, one thread: no call may overlap another. `scan` iterators are used up or dropped before the next
    write. A crash leaves the rows and the position of one of the last writes, both from the same write.
    Errors (`streamproc.state.errors`): StoreCorrupt, StoreFull, StoreError; each says what to do. After
    StoreFull reads go on, writes fail; every call but `close` on a closed store is a StoreError.
    """

    @property
    def position(self) -> int | None:
        """The changelog offset up to which the rows are whole; None: nothing was ever written."""

    @property
    def size_bytes(self) -> int:
        """What the rows take up, roughly, at no cost; for people to look at."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a row."""

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows with start <= key < end, in byte order; one that ends without an error gave all of them.

        Cost: a seek that also steps over what was deleted at `start` and not yet compacted away.
        """

    def write(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        """Put and delete (None) rows and move the position, all or nothing."""

    def clear(self) -> None:
        """Delete every row and the position."""

    def close(self) -> None:
        """Give the store back, open scans with it; a second call does nothing."""


class Disk(Protocol):
    """The stores of one worker, by name; a name is a relative path such as `trending-hashtags/3`."""

    def open(self, name: str, *, beside: bool = False) -> Store:
        """The store as it was last written, empty if it never was. StoreLocked: somebody else has it open.

        `beside`: a store of this name for this worker alone, whoever has the other; for when that is not given back.
        One whose worker is gone is deleted by whoever opens the other next.
        """

    def wipe(self, name: str) -> None:
        """Forget the store, a damaged one too; one that does not exist is no error. StoreLocked: it is open."""
