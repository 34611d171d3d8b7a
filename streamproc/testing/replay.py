"""replay: run an app on given records, to the end of the input, and see what each topic received."""

from __future__ import annotations

import random
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec

from streamproc.app import App
from streamproc.clock import ManualClock
from streamproc.end_of_input import LOOK_MS, EndOfInput
from streamproc.launch import Launch, end_of_input, prepare
from streamproc.memory_log import MemoryLog
from streamproc.operators.batch import FOREVER
from streamproc.settings import Settings
from streamproc.state.memory import MemoryDisk
from streamproc.testing.given import Record, given, spread, time_of
from streamproc.testing.received import Received
from streamproc.testing.stepped_jobs import SteppedJobs
from streamproc.topic import Topic
from streamproc.windows.duration import Instant, instant_ms
from streamproc.worker import Worker

T = TypeVar("T")


class Output(Received):
    """What each topic received: values decoded by the topic's type, in order of partition and offset.

    late     late records by step
    errors   records that the error policy skipped or sent to a dead-letter topic, by step
    """

    def __init__(self, app: App, launch: Launch, log: MemoryLog, disk: MemoryDisk, workers: Sequence[Worker]) -> None:
        super().__init__(
            app,
            launch,
            run_now(log.topics()),
            lambda partition: run_now(log.read(partition, 0, FOREVER)).columns,
            lambda task: disk.open(f"{task.stage}/{task.number}"),
        )
        self.late = _sum(worker.late for worker in workers)
        self.errors = _sum(worker.skipped for worker in workers)


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
    for topic, records in given(app, inputs).items():
        arriving = _arrival(topic, records, rng) if seed is not None else records
        run_now(_fill(log, topic, arriving, partitions))
    launch = run_now(prepare(app, log))
    end = run_now(end_of_input(launch, log))
    if until is not None:
        end = msgspec.structs.replace(end, until_ms=instant_ms(until))
    clock = ManualClock()
    members = [_worker(app, launch, log, disk, end, clock=clock, member=f"worker-{n}") for n in range(workers)]
    run_now(_run(members, clock))
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


async def _run(workers: Sequence[Worker], clock: ManualClock) -> None:
    for worker in workers:
        await worker.start()
    while not all(worker.done for worker in workers):
        turning = False
        for worker in workers:
            turning = await worker.turn(0) or turning
        if not turning:  # whose tasks have ended looks after the others' now and then
            clock.advance(LOOK_MS)
    for worker in workers:
        await worker.stop()


def _worker(
    app: App, launch: Launch, log: MemoryLog, disk: MemoryDisk, end: EndOfInput, *, clock: ManualClock, member: str
) -> Worker:
    settings: Settings = app.settings({}, {})
    return Worker(
        launch.plan,
        launch.topology,
        log,
        disk,
        app.codec(),
        settings=settings,
        clock=clock,
        member=member,
        partitions_of=launch.partitions_of,
        end=end,
        jobs=SteppedJobs(),
    )


async def _fill(log: MemoryLog, topic: Topic[Any, Any], records: Sequence[Record], partitions: int) -> None:
    await log.create(topic.name, partitions=partitions, config={})
    sink = await log.sink(None, "replay")
    for partition, columns in spread(topic, records, partitions).items():
        sink.send(partition, columns)
    await sink.commit({})


def _arrival(topic: Topic[Any, Any], records: list[Record], rng: random.Random) -> list[Record]:
    """Another order of arrival, in which no record comes later than the topic's grace allows."""
    delayed = [
        (time_of(topic, record) + rng.randint(0, topic.grace_ms or 0), place) for place, record in enumerate(records)
    ]
    in_order = all(time_of(topic, a) <= time_of(topic, b) for a, b in pairwise(records))
    return [records[place] for _, place in sorted(delayed)] if in_order else records


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return total
