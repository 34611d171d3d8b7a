"""`streamproc tail TOPIC`."""

from __future__ import annotations

import asyncio
import heapq
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Final, NamedTuple

import rich_click as click

from streamproc.cli.failing import debug_option
from streamproc.cli.hints import with_hint
from streamproc.cli.record_text import json_line, readable
from streamproc.cli.setting_options import broker_option
from streamproc.errors import StreamprocError
from streamproc.log import Chunk, Log, OffsetOutOfRange, Partition, UnknownTopic, WireHeaders
from streamproc.log_url import open_log
from streamproc.settings import Settings, load_settings

CHUNK_RECORDS: Final = 1_000
POLL_S: Final = 0.2
"""How often a topic is looked at that is followed."""


class Row(NamedTuple):
    """A record as it is on the wire."""

    partition: Partition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: WireHeaders | None


@click.command(epilog="Example: streamproc tail trends --from -1")
@click.argument("topic")
@click.option(
    "--from",
    "begin",
    metavar="start|end|OFFSET",
    default="start",
    help="Where to begin; -10: ten before the end. [default: start]",
)
@click.option("--limit", metavar="N", type=click.IntRange(min=0), help="Show so many records, then end.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines; the default where the output is no terminal.")
@click.option("--follow/--no-follow", default=None, help="Wait for more at the end; the default with --from end.")
@broker_option
@debug_option
def command(
    topic: str,
    *,
    begin: str,
    limit: int | None,
    as_json: bool,
    follow: bool | None,
    broker: str | None,
    kafka: tuple[str, ...],
) -> None:
    """Show the records of a topic.

    It works beside a run that writes to it. JSON lines have the fields topic, partition, offset, timestamp (ms), key
    and value, and headers where there are any. A value is shown as the JSON that it is, else as text, else as
    {"base64": "..."}. Partitions are shown by time.
    """
    start = _start(begin)
    settings = load_settings({"broker": broker, "kafka": kafka}, dict(os.environ), {})
    if settings.broker.startswith("memory://"):
        raise StreamprocError(
            "memory:// is in the memory of the process that runs the app: there is nothing to see here"
        )
    show = json_line if as_json or not sys.stdout.isatty() else readable
    follow = begin == "end" if follow is None else follow
    try:
        asyncio.run(_tail(settings, topic, start, limit=limit, follow=follow, show=show))
    except KeyboardInterrupt:
        if not follow:  # with it, this is how it ends
            raise


def _start(begin: str) -> int | None:
    """An offset, from the end when negative; None: the end."""
    if begin in ("start", "end"):
        return 0 if begin == "start" else None
    try:
        return int(begin)
    except ValueError:
        raise click.UsageError(f"--from {begin!r}: it is start, end or an offset") from None


async def _tail(
    settings: Settings, topic: str, start: int | None, *, limit: int | None, follow: bool, show: Callable[..., str]
) -> None:
    async with AsyncExitStack() as stack:
        log = await open_log(settings, read_only=True)
        stack.push_async_callback(log.close)
        with with_hint(settings.broker):
            shown = 0
            if limit == 0:
                return
            async for row in _rows(log, topic, start, follow=follow):
                sys.stdout.write(show(*row) + "\n")
                shown += 1
                if shown == limit:
                    return


async def _rows(log: Log, topic: str, start: int | None, *, follow: bool) -> AsyncIterator[Row]:
    """The records, from each partition in its order and across them by time, as far as they are there."""
    topics = await log.topics()
    if topic not in topics:
        raise UnknownTopic(topic, topics)
    partitions = [Partition(topic, number) for number in range(topics[topic].partitions)]
    ends = await log.ends(partitions)
    positions = dict.fromkeys(partitions, start or 0)
    if start is None:
        positions.update(ends)
    elif start < 0:
        positions.update({p: await _begin_of_last(log, p, end, -start) for p, end in ends.items()})
    while True:
        # A chunk of each partition at a time: what is merged is bounded, and in order as far as the topic is.
        chunks = [await _chunk(log, partition, position) for partition, position in positions.items()]
        for row in heapq.merge(*map(_split, chunks), key=lambda row: row.timestamp):
            yield row
        before = dict(positions)
        positions.update((chunk.partition, chunk.next_offset) for chunk in chunks)
        if not any(chunk.offsets for chunk in chunks) and positions == before:  # a gap is no end
            sys.stdout.flush()
            if not follow:
                return
            await asyncio.sleep(POLL_S)


async def _begin_of_last(log: Log, partition: Partition, end: int, count: int) -> int:
    """The offset from which on there are so many records, or all there are: not every offset has one."""
    span = count
    while True:
        begin = max(0, end - span)
        offsets: list[int] = []
        position = begin
        while position < end and (chunk := await _chunk(log, partition, position)).next_offset > position:
            offsets += chunk.offsets
            position = chunk.next_offset
        if len(offsets) >= count or begin == 0:
            return offsets[-count] if len(offsets) >= count else begin
        span = 2 * span + count - len(offsets)


async def _chunk(log: Log, partition: Partition, position: int) -> Chunk:
    """The next records at or behind an offset; none behind the end."""
    try:
        return await log.read(partition, position, CHUNK_RECORDS)
    except OffsetOutOfRange as error:
        return await log.read(partition, error.start if position < error.start else error.end, CHUNK_RECORDS)


def _split(chunk: Chunk) -> Iterator[Row]:
    columns = chunk.columns
    headers = columns.headers or [None] * len(columns)
    for row in zip(chunk.offsets, columns.timestamps, columns.keys, columns.values, headers, strict=True):
        yield Row(chunk.partition, *row)
