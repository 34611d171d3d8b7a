"""The first contact with a cluster that is not there, is another, or sends its clients elsewhere."""

import asyncio
from contextlib import nullcontext
from typing import Any

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.bootstrap import reach
from streamproc.kafka.client_settings import client_settings
from streamproc.kafka.connections import Address, Connections, Lane
from streamproc.kafka.directory import Directory
from streamproc.kafka.requests import TransactionVersion
from streamproc.log import LogError
from tests.kafka.frames import Api
from tests.kafka.opened import ANSWER_S, SHORT_S, opened, warnings
from tests.kafka.proxy import Proxy
from tests.kafka.server import HOST, KafkaServer, free_ports


async def cannot_connect(brokers: str, seconds: float = ANSWER_S) -> str:
    with pytest.raises(LogError) as raised:
        await AiokafkaCluster.connect(brokers, request_timeout_s=seconds)
    return str(raised.value)


async def test_nobody_is_there(caplog: pytest.LogCaptureFixture) -> None:
    """Each address is named with what is wrong with it, and what to look at."""
    first, second = free_ports(2)
    assert await cannot_connect(f"{HOST}:{first},{HOST}:{second}") == (
        f"no Kafka broker can be reached: broker {HOST}:{first}: Connection refused; broker {HOST}:{second}: "
        "Connection refused. Is the broker running, and is this its port?"
    )
    assert warnings(caplog) == []


async def test_one_of_them_is_there(kafka: str) -> None:
    """One broker that answers is enough."""
    (port,) = free_ports(1)
    async with opened(f"{HOST}:{port},{kafka}") as cluster:
        assert await cluster.send(TransactionVersion(), ANSWER_S) == 2


async def test_a_name_that_is_not_known() -> None:
    """It is said that it is the name."""
    said = await cannot_connect("kafka.invalid:9092", 3 * ANSWER_S)
    assert "broker kafka.invalid:9092: its name is not known" in said
    assert said.endswith("Check the spelling of the host")


@pytest.mark.parametrize("brokers", ["", ",", "host:port", ":9092"])
async def test_addresses_that_are_none(brokers: str) -> None:
    """It is said how they are written."""
    assert await cannot_connect(brokers) == (
        f"{brokers!r} names no brokers: write HOST:PORT,HOST:PORT, such as localhost:9092"
    )


async def test_somebody_else_is_there() -> None:
    """A server that hangs up, and one that never says a word."""
    enough = asyncio.Event()

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def be_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.close()

    for answer, seconds, said in (
        (
            hang_up,
            ANSWER_S,
            "it closed the connection. Does this port want TLS or SASL? security_protocol is PLAINTEXT",
        ),
        (
            be_silent,
            SHORT_S,
            "it does not answer. Check the address, and what stands between: a firewall, a VPN that is",
        ),
    ):
        async with await asyncio.start_server(answer, HOST, 0) as server:
            where = f"{HOST}:{server.sockets[0].getsockname()[1]}"
            told = await cannot_connect(where, seconds)
            assert told.startswith(f"no Kafka broker can be reached: broker {where}: {said}")
            if answer is be_silent:
                enough.set()


async def test_brokers_that_send_their_clients_elsewhere(module_kafka: KafkaServer) -> None:
    """The commonest of mistakes: the brokers' addresses for clients are good where the brokers are, and not here."""
    where, elsewhere = f"{HOST}:{module_kafka.proxied_port}", module_kafka.proxied_bootstrap
    said = await cannot_connect(where)
    assert said.startswith(f"Kafka answers at {where}, but tells its clients to go on to other addresses, where it")
    assert f"broker {elsewhere}: Connection refused" in said
    assert said.endswith("Set the brokers' advertised.listeners to addresses that this machine can reach")


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("side", ["request", "reply"])
@pytest.mark.parametrize("api", [Api.METADATA, Api.API_VERSIONS], ids=lambda api: api.name)
async def test_an_answer_that_is_lost(proxy: Proxy, api: Api, side: Any, nth: int, silently: bool) -> None:
    """The first of all, or that of a broker where it says that clients reach it: it is asked for again."""
    lost = proxy.lose(api, side, nth=nth, silently=silently)
    if nth == 2 and api is Api.API_VERSIONS:
        proxy.lose(Api.METADATA, side)  # else the first connection does for all
    cluster = await AiokafkaCluster.connect(proxy.bootstrap, request_timeout_s=2)
    try:
        lost.wait()
        assert await cluster.send(TransactionVersion(), ANSWER_S) == 2
    finally:
        await cluster.close()


@pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])
async def test_answers_that_are_lost_again_and_again(proxy: Proxy, silently: bool) -> None:
    """It is not asked for ever."""
    lost = proxy.lose(Api.METADATA, "reply", times=None, silently=silently)
    told = "it does not answer. Check the address" if silently else "it closed the connection. Does this port want TLS"
    assert f"broker {proxy.bootstrap}: {told}" in await cannot_connect(proxy.bootstrap, 4 * SHORT_S)
    assert len(lost.frames) == 3


class Young(Connections):
    """A broker in place of its connections: it names none, itself neither, until it has been asked so often."""

    def __init__(self, knows_after: int) -> None:
        super().__init__({}, patience_s=SHORT_S)
        self.left = knows_after

    async def ask(self, address: Address, request: Any, deadline: float, lane: Lane | None = None) -> Any:
        struct = request.prepare(dict.fromkeys(range(99), (0, 99)))
        self.left -= 1
        return struct.RESPONSE_TYPE(0, [] if self.left >= 0 else [(1, *address, None)], "", 1, [])


@pytest.mark.parametrize(("asked", "found"), [(2, True), (3, False)])
async def test_one_that_does_not_know_itself(asked: int, found: bool) -> None:
    """As a broker that has just been started: it is asked again, and not for ever."""
    address = Address("young", 1)
    connections = Young(asked)
    directory = Directory(connections, [address], patience_s=SHORT_S, max_age_s=1_000)
    with nullcontext() if found else pytest.raises(LogError, match="young:1: it knows no brokers.*just been started"):
        await reach(connections, directory, [address], client_settings({}), ANSWER_S)
    assert list(directory.brokers) == ([address] if found else [])
