"""RocksStore: a store in a folder, kept by RocksDB. This file alone imports the library and translates its errors."""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from weakref import WeakSet

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBRecoveryMode,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streamproc.state.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked

CACHE_BYTES = 64 << 20
"""Blocks read from files, with their indexes and filters: all stores of a disk together."""
UNFLUSHED_BYTES = 128 << 20
"""Rows not yet in files: all stores of a disk together."""
WRITE_BUFFER_BYTES = 8 << 20
"""Rows not yet in files: one store, after which it starts a file."""

# One byte before each key (0.02 us a row) leaves room beside the rows for the position. In a column family of its
# own the position would be flushed by itself, and could survive a loss of power that its rows do not.
_POSITION = b"p"
_ROW = b"r"
_BEHIND_ROWS = b"s"

_BESIDE = "@"
"""Between the number of a task and the process whose own store of it this is."""

# The library raises bare Exception; its text is all there is to tell errors by. First match counts.
_MEANINGS: tuple[tuple[str, type[StoreError]], ...] = (
    ("No space left on device", StoreFull),
    ("Disk quota exceeded", StoreFull),
    ("lock hold by current process", StoreLocked),
    ("LOCK: Resource temporarily unavailable", StoreLocked),
    ("Corruption", StoreCorrupt),
    ("No such file or directory", StoreCorrupt),
)


class RocksDisk:
    """Stores as folders below `path`; they share one block cache and one budget of unflushed rows.

    `sync=True` is for rows that are kept nowhere else: each write waits for the disk, and damage to what was
    synced refuses to open. Without it a loss of power costs the last writes, rows and position alike.
    """

    def __init__(self, path: Path | str, *, sync: bool = False) -> None:
        self._path = Path(path)
        self._options = _options(sync=sync)
        self._writing = WriteOptions()
        self._writing.sync = sync

    def open(self, name: str, *, beside: bool = False) -> RocksStore:
        """The store as it was last written, empty if it never was. StoreLocked: somebody else has it open.

        `beside`: one of this process alone, in a folder beside the other's.
        """
        if beside:
            return RocksStore(self._path / f"{name}{_BESIDE}{os.getpid()}", self._options, self._writing)
        store = RocksStore(self._path / name, self._options, self._writing)
        for left in (self._path / name).parent.glob(f"{glob.escape(Path(name).name)}{_BESIDE}*"):
            with suppress(StoreLocked):  # its process lives
                self.wipe(str(left.relative_to(self._path)))
        return store

    def wipe(self, name: str) -> None:
        """Forget the store, a damaged one too; one that does not exist is no error. StoreLocked: it is open."""
        folder = self._path / name
        if folder.exists():
            try:
                Rdict.destroy(str(folder), self._options)
            except Exception as error:
                raise _translated(str(folder), error) from error


class RocksStore:
    """A store in a folder. `RocksDisk` opens it."""

    def __init__(self, folder: Path, options: Options, writing: WriteOptions) -> None:
        self._folder = str(folder)
        self._writing = writing
        self._scans: WeakSet[Generator[tuple[bytes, bytes], None, None]] = WeakSet()
        self._closed = self._failed = False
        try:
            # Without "default" here, an existing folder opens with no bloom filter and a block cache of its own.
            self._db = Rdict(self._folder, options, column_families={"default": options})
        except Exception as error:
            raise self._error(error) from error
        try:
            position = self._read(_POSITION)
        except StoreError:
            self.close()  # whoever handles the error must find the folder unlocked, to wipe it
            raise
        self._position = None if position is None else int.from_bytes(position)

    @property
    def position(self) -> int | None:
        """The changelog offset up to which the rows are whole; None: nothing was ever written."""
        return self._position

    @property
    def size_bytes(self) -> int:
        """The bytes of the live files and of what is not in files yet (estimate of the library)."""
        try:
            files = self._db.property_int_value("rocksdb.estimate-live-data-size")
            memory = self._db.property_int_value("rocksdb.cur-size-all-mem-tables")
        except Exception as error:
            raise self._error(error) from error
        return (files or 0) + (memory or 0)

    def get(self, key: bytes) -> bytes | None:
        """The value of a row."""
        return self._read(_ROW + key)

    def scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The rows with start <= key < end, in byte order; one that ends without an error gave all of them."""
        rows = self._scan(start, end)
        self._scans.add(rows)
        return rows

    def write(self, changes: Mapping[bytes, bytes | None], position: int) -> None:
        """Put and delete (None) rows and move the position, all or nothing."""
        batch = WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(_ROW + key)
            else:
                batch[_ROW + key] = value
        batch[_POSITION] = position.to_bytes(8)
        self._commit(batch)
        self._position = position

    def clear(self) -> None:
        """Delete every row and the position."""
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(_ROW, _BEHIND_ROWS)
        batch.delete(_POSITION)
        self._commit(batch)
        self._position = None

    def close(self) -> None:
        """Give the folder back, open scans with it; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        for scan in list(self._scans):  # a live iterator keeps the folder locked
            scan.close()
        try:
            self._db.close()
        except Exception as error:
            if not self._failed:  # else `write` has told, and with the reason, which this error lacks
                raise self._error(error) from error

    def _read(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._error(error) from error
        return value

    def _scan(self, start: bytes, end: bytes) -> Generator[tuple[bytes, bytes], None, None]:
        rows: RdictIter | None = None
        try:
            reading = ReadOptions()
            reading.set_iterate_upper_bound(_ROW + end)
            rows = self._db.iter(reading)  # not items(), which ends early and in silence at a damaged block
            rows.seek(_ROW + start)
            while (key := rows.key()) is not None:
                yield key[1:], rows.value()
                rows.next()
            rows.status()
        except Exception as error:
            raise self._error(error) from error
        finally:
            rows = None  # else a traceback keeps it alive, and with it the lock

    def _commit(self, batch: WriteBatch) -> None:
        try:
            self._db.write(batch, self._writing)
        except Exception as error:
            self._failed = True
            raise self._error(error) from error

    def _error(self, error: Exception) -> StoreError:
        return _translated(self._folder, error)


def _translated(folder: str, error: Exception) -> StoreError:
    """What an exception of the library means."""
    text = str(error)
    for words, meaning in _MEANINGS:
        if words in text:
            return meaning(folder, text)
    return StoreError(folder, text)


def _options(*, sync: bool) -> Options:
    """Settings for many small stores in one process (64 and more)."""
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(CACHE_BYTES))
    blocks.set_cache_index_and_filter_blocks(True)  # else they grow with the rows, outside of any budget
    blocks.set_bloom_filter(10, block_based=False)  # a key that is new, the common case, costs no read (1 % do)

    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_write_buffer_manager(WriteBufferManager(UNFLUSHED_BYTES, allow_stall=False))
    options.set_max_open_files(64)  # of one store: processes often may have 1,024
    options.set_keep_log_file_num(2)  # each opening starts a diagnostic log, and 1,000 were kept
    options.set_max_log_file_size(1 << 20)
    if sync:  # the default drops everything behind a damaged record of the write-ahead log, in silence
        options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    return options


class RocksReader(RocksStore):
    """A store that others may have open for writing, as it was at the last `refresh`. `open_reader` opens it."""

    def __init__(self, folder: Path, options: Options) -> None:
        options.set_max_open_files(-1)  # so that a file the writer deletes can still be read here
        self._own_files = TemporaryDirectory(prefix="streamproc-reader-")  # the library keeps a diagnostic log there
        self._folder = str(folder)
        self._writing = WriteOptions()
        self._scans = WeakSet()
        self._closed = self._failed = False
        try:
            self._db = Rdict(self._folder, options, access_type=AccessType.secondary(self._own_files.name))
        except Exception as error:
            self._own_files.cleanup()
            raise self._error(error) from error
        try:
            self.refresh()
        except StoreError:
            self.close()
            raise

    def refresh(self) -> None:
        """Take in what was written since; whole writes only."""
        try:
            self._db.try_catch_up_with_primary()
        except Exception as error:
            raise self._error(error) from error
        position = self._read(_POSITION)
        self._position = None if position is None else int.from_bytes(position)

    def close(self) -> None:
        """Give the files back; a second call does nothing."""
        super().close()
        self._own_files.cleanup()


def open_reader(folder: Path | str) -> RocksReader:
    """The store in a folder, to be read beside whoever writes it; writing to it is a StoreError."""
    return RocksReader(Path(folder), _options(sync=False))
