"""Brokers for all tests: one that all share, one of a module behind a proxy, one that a test may kill."""

import os
from collections.abc import Iterator

import pytest

from tests.kafka.class_path import MissingProgram, class_path, java
from tests.kafka.proxy import Proxy
from tests.kafka.server import KafkaServer

EXISTING = "STREAMPROC_TEST_BROKER"
REQUIRED = "STREAMPROC_REQUIRE_KAFKA"
_skipped = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def kafka_programs(request: pytest.FixtureRequest) -> None:
    """A broker can be started here; else the test is skipped, or fails where STREAMPROC_REQUIRE_KAFKA is set."""
    try:
        java()
        class_path()
    except MissingProgram as missing:
        reason = str(missing)
    else:
        return
    if os.environ.get(REQUIRED):
        pytest.fail(reason, pytrace=False)
    request.config.stash[_skipped] = reason
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a broker: the one that STREAMPROC_TEST_BROKER names, or one of this test run."""
    if EXISTING in os.environ:
        yield os.environ[EXISTING]
        return
    request.getfixturevalue("kafka_programs")
    with KafkaServer() as server:
        yield server.bootstrap


@pytest.fixture(scope="module")
def module_kafka(kafka_programs: None) -> Iterator[KafkaServer]:
    """A broker of the module's own: what its tests do to connections and transactions is nobody else's affair."""
    with KafkaServer() as server:
        yield server


@pytest.fixture
def proxy(module_kafka: KafkaServer) -> Iterator[Proxy]:
    """The network between the module's broker and the clients of `proxy.bootstrap`."""
    with Proxy(module_kafka) as proxy:
        yield proxy


@pytest.fixture
def own_kafka(kafka_programs: None) -> Iterator[KafkaServer]:
    """A broker of the test's own, for what others would not survive."""
    with KafkaServer() as server:
        yield server


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _skipped in config.stash:
        terminalreporter.section("no Kafka: the tests that need a broker were skipped", yellow=True)
        terminalreporter.line(f"{config.stash[_skipped]}. {EXISTING}=HOST:PORT names a broker that runs already.")
