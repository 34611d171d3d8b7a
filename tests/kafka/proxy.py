"""A network that fails on command: a proxy between clients and a broker, which knows one Kafka request from another."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.kafka.frames import Api, Request, correlation_id_of, request_of
from tests.kafka.rules import WAIT_SECONDS, Rule, Side, closed, held, late, unheard
from tests.kafka.server import HOST, KafkaServer

T = TypeVar("T")
Where = Callable[[Request], bool]


def anybody(request: Request) -> bool:
    """The rule is for the requests of every client."""
    return True


class Proxy:
    """Stands where clients of `server.proxied_bootstrap` look for the broker, and passes on what no rule catches.

    A rule is for the requests of an API or for the replies to them: the `nth` (from now on) that `where` accepts, and
    those after it, `times` in all (None: no end). The first rule that catches a frame decides about it. As soon as the
    method that sets a rule has returned, the rule holds for every frame that has not passed yet.

    Runs in a thread of its own, so that a test may wait for other processes, or run clients in its loop.
    """

    def __init__(self, server: KafkaServer) -> None:
        self.bootstrap = server.proxied_bootstrap
        self.requests: list[Request] = []
        """All that clients have sent, in the order in which it came."""
        self._listen, self._upstream = server.proxy_port, server.proxied_port
        self._rules: list[Rule] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._refuses = False
        self._errors: list[BaseException] = []

    # --------------------------------------------------------------------------------------- rules

    def lose(
        self,
        api: Api,
        side: Side,
        *,
        where: Where = anybody,
        nth: int = 1,
        times: int | None = 1,
        silently: bool = False,
    ) -> Rule:
        """The frames never arrive; their connections are closed, or, `silently`, stay open."""
        return self._add(Rule(api, side, unheard if silently else closed, where, nth, times))

    def hold(self, api: Api, side: Side, *, where: Where = anybody, nth: int = 1, times: int | None = 1) -> Rule:
        """The frames, and what follows them on their connections, wait for `release`."""
        return self._add(Rule(api, side, held, where, nth, times))

    def delay(
        self,
        api: Api,
        side: Side,
        seconds: float,
        *,
        where: Where = anybody,
        nth: int = 1,
        times: int | None = None,
    ) -> Rule:
        """The frames, and what follows them on their connections, are so much later."""
        return self._add(Rule(api, side, late(seconds), where, nth, times))

    def release(self, rule: Rule) -> None:
        """The rule catches nothing more, and what it held or delayed goes on."""
        self._in_thread(rule.end)

    def replay(self, rule: Rule) -> bytes:
        """What the broker replies to the first request that the rule caught: it arrives now, late or once more.

        It comes by a connection of its own and its reply goes to nobody else; that begins with the correlation id.
        """
        assert rule.side == "request", "a reply cannot be sent to the broker"
        return self._call(self._ask(rule.frames[0]))

    def cut(self, *, silently: bool = False) -> None:
        """Nobody reaches the broker until `heal`.

        All connections are closed, and new ones at once; `silently`, they stay open and what is sent waits.
        """
        if silently:
            self._in_thread(self._open.clear)
        else:
            self._call(self._cut())

    def heal(self) -> None:
        """Clients reach the broker again, and what waited goes on. Rules stay."""
        self._call(self._heal())

    def _add(self, rule: Rule) -> Rule:
        self._in_thread(lambda: self._rules.append(rule))
        return rule

    async def _cut(self) -> None:
        self._refuses = True
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections)

    async def _heal(self) -> None:
        self._refuses = False
        self._open.set()

    # ---------------------------------------------------------------------------------- the thread

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._run(started)), name="Kafka proxy", daemon=True)
        self._thread.start()
        started.result(WAIT_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_thread(self._closing.set)
        self._thread.join(WAIT_SECONDS)
        if self._errors and error is None:
            raise self._errors[0]

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    def _in_thread(self, change: Callable[[], object]) -> None:
        async def work() -> None:
            change()

        self._call(work())

    async def _run(self, started: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._open, self._closing = asyncio.Event(), asyncio.Event()
        self._open.set()
        try:
            server = await asyncio.start_server(self._accept, HOST, self._listen)
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(None)
        await self._closing.wait()
        server.close()
        await self._cut()

    # ----------------------------------------------------------------------------- the connections

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            writer.close()
            return
        connection = self._loop.create_task(self._serve(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection, until one side ends it or a rule does."""
        writers = [writer]
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, self._upstream)
            writers.append(to_broker)
            asked: dict[int, Request] = {}
            port: int = writer.get_extra_info("peername")[1]
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_requests(reader, to_broker, port, asked))
                both.create_task(self._pass_replies(from_broker, writer, asked))
        except* (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the end: the other side sees it by its connection
        except* BaseException as unexpected:  # noqa: BLE001  # told when the proxy is left
            self._errors += unexpected.exceptions
        finally:
            for one in writers:
                one.transport.abort()

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, asked: dict[int, Request]
    ) -> None:
        while True:
            frame = await _read(reader)
            request = request_of(frame, port)
            self.requests.append(request)
            asked[request.correlation_id] = request
            if await self._goes_on("request", request, frame):
                await _write(writer, frame)

    async def _pass_replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, Request]
    ) -> None:
        while True:
            frame = await _read(reader)
            if await self._goes_on("reply", asked.pop(correlation_id_of(frame)), frame):
                await _write(writer, frame)

    async def _goes_on(self, side: Side, request: Request, frame: bytes) -> bool:
        rule = next((rule for rule in self._rules if rule.takes(side, request, frame)), None)
        goes_on = rule is None or await rule.fate()
        await self._open.wait()
        return goes_on

    async def _ask(self, frame: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self._upstream)
        try:
            await _write(writer, frame)
            return await _read(reader)
        finally:
            writer.close()
            await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(4)))


async def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(len(frame).to_bytes(4) + frame)
    await writer.drain()
