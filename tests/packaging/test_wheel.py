"""The wheel, built through the sdist, alone in an environment and beside folders of a user that have our names."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
USER_FILES = {
    "operators/__init__.py": "",
    "operators/words.py": "def words(line: str) -> list[str]:\n    return line.split()\n",
    "windows/__init__.py": "raise ImportError('this is the windows folder of the user')",
    "state/__init__.py": "raise ImportError('this is the state folder of the user')",
    "apps/__init__.py": "raise ImportError('this is the apps folder of the user')",
    "mine.py": """
from operators.words import words
from streamproc import App, Stream, tumbling

app = App("mine")
lines = app.topic("lines", value=str)
counts = app.topic("counts")

@app.stream(lines, to=counts)
def count(lines: Stream[bytes, str]) -> Stream[str, object]:
    return lines.flat_map(words).key_by(str.lower).window(tumbling("1m")).count()
""",
}


def output_of(*command: str | Path, cwd: Path) -> str:
    """What a program prints; that it fails is a failure of the test, with what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STREAMPROC_"))}
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    # Without isolation: the build backend comes with the test extra, and no network is needed.
    output_of(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel; its dependencies are the ones of this environment."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment)
    programs = environment / "bin"
    output_of(
        *(sys.executable, "-m", "pip", "--python", programs / "python", "install"),
        *("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", wheel),
        cwd=environment,
    )
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return programs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in USER_FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def files_of_the_package() -> list[str]:
    return sorted(
        str(Path(folder, name).relative_to(ROOT))
        for folder, _, names in os.walk(ROOT / "streamproc", followlinks=True)
        for name in names
        if not folder.endswith("__pycache__")
    )


def test_the_wheel_holds_every_file_once(wheel: Path) -> None:
    """What the links lead to is in the wheel as real files, each once; beside the metadata there is nothing else."""
    held = sorted(name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name)
    assert held == files_of_the_package()
    assert {name.split("/")[1] for name in held} > {"operators", "windows", "state", "apps", "py.typed"}


def test_the_package_is_the_installed_one(programs: Path, folder: Path) -> None:
    """Nothing of the repository is used in the environment: the tests below try the wheel."""
    location = output_of(programs / "python", "-c", "import streamproc; print(streamproc.__file__)", cwd=folder)
    assert Path(location).is_relative_to(programs.parent)


def test_help(programs: Path, folder: Path) -> None:
    """The command line shows its help beside folders of the user that have the names of ours."""
    assert "demo" in output_of(programs / "streamproc", "--help", cwd=folder)


@pytest.mark.parametrize(("app", "name"), [("streamproc.apps.trending:app", "trending"), ("mine:app", "mine")])
def test_explain(app: str, name: str, programs: Path, folder: Path) -> None:
    """A shipped app is found, and so is one of the user, which imports from the user's own `operators`."""
    assert name in output_of(programs / "streamproc", "explain", app, cwd=folder)


def test_demo(programs: Path, folder: Path) -> None:
    """The demo ends by itself, and shows the tag of the cup."""
    assert "harbourcup" in output_of(programs / "streamproc", "demo", cwd=folder).lower()
