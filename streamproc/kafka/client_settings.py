"""The setting `kafka`: how brokers are reached, by aiokafka's names, and how records are compressed."""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiokafka.codec
import aiokafka.conn
import msgspec
from aiokafka.helpers import create_ssl_context

from streamproc.errors import SettingsError
from streamproc.kafka.batches import COMPRESSIONS

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI")
_NAMES: Final = (
    "client_id",
    "compression_type",
    "connections_max_idle_ms",
    "metadata_max_age_ms",
    "sasl_kerberos_domain_name",
    "sasl_kerberos_service_name",
    "sasl_mechanism",
    "sasl_plain_password",
    "sasl_plain_username",
    "security_protocol",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_keyfile",
    "ssl_password",
)
_ELSEWHERE: Final[Mapping[str, str]] = {
    "bootstrap_servers": "the addresses stand in the setting broker: kafka://HOST:PORT,HOST:PORT",
    "request_timeout_ms": "it is the setting request_timeout",
    "session_timeout_ms": "it is the setting session_timeout",
    "heartbeat_interval_ms": "it is the setting heartbeat",
    "rebalance_timeout_ms": "it is the setting rebalance_timeout",
    "transaction_timeout_ms": "it is the setting transaction_timeout",
    "max_partition_fetch_bytes": "it is the setting fetch_bytes",
    "group_id": "a group is named for its app",
    "transactional_id": "transactional ids are named for the app and its workers",
    "isolation_level": "committed records alone are read",
    "auto_offset_reset": "a group without offsets begins at the first record",
    "ssl_context": "it is made of ssl_cafile, ssl_certfile, ssl_keyfile and ssl_password",
    "sasl_oauth_token_provider": "OAUTHBEARER is not supported: use SCRAM-SHA-512 or client certificates",
}


class ClientSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How brokers are reached.

    connection         what a connection of aiokafka is made with, but for address and time-outs
    metadata_max_age_s after which is asked anew who leads which partition, even if nothing says that it changed
    compression        the number of the codec that batches are compressed by
    """

    connection: Mapping[str, Any]
    metadata_max_age_s: float = 300.0
    compression: int = 0

    @property
    def protocol(self) -> str:
        """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        protocol: str = self.connection["security_protocol"]
        return protocol

    @property
    def sends_password_in_the_clear(self) -> bool:
        """Whether who listens on the way can read the password."""
        return self.protocol == "SASL_PLAINTEXT" and self.connection["sasl_mechanism"] == "PLAIN"

    def __repr__(self) -> str:
        return f"ClientSettings({self.protocol})"  # never a password


def client_settings(given: Mapping[str, Any]) -> ClientSettings:
    """The settings, checked; values may be texts. Raises SettingsError.

    >>> client_settings({"securty_protocol": "SSL"})
    Traceback (most recent call last):
    streamproc.errors.SettingsError: setting kafka has no 'securty_protocol': did you mean 'security_protocol'?
    """
    for name in given:
        if name not in _NAMES:
            raise SettingsError(f"setting kafka has no {name!r}: {_instead(name)}")
    texts = {name: str(value) for name, value in given.items()}
    protocol = _one_of(texts, "security_protocol", _PROTOCOLS, str.upper)
    _nothing_in_vain(texts, protocol)
    connection: dict[str, Any] = {
        "security_protocol": protocol,
        "client_id": texts.get("client_id", "streamproc"),
        "max_idle_ms": _milliseconds(texts, "connections_max_idle_ms", 540_000),
    }
    if "SASL" in protocol:
        connection |= _sasl(texts)
    if "SSL" in protocol:
        connection["ssl_context"] = _ssl_context(texts)
    return ClientSettings(
        connection=connection,
        metadata_max_age_s=_milliseconds(texts, "metadata_max_age_ms", 300_000) / 1000,
        compression=_compression(texts),
    )


def _instead(name: str) -> str:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    close = difflib.get_close_matches(name, _NAMES, n=3)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"it has {', '.join(_NAMES)}"


def _nothing_in_vain(texts: Mapping[str, str], protocol: str) -> None:
    """Who gives a password or a certificate believes that it is used."""
    for kind in ("SASL", "SSL"):
        used = [name for name in texts if name.startswith(f"{kind.lower()}_")]
        if used and kind not in protocol:
            possible = " or ".join(other for other in _PROTOCOLS if kind in other)
            msg = f"setting kafka: {used[0]} has no effect with security_protocol {protocol}: set {possible}"
            raise SettingsError(msg)


def _sasl(texts: Mapping[str, str]) -> dict[str, Any]:
    mechanism = _one_of(texts, "sasl_mechanism", _MECHANISMS, str.upper)
    if mechanism == "GSSAPI":
        if aiokafka.conn.gssapi is None:
            msg = "setting kafka: sasl_mechanism GSSAPI needs a library: pip install gssapi"
            raise SettingsError(msg)
    else:
        for name in ("sasl_plain_username", "sasl_plain_password"):
            if not texts.get(name):
                msg = f"setting kafka: {name} is missing, which sasl_mechanism {mechanism} needs"
                raise SettingsError(msg)
    names = [name for name in texts if name.startswith("sasl_")]
    return {name: texts[name] for name in names} | {"sasl_mechanism": mechanism}


def _ssl_context(texts: Mapping[str, str]) -> ssl.SSLContext:
    authority, certificate, key = (texts.get(name) for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"))
    if key and not certificate:
        msg = "setting kafka: ssl_keyfile is given without ssl_certfile, the certificate that it is the key of"
        raise SettingsError(msg)
    try:
        # A key's password that is missing would be asked for on the terminal.
        context: ssl.SSLContext = create_ssl_context(
            cafile=authority, certfile=certificate, keyfile=key, password=texts.get("ssl_password", "")
        )
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(f"{name} {file}" for name, file in texts.items() if name.endswith("file"))
        msg = f"setting kafka: {files} cannot be used for TLS: {error.strerror or error}"
        raise SettingsError(msg) from error
    context.check_hostname = _truth(texts, "ssl_check_hostname", default=True)
    return context


def _compression(texts: Mapping[str, str]) -> int:
    name = _one_of(texts, "compression_type", tuple(COMPRESSIONS), str.lower)
    if name != "none" and not getattr(aiokafka.codec, f"has_{name}")():
        raise SettingsError(f"setting kafka: compression_type {name} needs a library: pip install cramjam")
    return COMPRESSIONS[name]


def _one_of(texts: Mapping[str, str], name: str, possible: tuple[str, ...], case: Callable[[str], str]) -> str:
    """The first is the default."""
    value = case(texts.get(name, possible[0]))
    if value not in possible:
        raise SettingsError(f"setting kafka: {name} is {texts[name]!r}: it is one of {', '.join(possible)}")
    return value


def _milliseconds(texts: Mapping[str, str], name: str, default: int) -> int:
    text = texts.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"setting kafka: {name} is {text!r}: it is a whole number of milliseconds, at least 1")
    return int(text)


def _truth(texts: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = texts.get(name, str(default)).lower()
    if text not in ("true", "false"):
        raise SettingsError(f"setting kafka: {name} is {texts[name]!r}: it is true or false")
    return text == "true"
