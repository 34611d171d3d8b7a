"""The apps on a broker: the same commands on the same input give what they give on an embedded log, and the oracle."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import pytest
from msgspec import json

from tests.apps import oracles, samples
from tests.apps.data import ACCESS_LOG, MOTES, TWEETS, delayed, lines, tweet_records
from tests.cli.program import Program
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(120)

MINUTE = 60_000
PARTITIONS = 4
BLOCK_RECORDS = 100
"""`streamproc send` puts so many records without a key to one partition before it goes on to the next."""
SMALL_EPOCHS = ("--epoch-interval", "50ms", "--epoch-records", "500")
"""Many commits, so that two processes are in the midst of their work when they share it."""
BAD_LINES = (b"", b"what?", b'10.0.0.1 - - [31/Feb/2015:10:05:00 +0000] "GET / HTTP/1.1" 200 7')

Rows: TypeAlias = dict[tuple[str | None, str | None], list[Any]]
"""By key, and by partition of the source for dead letters, of which each partition's alone have an order."""


class Given(NamedTuple):
    """A line for `send`, and the event that it tells; None: it tells none."""

    line: bytes
    event: Any


class Job(NamedTuple):
    """What a user does with an app."""

    app: str
    source: str
    file: str
    results: tuple[str, ...]
    given: Callable[[], list[Given]]
    expected: Callable[[list[list[Given]]], dict[str, Rows]]
    sending: tuple[str, ...] = ()


def web_hits() -> list[Given]:
    """A real log with delays of hours, and lines in it that are none."""
    given = [Given(line, oracles.hit(line.decode())) for line in lines(ACCESS_LOG)[:5_000]]
    given = delayed(given, lambda one: one.event.at, up_to_ms=180 * MINUTE)
    for place in range(50, len(given), 333):
        given.insert(place, Given(BAD_LINES[place % 3], None))
    return given


def tweets() -> list[Given]:
    """A real opening day, or a made match day, with delays beyond the grace."""
    sent = tweet_records()[:4_000] if TWEETS.exists() else samples.tweets()
    given = [Given(line, oracles.tweet(json.decode(line))) for line in sent]
    return delayed(given, lambda one: one.event.at, up_to_ms=2 * MINUTE)


def readings() -> list[Given]:
    """A real day of motes, or a made morning, with delays in which a mote is silent."""
    sent = lines(MOTES)[:10_000] if MOTES.exists() else samples.readings()
    given = [Given(line, oracles.reading(line.decode())) for line in sent]
    return delayed(given, lambda one: one.event.at, up_to_ms=30 * MINUTE)


def in_blocks(given: list[Given]) -> list[list[Given]]:
    """The partitions as `send` fills them."""
    dealt: list[list[Given]] = [[] for _ in range(PARTITIONS)]
    for place, one in enumerate(given):
        dealt[place // BLOCK_RECORDS % PARTITIONS].append(one)
    return dealt


def events(partitions: list[list[Given]]) -> list[list[Any]]:
    return [[one.event for one in partition if one.event is not None] for partition in partitions]


def by_key(rows: Iterable[dict[str, Any]], name: str | None = None) -> Rows:
    """By the field that is the key; None: there is no key."""
    found: Rows = {}
    for row in rows:
        found.setdefault((None if name is None else str(row[name]), None), []).append(row)
    return found


def expected_of_web(partitions: list[list[Given]]) -> dict[str, Rows]:
    hits = events(partitions)
    bad = {number: [one.line.decode() for one in part if one.event is None] for number, part in enumerate(partitions)}
    return {
        "minutes": by_key(oracles.minutes(hits)),
        "pages": by_key(oracles.pages(hits)),
        "sessions": by_key(oracles.sessions(hits), "key"),
        "access-bad": {(None, str(number)): values for number, values in bad.items()},
    }


def expected_of_sensors(partitions: list[list[Given]]) -> dict[str, Rows]:
    motes = events(partitions)
    return {
        "temperatures": by_key(oracles.temperatures(motes), "key"),
        "alerts": {(str(mote), None): rows for mote, rows in oracles.alerts(motes).items()},
    }


def expected_of_tweets(partitions: list[list[Given]]) -> dict[str, Rows]:
    return {"trends": by_key(oracles.trends(events(partitions)))}


JOBS = (
    Job(
        "trending",
        source="tweets",
        file="tweets.jsonl",
        results=("trends",),
        given=tweets,
        expected=expected_of_tweets,
        sending=("--timestamp", "Date Created"),  # the made match day is in the future
    ),
    Job(
        "web_stats",
        source="access",
        file="access.log",
        results=("minutes", "pages", "sessions", "access-bad"),
        given=web_hits,
        expected=expected_of_web,
    ),
    Job(
        "sensors",
        source="readings",
        file="motes.txt",
        results=("temperatures", "alerts"),
        given=readings,
        expected=expected_of_sensors,
    ),
)


def written(program: Program, job: Job, broker: str, *options: str) -> dict[str, Rows]:
    """What is in each topic after `send` and `run --until-end`, as `tail` shows it.

    Without offsets: between a broker's records is what ends their transactions, and that has offsets too. And without
    the times of dead letters: when their lines were sent.
    """
    at = ("--broker", broker)
    program.run("send", job.source, job.file, "--partitions", str(PARTITIONS), *job.sending, *at)
    program.run("run", f"streamproc.apps.{job.app}:app", "--until-end", *SMALL_EPOCHS, *options, *at)
    found: dict[str, Rows] = {}
    for topic in job.results:
        rows = found[topic] = {}
        for row in program.tail(topic, "--json", *at):
            del row["offset"]
            headers = row.get("headers", {})
            if headers:
                del row["timestamp"], headers["streamproc-error-offset"], headers["streamproc-error-timestamp"]
            rows.setdefault((row["key"], headers.get("streamproc-error-partition")), []).append(row)
    return found


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.app)
def test_an_app_on_kafka_is_the_app_on_an_embedded_log(program: Program, module_kafka: KafkaServer, job: Job) -> None:
    """By two processes on a broker, by one on an embedded log: the same rows, in the same order by key.

    They are those of an independent computation, by which they would be others if no record came late.
    """
    given = job.given()
    program.write(job.file, b"".join(one.line + b"\n" for one in given))
    on_log = written(program, job, "local://log")
    on_kafka = written(program, job, f"kafka://{module_kafka.bootstrap}", "--processes", "2")
    assert on_kafka == on_log
    found = {topic: {key: [row["value"] for row in rows[key]] for key in rows} for topic, rows in on_kafka.items()}
    assert found == job.expected(in_blocks(given))
    in_time = sorted((one for one in given if one.event is not None), key=lambda one: one.event.at)
    assert all(found[topic] != rows for topic, rows in job.expected([in_time]).items())
