import json
from pathlib import Path

from tests.cli.program import Program, visits
from tests.cli.test_run import TO_THE_END

CHECK = ("check", "visits_app:app")


def change(program: Program, old: str, new: str) -> None:
    app: Path = program.folder / "visits_app.py"
    program.write("visits_app.py", app.read_text().replace(old, new))


def test_compatible(program: Program) -> None:
    """Before the first run and after it; what it goes on from is told, and nothing is made."""
    program.send(visits(100))
    shown = program.run(*CHECK).stdout
    assert "visits on local://data: compatible" in shown
    assert "nothing is stored of it: it begins at the beginning" in shown
    assert "hits" in shown
    assert program.chunks("hits") == []
    program.run(*TO_THE_END)
    shown = program.run(*CHECK).stdout
    assert "it goes on from positions in 2 partitions, with the state of 1 task" in shown
    assert "makes" not in shown


def test_refused(program: Program) -> None:
    """With the ways out and exit code 1; beside a worker of the plan that runs."""
    program.send(visits(100))
    process = program.start("run", "visits_app:app")
    while program.count("sizes") < 100:
        assert process.poll() is None
    change(program, 'tumbling("1m")', 'tumbling("2m")')
    done = program.run(*CHECK, code=1)
    assert "visits on local://data: refused" in done.stdout
    assert "has state of per_page.count" in done.stdout
    assert done.stdout.rstrip().endswith("streamproc reset visits_app:app")
    assert done.stderr == ""
    assert process.poll() is None
    [why] = json.loads(program.run(*CHECK, "--json", code=1).stdout)["refused"]
    assert "tumbling('1m') -> tumbling('2m')" in why
    assert why.endswith("streamproc reset visits_app:app")
    change(program, 'tumbling("2m")', 'tumbling("1m")')
    change(program, "1 / (visit.size + 1)", "2 / (visit.size + 1)")
    assert "compatible" in program.run(*CHECK).stdout


def test_a_start_that_is_refused_names_the_command(program: Program) -> None:
    """The way out can be copied: the app as it was called, and where it is as it was said."""
    program.send(visits(10))
    program.run(*TO_THE_END)
    change(program, 'tumbling("1m")', 'tumbling("2m")')
    place = ("--broker", "local://data", "--state-dir", "data/state")
    refused = program.run(*TO_THE_END, *place, code=1).stderr.strip()
    command = "streamproc reset visits_app:app --broker local://data --state-dir data/state"
    assert refused.endswith(f"with: {command}")
    assert "visits begins anew" in program.run(*command.split()[1:], "--yes").stdout


def test_there_is_nothing_to_check_in_memory(program: Program) -> None:
    """A log in memory keeps nothing."""
    assert "keeps nothing between two runs" in program.run(*CHECK, "--broker", "memory://", code=1).stderr
