"""What the apps must give, computed by plain loops over the whole input, by definition, without streamproc.

Input is a list of partitions, each the list of its events in order of arrival. A partition's clock is the largest time
read from it so far; an event is late for a window if the window's end + grace is not after that clock, and for what has
no fixed end if its own time + grace is before it. Times are ms since the epoch.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

E = TypeVar("E", bound="Event")

SECOND = 1_000
MINUTE = 60 * SECOND


class Tweet(NamedTuple):
    at: int
    text: str


class Hit(NamedTuple):
    at: int
    ip: str
    page: str
    status: int
    size: int


class Reading(NamedTuple):
    at: int
    mote: int
    temperature: float


Event = Tweet | Hit | Reading


# -------------------------------------------------------------------------------------- reading the raw files


def tweet(row: dict[str, str]) -> Tweet:
    return Tweet(_ms(datetime.fromisoformat(row["Date Created"])), row["Tweet"])


def tweets(lines: Iterable[str]) -> list[Tweet]:
    return [tweet(row) for row in csv.DictReader(lines)]


def hit(line: str) -> Hit:
    """A line of the combined log format, cut at its separators."""
    ip, _, rest = line.partition(" ")
    at, _, rest = rest.partition("[")[2].partition("]")
    request, _, rest = rest.partition('"')[2].partition('" ')
    status, size = rest.split(" ")[:2]
    page = request.split(" ")[1].partition("?")[0]
    time = datetime.strptime(at, "%d/%b/%Y:%H:%M:%S %z")
    return Hit(_ms(time), ip, page, int(status), 0 if size == "-" else int(size))


def reading(line: str) -> Reading:
    tokens = line.replace(",", ".").split(" ")
    if len(tokens) == 10:  # "1 000" is a sequence number
        tokens[2:4] = [tokens[2] + tokens[3]]
    return Reading(int(tokens[0]), int(tokens[1]), float(tokens[6]))


def _ms(time: datetime) -> int:
    return round((time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * SECOND)


# -------------------------------------------------------------------------------------- lateness


def clocked(partitions: list[list[E]]) -> Iterator[tuple[E, int]]:
    """Every event with the clock of its partition when it was read."""
    for partition in partitions:
        clock = partition[0].at if partition else 0
        for event in partition:
            clock = max(clock, event.at)
            yield event, clock


def by_window(
    partitions: list[list[E]], keys: Callable[[E], Iterable[Any]], *, size: int, every: int, grace: int
) -> dict[int, dict[Any, list[E]]]:
    """The events by window start, then by key: each in all windows that hold it and for which it is not late."""
    windows: dict[int, dict[Any, list[E]]] = {}
    for event, clock in clocked(partitions):
        start = event.at - event.at % every
        while start + size > event.at:
            if start + size + grace > clock:
                for key in keys(event):
                    windows.setdefault(start, {}).setdefault(key, []).append(event)
            start -= every
    return windows


def in_time(partitions: list[list[E]], *, grace: int) -> list[E]:
    """The events that are not late by their own time."""
    return [event for event, clock in clocked(partitions) if event.at + grace >= clock]


# -------------------------------------------------------------------------------------- tweets


def hashtags(tweet: Tweet) -> list[str]:
    """What follows each # as long as it is letters, digits and underscores."""
    found = []
    text = tweet.text.lower() + " "
    for place, character in enumerate(text):
        if character == "#":
            end = place + 1
            while text[end].isalnum() or text[end] == "_":
                end += 1
            if end > place + 1:
                found.append(text[place + 1 : end])
    return found


def trends(partitions: list[list[Tweet]]) -> list[dict[str, Any]]:
    windows = by_window(partitions, hashtags, size=5 * MINUTE, every=10 * SECOND, grace=5 * SECOND)
    return [_top(start, start + 5 * MINUTE, windows[start]) for start in sorted(windows)]


def _top(start: int, end: int, events: dict[str, list[Any]]) -> dict[str, Any]:
    ranked = sorted((-len(found), key.encode()) for key, found in events.items())
    return {"start": start, "end": end, "top": [{"key": key.decode(), "value": -n} for n, key in ranked[:10]]}


def breakouts(partitions: list[list[Tweet]]) -> list[dict[str, Any]]:
    """By minute, then tag."""
    windows = by_window(partitions, hashtags, size=MINUTE, every=MINUTE, grace=5 * SECOND)
    found = []
    for start in sorted(windows):
        for tag in sorted(windows[start]):
            now = len(windows[start][tag])
            before = sum(len(windows.get(start - i * MINUTE, {}).get(tag, [])) for i in (1, 2, 3, 4, 5, 6))
            usual = before / 6
            score = (now - usual) / math.sqrt(usual + 1)
            if now >= 5 and score >= 4:
                at = datetime.fromtimestamp(start // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                found.append({"tag": tag, "at": at, "now": now, "usual": usual, "score": score})
    return found


# -------------------------------------------------------------------------------------- web log


def minutes(partitions: list[list[Hit]]) -> list[dict[str, Any]]:
    windows = by_window(partitions, lambda _: ["all"], size=MINUTE, every=MINUTE, grace=MINUTE)
    found = []
    for start in sorted(windows):
        hits = windows[start]["all"]
        row = {"hits": len(hits), "bytes": sum(h.size for h in hits), "errors": sum(h.status >= 400 for h in hits)}
        found.append({"key": None, "start": start, "end": start + MINUTE, **row})
    return found


def pages(partitions: list[list[Hit]]) -> list[dict[str, Any]]:
    windows = by_window(partitions, lambda h: [h.page], size=10 * MINUTE, every=10 * MINUTE, grace=MINUTE)
    return [_top(start, start + 10 * MINUTE, windows[start]) for start in sorted(windows)]


def sessions(partitions: list[list[Hit]]) -> list[dict[str, Any]]:
    """By end, start, address."""
    of: dict[str, list[list[Hit]]] = {}
    for h in sorted(in_time(partitions, grace=MINUTE), key=lambda h: h.at):
        known = of.setdefault(h.ip, [])
        if known and h.at - known[-1][-1].at <= 30 * MINUTE:
            known[-1].append(h)
        else:
            known.append([h])
    found = [
        {"key": ip, "start": hits[0].at, "end": hits[-1].at, "hits": len(hits), "bytes": sum(h.size for h in hits)}
        for ip, known in of.items()
        for hits in known
    ]
    return sorted(found, key=_place)


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["end"], row["start"], row["key"]


# -------------------------------------------------------------------------------------- sensors


def temperatures(partitions: list[list[Reading]]) -> list[dict[str, Any]]:
    """By window, then mote. The mean is that of the numbers as they are, rounded once."""
    windows = by_window(partitions, lambda r: [r.mote], size=10 * MINUTE, every=10 * MINUTE, grace=10 * SECOND)
    found = []
    for start in sorted(windows):
        for mote in sorted(windows[start]):
            degrees = [r.temperature for r in windows[start][mote]]
            mean = float(sum(map(Fraction, degrees)) / len(degrees))
            row = {"mean": mean, "low": min(degrees), "high": max(degrees)}
            found.append({"key": mote, "start": start, "end": start + 10 * MINUTE, **row})
    return found


def alerts(partitions: list[list[Reading]]) -> dict[int, list[dict[str, Any]]]:
    """The alerts of each mote. Silence is known of up to the newest reading of all partitions, less grace."""
    end = max(r.at for partition in partitions for r in partition) - 10 * SECOND
    last: dict[int, int] = {}
    found: dict[int, list[dict[str, Any]]] = {}
    for r in sorted(in_time(partitions, grace=10 * SECOND), key=lambda r: r.at):
        if r.mote in last and r.at >= last[r.mote] + 5 * MINUTE:
            silent = {"mote": r.mote, "status": "silent", "at": last[r.mote] + 5 * MINUTE}
            found.setdefault(r.mote, []).extend([silent, {"mote": r.mote, "status": "back", "at": r.at}])
        last[r.mote] = r.at
    for mote, at in last.items():
        if at + 5 * MINUTE <= end:
            found.setdefault(mote, []).append({"mote": mote, "status": "silent", "at": at + 5 * MINUTE})
    return found
