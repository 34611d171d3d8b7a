"""The promises of Store and Disk, for every implementation, and what RocksDB must stand beside them."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import streamproc.state.rocks
from streamproc.state.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked
from streamproc.state.memory import FEW_KEYS, MemoryDisk, MemoryStore
from streamproc.state.rocks import CACHE_BYTES, RocksDisk
from streamproc.state.store import Disk, Store

NAME = "trending-hashtags/3"
END = b"\xff" * 9
"""A key behind all keys of these tests."""

Makes = Callable[[Path], Disk]


def memory_disk(_: Path) -> Disk:
    return MemoryDisk()


@pytest.fixture(params=[memory_disk, RocksDisk], ids=["memory", "rocks"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    make: Makes = request.param
    return make(tmp_path)


@pytest.fixture
def store(disk: Disk) -> Iterator[Store]:
    store = disk.open(NAME)
    yield store
    store.close()


# ------------------------------------------------------------------------------------ both implementations

KEYS = st.one_of(st.sampled_from([b"", b"\0", b"\0\0", b"p", b"r", b"s", b"\xff", b"\xff\xff"]), st.binary(max_size=3))
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=3)), max_size=12)
POSITIONS = st.integers(0, 2**63 - 1)


class StoreMachine(RuleBasedStateMachine):
    """A store is a sorted dict with a position, whatever is done in whatever order."""

    make: Makes

    @initialize()
    def start(self) -> None:
        self.folder = Path(mkdtemp())
        self.disk = type(self).make(self.folder)
        self.rows: dict[bytes, bytes] = {}
        self.position: int | None = None
        self.store = self.disk.open(NAME)

    @rule(changes=CHANGES, position=POSITIONS)
    def write(self, changes: dict[bytes, bytes | None], position: int) -> None:
        self.store.write(changes, position)
        for key, value in changes.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.position = position

    @rule(count=st.integers(FEW_KEYS - 1, FEW_KEYS + 30), step=st.integers(-3, 3).filter(bool))
    def write_many(self, count: int, step: int) -> None:
        self.write({(1000 + step * n).to_bytes(2): b"%d" % n if n % 5 else None for n in range(count)}, count)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self.store.get(key) == self.rows.get(key)

    @rule(start=KEYS, end=KEYS)
    def scan(self, start: bytes, end: bytes) -> None:
        assert list(self.store.scan(start, end)) == sorted(
            (key, value) for key, value in self.rows.items() if start <= key < end
        )

    @rule(start=KEYS)
    def first(self, start: bytes) -> None:
        found = next(iter(self.store.scan(start, END)), None)
        assert found == min(((k, v) for k, v in self.rows.items() if start <= k), default=None)

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.rows, self.position = {}, None

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.disk.open(NAME)

    @rule()
    def wipe(self) -> None:
        self.store.close()
        self.disk.wipe(NAME)
        self.store = self.disk.open(NAME)
        self.rows, self.position = {}, None

    @invariant()
    def stands_at_its_position(self) -> None:
        assert self.store.position == self.position

    def teardown(self) -> None:
        if hasattr(self, "store"):
            assert list(self.store.scan(b"", END)) == sorted(self.rows.items())
            self.store.close()
            shutil.rmtree(self.folder)


class MemoryMachine(StoreMachine):
    """The machine over memory."""

    make = staticmethod(memory_disk)


class RocksMachine(StoreMachine):
    """The machine over RocksDB."""

    make = staticmethod(RocksDisk)


TestMemoryIsASortedDict = MemoryMachine.TestCase
TestMemoryIsASortedDict.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestRocksIsASortedDict = RocksMachine.TestCase
TestRocksIsASortedDict.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


def test_a_new_store_has_no_rows_and_no_position(store: Store) -> None:
    """None, not 0: the changelog is read from its start."""
    assert store.position is None
    assert store.get(b"a") is None
    assert list(store.scan(b"", END)) == []


def test_position_zero_is_a_position(disk: Disk) -> None:
    """An offset of 0 survives a reopen and is told from None."""
    store = disk.open(NAME)
    store.write({}, 0)
    store.close()
    assert disk.open(NAME).position == 0


def test_scan_is_half_open_and_in_byte_order(store: Store) -> None:
    """start is in, end is out; bytes above 127 come behind those below, a key before what it begins."""
    store.write(dict.fromkeys((b"\x80", b"b", b"a", b"a\0", b"\x7f", b"c"), b""), 1)
    assert [key for key, _ in store.scan(b"a", b"\x80")] == [b"a", b"a\0", b"b", b"c", b"\x7f"]
    assert list(store.scan(b"b", b"b")) == []
    assert list(store.scan(b"c", b"a")) == []
    assert list(store.scan(b"", b"")) == []


def test_reopen_gives_the_last_write(disk: Disk) -> None:
    """Rows, deletions and position are those of the last write."""
    store = disk.open(NAME)
    store.write({b"a": b"1", b"b": b"1", b"": b""}, 1)
    store.write({b"a": None, b"b": b"2"}, 2)
    store.close()
    store = disk.open(NAME)
    assert (list(store.scan(b"", END)), store.position) == ([(b"", b""), (b"b", b"2")], 2)
    store.close()


def test_a_cleared_store_stays_empty(disk: Disk) -> None:
    """Clear takes rows in files and in memory and the position, and new rows stand on their own."""
    store = disk.open(NAME)
    store.write({b"a": b"1", b"\xff\xff": b"1"}, 1)
    store.close()
    store = disk.open(NAME)
    store.write({b"b": b"1"}, 2)
    store.clear()
    assert (list(store.scan(b"", END)), store.get(b"a"), store.position) == ([], None, None)
    store.write({b"c": b"1"}, 3)
    store.close()
    store = disk.open(NAME)
    assert (list(store.scan(b"", END)), store.position) == ([(b"c", b"1")], 3)
    store.close()


def test_a_store_has_one_owner(disk: Disk) -> None:
    """A second opening, and wiping, are StoreLocked with the store's name; the owner notices nothing."""
    store = disk.open(NAME)
    store.write({b"a": b"1"}, 1)
    for attempt in (disk.open, disk.wipe):
        with pytest.raises(StoreLocked, match=f"{NAME} is open in another worker"):
            attempt(NAME)
    assert store.get(b"a") == b"1"
    store.close()
    disk.open(NAME).close()


def test_close_gives_the_store_back_with_scans_open(disk: Disk) -> None:
    """A scan that nobody finished does not keep the lock, and ends."""
    store = disk.open(NAME)
    store.write({b"a": b"1", b"b": b"1"}, 1)
    started, unstarted = store.scan(b"", END), store.scan(b"", END)
    next(started)
    store.close()
    assert list(started) == []
    disk.open(NAME).close()
    del unstarted


def test_a_closed_store_refuses(disk: Disk) -> None:
    """Closing twice is nothing; any use afterwards is an error, never an empty answer."""
    store = disk.open(NAME)
    store.close()
    store.close()
    uses: list[Callable[[], Any]] = [
        lambda: store.get(b"a"),
        lambda: list(store.scan(b"", END)),
        lambda: store.write({b"a": b"1"}, 1),
        store.clear,
        lambda: store.size_bytes,
    ]
    for use in uses:
        with pytest.raises(StoreError, match=f"{NAME} failed: .* closed"):
            use()


def test_an_old_owner_closing_again_takes_nothing_from_the_new_one(disk: Disk) -> None:
    """The lock belongs to an opening, not to a name."""
    old = disk.open(NAME)
    old.close()
    new = disk.open(NAME)
    old.close()
    with pytest.raises(StoreLocked):
        disk.open(NAME)
    new.close()


def test_a_store_beside_another(disk: Disk) -> None:
    """It is this worker's alone: other rows, a lock of its own, and it is the same when it is opened again."""
    store = disk.open(NAME)
    store.write({b"a": b"1"}, 1)
    beside = disk.open(NAME, beside=True)
    assert (beside.position, list(beside.scan(b"", END))) == (None, [])
    beside.write({b"b": b"2"}, 2)
    with pytest.raises(StoreLocked):
        disk.open(NAME, beside=True)
    beside.close()
    again = disk.open(NAME, beside=True)
    assert (again.position, list(again.scan(b"", END))) == (2, [(b"b", b"2")])
    assert list(store.scan(b"", END)) == [(b"a", b"1")]
    again.close()
    store.close()


def test_a_store_beside_goes_when_the_other_is_opened_and_nobody_has_it(disk: Disk) -> None:
    """While its worker has it, it stays."""
    first = disk.open(NAME)
    beside = disk.open(NAME, beside=True)
    beside.write({b"b": b"2"}, 2)
    first.close()
    disk.open(NAME).close()
    assert beside.get(b"b") == b"2"
    beside.close()
    disk.open(f"{NAME}0").close()  # a neighbour
    beside = disk.open(NAME, beside=True)
    assert beside.position == 2
    beside.close()
    disk.open(NAME).close()
    assert disk.open(NAME, beside=True).position is None


def test_wipe_forgets_one_store(disk: Disk) -> None:
    """Its neighbours stay, those with longer names too; one that never was is no error."""
    for name in ("a", "a/0", "a/1"):
        store = disk.open(name)
        store.write({b"k": b"v"}, 1)
        store.close()
    disk.wipe("a/0")
    disk.wipe("a")
    disk.wipe("never/0")
    for name, position in (("a", None), ("a/0", None), ("a/1", 1)):
        store = disk.open(name)
        assert store.position == position
        store.close()


def test_stores_of_a_disk_are_apart(disk: Disk) -> None:
    """What one task writes no other reads."""
    first, second = disk.open("a/0"), disk.open("a/1")
    first.write({b"k": b"v"}, 1)
    assert (second.get(b"k"), second.position) == (None, None)
    first.close()
    second.close()


def test_size_grows_with_the_rows(store: Store) -> None:
    """Near the bytes written, and of no use beyond that."""
    before = store.size_bytes
    store.write({n.to_bytes(4): random.Random(n).randbytes(1000) for n in range(1000)}, 1)
    assert 900_000 < store.size_bytes - before < 3_000_000


# --------------------------------------------------------------------------------------------------- memory


def test_a_crash_unlocks_what_the_worker_had_open() -> None:
    """The rows stay, the dead owner's handle is dead."""
    disk = MemoryDisk()
    store = disk.open(NAME)
    store.write({b"a": b"1"}, 1)
    disk.crash()
    with pytest.raises(StoreError, match="closed"):
        store.get(b"a")
    assert disk.open(NAME).get(b"a") == b"1"


def test_a_crash_leaves_other_workers_alone() -> None:
    """Two workers on one disk share stores and locks, not their deaths."""
    ours = MemoryDisk()
    theirs = ours.beside()
    ours.open("a/0")
    store = theirs.open("a/1")
    with pytest.raises(StoreLocked):
        theirs.open("a/0")
    ours.crash()
    store.write({b"a": b"1"}, 1)
    theirs.open("a/0").close()
    with pytest.raises(StoreLocked):
        ours.open("a/1")


def test_a_crash_takes_nothing_from_the_next_owner() -> None:
    """A store that was given back is no longer the worker's to lose."""
    ours = MemoryDisk(undo_writes=1)
    theirs = ours.beside()
    ours.open(NAME).close()
    store = theirs.open(NAME)
    store.write({b"a": b"1"}, 1)
    ours.crash(lost_writes=1)
    assert (store.get(b"a"), store.position) == (b"1", 1)


@pytest.mark.parametrize("lost", [0, 1, 2, 3, 9])
def test_a_loss_of_power_loses_whole_writes(lost: int) -> None:
    """Rows and position go back together, over a clear too, as far as the disk was told to keep undo."""
    disk = MemoryDisk(undo_writes=3)
    store = disk.open(NAME)
    history: list[tuple[list[tuple[bytes, bytes]], int | None]] = []
    for n in range(4):
        if n == 2:
            store.clear()
        else:
            store.write({b"a": b"%d" % n, b"%d" % n: b"", b"%d" % (n - 1): None}, n)
        history.append((list(store.scan(b"", END)), store.position))
    disk.crash(lost_writes=lost)
    store = disk.open(NAME)
    assert (list(store.scan(b"", END)), store.position) == history[-1 - min(lost, 3)]


def test_a_memory_store_stands_alone() -> None:
    """Without a disk it is as good as a dict."""
    store = MemoryStore()
    store.write({b"a": b"1"}, 1)
    assert store.get(b"a") == b"1"


# -------------------------------------------------------------------------------------------------- RocksDB

PROJECT = Path(streamproc.state.rocks.__file__).parents[2]
WRITE_FOR_EVER = """
import sys
from streamproc.state.rocks import RocksDisk
store = RocksDisk(sys.argv[1]).open(sys.argv[2])
n = store.position or 0
while True:
    n += 1
    store.write({b"%d" % key: b"%d" % n if (n + key) % 7 else None for key in range(100)}, n)
    print(n, flush=True)
"""


@contextmanager
def other_process(root: Path) -> Iterator[tuple[int, IO[str]]]:
    """A process that writes to the store NAME until it is killed (-9): its id, the writes it finished as lines."""
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(root), NAME]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout
        finally:
            process.kill()


def filled(root: Path, *, sync: bool = False) -> dict[bytes, bytes]:
    """Write a store of a few hundred blocks in ten writes and close it, which puts its rows into files."""
    source = random.Random(7)
    rows = {n.to_bytes(4): source.randbytes(100) for n in range(10_000)}
    keys = list(rows)
    store = RocksDisk(root, sync=sync).open(NAME)
    for n in range(10):
        store.write({key: rows[key] for key in keys[n::10]}, n)
    store.close()
    return rows


def flip(file: Path, offset: int) -> None:
    """Damage one byte."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 0xFF
    file.write_bytes(data)


def test_kill_9_leaves_rows_and_position_of_one_write(tmp_path: Path) -> None:
    """However often it dies, nothing that was finished is lost and nothing is there by half."""
    for death in range(1, 6):
        with other_process(tmp_path) as (_, finished):
            seen = [int(next(finished)) for _ in range(20 * death)]
        store = RocksDisk(tmp_path).open(NAME)
        n = store.position
        assert n is not None and n >= seen[-1]
        rows = {b"%d" % key: b"%d" % n for key in range(100) if (n + key) % 7}
        assert dict(store.scan(b"", END)) == rows
        store.close()


def test_a_stopped_process_keeps_its_lock_and_a_dead_one_does_not(tmp_path: Path) -> None:
    """StoreLocked names the folder as long as the process lives, even if it does nothing."""
    with other_process(tmp_path) as (pid, finished):
        next(finished)
        os.kill(pid, signal.SIGSTOP)
        for attempt in (RocksDisk(tmp_path).open, RocksDisk(tmp_path).wipe):
            with pytest.raises(StoreLocked, match=str(tmp_path / NAME)):
                attempt(NAME)
    RocksDisk(tmp_path).open(NAME).close()


def test_beside_a_stopped_process(tmp_path: Path) -> None:
    """A store of this process alone, until the other is dead: then what is left beside is deleted, folder and all."""
    disk = RocksDisk(tmp_path)
    with other_process(tmp_path) as (pid, finished):
        next(finished)
        os.kill(pid, signal.SIGSTOP)
        beside = disk.open(NAME, beside=True)
        beside.write({b"a": b"1"}, 1)
        with pytest.raises(StoreLocked):
            disk.open(NAME)
    beside.close()
    assert len(list((tmp_path / NAME).parent.iterdir())) == 2
    store = disk.open(NAME)
    assert (store.position or 0) > 0, "what the dead process wrote"
    assert list((tmp_path / NAME).parent.iterdir()) == [tmp_path / NAME]
    store.close()


def test_a_damaged_block_is_an_error_never_a_short_scan(tmp_path: Path) -> None:
    """Both ways of reading say StoreCorrupt and the way out works, in the handler too."""
    rows = filled(tmp_path)
    (file,) = (tmp_path / NAME).glob("*.sst")
    flip(file, file.stat().st_size // 2)
    disk = RocksDisk(tmp_path)
    store = disk.open(NAME)
    with pytest.raises(StoreCorrupt, match=r"Delete that folder.* changelog"):
        for key in rows:
            store.get(key)
    with pytest.raises(StoreCorrupt) as caught:
        list(store.scan(b"", END))
    assert caught.value.store == str(tmp_path / NAME)
    store.close()
    disk.wipe(NAME)  # while `caught` keeps the frames of the scan alive
    store = disk.open(NAME)
    assert (list(store.scan(b"", END)), store.position) == ([], None)
    store.close()


def test_a_damaged_position_leaves_the_folder_unlocked(tmp_path: Path) -> None:
    """The error of opening can be handled by wiping on the spot."""
    filled(tmp_path)
    (file,) = (tmp_path / NAME).glob("*.sst")
    flip(file, 10)  # the first block, where the position is
    disk = RocksDisk(tmp_path)
    with pytest.raises(StoreCorrupt) as caught:
        disk.open(NAME)
    disk.wipe(NAME)
    disk.open(NAME).close()
    del caught


@pytest.mark.parametrize("seed", range(40))
def test_one_damaged_byte_anywhere_gives_the_rows_or_an_error(tmp_path: Path, seed: int) -> None:
    """In whatever file it is: what was written, or StoreCorrupt, or a store that never was, which is restored."""
    rows = filled(tmp_path)
    source = random.Random(seed)
    files = sorted(file for file in (tmp_path / NAME).iterdir() if file.stat().st_size and file.suffix != ".log")
    file = source.choice(files)
    flip(file, source.randrange(file.stat().st_size))
    disk = RocksDisk(tmp_path)
    try:
        store = disk.open(NAME)
    except StoreCorrupt:
        return
    with suppress(StoreCorrupt):
        assert (dict(store.scan(b"", END)), store.position) in ((rows, 9), ({}, None))
    store.close()


@pytest.mark.parametrize("damage", ["garbage", "empty", "missing"])
@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_damaged_file_refuses_to_open(tmp_path: Path, pattern: str, damage: str) -> None:
    """A file that RocksDB needs is garbage, empty or gone: StoreCorrupt, and wiping gives an empty store."""
    filled(tmp_path)
    (file,) = (tmp_path / NAME).glob(pattern)
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(random.Random(7).randbytes(500) if damage == "garbage" else b"")
    disk = RocksDisk(tmp_path)
    with pytest.raises(StoreCorrupt, match=str(tmp_path / NAME)):
        disk.open(NAME)
    disk.wipe(NAME)
    assert disk.open(NAME).position is None


@pytest.fixture
def damaged_log(tmp_path: Path) -> Path:
    """A store of 30 writes that was never closed, one byte in the middle of its write-ahead log damaged."""
    store = RocksDisk(tmp_path / "live").open(NAME)
    for n in range(30):
        store.write({b"a": b"%d" % n, b"%d" % n: bytes(100)}, n)
    shutil.copytree(tmp_path / "live", tmp_path / "copy")
    store.close()
    (log,) = (tmp_path / "copy" / NAME).glob("*.log")
    flip(log, log.stat().st_size // 2)
    return tmp_path / "copy"


def test_a_damaged_write_ahead_log_goes_back_whole_writes(damaged_log: Path) -> None:
    """Under a changelog a store that lost its end is fine: the position went back with the rows."""
    store = RocksDisk(damaged_log).open(NAME)
    n = store.position
    assert n is not None and 0 < n < 29
    assert store.get(b"a") == b"%d" % n
    store.close()


def test_a_damaged_write_ahead_log_that_was_synced_refuses_to_open(damaged_log: Path) -> None:
    """Rows that are kept nowhere else are not dropped in silence."""
    with pytest.raises(StoreCorrupt):
        RocksDisk(damaged_log, sync=True).open(NAME)


def test_a_torn_end_of_the_write_ahead_log_opens_synced_or_not(tmp_path: Path) -> None:
    """A write that was never finished is not damage."""
    for sync in (False, True):
        root = tmp_path / str(sync)
        store = RocksDisk(root / "live", sync=sync).open(NAME)
        for n in range(30):
            store.write({b"a": b"%d" % n}, n)
        shutil.copytree(root / "live", root / "copy")
        store.close()
        (log,) = (root / "copy" / NAME).glob("*.log")
        os.truncate(log, log.stat().st_size - 5)
        store = RocksDisk(root / "copy", sync=sync).open(NAME)
        assert (store.get(b"a"), store.position) == (b"28", 28)
        store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    root = tmp_path / "small"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk, which needs the right to mount: {mounted.stderr.decode().strip()}")
    yield root
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def test_a_full_disk_is_an_error_that_loses_nothing(small_disk: Path) -> None:
    """Writes say StoreFull, reads go on, closing is quiet, and with room again the last write is there."""
    disk = RocksDisk(small_disk)
    store = disk.open(NAME)
    n = 0

    def fill() -> None:
        nonlocal n
        while True:
            store.write({b"n": b"%d" % n, b"%d" % n: random.Random(n).randbytes(20_000)}, n)
            n += 1

    with pytest.raises(StoreFull, match="Make room"):
        fill()
    assert n > 50
    assert (store.position, store.get(b"n")) == (n - 1, b"%d" % (n - 1))
    with pytest.raises(StoreFull):
        store.write({}, n)
    store.close()
    with pytest.raises(StoreFull):
        disk.open(NAME)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    store = disk.open(NAME)
    assert (store.position, store.get(b"n")) == (n - 1, b"%d" % (n - 1))
    assert len(list(store.scan(b"0", b"n"))) == n
    store.close()


def test_a_reopened_store_has_the_settings_of_a_new_one(tmp_path: Path) -> None:
    """The library takes those of an existing folder from its files, in part, unless told otherwise."""
    filled(tmp_path)
    store = RocksDisk(tmp_path).open(NAME)
    diagnosis = (tmp_path / NAME / "LOG").read_text()
    assert "filter_policy: bloomfilter" in diagnosis
    assert f"capacity : {CACHE_BYTES}" in diagnosis
    store.close()


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """What has no class of its own says what the system said."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="Not a directory"):
        RocksDisk(tmp_path / "file").open(NAME)
