from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from streamproc.apps.breakout import Breakout, app
from streamproc.apps.trending import Tweet
from streamproc.testing import Output, replay
from tests.apps import oracles
from tests.apps.data import TWEETS, dealt, delayed, needs, tweet_records, tweets
from tests.cli.program import Program

START = datetime(2022, 11, 20, 16, tzinfo=UTC)


def uses(tag: str, counts: dict[int, int]) -> list[Tweet]:
    """Tweets that use a tag so often in the minutes after START."""
    return [
        Tweet(START + timedelta(minutes=minute, seconds=n), f"#{tag}")
        for minute, count in counts.items()
        for n in range(count)
    ]


def found(out: Output) -> list[dict[str, Any]]:
    """By minute, then tag."""
    rows = [msgspec.to_builtins(row) for row in out["breakouts"]]
    return sorted(rows, key=lambda row: (row["at"], row["tag"]))


def test_minutes_without_the_tag_count_as_zero() -> None:
    """18 uses in one of the six minutes before are 3 a minute: 11 now score (11 - 3) / sqrt(3 + 1) = 4."""
    out = replay(app, {"tweets": uses("goal", {0: 18, 6: 11})})
    first = Breakout("goal", START, now=18, usual=0.0, score=18.0)
    assert out["breakouts"] == [first, Breakout("goal", START + timedelta(minutes=6), now=11, usual=3.0, score=4.0)]
    assert [record.key for record in out.records("breakouts")] == ["goal", "goal"]


def test_what_is_no_breakout() -> None:
    """Neither a score below 4 is one, nor a count below 5, nor a minute without the tag."""
    tags = [*uses("goal", {0: 18, 6: 10}), *uses("rare", {6: 4}), *uses("five", {7: 5})]
    out = replay(app, {"tweets": tags})
    assert [(row.tag, row.now) for row in out["breakouts"]] == [("goal", 18), ("five", 5)]


def test_seven_minutes_are_too_long_ago() -> None:
    """Only the six minutes before are what is usual."""
    out = replay(app, {"tweets": uses("goal", {0: 18, 7: 11})})
    assert [row.usual for row in out["breakouts"]] == [0.0, 0.0]


@needs(TWEETS)
def test_the_goals_break_out() -> None:
    """On the opening day, once the first minutes are over, both goals break out, and nothing else until 16:50."""
    out = replay(app, {"tweets": tweet_records()})
    at = [(f"{row.at:%H:%M}", row.tag) for row in out["breakouts"] if 11 <= row.at.minute < 50 and row.at.hour == 16]
    assert {minute for minute, _ in at} == {"16:19", "16:33", "16:34", "16:35", "16:36"}
    assert {tag for minute, tag in at if minute == "16:19"} == {"ecuador", "worldcup2022"}
    assert [tag for minute, tag in at if minute == "16:33"] == ["ecuador"]
    assert {"ecuador", "valencia", "worldcup2022"} <= {tag for minute, tag in at if minute == "16:34"}


@needs(TWEETS)
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize(("batch_size", "seed", "workers"), [(10_000, None, 1), (333, 1, 2), (1, None, 1), (60, 2, 1)])
def test_world_cup(partitions: int, batch_size: int, seed: int | None, workers: int) -> None:
    """Tweets of the real opening day give what an independent computation gives, however they are cut and shuffled."""
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "workers": workers}
    out = replay(app, {"tweets": tweet_records()}, partitions=partitions, **options)
    assert found(out) == oracles.breakouts([tweets()])


@needs(TWEETS)
@pytest.mark.parametrize(("partitions", "batch_size"), [(1, 10_000), (1, 77), (4, 10_000), (4, 500)])
def test_world_cup_late(partitions: int, batch_size: int) -> None:
    """With delays beyond the grace, lateness is what the clock of each source partition says."""
    pairs = delayed(list(zip(tweet_records(), tweets(), strict=True)), lambda pair: pair[1].at, up_to_ms=120_000)
    out = replay(app, {"tweets": [record for record, _ in pairs]}, partitions=partitions, batch_size=batch_size)
    expected = oracles.breakouts(dealt([known for _, known in pairs], partitions))
    assert found(out) == expected != oracles.breakouts([tweets()])


@needs(TWEETS)
def test_world_cup_by_command(program: Program) -> None:
    """send, run --until-end and tail on an embedded log give what an independent computation gives."""
    program.run("send", "tweets", str(TWEETS))
    program.run("run", "streamproc.apps.breakout:app", "--until-end")
    rows = program.tail("breakouts", "--json")
    assert [row["value"] for row in rows] == oracles.breakouts([tweets()])
    assert all(row["key"] == row["value"]["tag"] for row in rows)
