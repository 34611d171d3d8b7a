"""Web stats: a web server's log as figures a minute, top pages and visits. Learn here: raw lines, also bad ones.

    streamproc send access access.log
    streamproc run streamproc.apps.web_stats:app --until-end
    streamproc tail minutes     {"key": null, "start": ..., "end": ..., "hits": 74, "bytes": 5185322, "errors": 1}
    streamproc tail pages       {"start": ..., "end": ..., "top": [{"key": "/favicon.ico", "value": 6}, ...]}
    streamproc tail sessions    {"key": "50.16.19.13", "start": ..., "end": ..., "hits": 1, "bytes": 14872}

Lines are in the Apache combined (or common) format. An error is a status of 400 and up; pages are of ten minutes.
A session is an address's hits, each no more than half an hour after another; it ends with the last. A line that is not
of the format goes to `access-bad` as it came, with headers that say why. Lines may come a minute late.
"""

import re
from datetime import datetime

from msgspec import Struct

from streamproc import App, Stream, Top, WindowResult, agg, dead_letter, session, tumbling


class Hit(Struct):
    """A line of the log. `page` is the path without the query."""

    ip: str
    at: datetime
    page: str
    status: int
    size: int


class Visit(Struct):
    """What is counted of a session."""

    hits: int
    bytes: int


class Minute(Visit):
    """What is counted of a minute."""

    errors: int


LINE = re.compile(rb'(\S+) \S+ \S+ \[(.+?)\] "\S+ ([^\s?"]+)[^"]*" (\d{3}) (\d+|-)')


def parse(line: bytes) -> Hit:
    """The hit that a line tells of; ValueError if it is no such line."""
    found = LINE.match(line)
    if found is None:
        raise ValueError("not a line of an access log in the Apache format")
    ip, at, page, status, size = (part.decode() for part in found.groups())
    return Hit(ip, datetime.strptime(at, "%d/%b/%Y:%H:%M:%S %z"), page, int(status), 0 if size == "-" else int(size))


app = App("web-stats")
access = app.topic("access", decode=parse, timestamp="at", grace="1m", on_error=dead_letter("access-bad"))
minutes, pages, sessions = app.topic("minutes"), app.topic("pages"), app.topic("sessions", key=str)


@app.stream(access, to=minutes)
def traffic(hits: Stream[bytes, Hit]) -> Stream[None, WindowResult[None, Minute]]:
    """Three figures of all hits together; the log is read once for all three streams."""
    return hits.window_all(tumbling("1m")).aggregate(
        Minute, hits=agg.count(), bytes=agg.sum(lambda hit: hit.size), errors=agg.count(lambda hit: hit.status >= 400)
    )


@app.stream(access, to=pages)
def top_pages(hits: Stream[bytes, Hit]) -> Stream[None, Top[str, int]]:
    """The pages with the most hits."""
    return hits.key_by(lambda hit: hit.page).window(tumbling("10m")).count().top(10)


@app.stream(access, to=sessions)
def visits(hits: Stream[bytes, Hit]) -> Stream[str, WindowResult[str, Visit]]:
    """Two figures of each session of an address."""
    by_ip = hits.key_by(lambda hit: hit.ip).window(session("30m"))
    return by_ip.aggregate(Visit, hits=agg.count(), bytes=agg.sum(lambda hit: hit.size))
