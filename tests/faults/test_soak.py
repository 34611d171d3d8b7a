"""The soak can fail: what it says of a run that is right, and of the same run when something else was to be written."""

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks.kafka.check import expected_rows
from tests.benchmarks.kafka.load import load
from tests.benchmarks.kafka.names import Names
from tests.benchmarks.kafka.topics import read
from tests.faults.soak import Troubled, judged
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(120)

RECORDS = 5_000


async def test_a_window_that_is_not_there_and_one_too_many(tmp_path: Path, module_kafka: KafkaServer) -> None:
    """Each is told, in a run of two workers that is right."""
    names = Names("trend", module_kafka.bootstrap, RECORDS, "judged")
    await load(names.broker, RECORDS)
    expected = expected_rows("trend", await read(names.broker, names.source), until_end=True)
    await Troubled(random.Random(1), tmp_path, names).run(2)
    assert await judged(names, expected) == expected.total() > 0
    one = Counter([max(expected)])
    with pytest.raises(AssertionError, match="1 windows are missing, 0 are extra"):
        await judged(names, expected + one)
    with pytest.raises(AssertionError, match="0 windows are missing, 1 are extra"):
        await judged(names, expected - one)
