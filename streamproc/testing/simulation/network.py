"""What lies between the clients and the broker: messages take their time, and are lost, late or repeated."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from streamproc.kafka.requests import (
    Code,
    EndTxn,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    NoAnswer,
    OffsetCommit,
    OffsetDelete,
    Produce,
    Refused,
    Request,
    SyncGroup,
    TxnOffsetCommit,
    code_name,
)
from streamproc.testing.simulation.broker import Broker
from streamproc.testing.simulation.faults import Faults
from streamproc.testing.simulation.process import Process
from streamproc.testing.simulation.refusals import code_of, crowded, is_coordinated, moved, refusal

_REPEATED: Final = (
    Produce,
    TxnOffsetCommit,
    EndTxn,
    InitProducerId,
    OffsetCommit,
    OffsetDelete,
    SyncGroup,
    Heartbeat,
    LeaveGroup,
    JoinGroup,
)
"""What has an effect. A first JoinGroup comes twice only where its client sends it twice: it takes an instance id."""
_DECISIVE: Final = (TxnOffsetCommit, EndTxn)
_APART_S: Final = 1e-6
"""What arrives at one time has no order."""


class Effect(NamedTuple):
    """A request that reached the broker: when, in virtual seconds, whose, what, and how it was answered.

    '' is an answer without errors, the error of one partition stands for it; "waits" says that the answer is yet to be.
    """

    at: float
    client: str
    request: str
    answer: str


class Exchange:
    """A request and its client's wait for an answer; None: nobody waits."""

    __slots__ = ("answer", "dropped", "request")

    def __init__(self, request: Request[Any], answer: asyncio.Future[Any] | None) -> None:
        self.request = request
        self.answer = answer
        self.dropped = False

    def settle(self, outcome: Any) -> None:
        """The answer has arrived; an exception is one to raise."""
        if self.answer is not None and not self.answer.done():
            if isinstance(outcome, Exception):
                self.answer.set_exception(outcome)
            else:
                self.answer.set_result(outcome)

    def fail(self, why: str) -> None:
        """There will be no answer."""
        self.settle(NoAnswer(type(self.request).__name__, why))


class Link:
    """The connections of one process: those of its exchanges that wait, and when its last requests arrive."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.waiting: dict[Exchange, None] = {}
        self.arrivals: dict[type[Request[Any]], float] = {}
        """Requests of one kind arrive in the order in which they were sent, unless one is late."""
        self.cut_until = 0.0


Witness = Callable[[str, str, Request[Any] | None], None]
"""Is told whom something happened to (a client, or `BROKER`), what, and of which request."""
BROKER: Final = "broker"


class Network:
    """Carries requests to the broker and answers back; one generator decides what becomes of each.

    effects   what has reached the broker, in order
    witness   is told of that too, and of all that goes wrong
    """

    def __init__(self, broker: Broker, rng: random.Random, faults: Faults) -> None:
        self.faults = faults
        self.effects: list[Effect] = []
        self.witness: Witness = _nobody
        self._broker = broker
        self._rng = rng
        self._links: list[Link] = []
        self._stalled: list[Callable[[], None]] | None = None
        self._up_at = 0.0
        self._loaded_at = 0.0

    def link(self, process: Process) -> Link:
        """Connections for a process."""
        link = Link(process)
        self._links.append(link)
        return link

    def carry(self, link: Link, exchange: Exchange) -> None:
        """A request sets out."""
        loop, faults, rng = asyncio.get_running_loop(), self.faults, self._rng
        now, kind = loop.time(), type(exchange.request)
        fault = next(filter(None, (faults.draw(rng) for _ in range(faults.decisive if kind in _DECISIVE else 1))), "")
        if fault:
            self.witness(link.process.name, f"goes wrong: {fault}", exchange.request)
        if fault == "cut":
            self.cut(link, faults.seconds(rng, "cut"))
        elif fault == "stalled":
            self.stall(faults.seconds(rng, "stall"))
        elif fault == "restarted":
            self.restart(faults.seconds(rng, "restart"))
        if fault == "late":
            arrives = now + faults.seconds(rng, "late")
        else:
            arrives = max(now + faults.seconds(rng, "way"), link.arrivals.get(kind, 0.0) + _APART_S)
            link.arrivals[kind] = arrives
        if fault == "lost":
            return
        if fault == "closed":
            loop.call_at(rng.uniform(now, 2 * arrives - now), self.close, link, "the connection was closed")
        elif fault == "repeated" and _is_repeated(exchange.request):
            again = Exchange(exchange.request, None)
            loop.call_at(arrives + rng.random() * faults.seconds(rng, "late"), self._arrive, link, again, "")
        loop.call_at(arrives, self._arrive, link, exchange, fault)

    # ------------------------------------------------------------------------------------ what befalls all

    def close(self, link: Link, why: str) -> None:
        """The connections of a client break: it knows at once. Of what is under way some arrives, some does not."""
        if link.waiting:
            self.witness(link.process.name, why, None)
        for exchange in list(link.waiting):
            exchange.dropped = self._rng.random() < 0.5
            link.process.deliver(partial(exchange.fail, why))

    def cut(self, link: Link, seconds: float) -> None:
        """Nothing passes between a client and the broker; what is sent meanwhile comes afterwards, or never."""
        self.witness(link.process.name, f"is cut off for {seconds:.3f} s", None)
        link.cut_until = max(link.cut_until, asyncio.get_running_loop().time() + seconds)

    def stall(self, seconds: float) -> None:
        """The broker stops, and then does what has come meanwhile; sessions and transactions time out as ever."""
        if self._stalled is None:
            self.witness(BROKER, f"stops for {seconds:.3f} s", None)
            self._stalled = []
            asyncio.get_running_loop().call_later(seconds, self._go_on)

    def restart(self, seconds: float) -> None:
        """The broker is gone for a time, with all connections; then its coordinators load what was written down."""
        self.witness(BROKER, f"is gone for {seconds:.3f} s", None)
        self._up_at = asyncio.get_running_loop().time() + seconds
        self._loaded_at = self._up_at + self._rng.random()
        for link in self._links:
            self.close(link, "the broker went down")
        self._broker.restart(self._up_at)

    def _go_on(self) -> None:
        waiting, self._stalled = self._stalled or [], None
        for arrives in waiting:
            arrives()

    # ------------------------------------------------------------------------------------ a request

    def _arrive(self, link: Link, exchange: Exchange, fault: str) -> None:
        loop, rng = asyncio.get_running_loop(), self._rng
        now = loop.time()
        if exchange.dropped or (link.process.dead and rng.random() >= self.faults.outlives):
            return
        if now < link.cut_until:
            if rng.random() < 0.5:
                after = link.cut_until + self.faults.seconds(rng, "way")
                loop.call_at(after, self._arrive, link, exchange, fault)
        elif now < self._up_at:
            link.process.deliver(partial(exchange.fail, "the connection was refused"))
        elif self._stalled is not None:
            self._stalled.append(partial(self._arrive, link, exchange, fault))
        else:
            self._handle(link, exchange, fault)

    def _handle(self, link: Link, exchange: Exchange, fault: str) -> None:
        outcome: Any
        code = self._refused(exchange.request, fault)
        if code is not None:
            outcome = refusal(exchange.request, code)
        else:
            try:
                outcome = self._broker.handle(link.process.name, exchange.request)
            except Refused as error:
                outcome = error
        self._note(link, exchange, outcome)
        if fault == "parted":
            self.cut(link, self.faults.seconds(self._rng, "cut"))
        if isinstance(outcome, asyncio.Future):
            outcome.add_done_callback(partial(self._done, link, exchange, fault))
        else:
            self._answer(link, exchange, outcome, fault)

    def _refused(self, request: Request[Any], fault: str) -> Code | None:
        if asyncio.get_running_loop().time() < self._loaded_at and is_coordinated(request):
            return Code.COORDINATOR_LOAD_IN_PROGRESS
        if fault == "moved":
            return moved(request, self._rng)
        return crowded(request) if fault == "crowded" else None

    def _done(self, link: Link, exchange: Exchange, fault: str, done: asyncio.Future[Any]) -> None:
        outcome = done.exception() or done.result()
        self._note(link, exchange, outcome)
        self._answer(link, exchange, outcome, fault)

    def _answer(self, link: Link, exchange: Exchange, outcome: Any, fault: str) -> None:
        if exchange.answer is None or fault in ("unanswered", "parted"):
            return
        delay = self.faults.seconds(self._rng, "late" if fault == "slow" else "way")
        asyncio.get_running_loop().call_later(delay, self._come_back, link, exchange, outcome)

    def _come_back(self, link: Link, exchange: Exchange, outcome: Any) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= link.cut_until:
            link.process.deliver(partial(exchange.settle, outcome))
        elif self._rng.random() < 0.5:
            loop.call_at(link.cut_until, self._come_back, link, exchange, outcome)

    def _note(self, link: Link, exchange: Exchange, outcome: Any) -> None:
        if isinstance(outcome, asyncio.Future):
            answer = "waits"
        else:
            code = code_of(exchange.request, outcome)
            answer = code_name(code) if code else "" if exchange.answer is not None else "repeated"
        at = asyncio.get_running_loop().time()
        self.effects.append(Effect(at, link.process.name, type(exchange.request).__name__, answer))
        self.witness(link.process.name, answer or "done", exchange.request)


def _nobody(who: str, what: str, request: Request[Any] | None) -> None:
    """Looks on."""


def _is_repeated(request: Request[Any]) -> bool:
    return isinstance(request, _REPEATED) and not (isinstance(request, JoinGroup) and not request.member)
