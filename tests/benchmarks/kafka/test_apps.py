"""What the benchmark compares is the same work: each app gives the rows that the oracle expects."""

from importlib import import_module

import pytest
from msgspec import json

from streamproc.testing import Record as Given
from streamproc.testing import replay
from tests.benchmarks.inputs import PARTITIONS, tweets_and_tags
from tests.benchmarks.kafka.check import Found, compare, expected_rows
from tests.benchmarks.kafka.names import JOBS, Names
from tests.benchmarks.kafka.topics import Record

RECORDS = 20_000
"""72 seconds of event time: windows of a minute close before the end of the input and with it."""


@pytest.mark.parametrize("job", JOBS)
def test_app(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a job, no more and no other, on a sample."""
    names = Names(job, "memory://", RECORDS, "sample")
    for name, value in names.environment().items():
        monkeypatch.setenv(name, value)
    apps = import_module("tests.benchmarks.kafka.apps")
    app = getattr(apps, {"pass": "pass_"}.get(job, job.replace("-", "_")))
    tweets, tags = tweets_and_tags(RECORDS)
    columns = tweets if "tweets" in names.source else tags
    source = [list(map(Record, part.keys, part.values, part.timestamps)) for part in columns]
    given = [Given(record.value, record.key, record.timestamp) for part in source for record in part]
    output = replay(app, {names.source: given}, partitions=PARTITIONS).records(names.results)
    expected = expected_rows(job, source, until_end=True)
    assert expected.total() > 1_000
    rows = [Record(_key(row.key), json.encode(row.value), row.timestamp) for row in output]
    assert compare(expected, rows) == Found(right=expected.total(), missing=0, extra=0)


def _key(key: str | bytes) -> bytes:
    return key.encode() if isinstance(key, str) else key


def test_check_counts_what_is_wrong() -> None:
    """A row that was lost, one that was doubled and one that was changed are told apart from those that are right."""
    row = b'{"tag":"a","count":%d}'
    source = [[Record(b"a", b'{"tag":"a"}', at) for at in range(4)]]
    expected = expected_rows("count", source)
    written = [Record(b"a", row % count, at) for at, count in ((0, 1), (1, 2), (1, 2), (2, 7))]
    assert compare(expected, written) == Found(right=2, missing=2, extra=2)
