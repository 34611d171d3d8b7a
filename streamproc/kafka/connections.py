"""Connections to brokers. Each carries one request at a time.

A broker answers the requests of a connection one after the other, so that a JoinGroup or a long Fetch would hold back
the heartbeat behind it. Here what is sent takes a connection that is free, or a new one; what is not answered costs one
connection and nobody else's time; and a late answer meets nobody who could take it for another.

aiokafka's connections are used, and not its client: that opens them one after the other under one lock, those to
brokers that do not answer included, and waits equally long for all answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Hashable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    BrokerResponseError,
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaError,
    UnsupportedSaslMechanismError,
)

from streamproc.kafka.wire import TooOld

logger = logging.getLogger("streamproc")

_DAY_MS: Final = 24 * 3600 * 1000
"""Who asks decides how long an answer is waited for."""

HUNG_UP: Final = (EOFError, ConnectionResetError, BrokenPipeError, KafkaConnectionError)
"""Causes of a Disconnected from a broker that took the connection, and closed it without a word."""


class Address(NamedTuple):
    """Where a broker is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Lane(NamedTuple):
    """What is sent to a broker under this name goes `width` at a time, in the order in which it came."""

    name: Hashable
    width: int


class Disconnected(Exception):
    """A broker could not be reached (then nothing was sent), or the connection broke. Its cause says why."""

    def __init__(self, address: Address, why: str, *, sent: bool) -> None:
        super().__init__(address, why)
        self.sent = sent

    def __str__(self) -> str:
        address, why = self.args
        return f"broker {address}: {why}"


class _Connection(AIOKafkaConnection):  # type: ignore[misc] # aiokafka has no py.typed
    """One that can be dropped at once, without waiting for a peer that does not answer."""

    def drop(self) -> None:
        writer = self._writer
        self.close()
        if writer is not None:
            writer.transport.abort()


class Connections:
    """Any number of connections to each broker, as many as there are requests at the same time.

    `patience_s`: how long an answer that nobody waits for any more (the asker was cancelled) may keep its connection.
    """

    def __init__(self, arguments: Mapping[str, Any], *, patience_s: float) -> None:
        self._arguments = {**arguments, "request_timeout_ms": _DAY_MS}
        self._patience_s = patience_s
        self._free: defaultdict[Address, list[_Connection]] = defaultdict(list)
        self._taken: set[_Connection] = set()
        self._connecting: set[asyncio.Task[Any]] = set()
        self._lanes: dict[tuple[Address, Lane], asyncio.Semaphore] = {}
        self._abandoned: set[asyncio.Task[None]] = set()
        self._silent: set[Address] = set()
        """Brokers that did not answer, or not in time, when they were asked last."""
        self._warned: set[Address] = set()
        self._warns = False
        self._closed = False

    def warn_of_outages(self) -> None:
        """From here on a broker that does not answer is one that did."""
        self._warns = True

    def silent(self, address: Address) -> bool:
        """Whether a broker did not answer when it was asked last: another is more likely to."""
        return address in self._silent

    async def ask(self, address: Address, request: Any, deadline: float, lane: Lane | None = None) -> Any:
        """The answer. Raises Disconnected, TooOld, and TimeoutError at the deadline, by the event loop's clock."""
        async with self._turn(address, lane, deadline):
            connection = self._take(address) or await self._connect(address, deadline)
            try:
                reply = asyncio.ensure_future(connection.send(request))
            except (TooOld, IncompatibleBrokerVersion, NotImplementedError) as error:
                self._give_back(address, connection)
                raise TooOld(*error.args) from error
            except KafkaError as error:  # it broke while it was free
                self._drop(connection)
                raise self._lost(address, error, sent=False) from error
            reply.add_done_callback(_looked_at)
            return await self._reply(address, connection, reply, deadline)

    async def close(self) -> None:
        """Whoever waits is told Disconnected."""
        self._closed = True
        connections = [*self._taken, *(one for free in self._free.values() for one in free)]
        self._free.clear()
        for connection in connections:
            connection.drop()
        tasks = [*self._connecting, *self._abandoned]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*(connection.close() for connection in connections), *tasks, return_exceptions=True)

    # ------------------------------------------------------------------------------------ one request

    @asynccontextmanager
    async def _turn(self, address: Address, lane: Lane | None, deadline: float) -> AsyncIterator[None]:
        if lane is None:
            yield
            return
        turns = self._lanes.setdefault((address, lane), asyncio.Semaphore(lane.width))
        async with asyncio.timeout_at(deadline):
            await turns.acquire()
        try:
            yield
        finally:
            turns.release()

    async def _reply(
        self, address: Address, connection: _Connection, reply: asyncio.Future[Any], deadline: float
    ) -> Any:
        try:
            await asyncio.wait((reply,), timeout=max(0.0, deadline - asyncio.get_running_loop().time()))
        except asyncio.CancelledError:
            task = asyncio.get_running_loop().create_task(self._abandon(address, connection, reply))
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)
            raise
        if not reply.done():
            self._drop(connection)
            for other in self._free.pop(address, ()):  # who does not answer here would not there
                self._drop(other)
            self._silent.add(address)
            raise TimeoutError
        try:
            answer = reply.result()
        except (KafkaError, OSError) as error:
            self._drop(connection)
            raise self._lost(address, error, sent=True) from error
        self._silent.discard(address)
        self._give_back(address, connection)
        return answer

    async def _abandon(self, address: Address, connection: _Connection, reply: asyncio.Future[Any]) -> None:
        """The connection is free again behind the answer that nobody waits for."""
        await asyncio.wait((reply,), timeout=self._patience_s)
        if reply.done() and not reply.cancelled() and reply.exception() is None:
            self._give_back(address, connection)
        else:
            self._drop(connection)

    # ------------------------------------------------------------------------------------ connections

    def _take(self, address: Address) -> _Connection | None:
        free = self._free[address]
        while free:
            connection = free.pop()
            if connection.connected():
                self._taken.add(connection)
                return connection
            self._drop(connection)
        return None

    def _give_back(self, address: Address, connection: _Connection) -> None:
        self._taken.discard(connection)
        if self._closed:
            connection.drop()
        else:
            self._free[address].append(connection)

    def _drop(self, connection: _Connection) -> None:
        self._taken.discard(connection)
        connection.drop()

    async def _connect(self, address: Address, deadline: float) -> _Connection:
        if self._closed:
            raise Disconnected(address, "the connections were closed", sent=False)
        connection = _Connection(*address, **self._arguments)
        connecting = asyncio.get_running_loop().create_task(connection.connect())
        connecting.add_done_callback(_looked_at)
        connecting.add_done_callback(self._connecting.discard)
        self._connecting.add(connecting)
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.wait((connecting,))
        except BaseException as error:
            connecting.add_done_callback(lambda _: connection.drop())  # it may just have been made
            connecting.cancel()
            if isinstance(error, TimeoutError):
                self._warn(address, "it does not answer")
            raise
        if self._closed:
            connection.drop()
            raise Disconnected(address, "the connections were closed", sent=False)
        try:
            connecting.result()
        except (KafkaError, OSError, AssertionError) as error:  # it asserts what the broker's side of SASL says
            raise self._lost(address, error, sent=False) from error
        self._silent.discard(address)
        if address in self._warned:
            self._warned.discard(address)
            logger.warning("Kafka broker %s answers again", address)
        self._taken.add(connection)
        return connection

    def _lost(self, address: Address, error: Exception, *, sent: bool) -> Disconnected:
        if self._closed:
            return Disconnected(address, "the connections were closed", sent=sent)
        why = _reason(error)
        self._warn(address, why)
        return Disconnected(address, why, sent=sent)

    def _warn(self, address: Address, why: str) -> None:
        """Once for each outage."""
        self._silent.add(address)
        if self._warns and address not in self._warned:
            self._warned.add(address)
            logger.warning("Kafka broker %s cannot be reached: %s. It is asked again", address, why)


def _reason(error: BaseException) -> str:
    """Why a connection failed, in a few words."""
    cause = error.__cause__ or error
    if isinstance(cause, UnsupportedSaslMechanismError):
        return "it does not know this sasl_mechanism"
    if isinstance(cause, BrokerResponseError):
        return str(cause.args[0]) if cause.args else type(cause).__name__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason}"
    if isinstance(cause, socket.gaierror):
        return f"its name is not known: {cause.strerror}"
    if isinstance(cause, HUNG_UP):
        return "it closed the connection"
    if isinstance(cause, OSError):
        return os.strerror(cause.errno) if cause.errno else str(cause)
    return str(cause) or type(cause).__name__


def _looked_at(reply: asyncio.Future[Any]) -> None:
    """The error of an answer that nobody waits for is not one that was forgotten."""
    if not reply.cancelled():
        reply.exception()
