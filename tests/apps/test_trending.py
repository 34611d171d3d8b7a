from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streamproc.apps.trending import Tweet, app
from streamproc.testing import replay
from tests.apps import oracles
from tests.apps.data import TWEETS, dealt, delayed, needs, tweet_records, tweets
from tests.cli.program import Program

START = datetime(2022, 11, 20, 16, tzinfo=UTC)
START_MS = 1_668_960_000_000


def tweet(second: int, text: str) -> Tweet:
    return Tweet(START + timedelta(seconds=second), text)


def top(start: int, **counts: int) -> dict[str, Any]:
    """What is sent for the window that begins so many seconds after START."""
    items = [{"key": tag, "value": count} for tag, count in counts.items()]
    return {"start": START_MS + start * 1_000, "end": START_MS + start * 1_000 + 300_000, "top": items}


def test_each_tweet_counts_in_thirty_windows() -> None:
    """Windows of five minutes begin every ten seconds; a tag counts as often as it is used, in any case."""
    out = replay(app, {"tweets": [tweet(0, "#Goal! #goal"), tweet(4, "#VAR, #goal"), tweet(12, "no tag, #var, # 1")]})
    both = [top(start, goal=3, var=2) for start in range(-280, 10, 10)]
    assert out["trends"] == [top(-290, goal=3, var=1), *both, top(10, var=1)]
    assert {record.timestamp - record.value["end"] for record in out.records("trends")} == {-1}


def test_ten_tags_and_ties() -> None:
    """Ten are kept; of equal counts the smaller tag comes first."""
    out = replay(app, {"tweets": [tweet(0, "#k #j #i #h #g #f #e #d #c #b #a #k")]})
    assert out["trends"][0] == top(-290, k=2, a=1, b=1, c=1, d=1, e=1, f=1, g=1, h=1, i=1)


def test_a_late_tweet_misses_closed_windows_alone() -> None:
    """At 30 s the windows up to 25 s are closed: a tweet of 0 s is missing in two, and counts in twenty-eight."""
    out = replay(app, {"tweets": [tweet(0, "#a"), tweet(30, "#b"), tweet(0, "#a")]})
    once, twice = ([row["end"] for row in out["trends"] if row["top"][0] == {"key": "a", "value": n}] for n in (1, 2))
    assert [(end - START_MS) // 1_000 for end in once] == [10, 20]
    assert [(end - START_MS) // 1_000 for end in twice] == list(range(30, 301, 10))


@needs(TWEETS)
@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize(("batch_size", "seed", "workers"), [(10_000, None, 1), (333, 1, 2), (60, 2, 1)])
def test_world_cup(partitions: int, batch_size: int, seed: int | None, workers: int) -> None:
    """Tweets of the real opening day give what an independent computation gives, however they are cut and shuffled."""
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "workers": workers}
    out = replay(app, {"tweets": tweet_records()}, partitions=partitions, **options)
    assert out["trends"] == oracles.trends([tweets()])  # the shuffle keeps within the grace: none is late
    assert not out.late


@needs(TWEETS)
@pytest.mark.parametrize(("partitions", "batch_size"), [(1, 10_000), (1, 77), (4, 10_000), (4, 500)])
def test_world_cup_late(partitions: int, batch_size: int) -> None:
    """With delays beyond the grace, lateness is what the clock of each source partition says, for each window."""
    pairs = delayed(list(zip(tweet_records(), tweets(), strict=True)), lambda pair: pair[1].at, up_to_ms=120_000)
    out = replay(app, {"tweets": [record for record, _ in pairs]}, partitions=partitions, batch_size=batch_size)
    expected = oracles.trends(dealt([known for _, known in pairs], partitions))
    assert out["trends"] == expected != oracles.trends([tweets()])
    assert out.late


@needs(TWEETS)
@pytest.mark.parametrize("partitions", ["1", "4"])
def test_world_cup_by_command(program: Program, partitions: str) -> None:
    """send, run --until-end and tail on an embedded log give what an independent computation gives."""
    program.run("send", "tweets", str(TWEETS), "--partitions", partitions)
    program.run("run", "streamproc.apps.trending:app", "--until-end")
    assert [row["value"] for row in program.tail("trends", "--json")] == oracles.trends([tweets()])
