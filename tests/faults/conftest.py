"""One broker for all of the fault suite that does not end it, and the scenes on it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.faults.outage import Outage
from tests.faults.scene import Scene
from tests.kafka.proxy import Proxy
from tests.kafka.server import KafkaServer


@pytest.fixture(scope="session")
def module_kafka(kafka_programs: None) -> Iterator[KafkaServer]:
    """Scenes have topics, groups and transactional ids of their own, so that one broker does for all of them."""
    with KafkaServer() as server:
        yield server


@pytest.fixture
async def scene(tmp_path: Path, module_kafka: KafkaServer) -> AsyncIterator[Scene]:
    """A scene on the suite's broker."""
    async with Scene(tmp_path, module_kafka.bootstrap) as scene:
        yield scene


@pytest.fixture
async def own_scene(tmp_path: Path, own_kafka: KafkaServer) -> AsyncIterator[Scene]:
    """A scene on a broker of its own, which may be killed."""
    async with Scene(tmp_path, own_kafka.bootstrap) as scene:
        yield scene


@pytest.fixture
def outage(own_scene: Scene, own_kafka: KafkaServer) -> Iterator[Outage]:
    """The same, with a network between that broker and the workers."""
    with Proxy(own_kafka) as proxy:
        yield Outage(own_scene, proxy, own_kafka)
