import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiokafka.codec
import aiokafka.conn
import pytest
from aiokafka.conn import AIOKafkaConnection

from streamproc import SettingsError
from streamproc.kafka.client_settings import client_settings
from streamproc.settings import load_settings

PASSWORD = "s3cret-pass"  # noqa: S105 - of nobody
SCRAM = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": "app",
    "sasl_plain_password": PASSWORD,
}


def test_nothing_given() -> None:
    """A broker in the open, records uncompressed, aiokafka's own ages."""
    settings = client_settings({})
    assert settings.protocol == "PLAINTEXT"
    assert settings.compression == 0
    assert settings.metadata_max_age_s == 300
    assert settings.connection["max_idle_ms"] == 540_000


async def test_they_are_a_connection_s_arguments() -> None:
    """Whatever is made of the settings, aiokafka's connection takes it."""
    every = SCRAM | {
        "client_id": "me",
        "connections_max_idle_ms": "1000",
        "metadata_max_age_ms": "2000",
        "sasl_kerberos_service_name": "kafka",
        "sasl_kerberos_domain_name": "example.org",
        "ssl_check_hostname": "false",
        "compression_type": "gzip",
    }
    settings = client_settings(every)
    connection = AIOKafkaConnection("localhost", 9092, **settings.connection)
    assert connection._client_id == "me"
    assert connection._sasl_mechanism == "SCRAM-SHA-512"
    assert settings.metadata_max_age_s == 2
    assert settings.compression == 1


def test_values_are_texts_or_what_they_say() -> None:
    """As Python has them, and as the command line and the environment do."""
    given = {"security_protocol": "ssl", "metadata_max_age_ms": 5_000, "ssl_check_hostname": False}
    settings = client_settings(given)
    assert settings.metadata_max_age_s == 5
    assert settings.connection["ssl_context"].check_hostname is False
    assert client_settings({"security_protocol": "SSL"}).connection["ssl_context"].check_hostname is True
    loaded = load_settings(
        {"kafka": ["security_protocol=SASL_PLAINTEXT"]}, {"STREAMPROC_KAFKA_CLIENT_ID": "x"}, {}
    ).kafka
    assert loaded == {"security_protocol": "SASL_PLAINTEXT", "client_id": "x"}


def test_a_server_is_trusted_for_its_certificate_alone() -> None:
    """Without its name being checked, a server still has to have a certificate that is trusted."""
    context = client_settings({"security_protocol": "SSL", "ssl_check_hostname": "false"}).connection["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"securty_protocol": "SSL"}, "setting kafka has no 'securty_protocol': did you mean 'security_protocol'"),
        ({"sasl_password": PASSWORD}, "has no 'sasl_password': did you mean "),
        ({"wholly_other": "1"}, "has no 'wholly_other': it has client_id, compression_type, "),
        ({"bootstrap_servers": "a:1"}, "has no 'bootstrap_servers': the addresses stand in the setting broker"),
        ({"request_timeout_ms": "1"}, "has no 'request_timeout_ms': it is the setting request_timeout"),
        ({"group_id": "g"}, "has no 'group_id': a group is named for its app"),
        ({"sasl_oauth_token_provider": "x"}, "OAUTHBEARER is not supported: use SCRAM-SHA-512"),
        ({"security_protocol": "TLS"}, "security_protocol is 'TLS': it is one of PLAINTEXT, SSL, SASL_PLAINTEXT"),
        ({"compression_type": "brotli"}, "compression_type is 'brotli': it is one of none, gzip, snappy, lz4, zstd"),
        (
            {"metadata_max_age_ms": "5m"},
            "metadata_max_age_ms is '5m': it is a whole number of milliseconds, at least 1",
        ),
        ({"connections_max_idle_ms": "0"}, "connections_max_idle_ms is '0': it is a whole number of milliseconds"),
        ({"security_protocol": "SSL", "ssl_check_hostname": "no"}, "ssl_check_hostname is 'no': it is true or false"),
        ({"ssl_cafile": "ca.pem"}, "ssl_cafile has no effect with security_protocol PLAINTEXT: set SSL or SASL_SSL"),
        (
            SCRAM | {"security_protocol": "SSL"},
            "sasl_mechanism has no effect with security_protocol SSL: set SASL_PLAI",
        ),
        ({"security_protocol": "SASL_SSL"}, "sasl_plain_username is missing, which sasl_mechanism PLAIN needs"),
        (
            SCRAM | {"sasl_plain_password": ""},
            "sasl_plain_password is missing, which sasl_mechanism SCRAM-SHA-512 needs",
        ),
        (
            SCRAM | {"sasl_mechanism": "OAUTHBEARER"},
            "sasl_mechanism is 'OAUTHBEARER': it is one of PLAIN, SCRAM-SHA-256",
        ),
        (SCRAM | {"ssl_keyfile": "key.pem"}, "ssl_keyfile is given without ssl_certfile"),
        (SCRAM | {"ssl_cafile": "/no/such"}, "ssl_cafile /no/such cannot be used for TLS: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said(given: Mapping[str, Any], said: str) -> None:
    """With the setting's name and the way out, and never with a password."""
    with pytest.raises(SettingsError) as raised:
        client_settings(given)
    assert said in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_passwords_are_not_shown() -> None:
    """Not by what holds them either."""
    assert PASSWORD not in repr(client_settings(SCRAM))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A certificate that is no certificate is named."""
    path = tmp_path / "cert.pem"
    path.write_text("nothing")
    with pytest.raises(SettingsError, match="cert.pem cannot be used for TLS"):
        client_settings({"security_protocol": "SSL", "ssl_certfile": str(path), "ssl_password": PASSWORD})


def test_libraries_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a library that is not installed says which, at once."""
    monkeypatch.setattr(aiokafka.codec, "has_zstd", lambda: False)
    with pytest.raises(SettingsError, match="compression_type zstd needs a library: pip install cramjam"):
        client_settings({"compression_type": "zstd"})
    monkeypatch.setattr(aiokafka.conn, "gssapi", None)
    with pytest.raises(SettingsError, match="sasl_mechanism GSSAPI needs a library: pip install gssapi"):
        client_settings({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"})


def test_who_reads_the_password() -> None:
    """A password that goes over the network as it is, is known to."""
    plain = SCRAM | {"sasl_mechanism": "PLAIN"}
    assert client_settings(plain | {"security_protocol": "SASL_PLAINTEXT"}).sends_password_in_the_clear
    assert not client_settings(plain).sends_password_in_the_clear
    assert not client_settings(SCRAM | {"security_protocol": "SASL_PLAINTEXT"}).sends_password_in_the_clear
