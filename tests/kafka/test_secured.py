"""A broker that wants TLS and a password, and allows little: what works, and what is said where it does not."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    EndTxn,
    Fetch,
    InitProducerId,
    JoinGroup,
    ListOffsets,
    ListTopics,
    OffsetFetch,
    Produce,
    Producer,
    Request,
    Stamped,
    TransactionVersion,
    Unreachable,
)
from streamproc.log import Columns, Partition
from tests.kafka.class_path import java
from tests.kafka.opened import ANSWER_S, fresh, new_partition, opened, refusal
from tests.kafka.server import KafkaServer

PASSWORD = "pass-of-the-app"  # noqa: S105 - of nobody
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class Secured(NamedTuple):
    """A broker; `open` for its owner, `secured` for user app."""

    open: str
    secured: str
    settings: Mapping[str, str]


@pytest.fixture(scope="module")
def broker(kafka_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    store, authority = certificate(folder)
    listener = "listener.name.proxied"
    settings = {
        "listener.security.protocol.map": "DIRECT:PLAINTEXT,PROXIED:SASL_SSL,CONTROLLER:PLAINTEXT",
        f"{listener}.sasl.enabled.mechanisms": "PLAIN",
        f"{listener}.plain.sasl.jaas.config": f'{LOGIN} required user_app="{PASSWORD}";',
        f"{listener}.ssl.keystore.location": str(store),
        f"{listener}.ssl.keystore.password": PASSWORD,
        f"{listener}.ssl.key.password": PASSWORD,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    server = KafkaServer(settings=settings)
    server.proxy_port = server.proxied_port  # there is no proxy
    with server:
        client = {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "app",
            "sasl_plain_password": PASSWORD,
            "ssl_cafile": str(authority),
        }
        yield Secured(server.bootstrap, server.proxied_bootstrap, client)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key store for 127.0.0.1, and its certificate alone."""
    keytool = shutil.which("keytool") or str(Path(java()).resolve().with_name("keytool"))
    store, authority = folder / "store.p12", folder / "authority.pem"
    here = ("-alias", "broker", "-keystore", store, "-storepass", PASSWORD)
    make = ("-genkeypair", "-keyalg", "EC", "-storetype", "PKCS12", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1")
    for command in ((*make, *here), ("-exportcert", "-rfc", "-file", authority, *here)):
        subprocess.run((keytool, *command), check=True, capture_output=True, timeout=60)
    return store, authority


@pytest.fixture
async def app(broker: Secured) -> AsyncIterator[AiokafkaCluster]:
    async with opened(broker.secured, **broker.settings) as cluster:
        yield cluster


async def cannot_connect(brokers: str, settings: Mapping[str, str]) -> Unreachable:
    with pytest.raises(Unreachable) as raised:
        await AiokafkaCluster.connect(brokers, settings, request_timeout_s=ANSWER_S)
    assert PASSWORD not in str(raised.value)
    return raised.value


async def test_with_certificate_and_password(app: AiokafkaCluster) -> None:
    """The settings reach the broker, on every connection."""
    assert await app.send(TransactionVersion(), ANSWER_S) == 2


# asyncio leaves the transport of a TLS connection that the other end hung up on to the collector, now and then
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sasl_plain_password": "wrong"}, "Invalid username or password. Check sasl_plain_username, sasl_plain_pass"),
        ({"sasl_mechanism": "SCRAM-SHA-512"}, "it does not know this sasl_mechanism. Choose another sasl_mechanism"),
        ({"ssl_cafile": None}, "its certificate is not trusted: self-signed certificate. Give the certificate of the"),
        (
            {
                "security_protocol": "SSL",
                "sasl_mechanism": None,
                "sasl_plain_username": None,
                "sasl_plain_password": None,
            },
            "it closed the connection. Does this port want TLS or SASL? security_protocol is SSL",
        ),
        (
            dict.fromkeys(("sasl_mechanism", "sasl_plain_username", "sasl_plain_password", "ssl_cafile"))
            | {"security_protocol": "PLAINTEXT"},
            "it closed the connection. Does this port want TLS or SASL? security_protocol is PLAINTEXT",
        ),
    ],
)
async def test_settings_that_do_not_fit(broker: Secured, changes: Mapping[str, str | None], said: str) -> None:
    """It is said which of them to look at, and whether trying again is of no use: who hangs up may have just begun."""
    settings = {name: value for name, value in ({**broker.settings, **changes}).items() if value is not None}
    error = await cannot_connect(broker.secured, settings)
    assert said in str(error)
    assert error.lasting == ("it closed the connection" not in said)


async def test_a_port_without_tls(broker: Secured) -> None:
    """The other way round."""
    said = str(await cannot_connect(broker.open, broker.settings))
    assert "TLS" in said
    assert "security_protocol is SASL_SSL" in said


@pytest.fixture
async def partition(broker: Secured) -> Partition:
    async with opened(broker.open) as owner:
        return await new_partition(owner)


async def test_what_is_not_allowed(app: AiokafkaCluster, partition: Partition) -> None:
    """Each refusal says of what it is, and who can change it."""
    topic, group, name = partition.topic, fresh("group"), fresh("id")
    cases: list[tuple[Request[Any], Code, str]] = [
        (CreateTopic("t", 1, {}), Code.TOPIC_AUTHORIZATION_FAILED, "the creation of topic 't'"),
        (ListTopics([topic]), Code.TOPIC_AUTHORIZATION_FAILED, f"topic {topic!r}"),
        (ListOffsets([partition], "high"), Code.TOPIC_AUTHORIZATION_FAILED, f"{topic}/0"),
        (JoinGroup(group, "", "one", 30_000, 30_000, b""), Code.GROUP_AUTHORIZATION_FAILED, repr(group)),
        (OffsetFetch(group, None), Code.GROUP_AUTHORIZATION_FAILED, repr(group)),
        (InitProducerId(name, 1_000), Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, repr(name)),
        (EndTxn(name, Producer(1, 0), commit=True), Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, repr(name)),
    ]
    for request, code, said in cases:
        refused = await refusal(app, request)
        assert refused.code == code
        assert said in str(refused)
        assert "kafka-acls.sh allows it" in str(refused)
    assert await app.send(ListTopics(), ANSWER_S) == {}


async def test_partitions_that_are_not_allowed(app: AiokafkaCluster, partition: Partition) -> None:
    """Answers that speak of each partition have it there."""
    piece = (await app.send(Fetch({partition: 0}, 0, 1 << 20), ANSWER_S))[partition]
    assert piece.code == Code.TOPIC_AUTHORIZATION_FAILED
    (batch,) = app.pack(Columns([None], [b"v"], [1]))
    answer = (await app.send(Produce(None, {partition: Stamped(batch, Producer(), 0)}), ANSWER_S))[partition]
    assert answer.code == Code.TOPIC_AUTHORIZATION_FAILED
    assert "kafka-acls.sh allows it" in answer.detail
