import json
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest

from streamproc.errors import SettingsError
from streamproc.health import Answer, answering, parsed_address


def get(port: int, path: str, method: str = "GET") -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_what_is_answered() -> None:
    """200 or 503 with the reason as JSON, asked anew each time; HEAD without a body; other paths say what there is."""
    answers = [Answer(False, {"ready": False, "reason": "joining"}), Answer(True, {"ready": True, "reason": "works"})]
    questions = {"/ready": lambda: answers[0], "/live": lambda: Answer(True, {})}
    with answering(("127.0.0.1", 0), questions) as port:
        assert [get(port, "/ready")[0], json.loads(get(port, "/ready")[1])["reason"]] == [503, "joining"]
        del answers[0]
        assert [get(port, "/ready?x=1")[0], json.loads(get(port, "/ready")[1])["reason"]] == [200, "works"]
        assert get(port, "/ready", "HEAD") == (200, b"")
        code, body = get(port, "/metrics")
        assert (code, json.loads(body)) == (404, {"reason": "there is /ready and /live"})
        assert get(port, "/ready", "POST")[0] == 501


def test_a_client_that_says_nothing_holds_nobody() -> None:
    """Each client has a thread of its own, and the end waits for none of them."""
    with answering(("127.0.0.1", 0), {"/live": lambda: Answer(True, {})}) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        assert get(port, "/live")[0] == 200
    for client in silent:
        client.close()


def test_it_ends() -> None:
    """Behind the block nothing listens and no thread runs."""
    before = set(threading.enumerate())
    with answering(("127.0.0.1", 0), {}) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert set(threading.enumerate()) <= before


def test_an_address_in_use() -> None:
    """It is an error of the call, with the address."""
    with answering(("127.0.0.1", 0), {}) as port:
        said = f"--health cannot listen on 127.0.0.1:{port}: Address already in use"
        with pytest.raises(SettingsError, match=said):
            answering(("127.0.0.1", port), {}).__enter__()


@pytest.mark.parametrize("text", ["8080", "localhost", "localhost:http", "::1:80", "host:70000", "host:-1", ""])
def test_no_address(text: str) -> None:
    """What is no HOST:PORT is refused with an example."""
    with pytest.raises(SettingsError, match="write HOST:PORT, such as 127.0.0.1:8080"):
        parsed_address(text)
