"""`streamproc send TOPIC FILE`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import uuid4

import rich_click as click

from streamproc.cli.failing import debug_option
from streamproc.cli.setting_options import broker_option
from streamproc.counted import counted
from streamproc.errors import StreamprocError
from streamproc.launch import KEPT
from streamproc.log import Aborted, Columns, Log, LogError, Partition, Sink, Unknown
from streamproc.log_url import open_log
from streamproc.murmur2 import partition_of
from streamproc.settings import Settings, load_settings
from streamproc.text_input import Fields, Format, InputError, InputLine, format_of, read_text

EPOCH_RECORDS: Final = 5_000
"""Records become visible so many at a time,"""
EPOCH_S: Final = 0.5
"""or, from a pipe that brings few, those that have waited for so long, with the next one."""
BLOCK_RECORDS: Final = 100
"""So many records without a key go to one partition before the next one's turn comes."""


@click.command(epilog='Example: streamproc send tweets tweets.csv --timestamp "Date Created" --partitions 4')
@click.argument("topic")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--key", metavar="FIELD", help="The field that is the record's key; default: no key.")
@click.option("--timestamp", metavar="FIELD", help="The field that is the record's time; default: now.")
@click.option(
    "--unit", type=click.Choice(["ms", "s"]), default="ms", help="What a number in that field counts. [default: ms]"
)
@click.option("--tz", metavar="ZONE", help="The zone of times that name none, such as Europe/Rome.")
@click.option("--speed", metavar="60x", help="Event time passes so much faster than real time; needs --timestamp.")
@click.option(
    "--partitions", metavar="N", type=click.IntRange(min=1), help="Of the topic, if it is made now. [default: 1]"
)
@click.option("--format", "form", type=click.Choice(["json", "csv", "lines"]), help="Default: by the file's ending.")
@click.option("--lines", is_flag=True, help="Each line is a record as it is; the same as --format lines.")
@click.option("--delimiter", metavar="';'", help="Between the cells of a CSV; default: a comma, in .tsv a tab.")
@broker_option
@debug_option
def command(
    topic: str,
    file: str,
    *,
    key: str | None,
    timestamp: str | None,
    unit: Any,
    tz: str | None,
    speed: str | None,
    partitions: int | None,
    form: Format | None,
    lines: bool,
    delimiter: str | None,
    broker: str | None,
    kafka: tuple[str, ...],
) -> None:
    """Put the lines of a file into a topic: JSON lines, CSV or raw lines.

    FILE ends in .json, .jsonl, .csv, .tsv or anything else (raw lines); - is standard input, read as JSON lines unless
    told otherwise. A topic that is not there is made. CSV rows become JSON objects of strings (lax=True on the topic
    turns them into numbers). Records go to the partition of their key (Kafka's murmur2), those without one in turn,
    a hundred at a time.
    """
    form = "lines" if lines else form or _form(file, delimiter)
    fields = Fields(key=key, timestamp=timestamp, unit=unit, tz=tz)
    rate = _rate(speed, timestamp)
    source = "standard input" if file == "-" else file
    settings = load_settings({"broker": broker, "kafka": kafka}, dict(os.environ), {})
    with click.open_file(file, "rb") as data:
        lines_of = Lines(data)
        records = read_text(lines_of, form, source=source, fields=fields, delimiter=delimiter)
        asyncio.run(_send(settings, topic, records, lines_of, partitions=partitions, rate=rate))


def _form(name: str, delimiter: str | None) -> Format:
    if delimiter is not None:
        return "csv"
    return "json" if name == "-" else format_of(name)


def _rate(speed: str | None, timestamp: str | None) -> float | None:
    if speed is None:
        return None
    if timestamp is None:
        raise click.UsageError("--speed goes by the records' times: say with --timestamp which field they are")
    try:
        rate = float(speed.lower().removesuffix("x"))
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise click.UsageError(f"--speed {speed!r} is no speed: write 60x for sixty times as fast as real time")
    return rate


class Lines:
    """The lines of a file, one after the other; `read` says how many have been read."""

    def __init__(self, data: Iterable[bytes]) -> None:
        self.read = 0
        self._data = data

    def __iter__(self) -> Iterator[bytes]:
        for line in self._data:
            self.read += 1
            yield line


async def _send(
    settings: Settings,
    topic: str,
    records: Iterable[InputLine],
    lines: Lines,
    *,
    partitions: int | None,
    rate: float | None,
) -> None:
    async with AsyncExitStack() as stack:
        log = await open_log(settings)
        stack.push_async_callback(log.close)
        count = await _topic(log, topic, partitions)
        sender = Sender(topic, count, await log.sink(None, f"send-{uuid4().hex[:8]}"), lines)
        await sender.send(records, None if rate is None else _Pace(rate))
        sender.tell()


async def _topic(log: Log, name: str, partitions: int | None) -> int:
    """The topic is there; how many partitions it has."""
    known = (await log.topics()).get(name)
    if known is None:
        await log.create(name, partitions=partitions or 1, config=KEPT)
        return partitions or 1
    if partitions not in (None, known.partitions):
        raise StreamprocError(
            f"topic {name!r} is there already, with {counted(known.partitions, 'partition')} and not {partitions}: "
            "leave --partitions out, or send to a topic of another name"
        )
    return known.partitions


class Sender:
    """Records to their partitions, epoch by epoch. `sent` is what is committed."""

    def __init__(self, topic: str, partitions: int, sink: Sink, lines: Lines) -> None:
        self.sent = 0
        self._sent_lines = 0
        self._lines = lines
        self._read_lines = 0
        """Up to where what was taken goes."""
        self._topic = topic
        self._partitions = partitions
        self._sink = sink
        self._keyless = 0
        self._open: dict[int, Columns] = {}
        self._count = 0
        self._began = 0.0
        """When the first record of the open epoch was taken."""
        self._by_partition: dict[int, int] = {}

    async def send(self, records: Iterable[InputLine], pace: _Pace | None = None) -> None:
        """All of them. For a bad one, and where the log fails, raises StreamprocError: how many were sent."""
        try:
            for record in records:
                if pace is not None and (wait := pace.wait_s(record.timestamp)) > 0:
                    await self._commit()
                    await asyncio.sleep(wait)
                await self._add(record)
            await self._commit()
        except InputError as error:
            await self._commit()
            raise StreamprocError(f"{error}\n{_sent_before(self.sent)}") from error
        except (KeyboardInterrupt, asyncio.CancelledError):
            click.echo(f"{counted(self.sent, 'record')} {_were(self.sent)} sent to {self._topic}", err=True)
            raise

    async def _add(self, record: InputLine) -> None:
        """Take a record; it is visible after the epoch's commit."""
        if record.key is None:
            number = self._keyless // BLOCK_RECORDS % self._partitions
            self._keyless += 1
        else:
            number = partition_of(record.key, self._partitions)
        columns = self._open.get(number)
        if columns is None:
            columns = self._open[number] = Columns([], [], [])
        columns.keys.append(record.key)
        columns.values.append(record.value)
        columns.timestamps.append(time.time_ns() // 1_000_000 if record.timestamp is None else record.timestamp)
        now = time.monotonic()
        if not self._count:
            self._began = now
        self._count += 1
        self._read_lines = self._lines.read
        if self._count >= EPOCH_RECORDS or now - self._began >= EPOCH_S:
            await self._commit()

    async def _commit(self) -> None:
        """What was taken is visible."""
        if self._count:
            for number, columns in self._open.items():
                self._sink.send(Partition(self._topic, number), columns)
                self._by_partition[number] = self._by_partition.get(number, 0) + len(columns)
            try:
                await self._sink.commit({})
            except LogError as error:
                raise StreamprocError(f"{_reason(error)}\n{self._sent_at(error)}") from error
            self.sent += self._count
            self._sent_lines = self._read_lines
            self._open, self._count = {}, 0
            if sys.stderr.isatty():
                click.echo(f"\r{counted(self.sent, 'record')}", nl=False, err=True)

    def _sent_at(self, error: LogError) -> str:
        """What is said of an epoch that failed: how many were sent before it, and how to go on."""
        first = self._sent_lines + 1
        sent = "Nothing was sent"
        if self.sent:
            records = counted(self.sent, "record")
            sent = f"{records} {_were(self.sent)} sent, those before line {first:,}, and nothing after"
        if isinstance(error, Unknown):
            return (
                f"{sent} for sure. The {counted(self._count, 'record')} of lines {first:,} to {self._read_lines:,} may "
                f"have been sent: look with `streamproc tail {self._topic}` where to go on"
            )
        return f"{sent}: go on from line {first:,}"

    def tell(self) -> None:
        """Say how many went where."""
        if sys.stderr.isatty():
            click.echo("\r", nl=False, err=True)
        click.echo(f"{counted(self.sent, 'record')} to {self._topic}{_spread(self._by_partition, self._partitions)}")


class _Pace:
    """Event time passes `rate` times as fast as real time."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._began: tuple[int, float] | None = None

    def wait_s(self, timestamp: int | None) -> float:
        """How long until a record's time has come."""
        if timestamp is None:
            return 0.0
        now = time.monotonic()
        if self._began is None:
            self._began = timestamp, now
        first, began = self._began
        return began + (timestamp - first) / 1000 / self._rate - now


def _sent_before(count: int) -> str:
    if count == 0:
        return "Nothing was sent"
    return f"{counted(count, 'record')} before it {_were(count)} sent, nothing after it"


def _reason(error: LogError) -> str:
    """What happened, without what it means for a worker."""
    return str(error.args[0] if isinstance(error, (Aborted, Unknown)) else error)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _spread(counts: Mapping[int, int], partitions: int) -> str:
    if partitions == 1:
        return ""
    return f" ({', '.join(f'{number}: {counts.get(number, 0):,}' for number in range(partitions))})"
