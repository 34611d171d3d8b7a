import asyncio
import os
import signal
from collections.abc import Sequence
from typing import Literal

import pytest

from streamproc import App, RecordError, Stream, tumbling
from streamproc.log import Columns, Partition
from streamproc.memory_log import MemoryLog
from streamproc.runner import Progress, Run, StageProgress, run, state_folder
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop


def parity_app(on_error: Literal["fail", "skip"] = "fail") -> App:
    app = App("parity", on_error=on_error, epoch_interval="1s")
    numbers = app.topic("numbers", value=int, grace="1s")
    counts, halves = app.topic("counts"), app.topic("halves")

    @app.stream(numbers, to=(counts, halves))
    def parity(numbers: Stream[bytes, int]) -> object:
        return numbers.key_by(lambda n: n % 2).window(tumbling("1m")).count(), numbers.map(inverse)

    return app


def inverse(number: int) -> float:
    return 1 / number


async def filled(numbers: Sequence[int]) -> MemoryLog:
    """The numbers, one each second."""
    log = MemoryLog(chunk_records=50)
    await log.create("numbers", partitions=1, config={})
    await append(log, numbers)
    return log


async def append(log: MemoryLog, numbers: Sequence[int]) -> None:
    sink = await log.sink(None, "test")
    values: list[bytes | None] = [b"%d" % number for number in numbers]
    sink.send(Partition("numbers", 0), Columns([None] * len(values), values, [n * 1_000 for n in numbers]))
    await sink.commit({})


async def end_of(log: MemoryLog, topic: str) -> int:
    return (await log.ends([Partition(topic, 0)]))[Partition(topic, 0)]


async def test_to_the_end() -> None:
    """A run to the end reads what is there, closes what is open, and tells how far it came."""
    app, log = parity_app(), await filled(range(1, 201))
    with Stop() as stop:
        progress = await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True)
    assert [(stage.name, stage.lag) for stage in progress.stages] == [("numbers", 0), ("parity-key_by", 0)]
    assert [stage.records for stage in progress.stages] == [200, 200], "marks are no records"
    assert progress.stages[0].event_time == 200_000
    assert await end_of(log, "halves") == 200
    assert await end_of(log, "counts") == 8
    assert str(progress).startswith("numbers 200 records, parity-key_by ")


async def test_what_is_read_again_counts_once() -> None:
    """A batch in which a function raises is dropped and read again record by record; the record left out was read."""
    app, log = parity_app(on_error="skip"), await filled([*range(1, 101), 0, *range(101, 200)])
    with Stop() as stop:
        progress = await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True)
    assert progress.stages[0].records == 200
    assert progress.skipped == {"parity.map-inverse": 1}


async def test_a_run_that_does_not_stop_in_time_tells_what_it_read() -> None:
    """Its last epoch is dropped, and how far it was is not forgotten."""
    app, log = parity_app(), await filled(range(1, 11))
    with Stop(leave_s=0.01) as stop:

        async def hang(under_way: Run) -> None:
            if under_way.known().stages[0].records:
                stop.request()
                await asyncio.Event().wait()

        progress = await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=hang)
    assert progress.stages[0].records == 10
    assert await end_of(log, "halves") == 0


def test_nothing_read() -> None:
    """A run that never had a task says so."""
    assert str(Progress((), {}, {}, 17.24)) == "nothing read in 17.2 s"


def test_what_is_not_counted() -> None:
    """Processes that died are said where the counts are."""
    read = Progress((StageProgress("in", 1, 0, None),), {}, {}, 2.0, cut_short=3)
    assert str(read) == "in 1 record in 2.0 s; not counted: what 3 processes read in the last second before death"


async def test_late_records_are_told() -> None:
    """Late records are counted by step, those of the last epoch too."""
    app, log = parity_app(), await filled([1, 500, 3])
    with Stop() as stop:
        progress = await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True)
    assert progress.late == {"parity.count": 1}
    assert str(progress).endswith("; late: parity.count 1")


async def test_it_stops_when_asked_and_commits_what_it_read() -> None:
    """A run that has no end ends when asked to, between two turns; the next one goes on from there."""
    app, log, disk = parity_app(), await filled(range(1, 201)), MemoryDisk()
    settings = app.settings({}, {})
    with Stop() as stop:

        async def ask(under_way: Run) -> None:
            stop.requested = (await under_way.progress()).stages[0].records >= 100

        first = await run(app, log, disk, settings, stop=stop, watch=ask)
    assert 100 <= first.stages[0].records < 200
    assert await end_of(log, "halves") == first.stages[0].records
    with Stop() as stop:
        second = await run(app, log, disk, settings, stop=stop, until_end=True)
    assert first.stages[0].records + second.stages[0].records == 200
    assert await end_of(log, "counts") == 8


async def test_a_live_run_takes_what_comes() -> None:
    """Without an end, records that come later are read too."""
    app, log = parity_app(), await filled(range(1, 11))
    with Stop() as stop:

        async def more(under_way: Run) -> None:
            read = (await under_way.progress()).stages[0].records
            if read == 10:
                await append(log, range(11, 21))
            stop.requested = read == 20

        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=more)
    assert await end_of(log, "halves") == 20


async def test_a_record_that_fails_ends_it() -> None:
    """Nothing of the epoch is committed, and another run can join at once."""
    app, log, disk = parity_app(), await filled([1, 2, 0, 4]), MemoryDisk()
    for _ in range(2):
        with Stop() as stop, pytest.raises(RecordError, match=r"parity.map-inverse: numbers/0 at offset 2"):
            await run(app, log, disk, app.settings({}, {}), stop=stop, until_end=True)
        assert await end_of(log, "halves") == 0


async def test_an_error_of_the_watcher_commits_nothing() -> None:
    """Whatever ends a run but a request to stop leaves the open epoch out."""
    app, log, disk = parity_app(), await filled(range(1, 11)), MemoryDisk()

    async def fail(under_way: Run) -> None:
        if (await under_way.progress()).stages[0].records:
            raise KeyboardInterrupt

    with Stop() as stop, pytest.raises(KeyboardInterrupt):
        await run(app, log, disk, app.settings({}, {}), stop=stop, watch=fail)
    assert await end_of(log, "halves") == 0
    with Stop() as stop:
        await run(app, log, disk, app.settings({}, {}), stop=stop, until_end=True)
    assert await end_of(log, "halves") == 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    """The first signal asks, the second ends the process; outside of it the handlers are the ones from before."""
    before = signal.getsignal(number)
    with Stop() as stop:
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), number)
        assert ended.value.code == 128 + number
    assert signal.getsignal(number) is before


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ({}, ".streamproc/state/parity"),
        ({"broker": "local://data"}, "data/state/parity"),
        ({"broker": "local:///var/data"}, "/var/data/state/parity"),
        ({"broker": "local://data", "state_dir": "here"}, "here/parity"),
        ({"broker": "memory://", "state_dir": "here"}, "here/parity"),
        ({"broker": "kafka://broker:9092"}, ".streamproc/kafka/state/parity"),
    ],
)
def test_state_folder(flags: dict[str, str], folder: str) -> None:
    """State is kept beside the local log, or where it is told to, and by app: two apps on a log share no store."""
    app = parity_app()
    assert str(state_folder(app, app.settings(flags, {}))) == folder
