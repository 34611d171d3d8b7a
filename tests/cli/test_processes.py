"""The commands on a real broker, with real processes that are killed."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from streamproc.cli import main
from streamproc.kafka.calls import Deadline
from streamproc.kafka.timing import Timing
from streamproc.kafka.transaction import Transactions
from streamproc.log import Columns, Partition
from streamproc.log_url import open_log
from streamproc.settings import Settings
from tests.cli.program import APP, Program, visits
from tests.cli.test_reset import FUTURE_APP
from tests.cli.test_run import expected_hits, expected_sizes
from tests.cli.test_worker import asked
from tests.kafka.opened import opened
from tests.kafka.server import KafkaServer, free_ports

pytestmark = pytest.mark.timeout(180)

TARGET = "visits_app:app"
RUN = ("run", TARGET, "--processes", "3")


class OnKafka(Program):
    """Runs commands on a broker that others use too: app and topics have names of their own."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.broker = f"kafka://{address}"
        self.environment["STREAMPROC_BROKER"] = self.broker
        self._id = uuid4().hex[:8]
        self.write("visits_app.py", self.named(APP))

    def name(self, what: str) -> str:
        return f"{what}-{self._id}"

    def named(self, text: str) -> str:
        """An app's text, its app and topics with names of this test."""
        return re.sub(r'(App|app\.topic)\("([a-z]+)"', lambda m: f'{m[1]}("{self.name(m[2])}"', text)

    def fill(self, data: bytes, *options: str, topic: str = "visits") -> None:
        main(["send", self.name(topic), str(self.write("sent.jsonl", data)), "--broker", self.broker, *options])

    def count(self, topic: str) -> int:
        return len(asyncio.run(self._records(topic)))

    def values(self, topic: str) -> list[Any]:
        values = asyncio.run(self._records(topic)).values
        return sorted((json.loads(value or b"null") for value in values), key=repr)

    async def _records(self, topic: str) -> Columns:
        found = Columns([], [], [])
        log = await open_log(Settings(broker=self.broker))
        try:
            known = (await log.topics()).get(self.name(topic))
            for number in range(known.partitions if known else 0):
                partition, position = Partition(self.name(topic), number), 0
                while (chunk := await log.read(partition, position, 100_000)).next_offset > position:
                    found.extend(chunk.columns)
                    position = chunk.next_offset
        finally:
            await log.close()
        return found

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", TARGET, "--json", code=None).stdout))

    def members(self) -> list[str]:
        return [member["name"] for member in self.status()["members"]]


@pytest.fixture
def program(tmp_path: Path, kafka: str) -> Iterator[OnKafka]:
    program = OnKafka(tmp_path, kafka)
    yield program
    program.close()


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """The processes that it has started and that live."""
    listed = subprocess.run(("ps", "-o", "pid=", "--ppid", str(process.pid)), capture_output=True, check=False)
    return [int(pid) for pid in listed.stdout.split()]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def read_until(process: subprocess.Popen[str], part: str) -> str:
    assert process.stderr is not None
    said = ""
    while part not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    return said


# -------------------------------------------------------------------------------------- run --processes


@pytest.mark.parametrize("partitions", ["4", "1"])
def test_to_the_end(program: OnKafka, partitions: str) -> None:
    """Three processes together give what an independent computation gives, each record once; then all end with 0.

    Also those that have no tasks, of which there are fewer than processes.
    """
    program.fill(visits(3_000), "--partitions", partitions, "--timestamp", "at")
    err = program.run(*RUN, "--until-end").stderr
    assert program.values("hits") == expected_hits(3_000)
    assert program.values("sizes") == expected_sizes(3_000)
    [*_, read] = re.findall(rf"read to the end: {program.name('visits')} ([0-9,]+) records", err)
    assert read == "3,000", "what ends transactions, and marks, are no records"
    assert program.members() == []


def test_kill_9_of_a_process(program: OnKafka) -> None:
    """One after the other is killed in the midst of it; each is started again in its slot, and nothing is doubled."""
    program.fill(visits(60_000), "--partitions", "4", "--timestamp", "at")
    process = program.start(*RUN, "--until-end", "--epoch-interval", "20ms", "--epoch-records", "500")
    said = ""
    for _ in range(2):
        before = program.count("sizes")
        until(lambda before=before: program.count("sizes") > before, process)  # type: ignore[misc]
        os.kill(children_of(process)[0], signal.SIGKILL)
        said += read_until(process, "its process was killed by SIGKILL; it is started again")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, said + err
    assert program.values("hits") == expected_hits(60_000)
    assert program.values("sizes") == expected_sizes(60_000)
    slots = sorted(path.name for path in (program.folder / ".streamproc").rglob("@slots/*"))
    assert slots == ["0", "1", "2"]


def test_a_record_that_fails_stops_all(program: OnKafka) -> None:
    """The message comes once, whoever found it; nobody is started again, and nobody is left."""
    program.fill(visits(400, bad=157), "--partitions", "4", "--timestamp", "at")
    err = program.run(*RUN, code=1).stderr
    assert err.count("ZeroDivisionError: division by zero") == 1, err
    assert err.count("The record was not consumed") == 1
    assert "in inverse\n" not in err
    assert "started again" not in err
    assert program.members() == []


def test_debug(program: OnKafka) -> None:
    """The traceback of the user's function comes last, once, and is not that of the supervisor."""
    program.fill(visits(400, bad=157), "--partitions", "4", "--timestamp", "at")
    err = program.run(*RUN, "--debug", code=1).stderr
    assert err.count("in inverse\n    return 1 / (visit.size + 1)") == 1, err
    assert err.index("In the process that failed:") < err.index("in inverse\n") < err.index("\nError: ")


def test_one_of_them_is_stopped(program: OnKafka) -> None:
    """SIGTERM to a process is no death: the others go on, with its tasks, and that is said."""
    program.fill(visits(100), "--partitions", "4", "--timestamp", "at")
    process = program.start(*RUN)
    until(lambda: program.count("sizes") == 100, process)
    os.kill(children_of(process)[0], signal.SIGTERM)
    said = read_until(process, "ended, as somebody asked its process to stop; 2 of 3 go on")
    program.fill(visits(100), "--timestamp", "at")
    until(lambda: program.count("sizes") == 200, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, said + err


def test_a_broker_that_is_not_there(program: OnKafka) -> None:
    """It is told once and at once, as it is without --processes."""
    [port] = free_ports(1)
    arguments = ("run", TARGET, "--broker", f"kafka://127.0.0.1:{port}")
    alone = program.run(*arguments, code=1).stderr
    assert alone.startswith(f"Error: no Kafka broker can be reached: broker 127.0.0.1:{port}: Connection refused. ")
    assert program.run(*arguments, "--processes", "2", code=1).stderr == alone


def test_a_broker_that_is_away(tmp_path: Path, own_kafka: KafkaServer) -> None:
    """A process that dies while Kafka is down is started again and again, and works as soon as it is back."""
    program = OnKafka(tmp_path, own_kafka.bootstrap)
    try:
        program.fill(visits(50), "--partitions", "4", "--timestamp", "at")
        process = program.start("run", TARGET, "--processes", "2")
        until(lambda: program.count("sizes") == 50, process)
        own_kafka.kill()
        os.kill(children_of(process)[0], signal.SIGKILL)
        read_until(process, "started again every 8.0 s until it reaches the cluster: no Kafka broker can be reached")
        own_kafka.start()
        read_until(process, "it has reached the cluster again")
        program.fill(visits(50), "--timestamp", "at")
        until(lambda: program.count("sizes") == 100, process)
        until(lambda: len(program.members()) == 2, process)
    finally:
        program.close()


def test_a_signal(program: OnKafka) -> None:
    """SIGTERM is passed on: what was read is committed, all have left, exit code 0."""
    program.fill(visits(2_000), "--partitions", "4", "--timestamp", "at")
    process = program.start(*RUN)
    until(lambda: program.count("sizes") == 2_000, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped: " in err
    assert program.members() == []
    program.run("run", TARGET, "--until-end")
    assert program.values("sizes") == expected_sizes(2_000)


def test_the_supervisor_is_killed(program: OnKafka) -> None:
    """Its processes do not live on: they commit, leave and end by themselves."""
    program.fill(visits(100), "--partitions", "4", "--timestamp", "at")
    process = program.start(*RUN)
    until(lambda: program.count("sizes") == 100, process)
    children = children_of(process)
    assert len(children) == 3
    process.kill()
    process.wait()
    until(lambda: all(map(gone, children)))
    assert program.members() == []


def test_app_main(program: OnKafka) -> None:
    """`python app.py --processes 2`: other processes find the app by the file; one that they could not find is said."""
    program.fill(visits(70), "--partitions", "2", "--timestamp", "at")
    program.write("my.py", "from visits_app import app\nif __name__ == '__main__':\n    app.main()\n")
    program.run("--processes", "2", "--until-end", program=(sys.executable, "my.py"))
    assert program.values("hits") == expected_hits(70)
    program.write("hidden.py", "import visits_app\nif __name__ == '__main__':\n    visits_app.app.main()\n")
    err = program.run("--processes", "2", code=2, program=(sys.executable, "hidden.py")).stderr
    assert "is no variable of the program's main module" in err


# -------------------------------------------------------------------------------------- beside it


def test_status(program: OnKafka) -> None:
    """Members with slots and processes, their tasks, no lag; exit code 0 while all tasks have an owner."""
    program.fill(visits(500), "--partitions", "4", "--timestamp", "at")
    process = program.start(*RUN)
    until(lambda: program.count("sizes") == 500, process)
    until(lambda: program.status()["problems"] == [], process)
    status = program.status()
    assert sorted(member["pid"] for member in status["members"]) == sorted(children_of(process))
    assert sorted(member["slot"] for member in status["members"]) == [0, 1, 2]
    tasks = sorted(task for member in status["members"] for task in member["tasks"])
    assert len(tasks) == len(set(tasks)) == 8
    until(lambda: [stage["lag"] for stage in program.status()["stages"]] == [0, 0], process)
    shown = program.run("status", TARGET).stdout
    assert f"{program.name('visits')} on {program.broker}: 3 workers" in shown


async def test_status_of_a_source_that_is_held_up(program: OnKafka) -> None:
    """Not as if all were read: in place of how far behind it is, and with the transaction's place; exit code 1."""
    await asyncio.to_thread(program.fill, visits(20), "--timestamp", "at")
    await asyncio.to_thread(program.run, "run", TARGET, "--until-end")
    async with opened(program.broker.removeprefix("kafka://")) as cluster:
        holder = Transactions(cluster, program.name("holder"), Timing())
        await holder.take(Deadline(10))
        holder.send(Partition(program.name("visits"), 0), Columns([None], [b"{}"], [1_100_000]))
        await holder._outbox.flush(holder._producer, Deadline(10))
        shown = (await asyncio.to_thread(program.run, "status", TARGET, code=1)).stdout
        await holder.take(Deadline(10))  # aborts it
    [stage] = [line for line in shown.splitlines() if re.match(rf"{program.name('visits')} +1 ", line)]
    assert stage.split("  ")[-2].strip() == "held up"
    assert f"{program.name('visits')}/0 cannot be read beyond offset" in shown


def test_check(program: OnKafka) -> None:
    """A plan that fits and one that does not, told from the changelogs while workers run."""
    program.fill(visits(500), "--partitions", "2", "--timestamp", "at")
    program.run("run", TARGET, "--until-end")
    assert "with the state of 2 tasks" in program.run("check", TARGET).stdout
    text = (program.folder / "visits_app.py").read_text()
    program.write("other_app.py", text.replace('tumbling("1m")', 'tumbling("2m")'))
    assert "has state of per_page.count" in program.run("check", "other_app:app", code=1).stdout


def test_reset(program: OnKafka) -> None:
    """Not while workers are there, who are named; then positions and internal topics are gone, and all is read anew."""
    program.fill(visits(300), "--partitions", "2", "--timestamp", "at")
    process = program.start("run", TARGET)
    until(lambda: program.count("sizes") == 300, process)
    [name] = program.members()
    err = program.run("reset", TARGET, "--yes", code=1).stderr
    assert f"has members, {name}: stop its workers first" in err
    process.terminate()
    process.communicate(timeout=60)
    said = program.run("reset", TARGET, "--yes").stdout
    assert "positions in 4 partitions" in said
    assert f"topic {program.name('visits')}-per_page-key_by-repartition" in said
    program.run("run", TARGET, "--until-end")
    assert program.values("sizes") == sorted(expected_sizes(300) * 2, key=repr)


def test_reset_of_the_clock(program: OnKafka) -> None:
    """As on a local log: through the group's offsets, and the changelogs, in one transaction."""
    program.write("late_app.py", program.named(FUTURE_APP))
    run = ("run", "late_app:app", "--until-end")

    def send(*minutes: int) -> None:
        rows = b"".join(b'{"at": %d, "line": "a"}\n' % (minute * 60_000) for minute in minutes)
        program.fill(rows, "--timestamp", "at", topic="lines")

    send(1, 2)
    asyncio.run(_send_at(program, 10**10))
    program.run(*run)
    send(3)
    assert "late: count.count 1" in program.run(*run).stderr
    said = program.run("reset", "late_app:app", "--clock", "180000", "--yes").stdout
    assert f"clock of {program.name('lines')}/0" in said
    send(5, 6)
    assert "late: " not in program.run(*run).stderr
    assert {5, 6} <= {row["start"] // 60_000 for row in program.values("counts")}


async def _send_at(program: OnKafka, at_ms: int) -> None:
    """One record, ahead of the others as far as the broker lets it."""
    log = await open_log(Settings(broker=program.broker))
    sink = await log.sink(None, "test")
    sink.send(Partition(program.name("lines"), 0), Columns([None], [b'{"line": "a"}'], [at_ms]))
    await sink.commit({})
    await sink.close()
    await log.close()


# -------------------------------------------------------------------------------------- one worker


def test_a_worker_that_is_started_before_its_kafka(tmp_path: Path, own_kafka: KafkaServer) -> None:
    """It lives, is not ready and says why; once Kafka is there it works."""
    address = own_kafka.bootstrap
    program = OnKafka(tmp_path, address)
    try:
        program.fill(visits(50), "--timestamp", "at")
        own_kafka.stop()
        process = program.start("worker", TARGET, "--health", "127.0.0.1:0")
        port = int(re.findall(r"127\.0\.0\.1:(\d+)/live", read_until(process, "/live and /ready"))[0])
        read_until(process, f"waiting until Kafka answers: no Kafka broker can be reached: broker {address}")
        until(lambda: "no Kafka broker can be reached" in asked(port, "/ready")[1]["reason"], process)
        assert (asked(port, "/ready")[0], asked(port, "/live")[0]) == (503, 200)
        own_kafka.start()
        until(lambda: program.count("sizes") == 50, process)
        until(lambda: asked(port, "/ready")[0] == 200, process)
        process.terminate()
        assert process.wait(60) == 0
    finally:
        program.close()


def test_a_worker_takes_its_place_again(program: OnKafka) -> None:
    """After kill -9 a worker that is started again in its state directory goes on at once, under its name."""
    program.fill(visits(300), "--partitions", "2", "--timestamp", "at")
    first = program.start("worker", TARGET)
    until(lambda: program.count("sizes") == 300, first)
    [name] = program.members()
    first.kill()
    first.wait()
    assert f"{name} is gone: no process has slot 0" in program.run("status", TARGET, code=1).stdout
    program.fill(visits(10), "--timestamp", "at")
    second = program.start("worker", TARGET)
    until(lambda: program.count("sizes") == 310, second)
    assert program.members() == [name]


def test_a_copied_state_directory(program: OnKafka) -> None:
    """Two machines with one name: the group tells, and the error names the file to delete."""
    program.fill(visits(10), "--partitions", "1", "--timestamp", "at")
    program.run("run", TARGET, "--until-end", "--state-dir", "one")
    slots = Path(program.name("visits")) / "@slots"
    (program.folder / "two" / slots).mkdir(parents=True)
    copied = (program.folder / "one" / slots / "0").read_bytes()
    (program.folder / "two" / slots / "0").write_bytes(copied)
    first = program.start("worker", TARGET, "--state-dir", "one")
    until(lambda: len(program.members()) == 1, first)
    second = program.start("worker", TARGET, "--state-dir", "two")
    _, err = first.communicate(timeout=60)
    assert first.returncode == 2
    assert "another worker joined as" in err
    assert f"kept in one/{slots}/0" in err
    assert second.poll() is None


def test_tail(program: OnKafka) -> None:
    """The last records are records: what ends a transaction, and what was aborted, has offsets too."""
    program.fill(visits(5), "--partitions", "1")
    program.run("run", TARGET, "--until-end")

    async def abort() -> None:
        log = await open_log(Settings(broker=program.broker))
        sink = await log.sink(None, "test")
        sink.send(Partition(program.name("sizes"), 0), Columns([None] * 9, [b"0"] * 9, [0] * 9))
        await sink.abort()
        await sink.close()
        await log.close()

    asyncio.run(abort())
    last = program.tail(program.name("sizes"), "--from", "-2")
    assert [row["value"] for row in last] == [1 / 4, 1 / 5]
    assert len(program.tail(program.name("sizes"), "--from", "-100")) == 5
