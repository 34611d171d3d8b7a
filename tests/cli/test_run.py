import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamproc.state.rocks import RocksDisk
from tests.cli.program import APP, Program, until, visits

TO_THE_END = ("run", "visits_app:app", "--until-end")

SLOW = """
import os, time
from pathlib import Path
from visits_app import app, visits, sizes
from streamproc import Stream

@app.stream(visits)
def held(visits: Stream[bytes, object]):
    visits.inspect(hold)

def hold(visit):
    started = Path("started")
    if not started.exists():
        started.touch()
        time.sleep(float(os.environ.get("HOLD_S", "0")))
"""


def expected_hits(count: int) -> list[Any]:
    """Hits a page and minute, computed independently of the app."""
    hits = Counter((f"/{n % 7}", (1_000_000 + n * 1_000) // 60_000 * 60_000) for n in range(count))
    rows = [{"key": key, "start": start, "end": start + 60_000, "value": n} for (key, start), n in hits.items()]
    return sorted(rows, key=repr)


def expected_sizes(count: int) -> list[Any]:
    return sorted((1 / (n % 5 + 1) for n in range(count)), key=repr)


# -------------------------------------------------------------------------------------- to the end


def test_until_end(program: Program) -> None:
    """A run to the end gives what an independent computation gives, says so, and exits with 0."""
    program.send(visits(3_000), "--partitions", "3", "--timestamp", "at")
    done = program.run(*TO_THE_END)
    assert program.values("hits") == expected_hits(3_000)
    assert program.values("sizes") == expected_sizes(3_000)
    assert "visits: read to the end: visits 3,000 records" in done.stderr
    assert done.stdout == ""


def test_a_second_run_reads_what_is_new(program: Program) -> None:
    """Positions are kept: a run reads nothing twice."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    again = program.run(*TO_THE_END)
    assert "visits 0 records" in again.stderr
    program.send(visits(10))
    program.run(*TO_THE_END)
    assert program.count("sizes") == 110


def test_app_main_is_run(program: Program) -> None:
    """`python app.py --until-end` is `streamproc run` of the app in it, options and all."""
    program.send(visits(70))
    program.write("my.py", "from visits_app import app\nif __name__ == '__main__':\n    app.main()\n")
    assert "visits 70 records" in program.run("--until-end", program=(sys.executable, "my.py")).stderr
    assert program.values("hits") == expected_hits(70)


def test_app_main_knows_its_app(program: Program) -> None:
    """The commands in its messages are to be copied: they name the app, and the place that was given."""
    program.send(visits(70))
    program.write("my.py", APP + "if __name__ == '__main__':\n    app.main()\n")
    program.run("--until-end", program=(sys.executable, "my.py"))
    program.write("my.py", (program.folder / "my.py").read_text().replace('tumbling("1m")', 'tumbling("2m")'))
    err = program.run("--until-end", "--broker", "local://data", code=1, program=(sys.executable, "my.py")).stderr
    [command] = re.findall(r"streamproc (reset my\.py:app --broker local://data)", err)
    program.run(*command.split(), "--yes")
    program.run("--until-end", program=(sys.executable, "my.py"))


def test_where_things_are(program: Program) -> None:
    """local://DIR has its log in DIR/log and the app's state in DIR/state; --state-dir names another place for that."""
    program.send(visits(10))
    program.run(*TO_THE_END)
    assert (program.folder / "data" / "state" / "visits").is_dir()
    program.run(*TO_THE_END, "--state-dir", "elsewhere")
    assert (program.folder / "elsewhere" / "visits").is_dir()


def test_settings_come_from_the_flag_then_the_environment(program: Program) -> None:
    """--broker is stronger than STREAMPROC_BROKER, which is stronger than the app."""
    program.send(visits(10), log="flag")
    program.run(*TO_THE_END, "--broker", "local://flag")
    assert (program.folder / "flag" / "state").is_dir()
    assert not (program.folder / "data").exists()


# -------------------------------------------------------------------------------------- signals and crashes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_commits_and_leaves(program: Program, number: signal.Signals) -> None:
    """A first signal ends the epoch: what was read is committed, exit 0, and nothing is lost or doubled after it."""
    program.send(visits(500))
    program.write("slow.py", SLOW)
    program.environment["HOLD_S"] = "0.5"
    process = program.start("run", "slow:app")
    until((program.folder / "started").exists, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "visits: stopped: visits 500 records" in err
    assert program.count("sizes") == 500
    program.run("run", "slow:app", "--until-end")
    assert program.values("hits") == expected_hits(500)
    assert program.values("sizes") == expected_sizes(500)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_stops_at_once(program: Program, number: signal.Signals, code: int) -> None:
    """A second signal does not wait for a function that hangs; nothing of the open epoch is committed."""
    program.send(visits(500))
    program.write("slow.py", SLOW)
    program.environment["HOLD_S"] = "60"
    process = program.start("run", "slow:app")
    until((program.folder / "started").exists, process)
    process.send_signal(number)
    assert process.stderr is not None
    said = ""
    while "once more stops at once" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    assert "Traceback" not in process.stderr.read()
    assert program.count("sizes") == 0
    program.run("run", "slow:app", "--until-end")
    assert program.values("hits") == expected_hits(500)
    assert program.values("sizes") == expected_sizes(500)


def test_kill_9(program: Program) -> None:
    """After kill -9 in the middle, twice, outputs are those of an undisturbed run; also without the state's disk."""
    program.send(visits(150_000), "--partitions", "2")
    for lose_disk in (False, True):
        before = program.count("sizes")
        process = program.start(*TO_THE_END, "--epoch-interval", "1ms", "--epoch-records", "500")
        until(lambda before=before: program.count("sizes") > before, process)  # type: ignore[misc]
        process.kill()
        process.communicate()
        if lose_disk:
            shutil.rmtree(program.folder / "data" / "state")
    program.run(*TO_THE_END)
    assert program.values("hits") == expected_hits(150_000)
    assert program.values("sizes") == expected_sizes(150_000)


# -------------------------------------------------------------------------------------- what goes wrong


def test_a_record_that_fails(program: Program) -> None:
    """Under the policy "fail" the message names the record, the step, the cause and the line; it is not consumed."""
    program.send(visits(100, bad=57), "--timestamp", "at")
    for _ in range(2):  # it is still there in the second run
        err = program.run(*TO_THE_END, code=1).stderr
        for said in (
            "per_page.map-inverse: visits/0 at offset 57, key None, timestamp 1057000: ZeroDivisionError",
            "in inverse: return 1 / (visit.size + 1)",
            "The record was not consumed",
            "on_error",
        ):
            assert said in err
    assert program.count("sizes") in range(58)
    mended = (program.folder / "visits_app.py").read_text().replace("visit.size + 1", "(visit.size + 1 or 1)")
    program.write("visits_app.py", mended)
    program.run(*TO_THE_END)
    assert program.values("hits") == expected_hits(100)


def test_an_unknown_topic(program: Program) -> None:
    """A source that is not there is named, with the command that makes it."""
    program.send(visits(1), topic="visit")
    err = program.run(*TO_THE_END, code=1).stderr
    assert "there is no topic 'visits'; did you mean 'visit'?" in err
    assert "`streamproc send visits FILE --broker local://data` makes it, or the app that writes to it" in err


def test_a_log_in_use(program: Program) -> None:
    """A second process is told that the log is in use, and the first goes on."""
    program.send(visits(10))
    process = program.start("run", "visits_app:app")
    until(lambda: program.count("sizes") == 10, process)
    assert "already open" in program.run(*TO_THE_END, code=1).stderr
    assert "already open" in program.run("send", "visits", "-", code=1, stdin=visits(1)).stderr
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


def test_a_store_in_use(program: Program) -> None:
    """A store that another process holds is named, and after a while the state is restored beside it."""
    program.send(visits(10))
    program.run(*TO_THE_END)
    disk = RocksDisk(program.folder / "data" / "state" / "visits")
    [folder] = [path for path in (program.folder / "data" / "state" / "visits").iterdir() if (path / "0").is_dir()]
    store = disk.open(f"{folder.name}/0")
    try:
        program.send(visits(70), topic="visits")
        err = program.run(*TO_THE_END).stderr
    finally:
        store.close()
    assert f"{folder.name}/0 is open in another worker or process" in err
    assert "restoring beside it" in err
    assert program.count("sizes") == 80


def test_a_damaged_store(program: Program) -> None:
    """Damage is named with the folder to delete; after that the state comes back from the log."""
    program.send(visits(50))
    program.run(*TO_THE_END)
    state = program.folder / "data" / "state"
    for manifest in state.rglob("CURRENT"):
        manifest.write_text("gone\n")
    err = program.run(*TO_THE_END, code=1).stderr
    assert "is damaged" in err
    assert "Delete that folder" in err
    shutil.rmtree(state)
    program.run(*TO_THE_END)
    assert program.values("hits") == expected_hits(50)


def test_a_changed_plan(program: Program) -> None:
    """State of another plan is refused with the ways out, and reset is one of them."""
    program.send(visits(50))
    program.run(*TO_THE_END)
    app: Path = program.folder / "visits_app.py"
    program.write("visits_app.py", app.read_text().replace('tumbling("1m")', 'tumbling("2m")'))
    err = program.run(*TO_THE_END, code=1).stderr
    assert "per_page.count" in err
    assert "streamproc reset" in err
    program.run("reset", "visits_app:app", "--yes")
    program.run(*TO_THE_END)


def test_memory_is_said_to_be_pointless(program: Program) -> None:
    """memory:// runs, and says that there is nothing to read."""
    done = program.run(*TO_THE_END, "--broker", "memory://")
    assert "memory:// is empty at the start and forgotten at the end" in done.stderr
