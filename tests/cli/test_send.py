import math
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from streamproc.cli import main
from streamproc.cli import send as send_module
from streamproc.cli.send import EPOCH_RECORDS, Lines, Sender
from streamproc.errors import StreamprocError
from streamproc.log import Aborted, Columns, Committed, LogError, Partition, Unknown
from streamproc.memory_log import MemoryLog
from streamproc.murmur2 import partition_of
from streamproc.text_input import Fields, read_text
from tests.cli.program import PROGRAM, Program, visits
from tests.kafka.server import KafkaServer


def send(program: Program, *arguments: str) -> None:
    main(["send", *arguments, "--broker", f"local://{program.folder / 'data'}"])


def rows(program: Program, topic: str) -> list[tuple[int, int, bytes | None, bytes | None, int]]:
    """Partition, offset, key, value, timestamp of each record."""
    found = []
    for number, chunk in enumerate(program.chunks(topic)):
        columns = chunk.columns
        records = zip(chunk.offsets, columns.keys, columns.values, columns.timestamps, strict=True)
        found += [(number, *record) for record in records]
    return found


def test_json_lines_with_key_and_time(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Key and timestamp are the fields named; records go where Kafka's partitioner sends their key."""
    file = program.write("v.jsonl", visits(20))
    send(program, "v", str(file), "--key", "page", "--timestamp", "at", "--partitions", "3")
    found = rows(program, "v")
    assert sorted(at for *_, at in found) == [1_000_000 + n * 1_000 for n in range(20)]
    assert all(key is not None and number == partition_of(key, 3) for number, _, key, _, _ in found)
    assert "20 records to v (0: " in capsys.readouterr().out


def test_csv(program: Program) -> None:
    """Rows become JSON objects of strings, by the names of the first row."""
    file = program.write("v.csv", "at;page\n2022-11-20 16:00;/a\n2022-11-20 16:01;/b\n")
    send(program, "v", str(file), "--delimiter", ";", "--timestamp", "at", "--tz", "UTC")
    assert rows(program, "v") == [
        (0, 0, None, b'{"at":"2022-11-20 16:00","page":"/a"}', 1_668_960_000_000),
        (0, 1, None, b'{"at":"2022-11-20 16:01","page":"/b"}', 1_668_960_060_000),
    ]


def test_raw_lines_take_turns_in_blocks(program: Program) -> None:
    """Lines are sent as they are; without keys a hundred go to a partition before the next one's turn."""
    file = program.write("access.log", "".join(f"{n}\n" for n in range(250)))
    send(program, "v", str(file), "--partitions", "2")
    by_partition: list[list[bytes | None]] = [[], []]
    for number, _, _, value, _ in rows(program, "v"):
        by_partition[number].append(value)
    assert by_partition[0] == [b"%d" % n for n in (*range(100), *range(200, 250))]
    assert by_partition[1] == [b"%d" % n for n in range(100, 200)]


def test_standard_input(program: Program) -> None:
    """- is standard input: JSON lines, or raw lines with --lines."""
    program.run("send", "v", "-", stdin=b'{"a": 1}\n')
    program.run("send", "v", "-", "--lines", stdin=b"{oh\n")
    assert [value for *_, value, _ in rows(program, "v")] == [b'{"a": 1}', b"{oh"]


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (0, "Nothing was sent"),
        (1, "1 record before it was sent"),
        (5_000, "5,000 records before it were sent"),
        (7_001, "7,001 records before it were sent"),
    ],
)
def test_a_bad_line(program: Program, before: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bad line is named; what stands before it was sent, nothing after it, and the message says how many."""
    file = program.write("v.jsonl", visits(before) + b"{oh\n" + visits(10))
    with pytest.raises(SystemExit) as ended:
        send(program, "v", str(file))
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert f"{file}, line {before + 1}: " in err
    assert said in err
    assert program.count("v") == before


def test_a_missing_field_names_the_line(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """A key or time that is not there is an error of its line, and the message lists what is."""
    file = program.write("v.jsonl", visits(1))
    with pytest.raises(SystemExit):
        send(program, "v", str(file), "--key", "pag")
    assert "line 1: there is no field 'pag': did you mean page?" in capsys.readouterr().err


def test_partitions_of_a_topic_that_is_there(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """--partitions makes no other topic of the one that is there."""
    file = program.write("v.jsonl", visits(1))
    send(program, "v", str(file), "--partitions", "2")
    send(program, "v", str(file))
    with pytest.raises(SystemExit):
        send(program, "v", str(file), "--partitions", "3")
    assert capsys.readouterr().err.endswith(
        "topic 'v' is there already, with 2 partitions and not 3: leave --partitions out, or send to a topic of "
        "another name\n"
    )
    assert program.count("v") == 2


def test_speed_sends_what_is_due(program: Program) -> None:
    """With --speed everything is sent, in order, however fast."""
    file = program.write("v.jsonl", visits(50))
    send(program, "v", str(file), "--timestamp", "at", "--speed", "1000x")
    assert [at for *_, at in rows(program, "v")] == [1_000_000 + n * 1_000 for n in range(50)]


def test_a_folder_that_cannot_be_made(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """A log that cannot be opened is one message."""
    program.write("taken", "")
    with pytest.raises(SystemExit) as ended:
        main(["send", "v", str(program.write("v.jsonl", visits(1))), "--broker", f"local://{program.folder / 'taken'}"])
    assert ended.value.code == 1
    assert str(Path("taken", "log")) in capsys.readouterr().err


class FailingSink:
    """Takes `good` epochs, then fails."""

    def __init__(self, good: int, error: LogError) -> None:
        self._good = good
        self._error = error

    def send(self, partition: Partition, columns: Columns) -> None:
        """Take them."""

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        self._good -= 1
        if self._good < 0:
            raise self._error
        return {}

    async def abort(self) -> None:
        """Nothing is open."""

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("good", "error", "said"),
    [
        (0, Aborted("no answer"), "no answer\nNothing was sent: go on from line 1"),
        (
            1,
            Aborted("no answer"),
            "no answer\n5,000 records were sent, those before line 5,002, and nothing after: go on from line 5,002",
        ),
        (
            1,
            Unknown("no answer"),
            (
                "no answer\n5,000 records were sent, those before line 5,002, and nothing after for sure. "
                "The 2 records of lines 5,002 to 5,004 may have been sent: look with `streamproc tail v` where to go on"
            ),
        ),
    ],
)
async def test_a_log_that_fails(good: int, error: LogError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said how many records were sent, and from which line to go on; lines, not records: a row may have two."""
    monkeypatch.setattr(send_module, "EPOCH_S", math.inf)
    rows = b"page,size\n" + b"/a,1\n" * EPOCH_RECORDS + b'"/b\n",2\n/c,3\n'
    lines = Lines(rows.splitlines(keepends=True))
    sender = Sender("v", 1, FailingSink(good, error), lines)
    with pytest.raises(StreamprocError) as raised:
        await sender.send(read_text(lines, "csv", fields=Fields(key="page")))
    assert str(raised.value) == said


async def test_a_pipe_that_brings_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has waited for long enough is visible when the next record has come: a pipe may never end."""
    monkeypatch.setattr(send_module, "EPOCH_S", 0.0)
    log = MemoryLog()
    await log.create("v", partitions=1, config={})
    seen: list[int] = []

    def pipe() -> Iterator[bytes]:
        for number in range(3):
            yield b'{"n":%d}\n' % number
            seen.append(log.bounds(Partition("v", 0))[1])

    lines = Lines(pipe())
    await Sender("v", 1, await log.sink(None, "send"), lines).send(read_text(lines, "json", fields=Fields()))
    assert seen == [1, 2, 3]


def test_a_broker_that_is_lost(program: Program, own_kafka: KafkaServer) -> None:
    """What was sent before is counted, in words for who sends, and the rest can be sent from the line that is named."""
    broker = ("--broker", f"kafka://{own_kafka.bootstrap}")
    environment = program.environment | {"STREAMPROC_TRANSACTION_TIMEOUT": "2s"}
    sending = subprocess.Popen(
        (*PROGRAM, "send", "v", "-", *broker),
        cwd=program.folder,
        env=environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sending.stdin is not None
    sending.stdin.write(visits(EPOCH_RECORDS))
    sending.stdin.flush()
    while len(program.run("tail", "v", "--from", "start", "--limit", "1", *broker, code=None).stdout) == 0:
        assert sending.poll() is None
    own_kafka.kill()
    _, err = sending.communicate(visits(3), timeout=60)
    assert sending.returncode == 1
    assert err.decode().endswith(
        "\n5,000 records were sent, those before line 5,001, and nothing after: go on from line 5,001\n"
    )
    assert "epoch" not in err.decode()
