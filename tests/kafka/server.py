"""A Kafka broker of one process, for tests and for trying things: `python -m tests.kafka.server [PORT]`."""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.kafka.class_path import BUILD, ROOT, class_path, java

HOST = "127.0.0.1"
CLUSTER_ID = "c3RyZWFtcHJvYyB0ZXN0cw"
START_SECONDS = 60
STOP_SECONDS = 15
HEAP = "512m"

# Starts in half the time of a server's usual settings, and is quick enough for tests.
JVM = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)

SETTINGS: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "DIRECT",
    "listener.security.protocol.map": "DIRECT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # One broker, few partitions: quick to start
    "offsets.topic.num.partitions": "2",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",  # 128 MiB of heap otherwise
    # What is forgotten is told, not made
    "auto.create.topics.enable": "false",
    # No test waits for what a large cluster is given time for
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "500",
    # A broker that was killed comes back when its last life has timed out
    "broker.heartbeat.interval.ms": "200",
    "broker.session.timeout.ms": "2000",
}

# The shell becomes the broker. Its other half waits for the test process, by the pipe that only that holds: a line says
# that the broker was stopped; the end without a line, that the test process is gone, whatever killed it.
SHELL = """
exec 3<&0
{ read -r released <&3 || { kill -KILL $$; test -z "$TEMPORARY" || { sleep 0.1; rm -rf "$TEMPORARY"; }; }; } &
exec "$@" 3<&- </dev/null
"""


class PortTaken(RuntimeError):
    """Somebody listens where the broker was to be."""


class KafkaServer:
    """One KRaft process, broker and controller, on ports of its own of this machine.

    `folder` keeps the data and the broker's words; without one it is temporary, and goes with `close`.
    `settings` are added to `SETTINGS`; `features` are levels of the cluster's features, the newest for all others.
    Never more than one process at a time may use an object of this class.

    Clients of `bootstrap` talk to the broker. Clients of `proxied_bootstrap` are told, by the broker too, that it is
    at `proxy_port`: a proxy listens there and goes on to `proxied_port`.

    The broker ends with the process that started it, even when that is killed.
    """

    def __init__(
        self,
        *,
        folder: Path | None = None,
        port: int | None = None,
        heap: str = HEAP,
        settings: Mapping[str, str] | None = None,
        features: Mapping[str, int] | None = None,
    ) -> None:
        self._java, self._class_path = java(), class_path()
        self._temporary = folder is None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="streamproc-kafka-"))
        free = free_ports(4)
        self.port = port or free[0]
        self.proxied_port, self.proxy_port, self._controller_port = free[1:]
        self._heap = heap
        self._settings = {**SETTINGS, **(settings or {})}
        self._features = features or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """The address for clients."""
        return f"{HOST}:{self.port}"

    @property
    def proxied_bootstrap(self) -> str:
        """The address for clients that are to go through a proxy, and stay there."""
        return f"{HOST}:{self.proxy_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The broker's process, for signals such as SIGSTOP."""
        assert self._process is not None, "the broker does not run"
        return self._process.pid

    def start(self) -> None:
        """The broker answers: it is registered, and clients may use it. Its data are those of the last run."""
        assert not self.running, "the broker runs already"
        if listened_at(self.port):
            raise PortTaken(f"port {self.port} is taken: is there a broker at {self.bootstrap} already?")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_properties()
        if not (self._data / "meta.properties").exists():
            self._format()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ("/bin/sh", "-c", SHELL, "sh", *self._command("kafka.Kafka", str(self._properties))),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the test process alone
                env={**os.environ, "TEMPORARY": str(self.folder) if self._temporary else ""},
            )
        self._wait()

    def stop(self) -> None:
        """The broker has shut down in order (SIGTERM), or was killed because it did not."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """The broker is gone as in a power failure (SIGKILL); what the operating system has of its data stays."""
        self._end(signal.SIGKILL)

    def wait(self) -> None:
        """The broker has ended, by itself or by somebody else."""
        assert self._process is not None, "the broker does not run"
        self._process.wait()

    def restart(self) -> None:
        """The broker answers again, at the same ports with the same data, whether it ran or not."""
        self.stop()
        self.start()

    def close(self) -> None:
        """The broker is gone, and so are its data if the folder is temporary."""
        if self._temporary:
            self.kill()
            shutil.rmtree(self.folder)
        else:
            self.stop()

    def words(self) -> str:
        """The end of what the broker wrote to its log."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return text[-4_000:]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------------------------- the process

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _command(self, main: str, *arguments: str) -> tuple[str, ...]:
        return (self._java, f"-Xmx{self._heap}", *JVM, "-cp", self._class_path, main, *arguments)

    def _write_properties(self) -> None:
        direct, controller = f"DIRECT://{self.bootstrap}", f"CONTROLLER://{HOST}:{self._controller_port}"
        properties = {
            **self._settings,
            "listeners": f"{direct},PROXIED://{HOST}:{self.proxied_port},{controller}",
            "advertised.listeners": f"{direct},PROXIED://{self.proxied_bootstrap}",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "log.dirs": str(self._data),
        }
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _format(self) -> None:
        features = [option for name, level in self._features.items() for option in ("--feature", f"{name}={level}")]
        options = ("-t", CLUSTER_ID, "-c", str(self._properties), *features)
        command = self._command("kafka.tools.StorageTool", "format", *options)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=START_SECONDS)
        if done.returncode:
            raise RuntimeError(f"the broker's storage could not be formatted:\n{done.stdout}{done.stderr}")

    def _wait(self) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not answers(self.port):
            if not self.running or time.monotonic() > give_up:
                self.kill()
                raise RuntimeError(f"the broker did not start:\n{self.words()}")
            time.sleep(0.02)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a test may have stopped it
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.write(b"released\n")
        process.stdin.close()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, below those that the system gives to clients.

    Between those, a client that tries to reach a stopped broker can get the broker's own port, and connect to itself.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_768)
        with socket.socket() as candidate:
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


def listened_at(port: int) -> bool:
    """Whether a process of this machine listens there."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def answers(port: int) -> bool:
    """Whether a broker at this port knows that it is part of a cluster: its Metadata v1 names a broker."""
    header = struct.pack(">hhih", 3, 1, 0, -1)
    request = header + struct.pack(">i", 0)  # of no topics
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(12, socket.MSG_WAITALL)  # its size, the correlation id, the number of brokers
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


NEXT = """\
Kafka is at {address}. Ctrl-C ends it; its data stay in {folder} (delete that to begin anew).
In another terminal:
    export STREAMPROC_BROKER=kafka://{address}
    .venv/bin/streamproc send tweets tweets.jsonl
    .venv/bin/streamproc run streamproc.apps.trending:app"""


def main() -> None:
    """Runs a broker in the foreground, until Ctrl-C; its data stay in the build folder."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9092
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt), KafkaServer(folder=BUILD / "data" / str(port), port=port) as server:
            print(NEXT.format(address=server.bootstrap, folder=server.folder.relative_to(ROOT)), flush=True)
            server.wait()
            sys.exit(f"the broker ended:\n{server.words()}")
    except PortTaken as error:
        sys.exit(f"{error} Take another port: make kafka KAFKA_PORT={19_092 if port == 9_092 else port + 1}")


if __name__ == "__main__":
    main()
