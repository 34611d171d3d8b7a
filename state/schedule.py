"""Schedule: what is due when, in a table, so that expiry reads what expired and not what lives."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from streamproc.state.table import Table

BUCKET_MS = 1_000
"""Entries are kept by second; a second that is due in part is looked at again until it is due whole."""


class Schedule:
    """At most one due time for each entry, which is an identity (`streamproc.state.keys`).

    The owner keeps the due time of an entry beside its own state: `move` and `cancel` are told the old one.
    """

    def __init__(self, table: Table[Any]) -> None:
        self._table: Table[int] = table

    def set(self, entry: Hashable, due_ms: int) -> None:
        """The entry, which had no due time, is due then."""
        self._table.put(entry, due_ms, due_ms // BUCKET_MS)

    def cancel(self, entry: Hashable, due_ms: int) -> None:
        """The entry, due then, is due no more."""
        self._table.delete(entry, due_ms // BUCKET_MS)

    def move(self, entry: Hashable, before_ms: int, due_ms: int) -> None:
        """The entry's due time changes."""
        if before_ms != due_ms:
            self.cancel(entry, before_ms)
            self.set(entry, due_ms)

    def pop_due(self, until_ms: int) -> list[tuple[int, Hashable]]:
        """The entries with due <= until, removed, ascending by due time; entries of one instant in no fixed order."""
        found: list[tuple[int, Hashable]] = []
        for bucket in self._table.due(until_ms // BUCKET_MS + 1):
            rows = self._table.whole(bucket)
            if (bucket + 1) * BUCKET_MS - 1 <= until_ms:
                found += [(due, entry) for entry, due in rows.items()]
                self._table.drop(bucket)
                continue
            gone = [(due, entry) for entry, due in rows.items() if due <= until_ms]
            for _, entry in gone:
                del rows[entry]
            self._table.changed([entry for _, entry in gone], bucket)
            found += gone
        found.sort(key=lambda item: item[0])
        return found
