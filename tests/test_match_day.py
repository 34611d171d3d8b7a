"""The made match day."""

import re
from collections import Counter
from datetime import datetime, timedelta
from hashlib import sha256

import msgspec
import pytest

from streamproc import match_day
from streamproc.match_day import DELAY_MS, END, GOALS, KICK_OFF, START, Tweet, json_lines, tweets

COLUMNS = ["Date Created", "Number of Likes", "Source of Tweet", "Tweet", "Sentiment"]


@pytest.fixture(scope="module")
def day() -> list[Tweet]:
    return list(tweets())


def tags_between(day: list[Tweet], start: datetime, end: datetime) -> Counter[str]:
    written = (tweet.text for tweet in day if start <= tweet.created_at < end)
    return Counter(tag for text in written for tag in re.findall(r"#(\w+)", text))


def test_the_day_is_the_same_on_every_machine() -> None:
    """The bytes of the day depend on the seed alone: not on the machine, the process or the version of Python."""
    assert (
        sha256(b"\n".join(json_lines())).hexdigest()
        == "097ef29f92e84937e4482ee31689ee700d9074b14905d232f2ce3fafbecbfb83"
    )


def test_another_seed_is_another_day() -> None:
    """The seed decides what is tweeted."""
    assert list(tweets(seed=1, count=10)) != list(tweets(seed=2, count=10))


@pytest.mark.parametrize("count", [0, 1, 1_000])
def test_count_is_exact(count: int) -> None:
    """As many tweets come as are asked for, all of them on the day."""
    day = list(tweets(count=count))
    assert len(day) == count
    assert all(START <= tweet.created_at < END for tweet in day)


def test_the_json_has_the_columns_of_the_world_cup_collections() -> None:
    """A line is one JSON object with the five column names, and decodes to the tweet that it came from."""
    lines = list(json_lines(count=100))
    assert [list(msgspec.json.decode(line)) for line in lines] == [COLUMNS] * 100
    assert [msgspec.json.decode(line, type=Tweet) for line in lines] == list(tweets(count=100))


def test_event_time_is_out_of_order_by_less_than_the_delay(day: list[Tweet]) -> None:
    """Some tweets arrive after younger ones, the last of them just short of DELAY_MS late."""
    latest, lags = START, list[timedelta]()
    for tweet in day:
        latest = max(latest, tweet.created_at)
        lags.append(latest - tweet.created_at)
    assert timedelta(milliseconds=DELAY_MS * 0.9) < max(lags) < timedelta(milliseconds=DELAY_MS)
    assert len(lags) * 0.05 < sum(lag > timedelta() for lag in lags) < len(lags) * 0.15


def test_a_goal_sets_off_a_burst_of_its_scorer(day: list[Tweet]) -> None:
    """No tweet names a scorer before the goal; in the two minutes after it no tag of the calm is used as much."""
    for goal in GOALS:
        scorer, team, _ = goal.tags
        assert scorer not in tags_between(day, START, goal.at)
        after = tags_between(day, goal.at, goal.at + timedelta(minutes=2))
        assert [tag for tag, _ in after.most_common(2)] == [scorer, team]


def test_kick_off_is_a_burst(day: list[Tweet]) -> None:
    """More than five times as much is written in the minute after kick-off as in the minute before."""
    minute = timedelta(minutes=1)
    before = tags_between(day, KICK_OFF - minute, KICK_OFF)
    after = tags_between(day, KICK_OFF, KICK_OFF + minute)
    assert after.total() > 5 * before.total()


def test_tags_of_the_calm_follow_zipf(day: list[Tweet]) -> None:
    """Before kick-off the tag of rank n is used about as often as the first one divided by n."""
    calm = tags_between(day, START, KICK_OFF)
    first = calm[match_day._TAGS[0]]
    assert all(0.7 < calm[tag] * rank / first < 1.3 for rank, tag in enumerate(match_day._TAGS[:8], 1))
