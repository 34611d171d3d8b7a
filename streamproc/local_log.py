"""`local://DIR`: a durable log on the disk of one process, kept by RocksDB.

An epoch is one atomic write: its records, the group's offsets and the head that counts it. Then the witness notes its
number, then it is acknowledged.

| what happens | what is found when the log is opened or read |
| --- | --- |
| the process is killed at any moment | every acknowledged epoch, whole; the one under way whole or absent |
| the machine loses power, `sync=True` | the same |
| the machine loses power, `sync=False` | the epochs up to some one, whole; how many are missing is a warning |
| damage that drops acknowledged epochs (1) | LogCorrupt at open |
| damage to a file of RocksDB, or to bytes it lets through | LogCorrupt, at open or by the read that meets it |
| a row about topics or offsets, or the last segment of a partition, is lost | LogCorrupt at open |
| another segment is lost | LogCorrupt by the read, or the commit that compacts (2), that meets the gap |
| the witness is deleted (a way to accept a loss) | a warning: what is there is taken as it is |

(1) that were written since the machine started, or with `sync=True`, or before the log was last closed. RocksDB by
itself opens without a word with the epochs before the damage.
(2) Topics with the policy `compact` are compacted in slices, each within the write of an epoch
(`streamproc.local_compaction`). A kill leaves the slices that were written, whole.

Nothing goes by age but old tombstones (`delete.retention.ms`, before the newest record of their partition):
`retention.ms` and `retention.bytes` are not enforced. Timestamps are event times and may be years old when they are
written. Topics without compaction shrink by `purge` alone.

Not detected: after a loss of power without `sync`, damage to what was written since the last close looks like the loss
of power; and a directory put back whole from an older copy, witness included, is taken as it is. Where the system gives
its run no name (no /proc), only what was synced or closed is guarded. Network file systems have not been tried.
"""

from __future__ import annotations

import errno
import logging
import os
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from streamproc.compaction import COMPACT_RECORDS, Compacted, tombstones_ms
from streamproc.in_process import CHUNK_RECORDS, InProcessLog, Records, with_offsets
from streamproc.local_compaction import SEGMENT_WORK, LocalCompaction
from streamproc.local_rows import (
    HEAD,
    SEGMENT_RECORDS,
    BoundsRow,
    Damaged,
    Head,
    OffsetRow,
    TopicRow,
    View,
    sealed,
    segment_key,
)
from streamproc.log import Chunk, Columns, Committed, LogCorrupt, LogError, LogFull, LogLocked, Partition, Topic
from streamproc.state.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked
from streamproc.state.rocks import RocksDisk, open_reader
from streamproc.witness import Seen, Witness, boot, seen

_LOGGER = logging.getLogger(__name__)

_STORE = "records"
_WITNESS = "acknowledged"
_WORK = 6
"""Records that compaction goes over for each written. Twice over at most twice as many is 4: so it always keeps up."""


class LocalLog(InProcessLog):
    """The log kept in a folder; it is made if it is not there. Raises LogLocked, LogCorrupt and LogFull.

    One process writes. `sync=True` waits for the disk with each epoch, so that a loss of power costs nothing.
    `read_only=True` opens it beside a writer and follows it: what it committed is seen by the next call.
    A compacted partition is gone over when it has grown by `compact_records` and by what the last time left of it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        sync: bool = False,
        read_only: bool = False,
        chunk_records: int | Callable[[], int] = CHUNK_RECORDS,
        compact_records: int = COMPACT_RECORDS,
    ) -> None:
        records: Records
        if read_only:
            records = LocalReader(Path(path))
        else:
            records = LocalRecords(Path(path), sync=sync, compact_records=compact_records)
        super().__init__(records, chunk_records=chunk_records)


class LocalRecords:
    """The records of a folder, for the process that writes them."""

    def __init__(self, path: Path, *, sync: bool, compact_records: int) -> None:
        self._path = path
        self._sync = sync
        self._compact_records = compact_records
        self._compaction: LocalCompaction | None = None
        self._failed: LogError | None = None
        with _translated(path):
            path.mkdir(parents=True, exist_ok=True)
            self._store = RocksDisk(path, sync=sync).open(_STORE)
            try:
                self._view = View(self._store)
                note = _witnessed(path, self._view.head)
                self._durable = note.durable if note else 0
                self._witness = Witness(path / _WITNESS, boot())
                self._note()
                self._note()  # both slots, so that no later note needs room on the disk
                _sync_folder(path)
            except BaseException:
                self._store.close()
                raise

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""
        return self._view.topics

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record."""
        return self._view.bounds[partition]

    def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What the group has committed."""
        return self._view.offsets.get(group, {})

    def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` records from an offset."""
        with _translated(self._path):
            return self._view.read(partition, offset, limit)

    def create(self, name: str, topic: Topic) -> None:
        """Add a topic that is not there."""
        partitions = [Partition(name, number) for number in range(topic.partitions)]
        rows: list[TopicRow | BoundsRow] = [TopicRow(name, topic.partitions, dict(topic.config))]
        rows += [BoundsRow(*partition, 0, 0) for partition in partitions]
        self._write({key: sealed(key, row) for row in rows for key in (row.key(),)}, added=len(rows))
        self._view.topics[name] = topic
        self._view.bounds.update((partition, (0, 0)) for partition in partitions)

    def write(
        self, records: Mapping[Partition, Columns], group: str, offsets: Mapping[Partition, Committed | None]
    ) -> None:
        """Append the records and move the group's offsets, in one write."""
        changes, compacted = self._compact(records)
        bounds: dict[Partition, tuple[int, int]] = {partition: self._view.bounds[partition] for partition in compacted}
        for partition, columns in records.items():
            start, end = self._view.bounds[partition]
            for at in range(0, len(columns), SEGMENT_RECORDS):
                stop = min(at + SEGMENT_RECORDS, len(columns))
                key = segment_key(partition, end + stop - 1)
                changes[key] = sealed(key, columns.cut(at, stop))
            bounds[partition] = (start, end + len(columns))
        for partition, now in bounds.items():
            _put(changes, self._view.row(partition, now, compacted.get(partition)))
        before = self._view.offsets.get(group, {})
        after = with_offsets(before, offsets)
        for partition, committed in offsets.items():
            if committed is not None:
                _put(changes, OffsetRow(group, *partition, *committed))
            elif partition in before:
                changes[OffsetRow(group, *partition, *before[partition]).key()] = None
        self._write(changes, added=len(after) - len(before))
        self._view.bounds.update(bounds)
        self._view.compacted.update(compacted)
        if offsets:
            self._view.offsets[group] = after
        self._compaction = (None if compacted else self._compaction) or self._due(records)

    def purge(self, before: Mapping[Partition, int]) -> None:
        """Records below these offsets are gone; a segment goes with its last record."""
        changes: dict[bytes, bytes | None] = {}
        bounds: dict[Partition, tuple[int, int]] = {}
        with _translated(self._path):
            for partition, offset in before.items():
                start, end = self._view.bounds[partition]
                gone = self._store.scan(segment_key(partition, start), segment_key(partition, offset))
                changes.update((key, None) for key, _ in gone)
                bounds[partition] = (offset, end)
                _put(changes, self._view.row(partition, bounds[partition]))
        self._write(changes, added=0)
        self._view.bounds.update(bounds)
        self._give_up_compaction(before)

    def forget(self, group: str, topics: Collection[str]) -> None:
        """What the group has committed is gone, and so are the topics, in one write."""
        view = self._view
        partitions = [Partition(name, number) for name in topics for number in range(view.topics[name].partitions)]
        rows: list[TopicRow | BoundsRow | OffsetRow] = [
            OffsetRow(group, *partition, *committed) for partition, committed in view.offsets.get(group, {}).items()
        ]
        rows += [TopicRow(name, *view.topics[name]) for name in topics]  # type: ignore[arg-type] # a Mapping, as it was given
        rows += [BoundsRow(*partition, *view.bounds[partition]) for partition in partitions]
        changes: dict[bytes, bytes | None] = {row.key(): None for row in rows}
        with _translated(self._path):
            for partition in partitions:
                start, end = view.bounds[partition]
                segments = self._store.scan(segment_key(partition, start), segment_key(partition, end))
                changes.update((key, None) for key, _ in segments)
        self._write(changes, added=-len(rows))
        view.forget(group, topics)
        self._give_up_compaction(partitions)

    def close(self) -> None:
        """Give the folder back, with all that was written on the disk itself."""
        with _translated(self._path):
            try:
                self._store.close()
                if self._failed is None:
                    _sync_folder(self._path / _STORE)
                    self._durable = self._view.head.sequence
                    self._note(sync=True)
            finally:
                self._witness.close()

    def _compact(
        self, records: Mapping[Partition, Columns]
    ) -> tuple[dict[bytes, bytes | None], dict[Partition, Compacted]]:
        """The next slice: the rows to change, and the compaction that is at its end with them."""
        if self._compaction is None:
            return {}, {}
        partition = self._compaction.partition
        written = sum(len(columns) + SEGMENT_WORK for columns in records.values())
        work = self._compact_records // 5 + _WORK * written
        with _translated(self._path):
            changes = self._compaction.step(work)
        if changes:
            self._view.replaced(partition)
        done = self._compaction.done
        return changes, {} if done is None else {partition: done}

    def _due(self, written: Collection[Partition]) -> LocalCompaction | None:
        for partition in written:
            retention_ms = tombstones_ms(self._view.topics[partition.topic])
            bounds = self._view.bounds[partition]
            compacted = self._view.compacted.get(partition, Compacted())
            if retention_ms is not None and compacted.is_due(*bounds, self._compact_records):
                return LocalCompaction(self._store, partition, bounds, retention_ms=retention_ms)
        return None

    def _give_up_compaction(self, partitions: Collection[Partition]) -> None:
        """Segments of these partitions went away: a compaction under way would miss them."""
        if self._compaction is not None and self._compaction.partition in partitions:
            self._compaction = None

    def _write(self, changes: dict[bytes, bytes | None], *, added: int) -> None:
        if self._failed is not None:
            raise self._failed
        head = self._view.head
        checksums = b"".join(value[:4] for value in changes.values() if value is not None)
        head = Head(head.sequence + 1, zlib.crc32(checksums, head.chain), head.rows + added)
        changes[HEAD] = sealed(HEAD, head)
        try:
            with _translated(self._path):
                self._store.write(changes, head.sequence)
                self._view.head = head
                if self._sync:
                    self._durable = head.sequence
                self._note(sync=self._sync)
        except LogError as error:
            # Whether the write is in the files shows only when they are opened again.
            self._failed = error
            raise

    def _note(self, *, sync: bool = False) -> None:
        head = self._view.head
        self._witness.note(head.sequence, head.chain, self._durable, sync=sync)


class LocalReader:
    """The records of a folder that another one writes, or nobody; each question is answered as of now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not (path / _STORE).is_dir():
            msg = f"there is no log in {path}: check the directory, or let a worker make it first"
            raise LogError(msg)
        with _translated(path):
            note = seen(path / _WITNESS)  # before the rows: they may be newer, never older
            self._store = open_reader(path / _STORE)
            try:
                self._view = View(self._store)
                _compare(path, note, self._view.head)
            except BaseException:
                self._store.close()
                raise

    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""
        return self._now().topics

    def bounds(self, partition: Partition) -> tuple[int, int]:
        """The first offset kept, and the one behind the last record."""
        return self._now().bounds[partition]

    def committed(self, group: str) -> Mapping[Partition, Committed]:
        """What the group has committed."""
        return self._now().offsets.get(group, {})

    def read(self, partition: Partition, offset: int, limit: int) -> Chunk:
        """Up to `limit` records from an offset."""
        with _translated(self._path):
            return self._view.read(partition, offset, limit)

    def create(self, name: str, topic: Topic) -> None:
        """Not by a reader."""
        self._refuse()

    def write(
        self, records: Mapping[Partition, Columns], group: str, offsets: Mapping[Partition, Committed | None]
    ) -> None:
        """Not by a reader."""
        self._refuse()

    def purge(self, before: Mapping[Partition, int]) -> None:
        """Not by a reader."""
        self._refuse()

    def forget(self, group: str, topics: Collection[str]) -> None:
        """Not by a reader."""
        self._refuse()

    def close(self) -> None:
        """Give the files back."""
        self._store.close()

    def _now(self) -> View:
        with _translated(self._path):
            self._store.refresh()
            if (self._store.position or 0) != self._view.head.sequence:
                self._view = View(self._store)
        return self._view

    def _refuse(self) -> NoReturn:
        msg = f"the log in {self._path} is open for reading only: open it without read_only to write"
        raise LogError(msg)


def _witnessed(path: Path, head: Head) -> Seen | None:
    """What the witness says, once it agrees with the head."""
    note = seen(path / _WITNESS)
    _compare(path, note, head)
    return note


def _compare(path: Path, note: Seen | None, head: Head) -> None:
    accept = f"(to go on with what is left, delete {path / _WITNESS})"
    if note is None:
        # Deleting the witness is how a user accepts a loss; a log is never without one else.
        if head.sequence:
            _LOGGER.warning("the log in %s has no witness: that it is whole cannot be checked", path)
        return
    if head.sequence == note.sequence and head.chain != note.chain:
        found = f"epoch {head.sequence} is not the one that was acknowledged {accept}"
        raise Damaged(found)
    if head.sequence >= note.sequence:
        return
    same_run = note.boot != "" and note.boot == boot()
    if same_run or head.sequence < note.durable:
        found = f"epochs {head.sequence + 1} to {note.sequence} were acknowledged and are not there {accept}"
        raise Damaged(found)
    _LOGGER.warning(
        "the log in %s lost epochs %d to %d: the machine stopped before they were on its disk (sync=True prevents it)",
        path,
        head.sequence + 1,
        note.sequence,
    )


def _put(changes: dict[bytes, bytes | None], row: BoundsRow | OffsetRow) -> None:
    key = row.key()
    changes[key] = sealed(key, row)


def _sync_folder(path: Path) -> None:
    """What was written to the files of a folder, and their names, is on the disk."""
    for file in [*(file for file in path.iterdir() if file.is_file()), path]:
        opened = os.open(file, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Errors of the store and of the rows as errors of the log."""
    try:
        yield
    except StoreLocked as error:
        raise LogLocked(str(path)) from error
    except StoreCorrupt as error:
        raise LogCorrupt(str(path), error.reason) from error
    except StoreFull as error:
        raise LogFull(str(path)) from error
    except StoreError as error:
        raise LogError(str(error)) from error
    except (Damaged, ValueError) as error:
        raise LogCorrupt(str(path), str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LogFull(str(path)) from error
        msg = (
            f"the log in {path} cannot be used: {error.strerror}: name another directory with --broker local://DIR, "
            "STREAMPROC_BROKER or App(broker=)"
        )
        raise LogError(msg) from error
