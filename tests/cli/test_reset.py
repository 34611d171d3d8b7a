import pytest

from tests.cli.program import Program, until, visits
from tests.cli.test_run import TO_THE_END, expected_hits, expected_sizes


def test_reset_begins_anew(program: Program) -> None:
    """After a reset the app reads everything again; what it wrote and what it reads stays."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    said = program.run("reset", "visits_app:app", "--yes").stdout
    for part in (
        "positions in 2 partitions",
        "visits-per_page-key_by-repartition",
        "-changelog",
        "state in data/state/visits",
    ):
        assert part in said
    assert not (program.folder / "data" / "state" / "visits").exists()
    assert program.count("visits") == 100
    assert program.values("sizes") == expected_sizes(100)
    program.run(*TO_THE_END)
    assert program.values("hits") == sorted(expected_hits(100) * 2, key=repr)


def test_it_asks_first(program: Program) -> None:
    """Without a yes nothing is changed."""
    program.send(visits(100))
    program.run(*TO_THE_END)
    program.run("reset", "visits_app:app", code=130, stdin=b"n\n")
    assert (program.folder / "data" / "state" / "visits").exists()
    assert "visits 0 records" in program.run(*TO_THE_END).stderr


def test_another_app_of_a_longer_name_is_left_alone(program: Program) -> None:
    """Internal topics of `visits-eu` begin like those of `visits`; a reset or start of one is none of the other's."""
    program.write("eu.py", (program.folder / "visits_app.py").read_text().replace('App("visits")', 'App("visits-eu")'))
    program.send(visits(100))
    program.run("run", "eu:app", "--until-end")
    program.run(*TO_THE_END)
    assert "visits-eu" not in program.run("reset", "visits_app:app", "--yes").stdout
    assert "visits 0 records" in program.run("run", "eu:app", "--until-end").stderr
    assert "there is nothing to forget of visits" in program.run("reset", "visits_app:app", "--yes").stdout


def test_not_under_a_process_that_runs(program: Program) -> None:
    """Its stores are not deleted, nor its slot."""
    program.send(visits(100))
    process = program.start("run", "visits_app:app")
    until(lambda: program.count("sizes") == 100, process)
    assert "already open" in program.run("reset", "visits_app:app", "--yes", code=1).stderr
    # Another log, the same state: the slot says who is in the way.
    program.send(visits(1), log="other")
    state = str(program.folder / "data" / "state")
    elsewhere = ("--broker", "local://other", "--state-dir", state)
    err = program.run("reset", "visits_app:app", "--yes", *elsewhere, code=1).stderr
    assert f"slot 0 is held by process {process.pid}" in err
    assert (program.folder / "data" / "state" / "visits" / "@slots" / "0").exists()


FUTURE_APP = """
from streamproc import App, Stream, tumbling
app = App("late", idle="never")
lines = app.topic("lines", value=str, grace="1s")
counts = app.topic("counts")

@app.stream(lines, to=counts)
def count(lines: Stream[bytes, str]):
    return lines.key_by(lambda line: line).window(tumbling("1m")).count()
"""


def test_set_the_clock_back(program: Program) -> None:
    """A time from the future made all late; set back, what comes is counted again. It asks and says what it does."""
    program.write("late_app.py", FUTURE_APP)
    run = ("run", "late_app:app", "--until-end")

    def send(*minutes: int) -> None:
        rows = b"".join(b'{"at": %d, "line": "a"}\n' % (minute * 60_000) for minute in minutes)
        program.send(rows, "--timestamp", "at", topic="lines")

    send(1, 2, 60_000_000)
    program.run(*run)
    send(3)
    assert "late: count.count 1" in program.run(*run).stderr
    reset = ("reset", "late_app:app", "--clock")
    assert "no clock of late on local://data is beyond" in program.run(*reset, "2099-01-01T00:00Z").stdout
    asked = program.run(*reset, "180000", code=130, stdin=b"n\n").stdout
    assert "Of late on local://data is set back to 1970-01-01 00:03:00:" in asked
    assert "clock of lines/0, which is 2084-01-29 16:00:00" in asked
    send(4)
    assert "late: count.count 1" in program.run(*run).stderr
    assert "late goes on from 1970-01-01 00:03:00" in program.run(*reset, "180000", "--yes").stdout
    send(5, 6)
    assert "late" not in program.run(*run).stderr.partition("read to the end")[2]
    assert {5, 6} <= {row["start"] // 60_000 for row in program.values("counts")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026-06-11T12:08", "has no time zone: write 2026-06-11T12:08:00Z (UTC), or 2026-06-11T12:08:00+02:00"),
        ("noon", "is no instant: write 2026-06-11T12:00Z (ISO 8601), or milliseconds since 1970"),
    ],
)
def test_no_instant(program: Program, text: str, said: str) -> None:
    """What is no instant is told with what to write on a command line."""
    program.write("late_app.py", FUTURE_APP)
    program.environment["COLUMNS"] = "200"
    assert said in program.run("reset", "late_app:app", "--clock", text, code=2).stderr


def test_a_state_directory_that_cannot_be_one(program: Program) -> None:
    """It is told with the settings that name another, by every command that looks there."""
    program.write("taken", "")
    program.send(visits(1))
    said = "cannot be used: Not a directory: a worker keeps its name and its state there: name another directory"
    for command in ("run", "status", "reset"):
        done = program.run(command, "visits_app:app", "--state-dir", "taken", code=1)
        assert f"{said} with --state-dir, STREAMPROC_STATE_DIR or App(state_dir=)" in done.stderr
    done = program.run("run", "visits_app:app", "--state-dir", "/proc/none", code=1)
    assert "/proc/none/visits/@slots/0 cannot be used: No such file or directory: a worker keeps" in done.stderr
