"""The first contact with a cluster that is not there, is another, or sends its clients elsewhere."""

import asyncio

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.requests import TransactionVersion
from streamproc.log import LogError
from tests.kafka.opened import ANSWER_S, SHORT_S, opened, warnings
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
