"""The real program, in a process of its own, in a folder of its own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import json

from streamproc.cli import main
from streamproc.local_log import LocalLog
from streamproc.log import Chunk, Partition

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "streamproc")

APP = """
from msgspec import Struct
from streamproc import App, Stream, tumbling

class Visit(Struct):
    page: str
    at: int
    size: int = 0

app = App("visits")
visits = app.topic("visits", value=Visit, timestamp="at", grace="1s")
hits = app.topic("hits")
sizes = app.topic("sizes")

@app.stream(visits, to=(hits, sizes))
def per_page(visits: Stream[bytes, Visit]):
    pages = visits.key_by(lambda visit: visit.page)
    return pages.window(tumbling("1m")).count(), visits.map(inverse)

def inverse(visit: Visit) -> float:
    return 1 / (visit.size + 1)
"""


def visits(count: int, *, bad: int | None = None) -> bytes:
    """So many visits, one each second, as JSON lines; the one numbered `bad` cannot be processed."""
    return b"".join(
        json.encode({"page": f"/{n % 7}", "at": 1_000_000 + n * 1_000, "size": -1 if n == bad else n % 5}) + b"\n"
        for n in range(count)
    )


class Program:
    """Runs commands in a folder, on the log in its `log` folder `data`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMPROC_")}
        self.environment |= {"PYTHONPATH": str(ROOT), "STREAMPROC_BROKER": "local://data", "COLUMNS": "100"}
        self._started: list[subprocess.Popen[str]] = []
        self.write("visits_app.py", APP)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def run(
        self, *arguments: str, code: int | None = 0, stdin: bytes = b"", program: tuple[str, ...] = PROGRAM
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; another exit code (None: any will do), or a traceback, is a failure of the test."""
        done = subprocess.run(
            (*program, *arguments),
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
        out, err = done.stdout.decode(), done.stderr.decode()
        assert code in (done.returncode, None), f"{arguments} ended with {done.returncode}:\n{out}\n{err}"
        assert "Traceback" not in err or "--debug" in arguments, err
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start; `close` kills what is still running."""
        process = subprocess.Popen(
            (*PROGRAM, *arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Nothing that was started runs on."""
        for process in self._started:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def send(self, data: bytes, *options: str, topic: str = "visits", log: str = "data") -> None:
        """JSON lines into a topic, from this process: quick."""
        main(["send", topic, str(self.write("sent.jsonl", data)), "--broker", f"local://{self.folder / log}", *options])

    def tail(self, topic: str, *options: str) -> list[dict[str, Any]]:
        return [json.decode(line) for line in self.run("tail", topic, *options).stdout.splitlines()]

    def chunks(self, topic: str) -> list[Chunk]:
        """The records of each partition of a topic, read beside whoever writes; none where it is not there."""
        return asyncio.run(self._chunks(topic))

    async def _chunks(self, topic: str) -> list[Chunk]:
        log = LocalLog(self.folder / "data" / "log", read_only=True)
        try:
            known = (await log.topics()).get(topic)
            partitions = [Partition(topic, number) for number in range(known.partitions)] if known else []
            return [await log.read(partition, 0, 1 << 31) for partition in partitions]
        finally:
            await log.close()

    def count(self, topic: str) -> int:
        """How many records a topic has now."""
        return sum(len(chunk.offsets) for chunk in self.chunks(topic))

    def values(self, topic: str) -> list[Any]:
        """The values of a topic, in an order that does not depend on its partitions."""
        found = [json.decode(value or b"null") for chunk in self.chunks(topic) for value in chunk.columns.values]
        return sorted(found, key=repr)


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until it holds, as long as the process runs."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
