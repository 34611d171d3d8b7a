"""MODULE:APP: the app that a command line names."""

from __future__ import annotations

import difflib
import sys
import traceback
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from streamproc.app import App
from streamproc.errors import AppImportError, StreamprocError


def load_app(target: str) -> App:
    """The app of MODULE:APP or FILE.py:APP; where it is the only one, of MODULE or FILE.py. Its plan is made.

    The current directory comes first on the path of modules. Raises AppImportError; DefinitionError for a wrong app.
    """
    place, _, name = target.partition(":")
    folder = str(Path.cwd())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    module = _from_file(Path(place)) if place.endswith(".py") else _from_name(place)
    app = _named(module, name, place) if name else _only(module, place)
    try:
        app.plan  # noqa: B018 - the stream functions run here, and may fail
    except StreamprocError:
        raise
    except Exception as error:
        msg = f"a stream function of app {app.name!r} fails: {_last(error)}"
        raise AppImportError(msg) from error
    return app


def _from_name(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        msg = f"{name!r} is no name of a module: write MODULE:APP, such as shop.streams:app, or FILE.py:APP"
        raise AppImportError(msg)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise AppImportError(_not_found(name, error.name)) from error
        raise AppImportError(f"module {name!r} fails when it is imported: {_last(error)}") from error
    except Exception as error:
        raise AppImportError(f"module {name!r} fails when it is imported: {_last(error)}") from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        close = difflib.get_close_matches(path.name, [other.name for other in path.parent.glob("*.py")], n=3)
        raise AppImportError(f"there is no file {path}{_guess(close)}")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(1, folder)
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise AppImportError(f"{path} fails when it is imported: {_last(error)}") from error
    return module


def _named(module: ModuleType, name: str, place: str) -> App:
    found = vars(module).get(name)
    if isinstance(found, App):
        return found
    apps = sorted(_apps(module))
    if found is not None:
        raise AppImportError(f"{name!r} in {place} is no App but {_described(found)}{_listed(apps, place)}")
    close = difflib.get_close_matches(name, apps, n=3)
    raise AppImportError(f"there is no {name!r} in {place}{_guess(close) or _listed(apps, place)}")


def _only(module: ModuleType, place: str) -> App:
    apps = _apps(module)
    different = {id(app): app for app in apps.values()}
    if len(different) == 1:
        return next(iter(different.values()))
    if apps:
        raise AppImportError(f"{place} has several apps: say which{_listed(sorted(apps), place)}")
    raise AppImportError(f"there is no App in {place}: it needs one, such as app = App({Path(place).stem!r})")


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _not_found(name: str, missing: str) -> str:
    head, _, _ = name.partition(".")
    names = [path.stem for path in (*Path.cwd().glob("*.py"), *Path.cwd().glob("*/__init__.py"))]
    names += [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    close = difflib.get_close_matches(head, names, n=3) if missing == head else []
    what = (
        f"there is no module {name!r}" if missing in (name, head) else f"there is no module {missing!r} (in {name!r})"
    )
    return f"{what}, neither in {Path.cwd()} nor installed{_guess(_behind_a_dot(name) or close)}"


def _behind_a_dot(name: str) -> list[str]:
    """What is meant where module and app are told apart by a dot: shop:app by shop.app. The module is loaded then."""
    place, _, last = name.rpartition(".")
    return [f"{place}:{last}"] if isinstance(getattr(sys.modules.get(place), last, None), App) else []


def _guess(close: list[str]) -> str:
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _listed(apps: list[str], place: str) -> str:
    return f"; there is {', '.join(f'{place}:{name}' for name in apps)}" if apps else "; there is no App in it at all"


def _described(value: Any) -> str:
    if isinstance(value, type):
        return "a class"
    return "a function" if callable(value) else f"of type {type(value).__name__}"


def _last(error: BaseException) -> str:
    """The error's own line, and the place that raised it."""
    line = traceback.format_exception_only(error)[-1].strip()
    if isinstance(error, SyntaxError):
        return f"{line} ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    here = Path(__file__).resolve().parents[1]
    own = [frame for frame in frames if not Path(frame.filename).resolve().is_relative_to(here)]
    at = (own or frames)[-1]
    return f"{line} ({at.filename}, line {at.lineno}: {at.line})"
