"""The same jobs without a framework: what somebody writes who knows the data, and wants the loop to be fast.

From columns of bytes to columns of bytes, by chunks: msgspec decodes and encodes, dicts and Counters compute by slices,
the partitions of keys are remembered. One process has all partitions; there is no state on disk, no changelog, no
offset, no late record, no error policy and no restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import msgspec

from streamproc.log import Columns
from streamproc.murmur2 import partition_of
from tests.benchmarks.inputs import PARTITIONS, Input, cut
from tests.benchmarks.jobs import HASHTAG, English, Tag, Tally, Tweet

CHUNK = 10_000
"""Records a step, as the log gives them to the engine."""
SLICE_RECORDS = 512
"""Records that are looked at together for the window they are in."""
MINUTE_MS = 60_000
GRACE_MS = 1_000

_tweet = msgspec.json.Decoder(Tweet).decode
_tag = msgspec.json.Decoder(Tag).decode
_encode = msgspec.json.Encoder().encode


class Row(msgspec.Struct):
    """A window's count."""

    key: str
    start: int
    end: int
    value: int


class Results:
    """A topic that is written to: the partition of a key is computed once."""

    def __init__(self) -> None:
        self.partitions = [Columns([], [], []) for _ in range(PARTITIONS)]
        self._numbers: dict[bytes, int] = {}

    def add(self, keys: Sequence[bytes], values: Sequence[bytes], timestamps: Sequence[int]) -> None:
        """Append records."""
        numbers = self._numbers
        for key in set(keys) - numbers.keys():
            numbers[key] = partition_of(key, PARTITIONS)
        writes = [(c.keys.append, c.values.append, c.timestamps.append) for c in self.partitions]
        for key, value, timestamp in zip(keys, values, timestamps, strict=True):
            put_key, put_value, put_timestamp = writes[numbers[key]]
            put_key(key)
            put_value(value)
            put_timestamp(timestamp)

    def add_windows(self, windows: Iterator[tuple[int, int, list[tuple[str, int]]]]) -> None:
        """Append the counts of windows (start, end, counts)."""
        for start, end, counts in windows:
            values = [_encode(Row(key, start, end, count)) for key, count in counts]
            self.add([key.encode() for key, _ in counts], values, [end - 1] * len(counts))


def _chunks(topic: Input) -> Iterator[tuple[int, Sequence[bytes], Sequence[bytes], Sequence[int]]]:
    """The partitions in turn: number, keys, values, timestamps."""
    for number, chunk in cut(topic, CHUNK):
        yield number, _given(chunk.keys), _given(chunk.values), chunk.timestamps


def _given(column: Sequence[bytes | None]) -> Sequence[bytes]:
    """No record of these topics is without a key or a value."""
    return cast("Sequence[bytes]", column)


def english(tweets: Input) -> Results:
    """The job `pass`."""
    results = Results()
    for _, keys, values, timestamps in _chunks(tweets):
        rows = zip(keys, map(_tweet, values), timestamps, strict=True)
        kept = [row for row in rows if row[1].lang == "en"]
        encoded = [_encode(English(tweet.user, tweet.text, len(tweet.text))) for _, tweet, _ in kept]
        results.add([key for key, _, _ in kept], encoded, [timestamp for _, _, timestamp in kept])
    return results


def tallies(tags: Input) -> Results:
    """The job `count`."""
    results = Results()
    counts: dict[str, int] = {}
    get = counts.get
    for _, keys, values, timestamps in _chunks(tags):
        names = [row.tag for row in map(_tag, values)]
        encoded = []
        for name in names:
            counts[name] = count = get(name, 0) + 1
            encoded.append(_encode(Tally(name, count)))
        results.add(keys, encoded, timestamps)
    return results


def minutes(tags: Input) -> Results:
    """The job `tumble`."""
    return _windowed(tags, lambda: Slices(MINUTE_MS))


def fives(tags: Input) -> Results:
    """The job `hop`."""
    return _windowed(tags, lambda: Sliding(10_000, 5 * MINUTE_MS))


def trends(tweets: Input) -> Results:
    """The job `trend`: hashtags go by the partition of their name, and a task counts those of each."""
    results, routed = Results(), Results()
    windows = [Slices(MINUTE_MS) for _ in range(PARTITIONS)]
    clocks = [0] * PARTITIONS
    for number, _, values, _ in _chunks(tweets):
        keys: list[bytes] = []
        timestamps: list[int] = []
        for tweet in map(_tweet, values):
            for tag in HASHTAG.findall(tweet.text.lower()):
                keys.append(tag.encode())
                timestamps.append(tweet.ts)
        clocks[number] = max(clocks[number], *timestamps)
        routed.add(keys, keys, timestamps)
        if number == PARTITIONS - 1:  # all are as far as this
            for slices, columns in zip(windows, routed.partitions, strict=True):
                slices.add(list(map(bytes.decode, _given(columns.keys))), columns.timestamps)
                results.add_windows(slices.close(min(clocks) - GRACE_MS))
                for column in (columns.keys, columns.values, columns.timestamps):
                    column.clear()
    for slices, columns in zip(windows, routed.partitions, strict=True):
        slices.add(list(map(bytes.decode, _given(columns.keys))), columns.timestamps)
        results.add_windows(slices.close())
    return results


def _windowed(tags: Input, windows: Callable[[], Slices]) -> Results:
    results = Results()
    tasks = [windows() for _ in tags]
    clocks = [0] * PARTITIONS
    for number, _, values, _ in _chunks(tags):
        rows = list(map(_tag, values))
        timestamps = [row.ts for row in rows]
        clocks[number] = max(clocks[number], *timestamps)
        tasks[number].add([row.tag for row in rows], timestamps)
        results.add_windows(tasks[number].close(clocks[number] - GRACE_MS))
    for task in tasks:
        results.add_windows(task.close())
    return results


class Slices:
    """Counts by slice and key; a tumbling window is one slice."""

    def __init__(self, slice_ms: int) -> None:
        self.slice_ms = slice_ms
        self.counts: dict[int, Counter[str]] = {}

    def add(self, keys: Sequence[str], timestamps: Sequence[int]) -> None:
        """Count records, none of which may be late."""
        size, counts = self.slice_ms, self.counts
        for at in range(0, len(keys), SLICE_RECORDS):
            some, times = keys[at : at + SLICE_RECORDS], timestamps[at : at + SLICE_RECORDS]
            first = min(times) // size * size
            if max(times) < first + size:
                counts.setdefault(first, Counter()).update(some)
            else:
                for key, timestamp in zip(some, times, strict=True):
                    counts.setdefault(timestamp // size * size, Counter())[key] += 1

    def close(self, to: int | None = None) -> Iterator[tuple[int, int, list[tuple[str, int]]]]:
        """The windows that end at or before `to` (None: all), in order: (start, end, counts by key)."""
        for start in sorted(self.counts):
            if to is not None and start + self.slice_ms > to:
                return
            yield start, start + self.slice_ms, sorted(self.counts.pop(start).items())


class Sliding(Slices):
    """Hopping windows of many slices, by a running total."""

    def __init__(self, slice_ms: int, size_ms: int) -> None:
        super().__init__(slice_ms)
        self.size_ms = size_ms
        self._total: dict[str, int] = {}
        self._end: int | None = None

    def close(self, to: int | None = None) -> Iterator[tuple[int, int, list[tuple[str, int]]]]:
        """The windows that end at or before `to` (None: all), in order: (start, end, counts by key)."""
        total = self._total
        while self.counts:
            end = min(self.counts) + self.slice_ms if self._end is None else self._end
            if to is not None and end > to:
                return
            for key, count in self.counts.get(end - self.slice_ms, {}).items():
                total[key] = total.get(key, 0) + count
            yield end - self.size_ms, end, sorted(total.items())
            for key, count in self.counts.pop(end - self.size_ms, {}).items():
                total[key] -= count
                if not total[key]:
                    del total[key]
            self._end = end + self.slice_ms


BY_HAND: dict[str, Callable[[Input], Results]] = {
    "pass": english,
    "count": tallies,
    "tumble": minutes,
    "hop": fives,
    "trend": trends,
}
