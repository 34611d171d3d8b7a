"""replay: run an app on given records, to the end of the input, and see what each topic received."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import msgspec

from streamproc.app import App
from streamproc.clock import ManualClock
from streamproc.errors import DefinitionError
from streamproc.launch import Launch, end_of_input, prepare
from streamproc.log import Columns, Partition, UnknownTopic
from streamproc.memory_log import MemoryLog
from streamproc.murmur2 import partition_of
from streamproc.operators.batch import FOREVER
from streamproc.operators.records import Record as WholeRecord
from streamproc.operators.running import Running
from streamproc.settings import Settings
from streamproc.state.keys import key_of
from streamproc.state.memory import MemoryDisk
from streamproc.state.table import Table
from streamproc.topic import BadRecord, Topic
from streamproc.windows.duration import Instant, instant_ms
from streamproc.worker import EndOfInput, Worker

T = TypeVar("T")


class Record(NamedTuple):
    """An input record. `timestamp` is the log's, in ms since the epoch or an aware datetime; None: that of the value.

    `value` is of the topic's type, or bytes to be decoded as they would be from the log.
    """

    value: Any
    key: Any = None
    timestamp: Instant | None = None


class Output(Mapping[str, list[Any]]):
    """What each topic received: values decoded by the topic's type, in order of partition and offset.

    late     late records by step
    errors   records that the error policy skipped or sent to a dead-letter topic, by step
    """

    def __init__(self, app: App, launch: Launch, log: MemoryLog, disk: MemoryDisk, workers: Sequence[Worker]) -> None:
        self._app = app
        self._launch = launch
        self._log = log
        self._disk = disk
        self.late = _sum(worker.late for worker in workers)
        self.errors = _sum(worker.skipped for worker in workers)

    def __getitem__(self, name: str) -> list[Any]:
        return [record.value for record in self.records(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(run_now(self._log.topics()))

    def __len__(self) -> int:
        return len(run_now(self._log.topics()))

    def records(self, name: str) -> list[WholeRecord[Any, Any]]:
        """A topic's records, whole, decoded by the topic's types; bytes for a topic the app does not declare."""
        topics = run_now(self._log.topics())
        if name not in topics:
            raise UnknownTopic(name, topics)
        found: list[WholeRecord[Any, Any]] = []
        topic = self._app.topics.get(name)
        for number in range(run_now(self._log.topics())[name].partitions):
            columns = run_now(self._log.read(Partition(name, number), 0, FOREVER)).columns
            keys: Sequence[Any] = columns.keys if topic is None else topic.decode_keys(columns.keys)
            values: Sequence[Any] = columns.values if topic is None else topic.decode_values(columns.values)
            headers = columns.headers or [None] * len(columns)
            rows = zip(keys, values, columns.timestamps, headers, strict=True)
            found += [WholeRecord(k, v, t, dict(h or ())) for k, v, t, h in rows]
        return found

    def table(self, name: str) -> dict[Any, Any]:
        """The rows of a running aggregate, by the name of its step (`count`) or of stream and step (`totals.count`)."""
        for node in self._launch.plan.nodes:
            if isinstance(node.kind, Running) and name in (node.name, node.step):
                stage = self._launch.plan.stage_of[node.id]
                found = {}
                for number in range(self._launch.topology.tasks[stage.name]):
                    store = self._disk.open(f"{stage.name}/{number}")
                    rows = Table[Any](store, node.name, self._app.codec()).whole()
                    found.update({key_of(key): node.kind.aggregate.result(held) for key, held in rows.items()})
                    store.close()
                return found
        msg = f"app {self._app.name!r} has no running aggregate named {name!r}"
        raise DefinitionError(msg)


def replay(
    app: App,
    inputs: Mapping[str, Iterable[Any]],
    *,
    partitions: int = 1,
    batch_size: int = 10_000,
    workers: int = 1,
    seed: int | None = None,
    until: Instant | None = None,
) -> Output:
    """Run the app on the records of each source topic, then end the input as `run --until-end` does.

    The plan, serdes, tasks and epochs are the real ones; log and stores are in memory. Inputs are values or `Record`s.
    batch_size and workers change no final result; partitions only which of several records of one millisecond comes
    first, and what is late. `seed` shuffles the arrival of inputs in time order within each
    topic's grace and draws the sizes of batches and the pace of partitions. Time goes on to `until` before the
    input ends, so that timers up to it fire.
    A record that fails under the policy "fail" raises RecordError.
    """
    rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    chunk_records = batch_size if seed is None else lambda: rng.choice((0, 1, rng.randint(1, batch_size), batch_size))
    log = MemoryLog(chunk_records=chunk_records)
    disk = MemoryDisk()
    sources = app.plan.sources  # first: stream functions may declare topics
    for name, topic in app.topics.items():
        if name in inputs and topic not in sources:
            msg = f"topic {name!r} is not read by app {app.name!r} from outside: inputs are for its sources"
            raise DefinitionError(msg)
    for topic in sources:
        given = [one if isinstance(one, Record) else Record(one) for one in inputs.get(topic.name, ())]
        _check_known(app, inputs)
        run_now(_fill(log, topic, _arrival(topic, given, rng if seed is not None else None), partitions))
    launch = run_now(prepare(app, log))
    end = run_now(end_of_input(launch, log))
    if until is not None:
        end = msgspec.structs.replace(end, until_ms=instant_ms(until))
    members = [_worker(app, launch, log, disk, end, f"worker-{n}") for n in range(workers)]
    run_now(_run(members, sum(launch.topology.tasks.values())))
    return Output(app, launch, log, disk, members)


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never has to wait, as those of a log in memory; also in a running loop."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    msg = "a coroutine that should not wait has waited"
    raise RuntimeError(msg)


async def _run(workers: Sequence[Worker], tasks: int) -> None:
    for worker in workers:
        await worker.start()
    turning = True
    while turning or sum(len(worker.tasks) for worker in workers) < tasks or not all(worker.done for worker in workers):
        turning = False
        for worker in workers:
            turning = await worker.turn(0) or turning
    for worker in workers:
        await worker.stop()


def _worker(app: App, launch: Launch, log: MemoryLog, disk: MemoryDisk, end: EndOfInput, member: str) -> Worker:
    settings: Settings = app.settings({}, {})
    return Worker(
        launch.plan,
        launch.topology,
        log,
        disk,
        app.codec(),
        settings=settings,
        clock=ManualClock(),
        member=member,
        partitions_of=launch.partitions_of,
        end=end,
    )


def _check_known(app: App, inputs: Mapping[str, Any]) -> None:
    for name in inputs:
        if name not in app.topics:
            known = ", ".join(sorted(app.topics))
            msg = f"app {app.name!r} has no topic {name!r}: its topics are {known}"
            raise DefinitionError(msg)


async def _fill(log: MemoryLog, topic: Topic[Any, Any], records: Sequence[Record], partitions: int) -> None:
    await log.create(topic.name, partitions=partitions, config={})
    sink = await log.sink(None, "replay")
    for place, record in enumerate(records):
        key = record.key if isinstance(record.key, bytes) else topic.encode_key(record.key)
        number = place % partitions if key is None else partition_of(key, partitions)
        sink.send(Partition(topic.name, number), Columns([key], [_encoded(topic, record)], [_time(topic, record)]))
    await sink.commit({})


def _encoded(topic: Topic[Any, Any], record: Record) -> bytes | None:
    return record.value if isinstance(record.value, bytes) else topic.encode_values([record.value])[0]


def _time(topic: Topic[Any, Any], record: Record) -> int:
    """The log's timestamp: the one given, else that of the value, so that no payload is ahead of it; else 0."""
    if record.timestamp is not None:
        return instant_ms(record.timestamp)
    if topic.timestamp is None:
        return 0
    try:
        *_, timestamps = topic.decode_columns(Columns([None], [_encoded(topic, record)], [0]), ahead_ms=FOREVER)
    except BadRecord:
        return 0
    return timestamps[0] if timestamps else 0


def _arrival(topic: Topic[Any, Any], records: list[Record], rng: random.Random | None) -> list[Record]:
    """Another order of arrival, in which no record comes later than the topic's grace allows."""
    if rng is None:
        return records
    delayed = [
        (_time(topic, record) + rng.randint(0, topic.grace_ms or 0), place) for place, record in enumerate(records)
    ]
    in_order = all(_time(topic, a) <= _time(topic, b) for a, b in pairwise(records))
    return [records[place] for _, place in sorted(delayed)] if in_order else records


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
