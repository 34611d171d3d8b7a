from typing import Any

import pytest

from streamproc.apps.web_stats import app
from streamproc.testing import Output, replay
from tests.apps import oracles
from tests.apps.data import ACCESS_LOG, dealt, delayed, hits, lines
from tests.cli.program import Program

MAY_17 = 1_431_820_800_000
MINUTE = 60_000


def line(time: str, *, ip: str = "10.0.0.1", page: str = "/", status: int = 200, size: str = "100") -> bytes:
    """A line of 17 May 2015, UTC."""
    return f'{ip} - - [17/May/2015:{time} +0000] "GET {page} HTTP/1.1" {status} {size} "-" "curl/7"'.encode()


def ms(time: str) -> int:
    hours, minutes, seconds = map(int, time.split(":"))
    return MAY_17 + ((hours * 60 + minutes) * 60 + seconds) * 1_000


def results(out: Output) -> dict[str, list[Any]]:
    """What came to each topic; sessions of several tasks in one order."""
    place = lambda row: (row["end"], row["start"], row["key"])  # noqa: E731 - it is used once, below
    return {"minutes": out["minutes"], "pages": out["pages"], "sessions": sorted(out["sessions"], key=place)}


def expected(partitions: list[list[oracles.Hit]]) -> dict[str, list[Any]]:
    return {name: getattr(oracles, name)(partitions) for name in ("minutes", "pages", "sessions")}


def test_minutes() -> None:
    """Hits, bytes and errors by minute; no size is zero bytes, 400 is an error and 304 is none."""
    out = replay(
        app,
        {
            "access": [
                line("10:05:00", size="7"),
                line("10:05:59", size="-", status=304),
                line("10:06:00", size="5", status=400, ip="10.0.0.2"),
                line("10:05:01", size="30", status=500),
            ]
        },
    )
    first = {"key": None, "start": ms("10:05:00"), "end": ms("10:06:00"), "hits": 3, "bytes": 37, "errors": 1}
    second = {"key": None, "start": ms("10:06:00"), "end": ms("10:07:00"), "hits": 1, "bytes": 5, "errors": 1}
    assert out["minutes"] == [first, second]


def test_pages() -> None:
    """The most used of ten minutes, without their queries; of equal counts the smaller comes first."""
    used = ["/b", "/a?x=1", "/c", "/c?y=2", "/"]
    out = replay(app, {"access": [*(line("10:09:59", page=page) for page in used), line("10:10:00")]})
    top = [{"key": key, "value": value} for key, value in {"/c": 2, "/": 1, "/a": 1, "/b": 1}.items()]
    assert out["pages"] == [
        {"start": ms("10:00:00"), "end": ms("10:10:00"), "top": top},
        {"start": ms("10:10:00"), "end": ms("10:20:00"), "top": [{"key": "/", "value": 1}]},
    ]


def test_sessions() -> None:
    """Half an hour apart is one session, a second more is another; addresses are apart."""
    times = ["10:00:00", "10:30:00", "11:00:01"]
    other = line("10:10:00", ip="10.0.0.2", size="1")
    out = replay(app, {"access": [line(times[0]), other, *map(line, times[1:])]})
    assert out["sessions"] == [
        {"key": "10.0.0.2", "start": ms("10:10:00"), "end": ms("10:10:00"), "hits": 1, "bytes": 1},
        {"key": "10.0.0.1", "start": ms("10:00:00"), "end": ms("10:30:00"), "hits": 2, "bytes": 200},
        {"key": "10.0.0.1", "start": ms("11:00:01"), "end": ms("11:00:01"), "hits": 1, "bytes": 100},
    ]


@pytest.mark.parametrize(("clock", "counted"), [("10:06:59", True), ("10:07:00", False)])
def test_a_minute_is_waited_for(clock: str, counted: bool) -> None:
    """A line counts until the log is a minute past the line's minute; in sessions, past the line's own time."""
    sent = [line("10:05:00"), line(clock, ip="10.0.0.2"), line("10:05:59", ip="10.0.0.3")]
    out = replay(app, {"access": sent})
    assert next(row["hits"] for row in out["minutes"]) == 1 + counted
    assert [row["key"] for row in out["sessions"] if row["key"] == "10.0.0.3"] == ["10.0.0.3"] * counted
    assert bool(out.late) is not counted


@pytest.mark.parametrize(
    "bad", [b"", b"not a line", line("99:00:00"), line("10:00:00").replace(b"200", b"2x0"), b"\xff"]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_is_set_aside(bad: bytes, place: int) -> None:
    """It goes to access-bad as it came, once, with what was wrong; its neighbours are counted."""
    sent = [line("10:05:00"), line("10:05:01")]
    sent.insert(place, bad)
    out = replay(app, {"access": sent})
    [record] = out.records("access-bad")
    assert (record.value, record.headers["streamproc-error-offset"]) == (bad, str(place).encode())
    assert record.headers["streamproc-error-message"].startswith(b"the value is no Hit: ")
    assert [row["hits"] for row in out["minutes"]] == [2]
    assert sum(out.errors.values()) == 1


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize(("batch_size", "seed", "workers"), [(10_000, None, 1), (100, 1, 2), (1, None, 1), (7, 2, 3)])
def test_real_log(partitions: int, batch_size: int, seed: int | None, workers: int) -> None:
    """A real log, up to 59 s out of order, gives what an independent computation gives, and no line is late."""
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "workers": workers}
    out = replay(app, {"access": lines(ACCESS_LOG)}, partitions=partitions, **options)
    assert results(out) == expected(dealt(hits(), partitions)) == expected([sorted(hits())])
    assert (out.late, out.errors) == ({}, {})


@pytest.mark.parametrize(("partitions", "batch_size"), [(1, 10_000), (1, 77), (4, 10_000), (4, 500)])
def test_real_log_late(partitions: int, batch_size: int) -> None:
    """With delays of hours, lateness is what the clock of each source partition says, for each of the three answers."""
    pairs = delayed(list(zip(lines(ACCESS_LOG), hits(), strict=True)), lambda pair: pair[1].at, up_to_ms=180 * MINUTE)
    out = replay(app, {"access": [sent for sent, _ in pairs]}, partitions=partitions, batch_size=batch_size)
    oracle = expected(dealt([known for _, known in pairs], partitions))
    assert results(out) == oracle
    in_order = expected([sorted(hits())])
    assert all(oracle[name] != in_order[name] for name in oracle)


@pytest.mark.parametrize("partitions", ["1", "4"])
def test_real_log_by_command(program: Program, partitions: str) -> None:
    """send, run --until-end and tail on an embedded log give what an independent computation gives."""
    program.run("send", "access", str(ACCESS_LOG), "--partitions", partitions)
    program.run("run", "streamproc.apps.web_stats:app", "--until-end")
    found = {name: [row["value"] for row in program.tail(name, "--json")] for name in ("minutes", "pages", "sessions")}
    found["sessions"].sort(key=lambda row: (row["end"], row["start"], row["key"]))
    assert found == expected([hits()])
