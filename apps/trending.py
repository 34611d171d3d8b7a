"""Trending: the ten most used hashtags of the last five minutes, every ten seconds. Learn here: keys, windows, top.

    streamproc send tweets tweets.csv
    streamproc run streamproc.apps.trending:app --until-end
    streamproc tail trends

Tweets are CSV rows or JSON objects with "Date Created", an instant, and "Tweet", the text. Out comes a record for each
window that has a hashtag, at the window's last millisecond:

    {"start": 1668960180000, "end": 1668960480000, "top": [{"key": "worldcup2022", "value": 73}, ...]}

A tweet counts in the thirty windows around it. One that comes more than five seconds late is left out of the windows
that closed meanwhile, and of no others. Upper and lower case are one; a tag that a tweet has twice counts twice.
"""

import re
from datetime import datetime

from msgspec import Struct, field

from streamproc import App, Stream, Top, hopping


class Tweet(Struct):
    """What the app needs of a tweet; other columns may be there."""

    created_at: datetime = field(name="Date Created")
    text: str = field(name="Tweet")


app = App("trending")
tweets = app.topic("tweets", value=Tweet, timestamp="created_at", grace="5s")
trends = app.topic("trends")


def hashtags(tweet: Tweet) -> list[str]:
    """The hashtags of a tweet, in lower case and without the #.

    >>> hashtags(Tweet(datetime.now(), "#Qatar - #Ecuador!"))
    ['qatar', 'ecuador']
    """
    return re.findall(r"#(\w+)", tweet.text.lower())


@app.stream(tweets, to=trends)
def trending(tweets: Stream[bytes, Tweet]) -> Stream[None, Top[str, int]]:
    """Count each hashtag by window, and keep the ten largest counts of each window."""
    return (
        tweets.flat_map(hashtags)  # a record a hashtag
        .key_by(lambda tag: tag)  # what is counted together
        .window(hopping("5m", every="10s"))  # one result a hashtag and window, when the window is complete
        .count()
        .top(10)
    )


if __name__ == "__main__":
    app.main()
