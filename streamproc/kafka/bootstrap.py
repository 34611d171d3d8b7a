"""The first contact with a cluster: what goes wrong there is said in full, with the way out."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka.conn import collect_hosts
from aiokafka.errors import BrokerResponseError, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from streamproc.kafka.client_settings import ClientSettings
from streamproc.kafka.connections import Address, Connections, Disconnected
from streamproc.kafka.directory import Directory
from streamproc.log import LogError

logger = logging.getLogger("streamproc")

_IN_THE_CLEAR: Final = "Sending username and password in the clear"
"""What aiokafka says of each connection."""


def addresses_of(brokers: str) -> Sequence[Address]:
    """HOST:PORT,HOST:PORT as addresses. Raises LogError.

    >>> addresses_of("one:9092, [::1]:9093")
    [Address(host='one', port=9092), Address(host='::1', port=9093)]
    """
    try:
        found = [Address(host, port) for host, port, _ in collect_hosts(brokers.replace(" ", ""), randomize=False)]
    except ValueError:
        found = []
    if not found or not all(host for host, _ in found):
        msg = f"{brokers!r} names no brokers: write HOST:PORT,HOST:PORT, such as localhost:9092"
        raise LogError(msg)
    return found


async def reach(
    connections: Connections,
    directory: Directory,
    addresses: Sequence[Address],
    settings: ClientSettings,
    timeout_s: float,
) -> None:
    """The directory knows the brokers, and one of them answers where it says that clients reach it. Raises LogError."""
    if settings.sends_password_in_the_clear:
        logging.getLogger("aiokafka.conn").addFilter(_not_said_already)
        logger.warning("the password for Kafka is sent in the clear: set security_protocol SASL_SSL, or use SCRAM")
    failed = await _first_that_answers(connections, addresses, timeout_s)
    if len(failed) == len(addresses):
        raise LogError(f"no Kafka broker can be reached: {_told(failed, settings)}")
    try:
        await directory.look_up()
    except (Disconnected, TimeoutError) as error:
        raise LogError(f"the Kafka cluster answered once, and then no more: {error}") from error
    failed = await _first_that_answers(connections, directory.brokers, timeout_s)
    if len(failed) == len(directory.brokers):
        msg = (
            f"Kafka answers at {', '.join(map(str, addresses))}, but tells its clients to go on to other addresses, "
            f"where it cannot be reached: {_told(failed, settings)}. Set the brokers' advertised.listeners to "
            "addresses that this machine can reach"
        )
        raise LogError(msg)


async def _first_that_answers(
    connections: Connections, addresses: Sequence[Address], timeout_s: float
) -> Mapping[Address, Exception]:
    """Those before it, and why they do not."""
    failed: dict[Address, Exception] = {}
    for address in addresses:
        deadline = asyncio.get_running_loop().time() + timeout_s / len(addresses)
        try:
            await connections.ask(address, MetadataRequest([]), deadline)
        except (Disconnected, TimeoutError) as error:
            failed[address] = error
        else:
            break
    return failed


def _told(failed: Mapping[Address, Exception], settings: ClientSettings) -> str:
    whys = {address: str(error) or f"broker {address}: it does not answer" for address, error in failed.items()}
    ways_out = sorted({_way_out(error, settings) for error in failed.values()})
    return f"{'; '.join(whys.values())}. {'; '.join(ways_out)}"


def _way_out(error: Exception, settings: ClientSettings) -> str:
    cause = error.__cause__ and (error.__cause__.__cause__ or error.__cause__)
    if isinstance(cause, UnsupportedSaslMechanismError):
        return "Choose another sasl_mechanism"
    if isinstance(cause, BrokerResponseError):
        return "Check sasl_plain_username, sasl_plain_password and sasl_mechanism of the setting kafka"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "Give the certificate of the authority that signed it as ssl_cafile"
    if isinstance(cause, ssl.SSLError):
        return f"Is this a port for TLS? security_protocol is {settings.protocol}"
    if isinstance(cause, socket.gaierror):
        return "Check the spelling of the host"
    if isinstance(cause, ConnectionRefusedError):
        return "Is the broker running, and is this its port?"
    if isinstance(error, TimeoutError):
        return "Check the address, and what stands between: a firewall, a VPN that is off"
    return f"Does this port want TLS or SASL? security_protocol is {settings.protocol}"


def _not_said_already(record: logging.LogRecord) -> bool:
    return record.msg != _IN_THE_CLEAR
