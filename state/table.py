"""Table: the typed write-behind cache on a task's store, where operators keep their state.

A row has an outer and an inner key. What an operator calls a group is all rows of one outer key: a
window, a second of a schedule, the entries of one user's map. A table of plain rows has one group,
whose outer key is None.

    cache (objects)  ->  pending (bytes, this epoch)  ->  sealed (bytes, epochs being committed)  ->  store
    changed(), drop()       savepoint()                       seal()                                settle()

Reads look from left to right. `rollback` drops the cache alone, `abort` everything but the store.
Inner keys and the outer keys of a table that is not timed are identities (`streamproc.state.keys`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Any, Generic, TypeAlias, TypeVar

from streamproc.state.codec import Codec
from streamproc.state.keys import Encoded, bytes_of, decode_time, encode_time, key_of
from streamproc.state.store import Store

A = TypeVar("A")
_Overlay: TypeAlias = dict[bytes, dict[bytes, bytes | None]]
"""Changes by group prefix, then by inner key; None deletes."""

OBJECT_OVERHEAD_BYTES = 200
"""What a cached row costs beside its decoded value: two dict entries and a key object (estimate)."""
GROUP_OVERHEAD_BYTES = 500
"""What a cached group costs, an empty one too (estimate)."""
DECODED_TO_ENCODED = 4
"""How much larger a decoded value is than its encoded bytes (estimate)."""


class _Group(Generic[A]):
    """The cached rows of one outer key."""

    __slots__ = ("complete", "dirty", "persisted", "rows")

    def __init__(self, *, fresh: bool) -> None:
        self.rows: dict[Hashable, A] = {}
        self.dirty: set[Hashable] = set()
        self.complete = fresh
        """No row of the group exists that is not in `rows`."""
        self.persisted = not fresh
        """A row of the group may exist as bytes, so that a deletion needs a tombstone."""


class Table(Generic[A]):
    """Rows of one operator in one task: objects in memory, bytes below, nothing durable but by the epoch.

    The dict that `rows` or `whole` gives is the cache itself: change it in place, then call `changed` with the
    inner keys of what was set, mutated or deleted. It stays valid until the next `settle`, `rollback` or `abort`.
    """

    def __init__(self, store: Store, name: str, codec: Codec, *, timed: bool = False) -> None:
        self.name = name
        self.timed = timed
        self._store = store
        self._codec = codec
        self._prefix = name.encode() + b"\0"
        self._groups: dict[Hashable, _Group[A]] = {}
        self._touched: set[Hashable] = set()
        self._dropped: _Overlay = {}
        """Tombstones of the groups dropped since the last savepoint."""
        self._pending: _Overlay = {}
        self._sealed: list[_Overlay] = []
        self._live: set[int] = set()
        self._instants: list[int] = []
        self._encoded_bytes = 0
        self._encoded_rows = 1
        self._discover()

    # ---------------------------------------------------------------------------------------- reading

    def rows(self, inners: Collection[Hashable], outer: Any = None) -> dict[Hashable, A]:
        """The cached rows of a group, among them each of `inners` that exists."""
        group = self._group(outer)
        if not group.complete:
            self._read(group.rows, self._prefix_of(outer), set(inners) - group.rows.keys() - group.dirty)
        return group.rows

    def whole(self, outer: Any = None) -> dict[Hashable, A]:
        """All rows of a group."""
        group = self._group(outer)
        if not group.complete:
            for key, data in self._scan(self._prefix_of(outer)):
                inner = self._codec.keys.identity_of(key)
                if inner not in group.rows and inner not in group.dirty:
                    group.rows[inner] = self._decode(data)
            group.complete = True
        return group.rows

    def get(self, inner: Hashable, outer: Any = None) -> A | None:
        """One row's value; None where there is none."""
        return self.rows((inner,), outer).get(inner)

    def has(self, outer: int) -> bool:
        """Whether the group of an instant may have rows (timed tables)."""
        return outer in self._live

    def due(self, before: int) -> list[int]:
        """The outer keys below an instant that may have rows, ascending (timed tables)."""
        found: list[int] = []
        instants, live = self._instants, self._live
        while instants and instants[0] < before:
            instant = heappop(instants)
            if instant in live and (not found or found[-1] != instant):
                found.append(instant)
        for instant in found:
            heappush(instants, instant)
        return found

    # ---------------------------------------------------------------------------------------- writing

    def changed(self, inners: Iterable[Hashable], outer: Any = None) -> None:
        """These rows of the group were set, mutated or deleted in the dict that `rows` or `whole` gave."""
        self._groups[outer].dirty.update(inners)
        self._touched.add(outer)

    def put(self, inner: Hashable, value: A, outer: Any = None) -> None:
        """Set one row."""
        self._group(outer).rows[inner] = value
        self.changed((inner,), outer)

    def delete(self, inner: Hashable, outer: Any = None) -> None:
        """Delete one row; one that is not there is no error."""
        self._group(outer).rows.pop(inner, None)
        self.changed((inner,), outer)

    def drop(self, outer: Any) -> None:
        """Delete a whole group. One that no savepoint has seen leaves no trace: it is never written."""
        group = self._group(outer)
        if group.persisted:
            inners = set(self.whole(outer)) | group.dirty
            self._dropped.setdefault(self._prefix_of(outer), {}).update(dict.fromkeys(map(bytes_of, inners)))
        self._groups.pop(outer)
        self._touched.discard(outer)
        self._live.discard(outer)

    # ---------------------------------------------------------------------------------------- epochs

    def savepoint(self) -> None:
        """What was changed so far is encoded, and survives a `rollback`."""
        # First all that may fail: what cannot be encoded leaves everything to `rollback`.
        encoded = [(outer, self._encoded(self._groups[outer])) for outer in self._touched]
        for prefix, tombstones in self._dropped.items():
            self._pending.setdefault(prefix, {}).update(tombstones)
        self._dropped.clear()
        for outer, changes in encoded:
            self._pending.setdefault(self._prefix_of(outer), {}).update(changes)
            group = self._groups[outer]
            group.persisted = True
            group.dirty = set()
        self._touched.clear()

    def rollback(self) -> None:
        """Everything since the last savepoint is undone, in objects changed in place too."""
        self._groups.clear()
        self._touched.clear()
        self._dropped.clear()
        self._discover()

    def seal(self) -> dict[bytes, bytes | None]:
        """The epoch's changes by store key; what is changed from here on belongs to the next epoch."""
        self.savepoint()
        sealed, self._pending = self._pending, {}
        self._sealed.append(sealed)
        return {prefix + key: data for prefix, changes in sealed.items() for key, data in changes.items()}

    def settle(self, limit_bytes: int) -> None:
        """The oldest sealed epoch is in the store; clean rows are dropped from the cache down to the limit."""
        del self._sealed[0]
        if self.cached_bytes > limit_bytes:
            self._trim(limit_bytes)

    def abort(self) -> None:
        """Back to the store: everything that is not settled is dropped."""
        self._pending = {}
        self._sealed.clear()
        self.rollback()

    @property
    def cached_bytes(self) -> int:
        """What the cache takes up (estimate)."""
        rows = sum(len(group.rows) for group in self._groups.values())
        return rows * self._row_bytes() + len(self._groups) * GROUP_OVERHEAD_BYTES

    def _row_bytes(self) -> int:
        return DECODED_TO_ENCODED * self._encoded_bytes // self._encoded_rows + OBJECT_OVERHEAD_BYTES

    # ---------------------------------------------------------------------------------------- inside

    def _group(self, outer: Any) -> _Group[A]:
        group = self._groups.get(outer)
        if group is None:
            fresh = self.timed and outer not in self._live or outer is None and self._is_empty()
            group = self._groups[outer] = _Group(fresh=fresh)
            if self.timed and outer not in self._live:
                self._live.add(outer)
                heappush(self._instants, outer)
        return group

    def _prefix_of(self, outer: Any) -> bytes:
        if outer is None:
            return self._prefix
        if self.timed:
            return self._prefix + encode_time(outer)
        data = bytes_of(outer)
        return self._prefix + len(data).to_bytes(4) + data  # no group's prefix begins another's

    def _encoded(self, group: _Group[A]) -> dict[bytes, bytes | None]:
        """The changes of a group since the last savepoint."""
        rows = group.rows
        kept = [inner for inner in group.dirty if inner in rows]
        datas = self._codec.encode_column([rows[inner] for inner in kept])
        self._encoded_rows += len(kept)
        self._encoded_bytes += sum(map(len, datas))
        changes: dict[bytes, bytes | None] = dict(zip(map(self._bytes_of, kept), datas, strict=True))
        if group.persisted:
            changes.update(dict.fromkeys(bytes_of(inner) for inner in group.dirty if inner not in rows))
        return changes

    def _bytes_of(self, inner: Hashable) -> bytes:
        """As `bytes_of`; a class in the key becomes known to the table's codec, so that `whole` can decode it."""
        if type(inner) is Encoded and inner.codec is not None:
            return self._codec.keys.encode(key_of(inner))
        return bytes_of(inner)

    def _decode(self, data: bytes) -> A:
        value: A = self._codec.decode(data)
        return value

    def _read(self, rows: dict[Hashable, A], prefix: bytes, inners: Iterable[Hashable]) -> None:
        """Those of `inners` that exist below the cache are in `rows`."""
        overlays = (self._dropped, self._pending, *reversed(self._sealed))
        newer = [changes for overlay in overlays if (changes := overlay.get(prefix))]
        stored, decode = self._store.get, self._codec.decode
        for inner in inners:
            key = bytes_of(inner)
            for changes in newer:
                if key in changes:
                    data = changes[key]
                    break
            else:
                data = stored(prefix + key)
            if data is not None:
                rows[inner] = decode(data)

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows of a group below the cache: (inner key, value)."""
        skip = len(prefix)
        rows: dict[bytes, bytes | None] = {k[skip:]: v for k, v in self._store.scan(prefix, _after(prefix))}
        for overlay in (*self._sealed, self._pending, self._dropped):
            rows.update(overlay.get(prefix, {}))
        return ((key, data) for key, data in rows.items() if data is not None)

    def _is_empty(self) -> bool:
        if self._pending or self._dropped or any(self._sealed):
            return False
        return next(iter(self._store.scan(self._prefix, _after(self._prefix))), None) is None

    def _discover(self) -> None:
        """Find the instants that have rows: one seek for each, however many rows they have."""
        if not self.timed:
            return
        skip, end = len(self._prefix), _after(self._prefix)
        live = {
            decode_time(prefix[skip:])
            for overlay in (*self._sealed, self._pending)
            for prefix, changes in overlay.items()
            if any(data is not None for data in changes.values())
        }
        at = self._prefix
        while row := next(iter(self._store.scan(at, end)), None):
            instant = decode_time(row[0][skip : skip + 8])
            live.add(instant)
            at = self._prefix + encode_time(instant + 1)
        self._live = live
        self._instants = sorted(live)

    def _trim(self, limit_bytes: int) -> None:
        """Drop clean groups, the ones cached first first; of a group too large by itself, clean rows."""
        row_bytes = self._row_bytes()
        excess_bytes = self.cached_bytes - limit_bytes
        for outer in [o for o in self._groups if o not in self._touched]:
            if excess_bytes <= 0:
                return
            group = self._groups[outer]
            if outer is None:
                group.complete = False
                gone = list(group.rows)[: len(group.rows) // 2]
                for inner in gone:
                    del group.rows[inner]
                excess_bytes -= len(gone) * row_bytes
            else:
                del self._groups[outer]
                excess_bytes -= len(group.rows) * row_bytes + GROUP_OVERHEAD_BYTES


def _after(prefix: bytes) -> bytes:
    """The first key behind all that begin with the prefix (whose last byte is never 0xff alone: a name ends in 0)."""
    return (int.from_bytes(prefix) + 1).to_bytes(len(prefix))
