"""How a run that hangs ends: over logs that do not answer, in processes that do not yield."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from streamproc import App, Stream
from streamproc.log import Columns, Event, LogError, Partition, Sink, Source, TaskInput, Topic
from streamproc.memory_log import MemoryLog
from streamproc.runner import Run, run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop
from streamproc.watched_log import WatchedLog


def doubling() -> App:
    app = App("doubling", epoch_interval="1h")
    numbers, doubled = app.topic("numbers", value=int), app.topic("doubled")

    @app.stream(numbers, to=doubled)
    def double(numbers: Stream[bytes, int]) -> Stream[bytes, int]:
        return numbers.map(lambda n: 2 * n)

    return app


class Hanging(WatchedLog):
    """A log of which some calls never return."""

    def __init__(self, log: MemoryLog, *hangs: str) -> None:
        super().__init__(log)
        self.hangs = set(hangs)
        self.reached: list[str] = []

    async def reach(self, name: str) -> None:
        self.reached.append(name)
        if name in self.hangs:
            await asyncio.Event().wait()

    async def topics(self, describe: Collection[str] = ()) -> Mapping[str, Topic]:
        await self.reach("topics")
        return await super().topics(describe)

    async def source(self, group: str, member: str, tasks: Sequence[TaskInput], **options: Any) -> Source:
        source = await super().source(group, member, tasks, **options)
        _hanging(source, self.reach, "poll", "leave")
        return source

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> Sink:
        sink = await super().sink(source, member, exactly_once=exactly_once)
        _hanging(sink, self.reach, "commit", "abort")
        return sink


def _hanging(door: Any, reach: Callable[[str], Awaitable[None]], *names: str) -> None:
    for name in names:
        setattr(door, name, _reaching(getattr(door, name), reach, name))


def _reaching(call: Callable[..., Awaitable[Any]], reach: Callable[[str], Awaitable[None]], name: str) -> Any:
    async def reaching(*arguments: Any) -> Any:
        await reach(name)
        return await call(*arguments)

    return reaching


async def filled() -> MemoryLog:
    log = MemoryLog()
    await log.create("numbers", partitions=1, config={})
    sink = await log.sink(None, "test")
    sink.send(Partition("numbers", 0), Columns([None] * 9, [b"%d" % n for n in range(9)], list(range(9))))
    await sink.commit({})
    return log


@pytest.mark.parametrize("hangs", [("topics",), ("poll",), ("commit",), ("commit", "abort"), ("poll", "leave")])
async def test_a_log_that_does_not_answer(hangs: tuple[str, ...], caplog: pytest.LogCaptureFixture) -> None:
    """A run that is asked to stop ends, wherever it hangs; what was not committed is there for the next one."""
    memory = await filled()
    log, app = Hanging(memory, *hangs), doubling()
    with Stop(leave_s=0.1) as stop:

        async def ask() -> None:
            while hangs[0] not in log.reached:
                if hangs[0] == "commit":
                    stop.request()
                await asyncio.sleep(0.01)
            stop.request()

        asking = asyncio.create_task(ask())
        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, member="a")
        await asking
    assert "not done in time: the open epoch is dropped" in caplog.text
    if len(hangs) == 2:
        assert "the group was not left: no answer" in caplog.text
        memory.expel("doubling", "a")  # as Kafka does when it hears nothing of a member
    with Stop() as stop:
        progress = await run(app, memory, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True, member="a")
    assert progress.stages[0].records == 9
    assert (await memory.ends([Partition("doubled", 0)]))[Partition("doubled", 0)] == 9


async def test_a_time_out_of_something_else_is_an_error() -> None:
    """Only a run that was asked to stop may end so."""
    log, app = await filled(), doubling()

    async def late(_: Run) -> None:
        raise TimeoutError("of the watcher")

    with Stop() as stop, pytest.raises(TimeoutError, match="of the watcher"):
        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=late)


async def test_the_error_is_told_though_the_group_cannot_be_left() -> None:
    """What ends a run is what it is about, not what happens on the way out."""
    app, log = doubling(), await filled()
    with Stop() as stop:

        class Refusing(WatchedLog):
            async def source(self, *arguments: Any, **options: Any) -> Source:
                source: Any = await super().source(*arguments, **options)

                async def poll(partitions: Sequence[Partition], timeout_ms: int) -> list[Event]:
                    raise LogError("the poll")

                async def leave() -> None:
                    raise LogError("the goodbye")

                source.poll, source.leave = poll, leave
                return source  # type: ignore[no-any-return]

        with pytest.raises(LogError, match="the poll"):
            await run(app, Refusing(log), MemoryDisk(), app.settings({}, {}), stop=stop)


async def test_a_worker_that_cannot_begin_leaves() -> None:
    """Whoever has joined and cannot write is not waited for by its group."""
    log, app = await filled(), doubling()

    class Unwritable(WatchedLog):
        async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> Sink:
            raise LogError("no transactions here")

    with Stop() as stop, pytest.raises(LogError, match="no transactions here"):
        await run(app, Unwritable(log), MemoryDisk(), app.settings({}, {}), stop=stop)
    assert not (await log.group("doubling")).members


HELD = """
import logging, os, signal, sys, time
from streamproc.stop import Stop
logging.basicConfig(format="%(message)s")
def hold():
    while True:
        time.sleep(0.01)
with Stop(exit_s=0.3) as stop:
    print("up", flush=True)
    hold()
"""


def test_a_function_that_does_not_return() -> None:
    """The process ends though its event loop gets no turn; where it hung is said, and that nothing is lost."""
    with subprocess.Popen(
        [sys.executable, "-c", HELD], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "committing what was read; once more stops at once" in err
    assert "not done 0.3 s after it was asked to stop" in err
    assert "in hold" in err
    assert "nothing is lost" in err


def test_a_supervised_process_leaves_ctrl_c_to_its_supervisor() -> None:
    """SIGINT goes to all processes of a terminal; what it means comes from the supervisor. SIGTERM means the same."""
    with Stop(supervised=True) as stop:
        signal.raise_signal(signal.SIGINT)
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_a_supervised_process_commits_however_many_ask_it_to_stop() -> None:
    """A service manager signals all processes of a service, and the supervisor says it once more."""
    with Stop(supervised=True) as stop:
        signal.raise_signal(signal.SIGTERM)
        since = stop.since
        signal.raise_signal(signal.SIGTERM)
        assert stop.since == since


def test_asked_twice_by_the_program() -> None:
    """`request` is a first signal; a second one changes nothing."""
    with Stop() as stop:
        stop.request()
        since = stop.since
        stop.request()
        assert stop.since == since
