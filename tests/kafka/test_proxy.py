"""The proxy loses, holds, delays and repeats what it is told to, and nothing else; broker and clients are real."""

import asyncio
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.kafka.frames import Api, Request, request_of
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Rule
from tests.kafka.server import KafkaServer

ROOT = Path(__file__).parents[2]
LATER = 600.0
"""Seconds; no test waits for them."""


@pytest.fixture
async def topic(module_kafka: KafkaServer) -> str:
    name = f"t{uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=module_kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    return name


@asynccontextmanager
async def producing(proxy: Proxy, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap, retry_backoff_ms=20, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def values(server: KafkaServer, topic: str, *, isolation: str = "read_committed") -> list[bytes]:
    """What the topic has now, read beside the proxy."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=server.bootstrap, isolation_level=isolation, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[bytes] = []
        while await consumer.position(partition) < end:
            found += [record.value for record in (await consumer.getmany(timeout_ms=100)).get(partition, [])]
    finally:
        await consumer.stop()
    return found


async def caught(rule: Rule) -> Request:
    return await asyncio.to_thread(rule.wait)


async def test_clients_stay_behind_the_proxy(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """The broker tells clients of the proxy to connect to the proxy: what they send is seen there."""
    async with producing(proxy) as producer:
        await producer.send_and_wait(topic, b"1")
    assert [request.api for request in proxy.requests].count(Api.PRODUCE) == 1
    assert await values(module_kafka, topic) == [b"1"]


async def test_lost_reply(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A lost reply leaves its request done; an idempotent client repeats it, and the record is there once."""
    rule = proxy.lose(Api.PRODUCE, "reply", nth=2)
    async with producing(proxy, enable_idempotence=True) as producer:
        for value in (b"1", b"2", b"3"):
            await producer.send_and_wait(topic, value)
    assert rule.wait().api == Api.PRODUCE
    assert [request.api for request in proxy.requests].count(Api.PRODUCE) == 4
    assert await values(module_kafka, topic) == [b"1", b"2", b"3"]


async def test_lost_request_of_one_client(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A silently lost request is not done, and its client hears nothing; another client is not disturbed."""
    rule = proxy.lose(Api.PRODUCE, "request", where=lambda r: r.client_id == "unlucky", times=None, silently=True)
    async with producing(proxy, client_id="lucky") as lucky, producing(proxy, client_id="unlucky") as unlucky:
        lost = await unlucky.send(topic, b"lost")
        assert (await caught(rule)).client_id == "unlucky"
        await lucky.send_and_wait(topic, b"here")
        assert not lost.done()
        assert await values(module_kafka, topic) == [b"here"]
        proxy.cut()
        proxy.release(rule)
        proxy.heal()
        await lost
    assert await values(module_kafka, topic) == [b"here", b"lost"]


async def test_late_request(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """An EndTxn that was lost and repeated arrives late, and ends the next transaction: what KIP-890 is for.

    (This client speaks the protocol from before it.)
    """
    rule = proxy.lose(Api.END_TXN, "request", where=lambda r: r.subject == topic)
    async with producing(proxy, transactional_id=topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"1")
        await producer.commit_transaction()
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"2")
        assert await values(module_kafka, topic) == [b"1"]
        _, _, error = struct.unpack(">iih", proxy.replay(rule))
        assert error == 0
        while await values(module_kafka, topic) != [b"1", b"2"]:
            pass  # the marker follows the reply
        await producer.commit_transaction()


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_held(side: str, proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A held request is not done until its release; a held reply is done, and not told until then."""
    rule = proxy.hold(Api.PRODUCE, "request" if side == "request" else "reply")
    async with producing(proxy) as producer:
        sent = await producer.send(topic, b"1")
        await caught(rule)
        assert not sent.done()
        assert await values(module_kafka, topic) == ([] if side == "request" else [b"1"])
        proxy.release(rule)
        await sent
    assert await values(module_kafka, topic) == [b"1"]


async def test_delayed(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A delayed frame goes by itself; one that would take too long goes with the release."""
    too_late = proxy.delay(Api.PRODUCE, "request", LATER, nth=2)
    proxy.delay(Api.PRODUCE, "reply", 0.05)
    async with producing(proxy) as producer:
        await producer.send_and_wait(topic, b"1")
        sent = await producer.send(topic, b"2")
        await caught(too_late)
        assert await values(module_kafka, topic) == [b"1"]
        proxy.release(too_late)
        await sent
    assert await values(module_kafka, topic) == [b"1", b"2"]


async def test_cut_and_healed(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """Cut off, a client gets nowhere; healed, it goes on."""
    async with producing(proxy, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"1")
        proxy.cut()
        sent = await producer.send(topic, b"2")
        other = AIOKafkaProducer(bootstrap_servers=proxy.bootstrap)
        with pytest.raises(KafkaError):
            await other.start()
        await other.stop()
        assert await values(module_kafka, topic) == [b"1"]
        proxy.heal()
        await sent
    assert await values(module_kafka, topic) == [b"1", b"2"]


async def test_cut_silently(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """Silently cut off, connections stay and what is sent waits; healed, it arrives."""
    async with producing(proxy) as producer:
        await producer.send_and_wait(topic, b"1")
        proxy.cut(silently=True)
        comes = proxy.delay(Api.PRODUCE, "request", 0)
        sent = await producer.send(topic, b"2")
        await caught(comes)
        assert await values(module_kafka, topic) == [b"1"]
        proxy.heal()
        await sent
    assert await values(module_kafka, topic) == [b"1", b"2"]


WORKER = """
import asyncio, sys
from aiokafka import AIOKafkaProducer
async def main():
    async with AIOKafkaProducer(bootstrap_servers=sys.argv[1], enable_idempotence=True) as producer:
        await producer.send_and_wait(sys.argv[2], b"from a process")
asyncio.run(main())
"""


def test_beside_a_process(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A test that waits for another process, and so runs no loop, has its rules obeyed meanwhile."""
    rule = proxy.lose(Api.PRODUCE, "reply")
    subprocess.run((sys.executable, "-c", WORKER, proxy.bootstrap, topic), check=True, timeout=60)
    assert rule.wait().api == Api.PRODUCE
    assert asyncio.run(values(module_kafka, topic)) == [b"from a process"]


async def test_the_broker_dies(proxy: Proxy, module_kafka: KafkaServer, topic: str) -> None:
    """A broker that is killed behind the proxy is gone for its clients, and there again after its restart."""
    async with producing(proxy, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"1")
        module_kafka.kill()
        sent = await producer.send(topic, b"2")
        await asyncio.to_thread(module_kafka.restart)
        await sent
    assert await values(module_kafka, topic) == [b"1", b"2"]


def header(api: Api, version: int, client_id: bytes | None, *, tags: bytes = b"") -> bytes:
    length = -1 if client_id is None else len(client_id)
    return struct.pack(">hhih", api, version, 7, length) + (client_id or b"") + tags


@pytest.mark.parametrize(
    ("frame", "subject"),
    [
        (header(Api.PRODUCE, 3, b"c") + b"\x00\x02ab", "ab"),
        (header(Api.PRODUCE, 3, None) + b"\xff\xff", None),
        (header(Api.PRODUCE, 12, b"c", tags=b"\x00") + b"\x03ab", "ab"),
        (header(Api.PRODUCE, 12, b"c", tags=b"\x00") + b"\x00", None),
        (header(Api.END_TXN, 5, b"c", tags=b"\x00") + b"\x03ab", "ab"),
        (header(Api.HEARTBEAT, 3, b"c") + b"\x00\x02ab", "ab"),
        (header(Api.OFFSET_FETCH, 8, b"c", tags=b"\x00") + b"\x02\x03ab", None),
        (header(Api.METADATA, 1, b"c") + b"\x00\x00\x00\x00", None),
    ],
)
def test_what_a_request_says(frame: bytes, subject: str | None) -> None:
    """The transactional id or the group is read from old and from flexible versions of the requests that have one."""
    request = request_of(frame, 1)
    assert (request.correlation_id, request.subject) == (7, subject)
    assert request.client_id == (None if struct.unpack_from(">h", frame, 8)[0] < 0 else "c")
