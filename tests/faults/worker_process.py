"""A worker of an app as a process of its own, to be killed, paused and waited for."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import json

ROOT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 60.0
"""What has not come so far by then is stuck."""
FINAL: Final = 2
"""The exit code of a worker that it is of no use to start again."""


class WorkerProcess:
    """`streamproc worker TARGET OPTIONS` in a folder, with settings and what else the environment tells it.

    What it says goes to a file there.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        target: str,
        options: Sequence[str],
        *,
        settings: Mapping[str, str],
        told: Mapping[str, str],
    ) -> None:
        self.name = name
        self._words = folder / f"{name}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMPROC_")}
        environment |= {f"STREAMPROC_{name.upper()}": value for name, value in settings.items()}
        with self._words.open("wb") as words:
            self.process = subprocess.Popen(
                (sys.executable, "-m", "streamproc", "worker", target, *options),
                cwd=folder,
                env={**environment, "PYTHONPATH": str(ROOT), **told},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def words(self) -> str:
        """All that it has said."""
        return self._words.read_text(errors="replace")

    def messages(self) -> list[str]:
        """What it has logged."""
        lines = self.words.split("\n")[:-1]  # behind the last one stands what is being written
        return [json.decode(line)["message"] for line in lines if line.startswith("{")]

    async def said(self, part: str, within_s: float = PATIENCE_S) -> str:
        """The first of its messages with this part, once it is there."""
        give_up = time.monotonic() + within_s
        while True:
            found = [message for message in self.messages() if part in message]
            if found:
                return found[0]
            assert time.monotonic() < give_up, f"{self.name} has not said {part!r}: {self.words}"
            await asyncio.sleep(0.02)

    async def works_on(self, tasks: Iterable[int], within_s: float = PATIENCE_S) -> None:
        """It has, by what it has said last, one of these numbers of tasks open."""
        give_up = time.monotonic() + within_s
        while not (found := re.findall(r"working on (\d+) task", self.words)) or int(found[-1]) not in tasks:
            assert self.running, f"{self.name} has ended before: {self.words}"
            assert time.monotonic() < give_up, f"{self.name} does not work on {tasks} tasks: {self.words}"
            await asyncio.sleep(0.02)

    async def ended(self, within_s: float = PATIENCE_S) -> int:
        """Its exit code, once it has ended by itself."""
        give_up = time.monotonic() + within_s
        while (code := self.process.poll()) is None:
            assert time.monotonic() < give_up, f"{self.name} does not end: {self.words}"
            await asyncio.sleep(0.02)
        return code
