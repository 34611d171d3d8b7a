"""The broker of the tests: it keeps its data through a kill, and never outlives who started it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.kafka.server import HOST, KafkaServer, answers

ROOT = Path(__file__).parents[2]
OWNER = """
import sys, time
from tests.kafka.server import KafkaServer
server = KafkaServer()
server.start()
print(server.pid, server.port, server.folder, flush=True)
time.sleep(600)
"""


async def create(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()


async def topics(bootstrap: str) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        found: list[str] = await admin.list_topics()
    finally:
        await admin.close()
    return found


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"  # nobody reaps orphans here


async def test_answers(kafka: str) -> None:
    """The shared broker is ready for clients when a test gets its address."""
    assert isinstance(await topics(kafka), list)


async def test_killed_and_restarted(own_kafka: KafkaServer) -> None:
    """A broker that was killed comes back at its address with its topics."""
    address = own_kafka.bootstrap
    await create(address, "kept")
    own_kafka.kill()
    assert not answers(own_kafka.port)
    own_kafka.restart()
    assert own_kafka.bootstrap == address
    assert "kept" in await topics(address)


def test_stopped_while_it_hangs(own_kafka: KafkaServer) -> None:
    """A broker that a test has stopped with SIGSTOP can be stopped for good."""
    pid = own_kafka.pid
    os.kill(pid, signal.SIGSTOP)
    own_kafka.stop()
    assert gone(pid)


def test_its_port_is_taken(kafka_programs: None) -> None:
    """`make kafka` names the way out, without a traceback."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        command = (sys.executable, "-m", "tests.kafka.server", str(port))
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == (
        f"port {port} is taken: is there a broker at {HOST}:{port} already? "
        f"Take another port: make kafka KAFKA_PORT={port + 1}\n"
    )


def test_its_owner_is_killed(kafka_programs: None) -> None:
    """When the test process is killed its broker ends too, and its data go."""
    with subprocess.Popen((sys.executable, "-c", OWNER), cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, port, folder = owner.stdout.readline().split()
        assert answers(int(port))
        owner.kill()
    until(lambda: gone(int(pid)))
    until(lambda: not Path(folder).exists())
    assert not answers(int(port))
