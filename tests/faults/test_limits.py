"""What is too large, too slow or worn out: told, made smaller, or passed over."""

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.calls import Deadline, call
from streamproc.kafka.leadership import transactional_id
from streamproc.kafka.requests import InitProducerId, Producer
from tests.faults.app import Visit
from tests.faults.inputs import visits
from tests.faults.oracle import Given
from tests.faults.scene import FOREVER, Scene
from tests.faults.worker_process import FINAL, PATIENCE_S

pytestmark = pytest.mark.timeout(180)

LAST_EPOCH = 32_766
"""Behind it a producer is given another id."""


async def allow(scene: Scene, output: str, size_bytes: int) -> None:
    """An output takes record batches of so many bytes from now on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=scene.direct)
    await admin.start()
    try:
        configs = FOREVER | {"max.message.bytes": str(size_bytes)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, scene.topic(output), configs)])
    finally:
        await admin.close()


async def test_a_record_too_large_for_its_topic(scene: Scene) -> None:
    """The group stops and says which topic and what to do; then it goes on, and nothing of that record is lost."""
    await scene.log.create(scene.topic("plain"), partitions=4, config=FOREVER | {"max.message.bytes": "2000"})
    given = visits(5_000)
    given[3_000] = Given("u7", Visit(3_000, given[3_000].visit.at, ["w1"], size=20_000))
    await scene.fill(given)
    workers = [scene.worker("a"), scene.worker("b")]
    for worker in workers:
        assert await worker.ended() == FINAL
    said = [worker.messages()[-1] for worker in workers]
    assert any("MESSAGE_TOO_LARGE: raise max.message.bytes of the topic" in one for one in said), said
    assert all(scene.topic("plain") in one for one in said), said
    assert await scene.members() == []
    await allow(scene, "plain", 50_000)
    await scene.finished(scene.worker("a"), scene.worker("b"))


@pytest.mark.long
async def test_a_function_slower_than_a_transaction(scene: Scene) -> None:
    """It costs no transaction: one is opened when there is something to write."""
    await scene.fill(visits(600, takes_ms=10, every=1))
    worker = scene.worker(session_timeout="30s", transaction_timeout="1s")
    await scene.ended(worker)
    assert "aborted" not in worker.words
    await scene.check()


@pytest.mark.long
async def test_a_backlog_slower_than_a_session(scene: Scene) -> None:
    """What a poll brings takes longer than a session, and is stepped in parts: the worker is heard of in between."""
    await scene.fill(visits(1_200, takes_ms=10, every=1))
    workers = [scene.worker(machine, session_timeout="1s") for machine in "ab"]
    await scene.ended(*workers, within_s=100)
    assert not any("taken for dead" in worker.words for worker in workers)
    await scene.check()


@pytest.mark.long
@pytest.mark.parametrize("commits", [1, 12], ids=["dies around it", "lives across it"])
async def test_a_producer_epoch_that_is_worn_out(scene: Scene, commits: int) -> None:
    """Transactions, and deaths behind so many of them, around the one behind which the producer has another id."""
    slot = scene.folder / "a" / scene.run.group / "@slots" / "0"
    name = "worn-out"
    slot.parent.mkdir(parents=True)
    slot.write_text(f"{name}\n")
    await _wear_out(scene, name, LAST_EPOCH - 8)
    await scene.fill(visits(8_000, takes_ms=20))
    worker = scene.worker()
    for _ in range(3):
        for _ in range(commits):
            await scene.more_read()
        worker.kill()
        worker = scene.worker()
    await scene.finished(worker)
    producer = await _next_producer(scene, name)
    assert producer.epoch < 1_000, "it was worn out, and is another"


async def _wear_out(scene: Scene, name: str, epoch: int) -> None:
    producer = Producer()
    cluster = await AiokafkaCluster.connect(scene.direct)
    try:
        while producer.epoch < epoch:
            request = InitProducerId(transactional_id(scene.run.group, name), 60_000, producer)
            producer = await call(cluster, request, Deadline(PATIENCE_S), answer_s=PATIENCE_S)
    finally:
        await cluster.close()


async def _next_producer(scene: Scene, name: str) -> Producer:
    cluster = await AiokafkaCluster.connect(scene.direct)
    try:
        request = InitProducerId(transactional_id(scene.run.group, name), 60_000)
        return await call(cluster, request, Deadline(PATIENCE_S), answer_s=PATIENCE_S)
    finally:
        await cluster.close()
