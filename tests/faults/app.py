"""The app that is damaged. Each output shows another kind of damage: a record lost, doubled, late or out of order.

    visits --> plain      each visit as it came
           --> chains     per user: a number made of all of its visits, in their order; state of the source's task
           --words, re-keyed--> windows   how often a word comes in ten seconds, every two
                            --> ordered   per word: a number made of all of its visits, in order of time

Which topics it uses, and which outputs it has, it is told by the environment: a process has no other arguments.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from msgspec import Struct

from streamproc import App, Stream, hopping

MODULUS: Final = 1_000_003
_RUN, _OUTPUTS = "FAULTS_RUN", "FAULTS_OUTPUTS"
PACED: Final = Path("paced")
"""As long as this file is where a worker runs, its functions take their time."""

OUTPUTS: Final = ("plain", "chains", "windows", "ordered")
COPIES: Final = "copies"
"""What a later version of the app has besides: each visit as it came, again."""
GROWING: Final = ("plain", "windows", "ordered")
"""Those of which no state is kept by the partitions of the source."""


class Visit(Struct):
    """A record of the input; `n` is its place in it."""

    n: int
    at: int
    words: list[str]
    takes_ms: float = 0
    """How long a function of the app takes for it, while the scene wants it to."""
    size: int = 0
    """So many bytes it has in `plain`."""


class Plain(Struct):
    n: int
    padding: str


class Hit(Struct):
    """A word of a visit."""

    n: int
    word: str


class Run(NamedTuple):
    """Names of topics and of the app, which are no other run's."""

    name: str
    outputs: tuple[str, ...] = OUTPUTS

    @classmethod
    def told(cls) -> Self:
        """The run that this process is part of."""
        return cls(os.environ.get(_RUN, "run"), tuple(os.environ.get(_OUTPUTS, ",".join(OUTPUTS)).split(",")))

    @property
    def environment(self) -> dict[str, str]:
        """What tells a process."""
        return {_RUN: self.name, _OUTPUTS: ",".join(self.outputs)}

    @property
    def group(self) -> str:
        return f"faults-{self.name}"

    def topic(self, what: str) -> str:
        return f"{what}-{self.name}"


def app_of(run: Run) -> App:
    """The app of a run."""
    app = App(run.group)
    visits = app.topic(run.topic("visits"), key=str, value=Visit, timestamp="at", grace="1s")

    @app.stream(visits, to=tuple(app.topic(run.topic(name), key=str) for name in run.outputs))
    def faulty(visits: Stream[str, Visit]) -> Any:
        worked = visits.map(work)
        by_word = worked.flat_map(hits).key_by(lambda hit: hit.word, name="by-word")
        streams: dict[str, Callable[[], Any]] = {
            "plain": lambda: worked.map(plain),
            COPIES: lambda: worked.map(plain),
            "chains": lambda: worked.fold(int, chained, name="chains"),
            "windows": lambda: by_word.window(hopping("10s", every="2s")).count(name="windows"),
            "ordered": lambda: by_word.in_order(name="order").fold(int, chained, name="ordered"),
        }
        return tuple(streams[name]() for name in run.outputs)

    return app


def work(visit: Visit) -> Visit:
    """It may take its time."""
    if visit.takes_ms and PACED.exists():
        time.sleep(visit.takes_ms / 1000)
    return visit


def plain(visit: Visit) -> Plain:
    return Plain(visit.n, "x" * visit.size)


def hits(visit: Visit) -> list[Hit]:
    return [Hit(visit.n, word) for word in visit.words]


def chained(before: int, visit: Visit | Hit) -> int:
    """Another number for any other visits before, and for any other order."""
    return (before * 31 + visit.n + 1) % MODULUS


app = app_of(Run.told())
