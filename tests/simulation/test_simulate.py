"""simulate, as users see it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from streamproc import App, DefinitionError, RecordError, Stream, tumbling
from streamproc.log import UnknownTopic
from streamproc.testing import replay
from streamproc.testing.simulation import CALM, ROUGH, Hangs, Record, Weather, simulate
from streamproc.testing.simulation import world as world_module

PAGES = [Record(b"x", key="/ab"[n % 3 % 2 :], timestamp=n * 1_000) for n in range(60)]


def visits(**settings: Any) -> App:
    app = App("visits", **settings)
    source = app.topic("visits", key=str, value=bytes, grace="3s")

    @app.stream(source, to=(app.topic("minutes"), app.topic("totals", key=str, value=int)))
    def counted(visits: Stream[str, bytes]) -> Any:
        pages = visits.key_by(lambda value: value.decode())
        return pages.window(tumbling("10s")).count(), visits.count(name="visitors")

    return app


@pytest.mark.parametrize("seed", range(5))
def test_what_replay_gives(seed: int) -> None:
    """Final rows and tables are those of `replay`, in any weather."""
    expected = replay(visits(), {"visits": PAGES}, partitions=4)
    for weather in (CALM, ROUGH):
        out = simulate(visits(), {"visits": PAGES}, seed=seed, weather=weather)
        assert sorted(map(str, out["minutes"])) == sorted(map(str, expected["minutes"]))
        assert out.table("visitors") == {"/ab": 40, "ab": 20}
        assert out.alarms == []


def test_what_comes_out() -> None:
    """Values by the topic's type, whole records, counts; topics by name, internal ones too."""
    late = Record(b"x", key="ab", timestamp=2_000)
    out = simulate(visits(), {"visits": [*PAGES, late, Record(b"x", key="ab", timestamp=61_000)]}, seed=1, weather=CALM)
    record = out.records("totals")[0]
    assert (type(record.key), record.value, record.headers) == (str, 1, {})
    assert sum(out.late.values()) == 1
    assert out.errors == {}
    assert {"visits", "minutes", "totals", "visits-visits-changelog"} <= set(out)
    assert len(out) == len(list(out))
    with pytest.raises(UnknownTopic, match="there is no topic 'minute'; did you mean 'minutes'"):
        out.records("minute")


def test_the_history() -> None:
    """It tells who started, what reached the broker, what went wrong, and what workers logged."""
    out = simulate(visits(), {"visits": PAGES}, seed=3)
    history = str(out.history)
    assert history.splitlines()[0] == "    0.0000 slot-0   starts"
    for told in ("is killed", "goes wrong: ", "TxnOffsetCommit producer ", "says     slot-0: joins group 'visits'"):
        assert told in history


def test_seeds_are_told_apart() -> None:
    """Another seed is another history, and so is another weather."""
    worlds = [(1, ROUGH), (2, ROUGH), (1, CALM), (1, ROUGH._replace(wiped=1.0))]
    histories = {str(simulate(visits(), {"visits": PAGES}, seed=s, weather=w).history) for s, w in worlds}
    assert len(histories) == len(worlds)


def test_a_record_that_fails() -> None:
    """The run ends with the error, as it would."""
    app = App("fails")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def inverse(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda n: 1 / n)

    with pytest.raises(RecordError, match="division by zero"):
        simulate(app, {"numbers": [1, 2, 0]}, seed=1, weather=CALM)


def test_inputs_are_for_sources() -> None:
    with pytest.raises(DefinitionError, match="has no topic 'visit'"):
        simulate(visits(), {"visit": []}, seed=1)
    with pytest.raises(DefinitionError, match="is not read by app 'visits' from outside"):
        simulate(visits(), {"totals": [1]}, seed=1)


def test_a_run_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, with who does what."""
    monkeypatch.setattr(world_module, "ENDS_S", 0.5)
    with pytest.raises(Hangs, match="not ended after 0.5 s: slot-0: 0 tasks"):
        simulate(visits(), {"visits": PAGES}, seed=1, weather=Weather())


DIGEST = """
import hashlib, sys
from tests.simulation.law import play
from tests.simulation.test_simulate import PAGES, visits
from streamproc.testing.simulation import simulate
told = [str(play(seed).history) for seed in map(int, sys.argv[1:])]
told.append(str(simulate(visits(), {"visits": PAGES}, seed=5).history))
print(hashlib.sha256("".join(told).encode()).hexdigest())
"""
ROUGH_SEEDS = ("12", "24", "28")
"""Dozens of crashes and pauses, a hundred requests that go wrong; on machines of their own and on one."""


def test_one_seed_is_one_run() -> None:
    """To the last line of the history, whatever the order of sets."""
    digests = set()
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", DIGEST, *ROUGH_SEEDS], env=environment, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout)
    assert len(digests) == 1
