from typing import Any

import msgspec
import pytest

from streamproc.apps.sensors import Alert, app
from streamproc.testing import Output, replay
from tests.apps import oracles
from tests.apps.data import MOTES, dealt, delayed, lines, needs, readings
from tests.cli.program import Program

START = 1_163_437_800_000
"""17:10:00, where windows of ten minutes begin."""
SECOND = 1_000
MINUTE = 60 * SECOND


def line(after_ms: int, mote: int = 1, temperature: str = "20,5", number: str = "1 234") -> bytes:
    return f"{START + after_ms} {mote} {number} 21,21 2,81 51,53 {temperature} 20 28".encode()


def alerts_by_mote(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["mote"], []).append(row)
    return found


def temperatures(out: Output) -> list[dict[str, Any]]:
    """By window, then mote."""
    found: list[dict[str, Any]] = out["temperatures"]
    return sorted(found, key=lambda row: (row["start"], row["key"]))


def alerts(out: Output) -> dict[int, list[dict[str, Any]]]:
    return alerts_by_mote([msgspec.to_builtins(row) for row in out["alerts"]])


def test_temperatures() -> None:
    """Mean, lowest and highest of a mote's ten minutes; the mean is exact: 0.1 ten times is 0.1."""
    cold = [line(second * SECOND, mote=2, temperature="0,1") for second in range(10)]
    sent = [line(0, temperature="20"), line(1, temperature="23,5", number="7"), *cold, line(10 * MINUTE)]
    rows = temperatures(replay(app, {"readings": sent}))
    end = START + 10 * MINUTE
    assert rows == [
        {"key": 1, "start": START, "end": end, "mean": 21.75, "low": 20.0, "high": 23.5},
        {"key": 2, "start": START, "end": end, "mean": 0.1, "low": 0.1, "high": 0.1},
        {"key": 1, "start": end, "end": end + 10 * MINUTE, "mean": 20.5, "low": 20.5, "high": 20.5},
    ]


def test_silence_and_return() -> None:
    """Five minutes are silence, a millisecond less is none; the alarm has the time at which they were over."""
    silent_at = 10 * MINUTE - 1
    sent = [line(0), line(5 * MINUTE - 1), line(silent_at), line(11 * MINUTE)]
    out = replay(app, {"readings": sent})
    assert out["alerts"] == [
        Alert(1, "silent", START + silent_at),
        Alert(1, "back", START + silent_at),
    ]
    assert [record.timestamp for record in out.records("alerts")] == [START + silent_at] * 2
    assert [record.key for record in out.records("alerts")] == [1, 1]


def test_other_motes_tell_the_time() -> None:
    """A mote that never comes back is missed as soon as others show that it is late, and once."""
    out = replay(app, {"readings": [line(0), *(line(n * MINUTE, mote=2) for n in range(1, 20))]})
    assert out["alerts"] == [Alert(1, "silent", START + 5 * MINUTE)]


def test_any_partition_tells_the_time_at_the_end() -> None:
    """A mote whose partition ends early is missed as far as any other partition shows that it is late."""
    sent = [line(0), line(0, mote=2), line(MINUTE), line(20 * MINUTE, mote=2)]
    for partitions in (1, 2):
        out = replay(app, {"readings": sent}, partitions=partitions)
        assert Alert(1, "silent", START + 6 * MINUTE) in out["alerts"]
        assert alerts(out) == oracles.alerts(dealt([oracles.reading(one.decode()) for one in sent], partitions))


def test_the_end_of_the_input_is_no_silence() -> None:
    """Nothing is known of the time after the last reading."""
    assert replay(app, {"readings": [line(0), line(MINUTE, mote=2)]})["alerts"] == []


def test_a_reading_on_the_way_is_no_silence() -> None:
    """What counts is when readings were taken: one that comes ten seconds late fills its gap."""
    out = replay(app, {"readings": [line(0), line(6 * MINUTE), line(6 * MINUTE - 10 * SECOND), line(9 * MINUTE)]})
    assert [alert.at - START for alert in out["alerts"]] == [5 * MINUTE, 6 * MINUTE - 10 * SECOND]
    out = replay(app, {"readings": [line(0), line(5 * MINUTE), line(5 * MINUTE - 10 * SECOND), line(9 * MINUTE)]})
    assert out["alerts"] == []


@needs(MOTES)
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize(("batch_size", "seed", "workers"), [(10_000, None, 1), (333, 1, 2), (20, 2, 3)])
def test_library(partitions: int, batch_size: int, seed: int | None, workers: int) -> None:
    """A day of real motes gives what an independent computation gives, however it is cut and shuffled."""
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "workers": workers}
    out = replay(app, {"readings": lines(MOTES)}, partitions=partitions, **options)
    assert temperatures(out) == oracles.temperatures([readings()])
    assert alerts(out) == oracles.alerts([readings()])
    assert sum(map(len, alerts(out).values())) == 4
    assert not out.late


@needs(MOTES)
@pytest.mark.parametrize(("partitions", "batch_size"), [(1, 10_000), (1, 77), (4, 10_000), (4, 500)])
def test_library_late(partitions: int, batch_size: int) -> None:
    """With delays of minutes, lateness is what the clock of each source partition says; who is late is not heard."""
    pairs = delayed(list(zip(lines(MOTES), readings(), strict=True)), lambda pair: pair[1].at, up_to_ms=30 * MINUTE)
    out = replay(app, {"readings": [sent for sent, _ in pairs]}, partitions=partitions, batch_size=batch_size)
    dealt_out = dealt([known for _, known in pairs], partitions)
    assert temperatures(out) == oracles.temperatures(dealt_out) != oracles.temperatures([readings()])
    assert alerts(out) == oracles.alerts(dealt_out) != oracles.alerts([readings()])


@needs(MOTES)
@pytest.mark.parametrize("partitions", ["1", "4"])
def test_library_by_command(program: Program, partitions: str) -> None:
    """send, run --until-end and tail on an embedded log give what an independent computation gives."""
    program.run("send", "readings", str(MOTES), "--partitions", partitions)
    program.run("run", "streamproc.apps.sensors:app", "--until-end")
    rows = [row["value"] for row in program.tail("temperatures", "--json")]
    assert sorted(rows, key=lambda row: (row["start"], row["key"])) == oracles.temperatures([readings()])
    found = [row["value"] for row in program.tail("alerts", "--json")]
    assert alerts_by_mote(found) == oracles.alerts([readings()])
