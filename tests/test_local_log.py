"""What `local://` promises beyond every log: it outlives its process, and says so when it did not."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamproc.local_log import LocalLog
from streamproc.log import (
    Columns,
    Committed,
    LogCorrupt,
    LogError,
    LogFull,
    LogLocked,
    Partition,
    TaskInput,
)
from streamproc.witness import Witness, boot, seen

PARTITIONS = [Partition("tweets", number) for number in range(3)]
TASKS = [TaskInput("count", number, (partition,)) for number, partition in enumerate(PARTITIONS)]
OTHER_BOOT = "another run of the machine"


async def write_epochs(log: LocalLog, epochs: range, size_bytes: int = 20) -> None:
    """Commit epochs whose content says which they are, and how long each is."""
    await log.create("tweets", partitions=3, config={})
    source = await log.source("trending", "a", TASKS)
    await source.poll([], 0)
    sink = await log.sink(source, "a")
    for epoch in epochs:
        draw = random.Random(epoch)
        for partition in PARTITIONS:
            values: list[bytes | None] = [
                b"%d " % epoch + draw.randbytes(size_bytes) for _ in range(draw.randrange(1, 9))
            ]
            sink.send(partition, Columns([None] * len(values), values, [epoch] * len(values)))
        await sink.commit({partition: Committed(epoch, f"epoch {epoch}") for partition in PARTITIONS})
        print(epoch, flush=True)


async def whole_epochs(log: LocalLog, size_bytes: int = 20) -> int:
    """How many epochs there are, each checked to be exactly what was committed, with its offsets."""
    if "tweets" not in await log.topics():
        return 0
    committed = await log.committed("trending")
    epochs = {position.offset + 1 for position in committed.values()} or {0}
    assert len(epochs) == 1
    (count,) = epochs
    expected: dict[Partition, list[bytes]] = {partition: [] for partition in PARTITIONS}
    for epoch in range(count):
        draw = random.Random(epoch)
        for partition in PARTITIONS:
            expected[partition] += [b"%d " % epoch + draw.randbytes(size_bytes) for _ in range(draw.randrange(1, 9))]
    for partition in PARTITIONS:
        read = await log.read(partition, 0, 1_000_000)
        while (more := await log.read(partition, read.next_offset, 1_000_000)).offsets:
            read.columns.extend(more.columns)
        assert read.columns.values == expected[partition]
    return count


def run(*arguments: str | int | Path) -> subprocess.Popen[str]:
    """This file as a process of its own."""
    root = str(Path(__file__).parent.parent)
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )


@pytest.fixture
async def crashed(tmp_path: Path) -> Path:
    """The files of a log with 40 epochs as a kill -9 leaves them: copied while it is open."""
    log = LocalLog(tmp_path / "live")
    await write_epochs(log, range(40))
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    await log.close()
    return tmp_path / "crashed"


def wal(log: Path) -> Path:
    """The write-ahead log with the epochs in it."""
    return max((log / "records").glob("*.log"), key=lambda file: file.stat().st_size)


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0x10
    file.write_bytes(content)


def rewrite_witness(log: Path, *, boot_id: str, durable: int) -> None:
    note = seen(log / "acknowledged")
    assert note is not None
    witness = Witness(log / "acknowledged", boot_id)
    for _ in range(2):
        witness.note(note.sequence, note.chain, durable, sync=False)
    witness.close()


async def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    """Topics, records, headers, bounds, offsets and metadata outlive a clean close, again and again."""
    for number in range(3):
        log = LocalLog(tmp_path / "log", sync=number == 1)
        assert await whole_epochs(log) == number * 5
        await write_epochs(log, range(number * 5, number * 5 + 5))
        await log.close()
    log = LocalLog(tmp_path / "log")
    await log.create("other", partitions=1, config={"cleanup.policy": "compact"})
    sink = await log.sink(None, "writer")
    sink.send(Partition("other", 0), Columns([b"k", b"l"], [None, b"v"], [-1, 1 << 60], [None, [("h", b"1")]]))
    await sink.commit({})
    await log.purge({PARTITIONS[0]: 3})
    before = await log.ends(PARTITIONS)
    await log.close()

    log = LocalLog(tmp_path / "log")
    assert await whole_epochs_but_first(log)
    assert await log.ends(PARTITIONS) == before
    assert (await log.topics())["other"] == (1, {"cleanup.policy": "compact"})
    columns = (await log.read(Partition("other", 0), 0, 9)).columns
    assert (columns.keys, columns.values, columns.timestamps) == ([b"k", b"l"], [None, b"v"], [-1, 1 << 60])
    assert columns.headers is not None
    assert [h and [(name, value) for name, value in h] for h in columns.headers] == [None, [("h", b"1")]]
    await log.close()


async def whole_epochs_but_first(log: LocalLog) -> bool:
    with pytest.raises(LogError, match="keeps 3 to"):
        await log.read(PARTITIONS[0], 0, 1)
    return len((await log.read(PARTITIONS[0], 3, 1)).columns) == 1


@pytest.mark.parametrize("sync", [False, True])
async def test_kill_9_loses_no_acknowledged_epoch(tmp_path: Path, sync: bool) -> None:
    """A process killed at a random moment leaves all epochs it acknowledged, and no part of one."""
    draw = random.Random(7)
    there = 0
    for _ in range(6):
        process = run("write", tmp_path / "log", there, "sync" if sync else "")
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(draw.randrange(1, 60))]
        process.send_signal(signal.SIGKILL)
        acknowledged += map(int, process.stdout.read().split())
        process.communicate()
        log = LocalLog(tmp_path / "log", sync=sync)
        there = await whole_epochs(log)
        assert acknowledged[-1] + 1 <= there <= acknowledged[-1] + 2
        await log.close()


async def test_a_flipped_bit_in_the_write_ahead_log_is_not_silence(crashed: Path, tmp_path: Path) -> None:
    """RocksDB opens with the epochs before the damage; the witness knows that there were more."""
    size = wal(crashed).stat().st_size
    for number, at in enumerate(range(5, size, size // 25)):
        damaged = shutil.copytree(crashed, tmp_path / f"damaged-{number}")
        flip(wal(damaged), at)
        for _ in range(2):  # the first opening throws the damaged file away
            with pytest.raises(LogCorrupt, match="delete .*acknowledged"):
                LocalLog(damaged)
        with pytest.raises(LogCorrupt):
            LocalLog(damaged, read_only=True)


async def test_a_flipped_bit_after_a_clean_close_is_not_silence(crashed: Path) -> None:
    """What was closed was on the disk: damage to it is told even after the machine was started again."""
    rewrite_witness(crashed, boot_id=OTHER_BOOT, durable=41)
    flip(wal(crashed), wal(crashed).stat().st_size // 2)
    with pytest.raises(LogCorrupt, match="were acknowledged and are not there"):
        LocalLog(crashed)


async def test_closing_makes_all_epochs_durable(tmp_path: Path) -> None:
    """The witness says after a clean close, and with sync after each epoch, that all is on the disk."""
    log = LocalLog(tmp_path / "log")
    await write_epochs(log, range(3))
    note = seen(tmp_path / "log" / "acknowledged")
    assert note is not None
    assert (note.sequence, note.durable, note.boot) == (4, 0, boot())
    await log.close()
    note = seen(tmp_path / "log" / "acknowledged")
    assert note is not None
    assert (note.sequence, note.durable) == (4, 4)
    log = LocalLog(tmp_path / "log", sync=True)
    await write_epochs(log, range(3, 4))
    note = seen(tmp_path / "log" / "acknowledged")
    assert note is not None
    assert (note.sequence, note.durable) == (5, 5)
    await log.close()


async def test_a_loss_of_power_is_a_torn_tail_and_no_damage(
    crashed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without sync the last epochs may be missing after it: the log opens with the whole ones and warns how many."""
    size = wal(crashed).stat().st_size
    rewrite_witness(crashed, boot_id=OTHER_BOOT, durable=1)
    counts = []
    for number, length in enumerate(range(size // 2, size, size // 20)):
        torn = shutil.copytree(crashed, tmp_path / f"torn-{number}")
        os.truncate(wal(torn), length)
        log = LocalLog(torn)
        counts.append(await whole_epochs(log))
        assert f"lost epochs {counts[-1] + 2} to 41" in caplog.messages[-1]
        await write_epochs(log, range(counts[-1], 45))
        await log.close()
        log = LocalLog(torn)
        assert await whole_epochs(log) == 45
        await log.close()
    assert counts == sorted(counts)
    assert 0 < counts[0] < counts[-1] < 40


async def test_a_torn_tail_without_a_loss_of_power_is_damage(crashed: Path) -> None:
    """The page cache outlives a process: what is missing was taken away."""
    os.truncate(wal(crashed), wal(crashed).stat().st_size // 2)
    with pytest.raises(LogCorrupt):
        LocalLog(crashed)


async def test_a_torn_witness_is_no_damage(crashed: Path) -> None:
    """The note before it stands; only when both are gone is there nothing to check by, and that is said."""
    witness = crashed / "acknowledged"
    whole = witness.read_bytes()
    for at in (10, 522):
        witness.write_bytes(whole)
        flip(witness, at)
        log = LocalLog(crashed)
        assert await whole_epochs(log) == 40
        await log.close()
    flip(witness, 10)
    flip(witness, 522)
    with pytest.raises(LogCorrupt, match="no whole note"):
        LocalLog(crashed)


async def test_deleting_the_witness_accepts_the_loss(crashed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The way out that the error names: what is left is opened, with a warning, and written on."""
    flip(wal(crashed), wal(crashed).stat().st_size // 2)
    with pytest.raises(LogCorrupt):
        LocalLog(crashed)
    (crashed / "acknowledged").unlink()
    log = LocalLog(crashed)
    assert "has no witness" in caplog.text
    left = await whole_epochs(log)
    assert 0 < left < 40
    await write_epochs(log, range(left, 40))
    await log.close()
    log = LocalLog(crashed)
    assert await whole_epochs(log) == 40
    await log.close()


async def test_a_log_put_back_under_a_newer_witness_is_told(crashed: Path, tmp_path: Path) -> None:
    """Records of another history than the one acknowledged do not pass, even with as many epochs."""
    log = LocalLog(tmp_path / "other")
    await log.create("tweets", partitions=3, config={})
    sink = await log.sink(None, "writer")
    for _ in range(40):
        sink.send(PARTITIONS[0], Columns([None], [b"x"], [0]))
        await sink.commit({})
    await log.close()
    shutil.copy(crashed / "acknowledged", tmp_path / "other" / "acknowledged")
    with pytest.raises(LogCorrupt, match="is not the one that was acknowledged"):
        LocalLog(tmp_path / "other")


async def test_a_flipped_bit_in_a_table_file_is_not_silence(tmp_path: Path) -> None:
    """Wherever it is, opening and reading everything either raises or gives exactly what was written."""
    for epochs in (range(30), range(30, 40), range(0)):  # opening turns the write-ahead log into a table file
        log = LocalLog(tmp_path / "log")
        await write_epochs(log, epochs, size_bytes=1_000)
        await log.close()
    tables = sorted((tmp_path / "log" / "records").glob("*.sst"))
    assert tables
    draw, told = random.Random(3), 0
    for number in range(40):
        damaged = shutil.copytree(tmp_path / "log", tmp_path / f"damaged-{number}")
        table = damaged / "records" / draw.choice(tables).name
        flip(table, draw.randrange(table.stat().st_size))
        try:
            log = LocalLog(damaged)
            try:
                assert await whole_epochs(log, size_bytes=1_000) == 40
            finally:
                await log.close()
        except LogCorrupt:
            told += 1
    assert told > 20


@pytest.mark.parametrize("lost", ["m", "r", "last"])
async def test_a_lost_row_is_not_silence(tmp_path: Path, lost: str) -> None:
    """Were RocksDB to lose a row by itself, opening tells or, in the midst of a partition, the read that meets it."""
    log = LocalLog(tmp_path / "log")
    await write_epochs(log, range(10))
    store = log._records._store  # type: ignore[attr-defined]
    keys = [key for key, _ in store.scan(b"m" if lost == "m" else b"r", b"n" if lost == "m" else b"s")]
    store.write({keys[-1 if lost == "last" else 5]: None}, store.position)
    await log.close()
    if lost != "r":
        with pytest.raises(LogCorrupt):
            LocalLog(tmp_path / "log")
        return
    log = LocalLog(tmp_path / "log")
    with pytest.raises(LogCorrupt, match="are not there"):
        await log.read(PARTITIONS[0], 0, 1_000)
    await log.close()


async def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    """In the same process or another; after the first is closed or failed to open, the next one may."""
    log = LocalLog(tmp_path / "log")
    with pytest.raises(LogLocked, match="already open"):
        LocalLog(tmp_path / "log")
    process = run("write", tmp_path / "log", 0)
    assert "LogLocked: the log in" in process.communicate()[1]
    await log.close()
    await LocalLog(tmp_path / "log").close()


async def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """Beside a writer in another process, a reader sees each epoch after its commit, and refuses to write."""
    writer = LocalLog(tmp_path / "log")
    reader = LocalLog(tmp_path / "log", read_only=True)
    assert await reader.topics() == {}
    await write_epochs(writer, range(3))
    assert await whole_epochs(reader) == 3
    await write_epochs(writer, range(3, 6))
    assert await whole_epochs(reader) == 6
    other = run("count", tmp_path / "log")
    assert other.communicate() == ("6\n", "")
    with pytest.raises(LogError, match="reading only"):
        await reader.create("other", partitions=1, config={})
    with pytest.raises(LogError, match="reading only"):
        await reader.purge({PARTITIONS[0]: 1})
    sink = await reader.sink(None, "writer")
    sink.send(PARTITIONS[0], Columns([None], [b"x"], [0]))
    with pytest.raises(LogError, match="reading only"):
        await sink.commit({})
    await writer.close()
    assert await whole_epochs(reader) == 6
    await reader.close()


async def test_a_reader_reads_on_while_files_come_and_go(tmp_path: Path) -> None:
    """Flushes, compactions and purges of the writer take nothing from a reader that follows."""
    writer = LocalLog(tmp_path / "log")
    await write_epochs(writer, range(1))
    reader = LocalLog(tmp_path / "log", read_only=True)
    for first in range(1, 61, 10):
        await write_epochs(writer, range(first, first + 10), size_bytes=100_000)
        end = (await writer.ends(PARTITIONS))[PARTITIONS[0]]
        expected = (await writer.read(PARTITIONS[0], end - 40, 40)).columns
        assert (await reader.read(PARTITIONS[0], end - 40, 40)).columns == expected
        await writer.purge({PARTITIONS[0]: end - 10, PARTITIONS[1]: end - 10})
    await reader.close()
    await writer.close()


async def test_a_reader_needs_a_log(tmp_path: Path) -> None:
    """Reading does not make a log, and says that there is none."""
    with pytest.raises(LogError, match="there is no log in"):
        LocalLog(tmp_path / "log", read_only=True)
    assert not (tmp_path / "log").exists()


@pytest.mark.timeout(120, method="thread")  # RocksDB may hang where Python does not see a signal
async def test_a_full_disk_is_told_and_costs_nothing_acknowledged(tmp_path: Path) -> None:
    """The commit without room raises LogFull, as do those after it; with room again, all acknowledged is there."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("NOT TESTED: a full disk needs a small file system, which only root can mount")
    try:
        log = LocalLog(small / "log")
        acknowledged = 0
        with pytest.raises(LogFull, match="free some"):
            for epoch in range(10_000):
                await write_epochs(log, range(epoch, epoch + 1), size_bytes=50_000)
                acknowledged = epoch + 1
        sink = await log.sink(None, "writer")
        sink.send(PARTITIONS[0], Columns([None], [b"x"], [0]))
        with pytest.raises(LogFull):
            await sink.commit({})
        assert await whole_epochs(log, size_bytes=50_000) == acknowledged
        await log.close()
        subprocess.run(["mount", "-o", "remount,size=200m", str(small)], check=True)
        log = LocalLog(small / "log")
        assert acknowledged <= await whole_epochs(log, size_bytes=50_000) <= acknowledged + 1
        await log.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


async def main(command: str, path: str, first: str = "0", sync: str = "") -> None:
    """What a child process does."""
    if command == "count":
        reader = LocalLog(path, read_only=True)
        print(await whole_epochs(reader))
        await reader.close()
    else:
        await write_epochs(LocalLog(path, sync=bool(sync)), range(int(first), 1_000_000))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
