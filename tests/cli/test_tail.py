import asyncio
import subprocess

import pytest

from streamproc.cli import main
from streamproc.cli.record_text import readable
from streamproc.local_log import LocalLog
from streamproc.log import Columns, Partition, WireHeaders
from tests.cli.program import PROGRAM, Program, until, visits


def lines(program: Program, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """What tail prints, run in this process."""
    capsys.readouterr()
    main(["tail", *arguments, "--broker", f"local://{program.folder / 'data'}"])
    return capsys.readouterr().out.splitlines()


def fill(program: Program, topic: str, *columns: Columns) -> None:
    """A partition for each of the columns."""

    async def write() -> None:
        log = LocalLog(program.folder / "data" / "log")
        await log.create(topic, partitions=len(columns), config={})
        sink = await log.sink(None, "test")
        for number, one in enumerate(columns):
            sink.send(Partition(topic, number), one)
        await sink.commit({})
        await log.close()

    asyncio.run(write())


def test_values_as_what_they_are(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """A value is its JSON, else its text, else base64; nothing is nothing; headers are shown where there are any."""
    values = [b'{"n": 1}', b"GET /", b"\xff\x00", None, b'"two\\nlines"', b"", b"1e999", b"NaN"]
    headers: list[WireHeaders | None] = [None, [("cause", b"x"), ("raw", b"\xff")], *[None] * 6]
    keys: list[bytes | None] = [b"k", None, b"\xfe", b"12", None, None, None, None]
    fill(program, "t", Columns(keys, list(values), list(range(8)), headers))
    with_headers = (
        '{"topic":"t","partition":0,"offset":1,"timestamp":1,"key":null,"value":"GET /",'
        '"headers":{"cause":"x","raw":{"base64":"/w=="}}}'
    )
    assert lines(program, capsys, "t") == [
        '{"topic":"t","partition":0,"offset":0,"timestamp":0,"key":"k","value":{"n":1}}',
        with_headers,
        '{"topic":"t","partition":0,"offset":2,"timestamp":2,"key":{"base64":"/g=="},"value":{"base64":"/wA="}}',
        '{"topic":"t","partition":0,"offset":3,"timestamp":3,"key":"12","value":null}',
        '{"topic":"t","partition":0,"offset":4,"timestamp":4,"key":null,"value":"two\\nlines"}',
        '{"topic":"t","partition":0,"offset":5,"timestamp":5,"key":null,"value":""}',
        '{"topic":"t","partition":0,"offset":6,"timestamp":6,"key":null,"value":"1e999"}',
        '{"topic":"t","partition":0,"offset":7,"timestamp":7,"key":null,"value":"NaN"}',
    ]


def test_partitions_are_shown_by_time(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """Records of several partitions come by time, those of one partition in its order."""
    fill(program, "t", *[Columns([None] * 3, [b"1"] * 3, times) for times in ([1, 4, 5], [2, 3, 9], [0, 6, 7])])
    shown = lines(program, capsys, "t")
    assert [line.split('"timestamp":')[1].split(",")[0] for line in shown] == list("012345679")


@pytest.mark.parametrize(
    ("options", "offsets"),
    [
        ([], range(2_500)),
        (["--from", "start", "--limit", "3"], range(3)),
        (["--limit", "0"], range(0)),
        (["--from", "2490"], range(2_490, 2_500)),
        (["--from", "-10"], range(2_490, 2_500)),
        (["--from", "-9999", "--limit", "1"], range(1)),
        (["--from", "9999"], range(0)),
        (["--from", "end", "--no-follow"], range(0)),
    ],
)
def test_from_and_limit(
    program: Program, options: list[str], offsets: range, capsys: pytest.CaptureFixture[str]
) -> None:
    """--from says where it begins, --limit how many it shows; it ends at the end."""
    fill(program, "t", Columns([None] * 2_500, [b"x"] * 2_500, list(range(2_500))))
    shown = lines(program, capsys, "t", *options)
    assert [int(line.split('"offset":')[1].split(",")[0]) for line in shown] == list(offsets)


def test_follow_beside_a_run(program: Program) -> None:
    """A topic is followed while a run writes to it, by another process."""
    program.send(visits(10))
    program.run("run", "visits_app:app", "--until-end")
    tail = program.start("tail", "sizes", "--follow", "--limit", "15")
    assert tail.stdout is not None
    assert '"offset":0' in tail.stdout.readline()
    program.send(visits(5))
    run = program.start("run", "visits_app:app")
    until(lambda: program.count("sizes") == 15, run)
    assert len(tail.stdout.readlines()) == 14
    assert tail.wait(timeout=30) == 0


def test_a_closed_pipe_ends_it_quietly(program: Program) -> None:
    """`streamproc tail t | head -1` says nothing and succeeds."""
    fill(program, "t", Columns([None] * 50_000, [b"x"] * 50_000, [0] * 50_000))
    tail = subprocess.Popen(
        (*PROGRAM, "tail", "t"),
        cwd=program.folder,
        env=program.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tail.stdout is not None
    assert tail.stderr is not None
    tail.stdout.readline()
    tail.stdout.close()
    said = tail.stderr.read()
    tail.stderr.close()
    assert (tail.wait(timeout=30), said) == (0, b"")


@pytest.mark.parametrize(
    ("topic", "broker", "said"),
    [
        ("hit", "data", "there is no topic 'hit'; did you mean 'hits'?"),
        ("hits", "nowhere", "there is no log in"),
    ],
)
def test_what_is_not_there(
    program: Program, topic: str, broker: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown topic or log is one message, and nothing is made by looking."""
    fill(program, "hits", Columns([], [], []))
    with pytest.raises(SystemExit) as ended:
        main(["tail", topic, "--broker", f"local://{program.folder / broker}"])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
    assert not (program.folder / "nowhere").exists()


def test_people_see_time_place_key_and_value() -> None:
    """On a terminal a record is a line that is read, not parsed."""
    line = readable(Partition("hits", 2), 7, 1_668_960_480_000, b"/a", b'{"n": 1}', [("cause", b"x")])
    for part in ("2022-11-20 16:08:00", "2:7", "/a", '{"n":1}', "cause: x"):
        assert part in line
