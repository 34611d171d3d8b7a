"""The jobs of the benchmark, as a user writes them, and the values in their topics."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from streamproc import App, Stream, WindowResult, hopping, tumbling

HASHTAG = re.compile(r"#(\w+)")


class Tweet(Struct):
    """What the jobs need of a tweet."""

    user: str
    ts: int
    lang: str
    text: str


class Tag(Struct):
    """What the jobs need of a hashtag's record."""

    tag: str
    ts: int


class English(Struct):
    """What is kept of an English tweet."""

    user: str
    text: str
    n: int


class Tally(Struct):
    """A hashtag's count so far."""

    tag: str
    count: int


def hashtags(tweet: Tweet) -> list[str]:
    """The hashtags of a tweet."""
    return HASHTAG.findall(tweet.text.lower())


def pass_app(*, name: str = "pass", source: str = "tweets", results: str = "results", **settings: Any) -> App:
    """English tweets, projected."""
    app = App(name, **settings)

    @app.stream(app.topic(source, value=Tweet), to=app.topic(results, value=English))
    def english(tweets: Stream[bytes, Tweet]) -> Stream[bytes, English]:
        return tweets.filter(lambda tweet: tweet.lang == "en").map(lambda t: English(t.user, t.text, len(t.text)))

    return app


def count_app(*, name: str = "count", source: str = "tags", results: str = "results", **settings: Any) -> App:
    """A running count by key, every update sent."""
    app = App(name, **settings)

    @app.stream(app.topic(source, key=str, value=Tag), to=app.topic(results, key=str, value=Tally))
    def tallies(tags: Stream[str, Tag]) -> Stream[str, Tally]:
        return tags.count().updates().records().map(lambda update: Tally(update.key, update.value))

    return app


def tumble_app(*, name: str = "tumble", source: str = "tags", results: str = "results", **settings: Any) -> App:
    """Counts by key in windows of a minute, final."""
    app = App(name, **settings)

    @app.stream(_timed_tags(app, source), to=app.topic(results, key=str))
    def minutes(tags: Stream[str, Tag]) -> Stream[str, WindowResult[str, int]]:
        return tags.window(tumbling("60s")).count()

    return app


def hop_app(*, name: str = "hop", source: str = "tags", results: str = "results", **settings: Any) -> App:
    """Counts by key in windows of five minutes, one every ten seconds, final."""
    app = App(name, **settings)

    @app.stream(_timed_tags(app, source), to=app.topic(results, key=str))
    def fives(tags: Stream[str, Tag]) -> Stream[str, WindowResult[str, int]]:
        return tags.window(hopping("300s", every="10s")).count()

    return app


def trend_app(*, name: str = "trend", source: str = "tweets", results: str = "results", **settings: Any) -> App:
    """Counts of the hashtags in tweets in windows of a minute, final; through a repartition topic."""
    app = App(name, **settings)
    tweets = app.topic(source, value=Tweet, timestamp="ts", grace="1s")

    @app.stream(tweets, to=app.topic(results, key=str))
    def trends(tweets: Stream[bytes, Tweet]) -> Stream[str, WindowResult[str, int]]:
        return tweets.flat_map(hashtags).key_by(lambda tag: tag).window(tumbling("60s")).count()

    return app


def _timed_tags(app: App, source: str) -> Any:
    return app.topic(source, key=str, value=Tag, timestamp="ts", grace="1s")


APPS: dict[str, Callable[..., App]] = {
    "pass": pass_app,
    "count": count_app,
    "tumble": tumble_app,
    "hop": hop_app,
    "trend": trend_app,
}
