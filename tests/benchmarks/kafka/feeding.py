"""A source that is written to while it is read, at an even pace; a record's timestamp is when it was sent."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaProducer
from msgspec import json

from tests.benchmarks.inputs import WORDS
from tests.benchmarks.kafka.names import Names

RATE: Final = 1_000
"""Records a second."""
PAUSE_S: Final = 0.005
KEYS: Final = 200


@asynccontextmanager
async def feeding(names: Names) -> AsyncIterator[None]:
    """Within it, records come."""
    async with AIOKafkaProducer(bootstrap_servers=names.broker) as producer:
        feed = asyncio.create_task(_feed(producer, names))
        try:
            yield
        finally:
            feed.cancel()
            await asyncio.gather(feed, return_exceptions=True)


async def _feed(producer: AIOKafkaProducer, names: Names) -> None:
    rng = random.Random(7)
    began, sent = time.monotonic(), 0
    while True:
        await asyncio.sleep(PAUSE_S)
        due = int((time.monotonic() - began) * RATE)
        for _ in range(due - sent):
            now_ms = time.time_ns() // 1_000_000
            key = f"tag{rng.randrange(KEYS)}"
            text = " ".join([*rng.choices(WORDS, k=10), "#" + key])
            record = {"id": sent, "tag": key, "user": "u1", "ts": now_ms, "lang": "en", "text": text}
            await producer.send(names.source, json.encode(record), key=key.encode(), timestamp_ms=now_ms)
        sent = max(due, sent)
