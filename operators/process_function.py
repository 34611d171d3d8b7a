"""ProcessFunction: what `@process` makes of a function of value and context, and what its annotations say."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Iterable
from types import NoneType, UnionType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from streamproc.operators.process_context import Context
from streamproc.state.list_state import ListState
from streamproc.state.map_state import MapState

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")
U = TypeVar("U")
R = TypeVar("R", bound=Iterable[Any] | None)
"""What the function of a timer returns: not bound to U, since a process function may well return None."""

_FORM = "def f(value: Value, ctx: Context[Key, State | None]) -> Iterable[Output]"


class StateType(NamedTuple):
    """What the context's `state` is.

    kind      one object a key, or one row an entry
    initial   makes the object of a key that has none; None: there is none then
    classes   type hints whose classes the state may hold
    """

    kind: Literal["object", "map", "list"] = "object"
    initial: Callable[[], Any] | None = None
    classes: tuple[Any, ...] = ()


class ProcessFunction(Generic[K, V, S, U]):
    """A function of a value and its key's context, with those of its timers. Called, it is the plain function."""

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[[V, Context[K, S]], Iterable[U] | None]) -> None:
        functools.update_wrapper(self, function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        _check(function, self.__name__, 2, f"write {_FORM}")
        self.function = function
        self.timers: dict[str, Callable[[Context[K, S]], Iterable[Any] | None]] = {}
        self._in_use = False

    def __call__(self, value: V, ctx: Context[K, S], /) -> Iterable[U] | None:
        return self.function(value, ctx)

    def __repr__(self) -> str:
        return f"ProcessFunction({self.__name__})"

    def on_timer(self, name: str) -> Callable[[Callable[[Context[K, S]], R]], Callable[[Context[K, S]], R]]:
        """The decorated function of the context is called when the timer fires; it stays a plain function."""

        def register(handler: Callable[[Context[K, S]], R]) -> Callable[[Context[K, S]], R]:
            called = f"timer {name!r} of {self.__name__}"
            if name in self.timers:
                raise TypeError(f"{called} has two functions: give the second timer another name")
            if self._in_use:
                raise TypeError(f"{called} is defined after {self.__name__} was used: move it up, to right behind it")
            _check(handler, called, 1, "write def f(ctx: Context[Key, State | None]) -> Iterable[Output]")
            self.timers[name] = handler
            return handler

        return register

    def handler(self, name: str) -> Callable[[Context[K, S]], Iterable[Any] | None]:
        """The function of a timer. LookupError: the timer was kept by a version that had one."""
        if name not in self.timers:
            raise LookupError(f"timer {name!r} was set when {self.__name__} had a function for it: bring that back")
        return self.timers[name]

    def use(self) -> StateType:
        """The state as the annotations say it; from here on no timer is added.

        Annotations are read only now, so they may name what stands below the function.
        """
        self._in_use = True
        return _state_type(self.function, self.__name__)


def process(function: Callable[[V, Context[K, S]], Iterable[U] | None]) -> ProcessFunction[K, V, S, U]:
    """The function with keyed state and timers, for `Stream.process`.

    >>> @process
    ... def numbered(name: str, ctx: Context[str, int]) -> Iterable[str]:
    ...     ctx.state += 1
    ...     yield f"{name} {ctx.state}"
    >>> numbered.use().kind
    'object'
    """
    return ProcessFunction(function)


def _check(function: Callable[..., Any], name: str, arguments: int, advice: str) -> None:
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is async, and a process function cannot wait: use def (map_async before it can wait)")
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError as error:
        what = "a value and a context" if arguments == 2 else "a context"
        raise TypeError(f"{name} does not take {what} ({error}): {advice}") from None


# ------------------------------------------------------------------------------------ what annotations say


class _Unresolved:
    """Stands for a name in an annotation that does not exist at run time, or not where annotations are read."""

    def __class_getitem__(cls, _: Any) -> type[_Unresolved]:
        return cls


def _state_type(function: Callable[..., Any], name: str) -> StateType:
    hint = _context_hint(function, name)
    if hint is None or hint is Any or hint is Context:
        return StateType()
    _refuse_unresolved(hint, name)
    if typing.get_origin(hint) is not Context:
        raise TypeError(f"the second parameter of {name} is its context, not {_shown(hint)}: write {_FORM}")
    key, state = typing.get_args(hint)
    _refuse_unresolved(state, name)
    classes = tuple(part for part in (key, state) if not _is_unresolved(part))
    container = _container(state)
    if container is MapState or container is ListState:
        return StateType("map" if container is MapState else "list", None, (key, *typing.get_args(state)))
    if isinstance(state, TypeVar) or state in (Any, NoneType):
        return StateType("object", None, classes[:1])
    return StateType("object", _initial(state, name), classes)


def _initial(state: Any, name: str) -> Callable[[], Any] | None:
    """What makes the state of a key that has none; None where the annotation says `| None`."""
    container = _container(state)
    if container in (typing.Union, UnionType):
        parts = typing.get_args(state)
        if not {MapState, ListState}.isdisjoint(map(_container, parts)):
            raise TypeError(f"the state of {name} is {_shown(state)}, but a MapState or ListState is never None")
        if NoneType in parts:
            return None
    try:
        if container() is not None:
            return typing.cast("Callable[[], Any]", container)
    except TypeError:
        pass
    shown = _shown(state)
    raise TypeError(
        f"the state of {name} is {shown}, but a new key has none and {shown}() makes none: "
        f"write Context[..., {shown} | None], or give every field a default"
    )


def _context_hint(function: Callable[..., Any], name: str) -> Any:
    """The annotation of the second parameter; None where there is none."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 2 or parameters[1].annotation is inspect.Parameter.empty:
        return None
    annotated = function if inspect.isroutine(function) else type(function).__call__
    unresolved: dict[str, Any] = {}
    while True:
        try:
            return typing.get_type_hints(annotated, localns=unresolved).get(parameters[1].name)
        except NameError as error:
            if error.name is None or error.name in unresolved:
                raise
            unresolved[error.name] = type(error.name, (_Unresolved,), {})
        except (AttributeError, TypeError, SyntaxError) as error:
            raise TypeError(f"the annotations of {name} cannot be read ({error}): write {_FORM}") from error


def _container(hint: Any) -> Any:
    """`MapState` of `MapState[str, int]`; of a plain class, itself."""
    return typing.get_origin(hint) or hint


def _is_unresolved(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, _Unresolved)


def _refuse_unresolved(hint: Any, name: str) -> None:
    if _is_unresolved(hint):
        raise TypeError(
            f"the annotations of {name} say what its state is, but {hint.__name__} cannot be found when they are read: "
            "import it outside `if TYPE_CHECKING`, or define it at the top level of the module"
        )


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
