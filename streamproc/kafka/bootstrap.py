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
from streamproc.kafka.connections import HUNG_UP, Address, Connections, Disconnected
from streamproc.kafka.directory import Directory, NotRouted
from streamproc.kafka.requests import Unreachable
from streamproc.log import LogError

logger = logging.getLogger("streamproc")

_IN_THE_CLEAR: Final = "Sending username and password in the clear"
"""What aiokafka says of each connection."""

_SHARES: Final = (1 / 2, 1 / 2, 1)
"""What the rounds of asking have of the time that is left then."""
_PAUSE_S: Final = 0.1
"""Before those are asked again whose answer was lost."""
_REFUSALS: Final = (BrokerResponseError, UnsupportedSaslMechanismError, ssl.SSLError)
"""Causes that stay as long as the client's settings and the broker's do not fit."""


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
    """The directory knows the brokers, and one of them answers where it says that clients reach it. Raises Unreachable.

    An answer that is lost is asked for again. What would come again is told at once: a port where nobody listens, a
    name that is not known, a certificate, a password.
    """
    if settings.sends_password_in_the_clear:
        logging.getLogger("aiokafka.conn").addFilter(_not_said_already)
    failed = await _first_that_answers(connections, directory, addresses, timeout_s)
    if len(failed) == len(addresses):
        raise Unreachable(f"no Kafka broker can be reached: {_told(failed, settings)}", lasting=_lasts(failed))
    brokers = directory.brokers
    failed = await _first_that_answers(connections, directory, brokers, timeout_s)
    if len(failed) == len(brokers):
        msg = (
            f"Kafka answers at {', '.join(map(str, addresses))}, but tells its clients to go on to other addresses, "
            f"where it cannot be reached: {_told(failed, settings)}. Set the brokers' advertised.listeners to "
            "addresses that this machine can reach"
        )
        raise Unreachable(msg, lasting=_lasts(failed))
    if settings.sends_password_in_the_clear:
        logger.warning("the password for Kafka is sent in the clear: set security_protocol SASL_SSL, or use SCRAM")


async def _first_that_answers(
    connections: Connections, directory: Directory, addresses: Sequence[Address], timeout_s: float
) -> Mapping[Address, Exception]:
    """The directory has heeded the first that answers; those that do not, and why: all of them where none does.

    They are asked in rounds, the later ones of those alone whose answer was lost. A round has half of the time that is
    left, the last one all of it, in equal shares.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    failed: dict[Address, Exception] = {}
    for share in _SHARES:
        left = [address for address in addresses if address not in failed or _may_pass(failed[address])]
        if failed and left:
            await asyncio.sleep(_PAUSE_S)
        each_s = (deadline - loop.time()) * share / max(1, len(left))
        for address in left:
            try:
                directory.heed(await connections.ask(address, MetadataRequest([]), loop.time() + each_s))
            except (Disconnected, TimeoutError, NotRouted) as error:
                failed[address] = error
            else:
                failed.pop(address, None)
                return failed
    return failed


def _may_pass(error: Exception) -> bool:
    """Whether a broker that did not answer may when it is asked again."""
    return isinstance(error, TimeoutError | NotRouted) or isinstance(_cause(error), HUNG_UP)


def _lasts(failed: Mapping[Address, Exception]) -> bool:
    """Whether one of the brokers has refused this client."""
    return any(isinstance(_cause(error), _REFUSALS) for error in failed.values())


def _told(failed: Mapping[Address, Exception], settings: ClientSettings) -> str:
    whys = [_why(address, error) for address, error in failed.items()]
    ways_out = sorted({_way_out(error, settings) for error in failed.values()})
    return f"{'; '.join(whys)}. {'; '.join(ways_out)}"


def _why(address: Address, error: Exception) -> str:
    if isinstance(error, NotRouted):
        return f"broker {address}: it knows no brokers, itself neither"
    return str(error) or f"broker {address}: it does not answer"


def _way_out(error: Exception, settings: ClientSettings) -> str:
    cause = _cause(error)
    if isinstance(error, NotRouted):
        return "Has the broker just been started, and does it find the controllers of its cluster?"
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


def _cause(error: Exception) -> BaseException | None:
    """Why a broker is Disconnected."""
    return error.__cause__ and (error.__cause__.__cause__ or error.__cause__)


def _not_said_already(record: logging.LogRecord) -> bool:
    return record.msg != _IN_THE_CLEAR
