"""A service that is started before its Kafka."""

import asyncio
import logging

import pytest

from streamproc.first_contact import awaited_log
from streamproc.kafka.requests import Unreachable
from streamproc.log import LogError
from streamproc.memory_log import MemoryLog
from streamproc.settings import Settings
from streamproc.stop import Stop
from tests.kafka.server import HOST, free_ports


async def test_it_waits_until_it_is_asked_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    """Why it waits is a warning, once, and told to whoever looks on each time."""
    [port] = free_ports(1)
    told: list[str] = []
    with Stop() as stop:

        def unreached(why: str) -> None:
            told.append(why)
            if len(told) == 2:
                stop.request()

        assert await awaited_log(Settings(broker=f"kafka://{HOST}:{port}"), stop, unreached) is None
    why = f"no Kafka broker can be reached: broker {HOST}:{port}: Connection refused. Is the broker running, and is"
    assert all(one.startswith(why) for one in told)
    [warning] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"waiting until Kafka answers: {why}")


async def test_a_stop_does_not_wait_for_an_answer() -> None:
    """A broker that takes the connection, and says nothing, holds nobody."""
    reached = asyncio.Event()
    with Stop() as stop:

        async def ask_to_stop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stop.request()
            await reached.wait()
            writer.close()

        async with await asyncio.start_server(ask_to_stop, HOST, 0) as server:
            broker = f"kafka://{HOST}:{server.sockets[0].getsockname()[1]}"
            log = await awaited_log(Settings(broker=broker, request_timeout="1h"), stop, pytest.fail)
            reached.set()
    assert log is None


async def test_what_lasts_is_not_waited_for() -> None:
    """A broker that does not speak the client's protocol will not tomorrow."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        broker = f"kafka://{HOST}:{server.sockets[0].getsockname()[1]}"
        with Stop() as stop, pytest.raises(Unreachable, match="Is this a port for TLS") as raised:
            await awaited_log(Settings(broker=broker, kafka={"security_protocol": "SSL"}), stop, pytest.fail)
    assert raised.value.lasting


async def test_other_logs() -> None:
    """There is nothing to wait for: they are opened, or not."""
    with Stop() as stop:
        assert isinstance(await awaited_log(Settings(broker="memory://"), stop, pytest.fail), MemoryLog)
        with pytest.raises(LogError, match="names no log"):
            await awaited_log(Settings(broker="amqp://rabbit"), stop, pytest.fail)
