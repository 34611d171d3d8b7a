"""Where a program is: the line of the user's code, in a stack, in a traceback, or in what a coroutine waits for."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CoroutineType, FrameType, TracebackType
from typing import Any, Final

_PACKAGE: Final = Path(__file__).parent
_LIBRARY: Final = Path(os.__file__).resolve().parent
_PACKAGES: Final = {"site-packages", "dist-packages"}


def users_frame(frames: Iterable[traceback.FrameSummary]) -> traceback.FrameSummary | None:
    """The last frame, outermost first, that is neither of this package nor of a library."""
    return next((frame for frame in reversed(list(frames)) if _is_users(Path(frame.filename))), None)


def shown_frame(frame: traceback.FrameSummary) -> str:
    """A frame as people read it: FILE:LINE in FUNCTION: CODE."""
    code = f": {frame.line}" if frame.line else ""
    return f"{frame.filename}:{frame.lineno} in {frame.name}{code}"


def users_line(trace: TracebackType | None) -> str:
    """Where in the user's code an error came from; '' if nowhere."""
    frame = users_frame(traceback.extract_tb(trace))
    return "" if frame is None else shown_frame(frame)


def where_it_is(frame: FrameType) -> str:
    """Where a thread is: in the user's code where that is on its stack, else in its innermost line."""
    frames = traceback.extract_stack(frame)
    users = users_frame(frames)
    return shown_frame(users or frames[-1])


def waits_in(coroutine: Any) -> list[str]:
    """What a suspended coroutine waits for: the qualified names of those it awaits, outermost first.

    >>> async def inner(): await asyncio.sleep(0)
    >>> async def outer(): await inner()
    >>> import asyncio
    >>> waiting = outer()
    >>> waiting.send(None)
    >>> waits_in(waiting)
    ['outer', 'inner', 'sleep']
    >>> waiting.close()
    """
    return [name.rpartition("<locals>.")[2] for name in _awaited(coroutine)]


def _awaited(coroutine: Any) -> Iterator[str]:
    while isinstance(coroutine, CoroutineType):
        yield coroutine.__qualname__
        coroutine = coroutine.cr_await


def _is_users(path: Path) -> bool:
    if not path.exists():  # "<string>", "<frozen importlib>"
        return False
    path = Path(os.path.abspath(path))  # noqa: PTH100 - unresolved: the links in a checkout lead out of the package
    if path.is_relative_to(_PACKAGE):
        return path.parent == _PACKAGE / "apps"  # the apps that are shipped stand for a user's
    return not (_PACKAGES.intersection(path.parts) or path.resolve().is_relative_to(_LIBRARY))
