"""What can go wrong in a store; each class is a different thing to do.

StoreError
    StoreLocked     wait for the other owner, or use another folder
    StoreCorrupt    delete the folder and restore
    StoreFull       make room, start again
"""

from __future__ import annotations


class StoreError(Exception):
    """A store failed in a way that has no class of its own.

    store   the folder of the store, or its name if it is in memory
    reason  what the storage library or the system said
    """

    _message = "The store {store} failed: {reason}"

    def __init__(self, store: str, reason: str = "") -> None:
        super().__init__(store, reason)
        self.store = store
        self.reason = reason

    def __str__(self) -> str:
        return self._message.format(store=self.store, reason=self.reason)


class StoreLocked(StoreError):
    """Another owner has the store open."""

    _message = (
        "The store {store} is open in another worker or process. Stop that one, or wait until it gives the store "
        "back; workers that run side by side need a state directory each."
    )


class StoreCorrupt(StoreError):
    """Files of the store are damaged or missing."""

    _message = (
        "The store {store} is damaged: {reason}. Delete that folder: the rows come back from the changelog. "
        "(The folder of a local log has no changelog behind it: put back a copy of it.)"
    )


class StoreFull(StoreError):
    """There is no room left on the disk; what was written before is whole."""

    _message = "There is no room left for the store {store}: {reason}. Make room on that disk, then start again."
