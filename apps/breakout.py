"""Breakout: hashtags used far more in this minute than in the six before it. Learn here: a window beside earlier ones.

    streamproc send tweets tweets.csv
    streamproc run streamproc.apps.breakout:app --until-end
    streamproc tail breakouts

Tweets are those of `streamproc.apps.trending`. Out comes a record for each hashtag and minute that breaks out:

    {"tag": "ecuador", "at": "2022-11-20T16:19:00Z", "now": 17, "usual": 3.6666666666666665, "score": 6.172133998483678}

    usual   the mean count of the six minutes before; a minute without the hashtag counts as zero
    score   (now - usual) / sqrt(usual + 1); 4 or more is a breakout, if the minute has at least 5 uses

Counts of unrelated uses scatter around their mean by its square root (Poisson), so the score is about how many standard
deviations a count lies above the usual: small tags are not drowned by large ones, as in a difference, nor large ones
by small ones, as in a ratio. The 1 keeps a tag that was never seen from an infinite score; the 5 keeps it from
breaking out by a handful of uses. In the first minutes of the input nothing is usual yet: what is used much breaks out.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from math import sqrt

from msgspec import Struct

from streamproc import App, Previous, Stream, WindowResult, tumbling
from streamproc.apps.trending import Tweet, hashtags

MINUTES_BEFORE = 6
LEAST_SCORE = 4
LEAST_COUNT = 5


class Breakout(Struct):
    """A hashtag in the minute that begins at `at`."""

    tag: str
    at: datetime
    now: int
    usual: float
    score: float


app = App("breakout")
tweets = app.topic("tweets", value=Tweet, timestamp="created_at", grace="5s")
breakouts = app.topic("breakouts", key=str, value=Breakout)


def breaking(minute: WindowResult[str, Previous[int]]) -> Iterable[Breakout]:
    """The minute as a breakout, if it is one."""
    now, before = minute.value
    usual = sum(before) / len(before)
    score = (now - usual) / sqrt(usual + 1)
    if now >= LEAST_COUNT and score >= LEAST_SCORE:
        yield Breakout(minute.key, datetime.fromtimestamp(minute.start / 1_000, UTC), now, usual, score)


@app.stream(tweets, to=breakouts)
def breakout(tweets: Stream[bytes, Tweet]) -> Stream[str, Breakout]:
    """Count each hashtag by minute, set each minute beside the six before it, and keep those that break out."""
    return (
        tweets.flat_map(hashtags)
        .key_by(lambda tag: tag)
        .window(tumbling("1m"))
        .count()
        .with_previous(MINUTES_BEFORE, fill=0)
        .flat_map(breaking)
    )
