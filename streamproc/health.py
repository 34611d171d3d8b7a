"""Health: whether a worker lives and whether it is ready, over HTTP, for what starts and stops processes.

    GET /live     200; 503 while the event loop has been blocked for too long (the process is to be started anew)
    GET /ready    200 once the worker has opened the tasks it owns, be it none; else 503 with what it is waiting for

The answers come from threads of their own, so that they come while a function of the user blocks the event loop.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple

import msgspec

from streamproc.errors import SettingsError

logger = logging.getLogger("streamproc")

CLIENT_S: Final = 5.0
"""So long a client may take with its request."""


class Answer(NamedTuple):
    """What is answered: 200 or 503, and why."""

    ok: bool
    body: dict[str, Any]


Questions = dict[str, Callable[[], Answer]]
"""By path; called from other threads than the event loop's."""


@contextmanager
def answering(address: tuple[str, int], questions: Questions) -> Iterator[int]:
    """Within it these questions are answered at host and port; gives the port (of 0, a free one). SettingsError."""
    host, port = address
    try:
        server = _Server((host, port), questions)
    except OSError as error:
        msg = f"--health cannot listen on {shown_address(host, port)}: {error.strerror or error}. Name another address"
        raise SettingsError(msg) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def parsed_address(text: str) -> tuple[str, int]:
    """HOST:PORT, :PORT (all addresses) or [IPV6]:PORT. Raises SettingsError.

    >>> parsed_address("127.0.0.1:8080"), parsed_address(":8080"), parsed_address("[::1]:0")
    (('127.0.0.1', 8080), ('', 8080), ('::1', 0))
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not port.isdecimal() or int(port) >= 1 << 16 or (":" in host and not bracketed):
        msg = f"--health {text!r} is no address: write HOST:PORT, such as 127.0.0.1:8080, or :8080 for all addresses"
        raise SettingsError(msg)
    return host.strip("[]"), int(port)


def shown_address(host: str, port: int) -> str:
    """As `parsed_address` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], questions: Questions) -> None:
        self.questions = questions
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        level = logging.DEBUG if isinstance(error, OSError) else logging.ERROR  # a client that went away, or our own
        logger.log(level, "health: a question of %s was not answered: %r", client_address, error)


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_S
    server_version = "streamproc"
    sys_version = ""
    server: _Server

    def do_GET(self) -> None:
        question = self.server.questions.get(self.path.partition("?")[0])
        if question is None:
            self._give(HTTPStatus.NOT_FOUND, {"reason": f"there is {' and '.join(self.server.questions)}"})
            return
        ok, body = question()
        self._give(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, body)

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def _give(self, status: HTTPStatus, body: dict[str, Any]) -> None:
        data = msgspec.json.encode(body) + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library calls it
        logger.debug("health: " + format, *args)  # noqa: G003 - the library's own
