import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamproc.log import Replaced
from streamproc.slot import SlotError, SlotHeld, SlotTakenOver, all_slots, seen_slots, taken_slot

HOLDER = """
import os, sys, time
from pathlib import Path
from streamproc.slot import taken_slot
with taken_slot(Path(sys.argv[1])) as slot:
    if "fork" in sys.argv:
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, b"up")
            time.sleep(60)
        os.read(read, 2)
    print(slot.number, slot.name, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def hold(folder: Path, holders: list[subprocess.Popen[str]], *arguments: str) -> tuple[int, str]:
    """A process of its own that holds a slot: its number and name."""
    argv = [sys.executable, "-c", HOLDER, str(folder), *arguments]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    holders.append(process)
    assert process.stdout is not None
    number, name = process.stdout.readline().split()
    return int(number), name


def test_a_name_outlives_its_process(tmp_path: Path) -> None:
    """The name of a slot is made once and is legal for Kafka; who takes the slot again has it again."""
    with taken_slot(tmp_path) as first:
        pass
    with taken_slot(tmp_path) as again:
        assert again == first
    assert first.number == 0
    assert set(first.name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_the_first_free_slot(tmp_path: Path) -> None:
    """Each has a slot and a name of its own, and one that became free is taken before a new one is made."""
    with taken_slot(tmp_path) as zero, taken_slot(tmp_path) as one:
        with taken_slot(tmp_path) as two:
            assert [zero.number, one.number, two.number] == [0, 1, 2]
            assert len({zero.name, one.name, two.name}) == 3
        with taken_slot(tmp_path) as again:
            assert again == two


def test_a_copy_of_the_folder_elsewhere_has_other_names(tmp_path: Path) -> None:
    """Names are random: no two state directories share one."""
    with taken_slot(tmp_path / "a") as a, taken_slot(tmp_path / "b") as b:
        assert a.number == b.number
        assert a.name != b.name


def test_a_slot_that_was_asked_for(tmp_path: Path) -> None:
    """By number; one that is held is an error that names the process."""
    with taken_slot(tmp_path, 3) as three:
        assert three.number == 3
        with pytest.raises(SlotHeld, match=f"slot 3 is held by process {os.getpid()}, .*@slots/3.*: stop it first"):
            taken_slot(tmp_path, 3).__enter__()


def test_the_lock_vanishes_with_the_process(tmp_path: Path, holders: list[subprocess.Popen[str]]) -> None:
    """After kill -9 the slot is free at once, name and all."""
    number, name = hold(tmp_path, holders)
    [seen] = seen_slots(tmp_path)
    assert (seen.number, seen.name, seen.pid) == (number, name, holders[0].pid)
    holders[0].kill()
    holders[0].wait()
    assert [slot.pid for slot in seen_slots(tmp_path)] == [None]
    with taken_slot(tmp_path) as slot:
        assert (slot.number, slot.name) == (0, name)


def test_a_child_that_outlives_the_worker_does_not_hold_its_slot(
    tmp_path: Path, holders: list[subprocess.Popen[str]]
) -> None:
    """A process that user code forked (multiprocessing) and that lives on has no part in the lock."""
    _, name = hold(tmp_path, holders, "fork")
    holders[0].kill()
    holders[0].wait()
    with taken_slot(tmp_path, 0) as slot:
        assert slot.name == name


def test_looking_at_slots_takes_none(tmp_path: Path) -> None:
    """What is seen is not held; nothing is there before the first worker."""
    assert seen_slots(tmp_path) == []
    assert not list(tmp_path.iterdir())
    with taken_slot(tmp_path):
        pass
    seen_slots(tmp_path)
    with taken_slot(tmp_path) as slot:
        assert slot.number == 0


def test_all_slots(tmp_path: Path) -> None:
    """Whoever deletes the state has every slot, or is told who is in the way."""
    with taken_slot(tmp_path), taken_slot(tmp_path):
        pass
    with all_slots(tmp_path), taken_slot(tmp_path) as slot:
        assert slot.number == 2
    with taken_slot(tmp_path, 1), pytest.raises(SlotHeld, match="slot 1"):
        all_slots(tmp_path).__enter__()
    with taken_slot(tmp_path) as slot:  # and gives them back, also when it could not have them all
        assert slot.number == 0


def test_a_deleted_file_is_no_slot(tmp_path: Path) -> None:
    """A file deleted under its holder (a reset by hand) is made anew for the next one, with another name."""
    with taken_slot(tmp_path) as slot:
        slot.path.unlink()
        with taken_slot(tmp_path) as other:
            assert other.number == 0
            assert other.name != slot.name


@pytest.mark.parametrize("content", [b"two words\n", b"\xff\xfe\n", b"a/b\n"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    """What is no name is refused with the way out; an empty file is one of which the name was never written."""
    with taken_slot(tmp_path) as slot:
        pass
    slot.path.write_bytes(content)
    with pytest.raises(SlotError, match="does not hold a worker's name: delete that file"):
        taken_slot(tmp_path).__enter__()
    slot.path.write_bytes(b"")
    with taken_slot(tmp_path) as again:
        assert again.name != slot.name


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, "there is no room left on that disk"),
        (errno.EROFS, "Read-only file system: .* make it writable, or name another directory with --state-dir"),
        (errno.EACCES, "Permission denied"),
        (errno.ENOLCK, "No locks available"),
    ],
)
def test_what_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str) -> None:
    """A disk that is full or read-only, or that knows no locks, is told with its path and the way out."""

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(SlotError, match=f"{tmp_path}/@slots/0 cannot be used: .*{said}"):
        taken_slot(tmp_path).__enter__()


def test_a_copied_state_directory_is_told(tmp_path: Path) -> None:
    """When the group says that another worker came under this name, the file to delete is named."""
    said = r"another worker joined as .* delete that file in one of the two"
    with pytest.raises(SlotTakenOver, match=said), taken_slot(tmp_path) as slot:
        raise Replaced(slot.name)
