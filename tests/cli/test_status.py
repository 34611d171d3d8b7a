import asyncio
import json
from pathlib import Path

import msgspec

from streamproc.local_log import LocalLog
from streamproc.log import Committed, Partition
from streamproc.restore_lag import RestoreNote
from streamproc.slot import taken_slot
from tests.cli.program import Program, until, visits
from tests.cli.test_run import TO_THE_END

STATUS = ("status", "visits_app:app")


def test_nobody_runs(program: Program) -> None:
    """After a run all is read and nobody has the tasks: said, and exit code 1."""
    program.send(visits(100), "--partitions", "2")
    program.run(*TO_THE_END)
    shown = program.run(*STATUS, code=1).stdout
    assert shown.startswith("visits on local://data: no worker\n")
    assert shown.endswith("no worker runs\n")
    stages = [line.split() for line in shown.splitlines() if line.startswith(("visits ", "per_page"))][1:]
    assert [line[:4] for line in stages] == [["visits", "2", "0", "0s"], ["per_page-key_by", "2", "0", "-"]]


def test_beside_a_worker(program: Program) -> None:
    """It looks on beside the process that has the log, and names its slot and process; exit code 0."""
    program.send(visits(100), "--partitions", "2")
    process = program.start("run", "visits_app:app")
    until(lambda: program.count("sizes") == 100, process)
    shown = program.run(*STATUS).stdout
    assert "1 worker\n" in shown
    [row] = [line.split() for line in shown.splitlines() if "per_page-key_by/0,1 visits/0,1" in line]
    assert row[2:4] == ["0", str(process.pid)]
    each = program.run(*STATUS, "--tasks").stdout
    assert sum("working" in line for line in each.splitlines()) == 4


def test_as_json(program: Program) -> None:
    """What programs read: the same, with its units."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    program.send(visits(30))
    status = json.loads(program.run(*STATUS, "--json", code=1).stdout)
    assert status["problems"] == ["no worker runs"]
    [stage, _] = status["stages"]
    assert (stage["name"], stage["lag"], stage["event_time"]) == ("visits", 30, 1_099_000)
    assert stage["tasks"][0]["state"] == "no owner"


async def note(folder: Path, member: str, *, at: int, end: int) -> None:
    """What a worker that restores notes."""
    log = LocalLog(folder)
    source = await log.source("visits", member, [])
    await source.poll([], 0)
    beside = msgspec.json.encode(RestoreNote(member, 0, end)).decode()
    await source.note({Partition("visits-per_page-key_by-changelog", 0): Committed(at, beside)})
    await log.close()


def test_a_task_that_is_restored(program: Program) -> None:
    """It is shown without being asked for, with how much of how much; programs get numbers."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    with taken_slot(program.folder / "data" / "state" / "visits") as slot:
        asyncio.run(note(program.folder / "data" / "log", slot.name, at=1_270_000, end=2_000_000))
        shown = program.run(*STATUS).stdout
        status = json.loads(program.run(*STATUS, "--json").stdout)
    [row] = [line for line in shown.splitlines() if line.startswith("per_page-key_by/0")]
    assert row.split("  ")[1].strip() == "restoring 63 % (1,270,000 of 2,000,000)"
    [task] = [task for stage in status["stages"] for task in stage["tasks"] if task["state"] == "restoring"]
    assert (task["stage"], task["restored"], task["to_restore"]) == ("per_page-key_by", 1_270_000, 2_000_000)
    assert "  positions in 2 partitions\n" in program.run("reset", "visits_app:app", stdin=b"n", code=None).stdout


def test_nothing_to_see(program: Program) -> None:
    """No log, no topic, a log in memory: each is said."""
    assert "there is no log in data/log" in program.run(*STATUS, code=1).stderr
    program.send(visits(1), topic="visit")
    assert "there is no topic 'visits'; did you mean 'visit'?" in program.run(*STATUS, code=1).stderr
    assert "nothing is seen of it here" in program.run(*STATUS, "--broker", "memory://", code=1).stderr
