"""The data files, and their records as they arrive."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from streamproc.text_input import read_text
from tests.apps import oracles

L = TypeVar("L")

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
TWEETS = SHARED / "tweets" / "worldcup2022_opening_day.csv"
MOTES = SHARED / "iot" / "ulb_library_motes.txt"
ACCESS_LOG = Path(__file__).parents[1] / "data" / "apache_access.log"


def needs(path: Path) -> pytest.MarkDecorator:
    """Skip a test where a file is not there that may not be shipped."""
    return pytest.mark.skipif(not path.exists(), reason=f"{path.name} may not be shipped: put it to {path}")


def tweet_records() -> list[bytes]:
    """The tweets as `streamproc send` makes them of the file."""
    with TWEETS.open("rb") as file:
        return [record.value for record in read_text(file, "csv")]


def tweets() -> list[oracles.Tweet]:
    with TWEETS.open(encoding="utf-8", newline="") as file:
        return oracles.tweets(file)


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def hits() -> list[oracles.Hit]:
    return [oracles.hit(line.decode()) for line in lines(ACCESS_LOG)]


def readings() -> list[oracles.Reading]:
    return [oracles.reading(line.decode()) for line in lines(MOTES)]


def dealt(records: list[L], partitions: int) -> list[list[L]]:
    """Records without a key, one after the other to each partition: as `replay` deals them."""
    return [records[number::partitions] for number in range(partitions)]


def delayed(records: list[L], time: Callable[[L], int], *, up_to_ms: int) -> list[L]:
    """An order of arrival in which one record of ten comes late, up to so much."""
    rng = random.Random(7)
    arrivals = [time(record) + (rng.randint(0, up_to_ms) if rng.random() < 0.1 else 0) for record in records]
    return [records[place] for place in sorted(range(len(records)), key=arrivals.__getitem__)]
