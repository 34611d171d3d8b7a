import subprocess
import sys
from importlib import import_module

import pytest

from streamproc.cli import SUMMARIES, main
from streamproc.cli.setting_options import HELP
from streamproc.settings import Settings
from tests.cli.program import Program


def called(*argv: str) -> int:
    """The exit code of a command, run in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(argv))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`streamproc COMMAND --help` tells what the list of commands tells, and shows a call."""
    assert called(name, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert SUMMARIES[name] in text
    assert f"Example: streamproc {name}" in text
    assert import_module(f"streamproc.cli.{name}").command.help.startswith(SUMMARIES[name])


def test_the_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`streamproc --help` lists every command."""
    assert called("--help") == 0
    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in SUMMARIES)


def test_every_setting_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """What App(x=...) takes, `run --x` takes."""
    assert {*HELP, "kafka"} == set(Settings.__struct_fields__)
    assert called("run", "--help") == 0
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')} " in shown for name in HELP)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run"], "Missing argument 'MODULE:APP'"),
        (["run", "x:app", "--no-such"], "--no-such"),
        (
            ["run", "streamproc.apps.trending:app", "--epoch-interval", "5x"],
            "setting epoch_interval: '5x' is no duration",
        ),
        (
            ["run", "streamproc.apps.trending:app", "--epoch-records", "many"],
            "epoch_records is 'many': it is a whole number",
        ),
        (["run", "streamproc.apps.trending:app", "--guarantee", "hope"], "guarantee is 'hope'"),
        (["explain", "streamproc.apps.trending:app", "--json", "--mermaid"], "ask for one"),
        (["send", "t", "-", "--speed", "60x"], "say with --timestamp which field they are"),
        (["send", "t", "-", "--timestamp", "at", "--speed", "fast"], "'fast' is no speed"),
        (["send", "t", "/no/such/file"], "/no/such/file"),
        (["send", "t", "-", "--partitions", "0"], "partitions"),
        (["tail", "t", "--from", "yesterday"], "it is start, end or an offset"),
    ],
)
def test_wrong_calls_exit_with_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command called wrongly says what is wrong with the call, and exits with 2."""
    assert called(*argv) == 2
    assert said in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    """The program starts without the libraries that only running needs."""
    code = """
import sys
from streamproc.cli import main
try:
    main(["--help"])
finally:
    heavy = {"rocksdict", "aiokafka", "asyncio", "rich.live", "streamproc.worker", "streamproc.cli.run"}
    print("LOADED", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "LOADED []" in done.stdout


def test_debug_shows_the_traceback(program: Program) -> None:
    """An error is one message; with --debug, before or behind the command, the traceback comes first."""
    assert "Traceback" not in program.run("run", "nowhere:app", code=1).stderr
    assert "Traceback" in program.run("run", "nowhere:app", "--debug", code=1).stderr
    assert "Traceback" in program.run("--debug", "run", "nowhere:app", code=1).stderr
