"""Made records for the benchmark: tweets (JSON of about 200 bytes) and the hashtags in them, zipfian, seeded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

import msgspec

from streamproc.log import Columns
from streamproc.murmur2 import partition_of

PARTITIONS = 4
TAGS = 2_000
USERS = 50_000
STEP_MS = 3.6
JITTER_MS = 500
START_MS = 1_767_225_600_000

WORDS = (
    "goal",
    "match",
    "team",
    "live",
    "now",
    "watch",
    "final",
    "score",
    "the",
    "and",
    "what",
    "great",
    "news",
    "today",
)
LANGUAGES = ("en", "en", "en", "pt", "es", "fr", "ja")

Input: TypeAlias = Sequence[Columns]
"""The records of a topic, by partition."""

_encode = msgspec.json.Encoder().encode


def tweets_and_tags(count: int, *, seed: int = 7) -> tuple[Input, Input]:
    """So many tweets, keyed by user, and as many of their hashtags, keyed by themselves; in order but for a jitter."""
    rng = random.Random(seed)
    hashtags = _names(rng, "tag", TAGS, 1.1, 2 * count)
    users = _names(rng, "u", USERS, 0.9, count)
    tweets, tags = _empty(), _empty()
    at, left = 0, count
    for i in range(count):
        timestamp = int(START_MS + i * STEP_MS - rng.random() * JITTER_MS)
        found = hashtags[at : at + rng.choice((1, 1, 2, 3))]
        at += len(found)
        tweet = {
            "id": i,
            "user": users[i],
            "ts": timestamp,
            "lang": rng.choice(LANGUAGES),
            "text": " ".join([*rng.choices(WORDS, k=10), *("#" + tag for tag in found)]),
            "retweets": int(rng.random() * 100),
        }
        _append(tweets, users[i], tweet, timestamp)
        for tag in found[:left]:
            _append(tags, tag, {"tag": tag, "user": users[i], "ts": timestamp}, timestamp)
        left -= len(found[:left])
    return tweets, tags


def one_of_each(keys: int, *, seed: int = 11) -> Input:
    """A record of each key, in any order, all within the first half of a minute of event time."""
    return _tags(random.Random(seed).sample(range(keys), keys), START_MS)


def any_of(keys: int, count: int, *, seed: int = 13) -> Input:
    """Records of keys chosen evenly, all within the second half of that minute."""
    return _tags(random.Random(seed).choices(range(keys), k=count), START_MS + 30_000)


def _tags(numbers: Sequence[int], begin_ms: int) -> Input:
    topic = _empty()
    for place, number in enumerate(numbers):
        timestamp = begin_ms + place * 30_000 // len(numbers)
        tag = f"tag{number}"
        _append(topic, tag, {"tag": tag, "user": "u1", "ts": timestamp}, timestamp)
    return topic


def _names(rng: random.Random, prefix: str, kinds: int, exponent: float, count: int) -> list[str]:
    weights = list(accumulate(1 / (rank + 1) ** exponent for rank in range(kinds)))
    return rng.choices([f"{prefix}{rank}" for rank in range(kinds)], cum_weights=weights, k=count)


def _empty() -> list[Columns]:
    return [Columns([], [], []) for _ in range(PARTITIONS)]


def _append(topic: Sequence[Columns], key: str, value: object, timestamp: int) -> None:
    wire = key.encode()
    columns = topic[partition_of(wire, PARTITIONS)]
    columns.keys.append(wire)
    columns.values.append(_encode(value))
    columns.timestamps.append(timestamp)


def size(topic: Input) -> int:
    """How many records there are."""
    return sum(map(len, topic))


def cut(topic: Input, records: int) -> list[tuple[int, Columns]]:
    """The partitions in turn, so many records each time: (number, records)."""
    longest = max(map(len, topic))
    parts = [(n, c.cut(at, at + records)) for at in range(0, longest, records) for n, c in enumerate(topic)]
    return [(number, columns) for number, columns in parts if len(columns)]
