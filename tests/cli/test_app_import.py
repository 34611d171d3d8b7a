import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamproc.cli.app_import import load_app
from streamproc.errors import AppImportError, DefinitionError

APP = """
from streamproc import App, Stream
app = App("{name}")
a = app.topic("a", value=str)
b = app.topic("b")
@app.stream(a, to=b)
def same(a: Stream[bytes, str]) -> Stream[bytes, str]:
    return a
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory of its own; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "target",
    ["spm_shop:app", "spm_shop", "spm_shop.py:app", "spm_shop.py", "spm_pkg.streams:app", "spm_pkg/streams.py"],
)
def test_targets(target: str) -> None:
    """An app is named by module or file, and needs no name of its own where it is the only one."""
    for name in ("spm_shop.py", "spm_pkg/__init__.py", "spm_pkg/streams.py"):
        write(name, APP.format(name="shop"))
    assert load_app(target).name == "shop"


def test_the_current_directory_comes_first() -> None:
    """A module of the user's is found before an installed one of its name."""
    write("tabnanny.py", APP.format(name="mine"))
    assert load_app("tabnanny").name == "mine"


def test_a_file_imports_its_neighbours() -> None:
    """A file given by path finds the modules beside it."""
    write("deep/spm_words.py", "def words(line: str) -> list[str]:\n    return line.split()\n")
    write("deep/spm_count.py", "from spm_words import words\n" + APP.format(name="count"))
    assert load_app("deep/spm_count.py:app").name == "count"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("spm_shpo:app", "there is no module 'spm_shpo'.*did you mean 'spm_shop'?"),
        ("spm_shpo.py:app", "there is no file spm_shpo.py; did you mean 'spm_shop.py'?"),
        ("spm_none.deep:app", "there is no module 'spm_none.deep'"),
        ("spm_shop.app", "there is no module 'spm_shop.app', .*; did you mean 'spm_shop:app'?"),
        ("spm_shop.apps:app", "there is no module 'spm_shop.apps', neither in .* nor installed$"),
        ("spm_shop:ap", "there is no 'ap' in spm_shop; did you mean 'app'?"),
        ("spm_shop:other", "there is no 'other' in spm_shop; there is spm_shop:app"),
        ("spm_shop:same", "'same' in spm_shop is no App but a function; there is spm_shop:app"),
        ("spm_shop:App", "is no App but a class"),
        ("spm_key:app", "module 'spm_key' fails when it is imported: KeyError: 'gone' .*spm_key.py, line 2"),
        ("spm_key.py:app", "spm_key.py fails when it is imported: KeyError: 'gone' .*spm_key.py, line 2"),
        ("spm_syntax:app", "SyntaxError: .*spm_syntax.py, line 1"),
        (
            "spm_misses:app",
            "ModuleNotFoundError: No module named 'spm_absent' .*spm_misses.py, line 1: import spm_absent",
        ),
        ("spm_two", "spm_two has several apps: say which; there is spm_two:one, spm_two:two"),
        ("spm_empty", "there is no App in spm_empty"),
        ("no-name:app", "'no-name' is no name of a module"),
        ("spm_fails:app", "a stream function of app 'fails' fails: ZeroDivisionError: .*spm_fails.py, line 6"),
    ],
)
def test_what_is_wrong_is_said(target: str, said: str) -> None:
    """Each mistake has its message: what was looked for, what is there, and where an import went wrong."""
    write("spm_shop.py", APP.format(name="shop"))
    write("spm_key.py", "names = {}\nname = names['gone']\n")
    write("spm_syntax.py", "def f(:\n")
    write("spm_misses.py", "import spm_absent\n")
    write("spm_two.py", "from streamproc import App\none = App('one')\ntwo = App('two')\n")
    write("spm_empty.py", "")
    start, end = (
        "from streamproc import App\napp = App('fails')\na = app.topic('a')\n",
        "@app.stream(a)\ndef f(a):\n    return 1 / 0\n",
    )
    write("spm_fails.py", start + end)
    with pytest.raises(AppImportError, match=said):
        load_app(target)


def test_a_definition_error_stays_one() -> None:
    """A wrong app is told as such, when its module is found."""
    write("spm_bare.py", "from streamproc import App\napp = App('bare')\n")
    with pytest.raises(DefinitionError, match="app 'bare' has no streams"):
        load_app("spm_bare:app")
