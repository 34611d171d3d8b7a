"""The tweets of a made football match, for the demo and for tests: the same on every machine for the same seed.

    18:30      19:00     19:12     19:38   19:45   20:00     20:26       20:47      21:30
    |  before  | kick-off  0:1       1:1   |  half   |         2:1       | full time  |

The calm chatter draws its hashtags by Zipf's law; kick-off, each goal and the final whistle set off a burst about
themselves that fades within minutes. Some tweets arrive late, so event time runs up to `DELAY_MS` out of order.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from math import fsum
from random import Random
from typing import NamedTuple

import msgspec

SEED = 2030
COUNT = 24_000
DELAY_MS = 4_000
"""No tweet arrives more than this behind another one that was written after it."""

START = datetime(2030, 6, 15, 18, 30, tzinfo=UTC)
END = START + timedelta(hours=3)
KICK_OFF = START + timedelta(minutes=30)
HALF_TIME = KICK_OFF + timedelta(minutes=45)
SECOND_HALF = HALF_TIME + timedelta(minutes=15)
FULL_TIME = SECOND_HALF + timedelta(minutes=47)


class Tweet(msgspec.Struct, frozen=True):
    """One tweet; in JSON its fields carry the column names of the public collections of World Cup tweets."""

    created_at: datetime = msgspec.field(name="Date Created")
    likes: int = msgspec.field(name="Number of Likes")
    source: str = msgspec.field(name="Source of Tweet")
    text: str = msgspec.field(name="Tweet")
    sentiment: str = msgspec.field(name="Sentiment")


class Moment(NamedTuple):
    """Something in the match that sets off a burst of tweets; the first of its tags is used most."""

    at: datetime
    tags: tuple[str, ...]
    phrases: tuple[str, ...]
    weight: int
    """How much is written about it at its outset, where the calm of play is 100."""


def _goal(at: datetime, scorer: str, team: str, score: str) -> Moment:
    phrases = (
        f"GOAL! {scorer} for {team}, {score}",
        f"{scorer}!!! {score} ⚽",
        f"What a strike by {scorer}. {score}",
        f"How is {scorer} left alone there? {score}",
        f"{team} score, it is {score} 😂",
    )
    return Moment(at, (scorer, team, "Goal"), phrases, weight=1_200)


GOALS = (
    _goal(KICK_OFF + timedelta(minutes=12), "Vandrel", "Kestria", "0:1"),
    _goal(KICK_OFF + timedelta(minutes=38), "Okaro", "Maridor", "1:1"),
    _goal(SECOND_HALF + timedelta(minutes=26), "Tamsin", "Maridor", "2:1"),
)
"""The goals in the order of time. The first tag of each, the scorer's, is seen in no tweet before its goal."""

MOMENTS = (
    Moment(KICK_OFF, ("KickOff", "MarKes"), ("And we are off!", "Here we go", "Come on Maridor"), weight=600),
    *GOALS,
    Moment(FULL_TIME, ("FullTime", "MarKes"), ("It is over: 2:1", "What a match", "Robbed"), weight=1_000),
)

_CHATTER = (
    "Is everybody watching this?",
    "The referee again. Of course",
    "Best atmosphere of the cup so far",
    "Who else is watching at work? 😅",
    "My heart cannot take this",
    "Maridor in the rain, what a sight",
    "Kestria deserve better songs",
    "My neighbours are louder than the stadium",
)
_TAGS = (
    *("HarbourCup", "Maridor", "Kestria", "MarKes", "HarbourCup2030", "football", "VAR", "Olé", "offside", "referee"),
    *map("".join, product(("Cup", "Mar", "Kes", "Fan", "Team", "Harbour"), ("Talk", "Live", "Away", "Home"))),
    *map("".join, product(("Goal", "Match", "Game", "Penalty", "Corner", "Whistle"), ("Day", "Night", "News", "Pub"))),
    *map("".join, product(("My", "Our", "Your", "That"), ("Captain", "Keeper", "Coach", "Shirt", "Song", "Bench"))),
)
_TAG_WEIGHTS = [1 / rank for rank in range(1, len(_TAGS) + 1)]
_SOURCES = ("Twitter for iPhone", "Twitter for Android", "Twitter Web App", "TweetDeck", "Twitter for iPad")
_SOURCE_WEIGHTS = (47, 30, 18, 3, 2)
_SENTIMENTS = ("neutral", "negative", "positive")
_SENTIMENT_WEIGHTS = (37, 37, 26)
_PHASES = ((FULL_TIME, 50), (SECOND_HALF, 100), (HALF_TIME, 60), (KICK_OFF, 100), (START, 40))
_FADE = timedelta(minutes=2)


def tweets(*, seed: int = SEED, count: int = COUNT) -> Iterator[Tweet]:
    """Yield the `count` tweets of the day in the order in which they arrive.

    >>> next(tweets()).created_at.isoformat(timespec="seconds")
    '2030-06-15T18:30:00+00:00'
    """
    random = Random(seed)
    for created_at in _arrivals(random, count):
        yield _tweet(random, created_at)


def json_lines(*, seed: int = SEED, count: int = COUNT) -> Iterator[bytes]:
    """Yield the tweets as JSON objects, without line ends.

    >>> sorted(msgspec.json.decode(next(json_lines())))
    ['Date Created', 'Number of Likes', 'Sentiment', 'Source of Tweet', 'Tweet']
    """
    return map(msgspec.json.encode, tweets(seed=seed, count=count))


def _arrivals(random: Random, count: int) -> list[datetime]:
    """The instants at which tweets are written, in the order in which they arrive."""
    seconds = range((END - START) // timedelta(seconds=1))
    weights = [fsum(_weights(START + timedelta(seconds=second))) for second in seconds]
    written = [second * 1_000 + random.randrange(1_000) for second in random.choices(seconds, weights, k=count)]
    arrived = [at_ms + (random.randrange(DELAY_MS) if random.random() < 0.1 else 0) for at_ms in written]
    return [START + timedelta(milliseconds=at_ms) for _, at_ms in sorted(zip(arrived, written, strict=True))]


def _weights(at: datetime) -> list[float]:
    """How much is written at an instant: as chatter, then about each of `MOMENTS`."""
    calm = next(weight for since, weight in _PHASES if since <= at)
    return [calm, *(moment.weight * _remaining(at - moment.at) for moment in MOMENTS)]


def _remaining(age: timedelta) -> float:
    # 1 / (1 + x)^2 rather than e^-x, and fsum rather than sum: they round alike on every machine and Python.
    fading = 1 + age / _FADE
    return 1 / (fading * fading) if age >= timedelta() else 0


def _tweet(random: Random, created_at: datetime) -> Tweet:
    [moment] = random.choices((None, *MOMENTS), _weights(created_at))
    tags = random.choices(_TAGS, _TAG_WEIGHTS, k=random.choice((1, 2, 2, 3)))
    if moment is not None:
        tags = [*random.choices(moment.tags, range(len(moment.tags), 0, -1), k=2), *tags[1:]]
    phrase = random.choice(_CHATTER if moment is None else moment.phrases)
    return Tweet(
        created_at=created_at,
        likes=int(1 / (1 - random.random())) - 1,
        source=random.choices(_SOURCES, _SOURCE_WEIGHTS)[0],
        text=random.choice(" \n").join((phrase, *(f"#{tag}" for tag in dict.fromkeys(tags)))),
        sentiment=random.choices(_SENTIMENTS, _SENTIMENT_WEIGHTS)[0],
    )
