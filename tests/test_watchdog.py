"""The watchdog over workers on logs that do not do what they should, looked at by a clock that moves by hand."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from streamproc import App, Stream
from streamproc.clock import ManualClock
from streamproc.condition import condition_of
from streamproc.event_loop import Pulse
from streamproc.incidents import Incidents
from streamproc.launch import prepare
from streamproc.log import Aborted, Columns, Committed, GroupView, Log, MemberView, Partition, Sink, Source
from streamproc.memory_log import MemoryLog
from streamproc.plan import TaskId
from streamproc.restore import Restoring
from streamproc.runner import Run, run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop
from streamproc.watchdog import COMMIT_S, HELD_UP_S, JOIN_S, OWNERLESS_S, TURN_S, Watchdog
from streamproc.watched_log import Call, Traffic, WatchedLog

SOURCE = Partition("numbers", 0)


def doubling(**settings: Any) -> App:
    app = App("doubling", **settings)
    numbers, doubled = app.topic("numbers", value=int), app.topic("doubled")

    @app.stream(numbers, to=doubled)
    def double(numbers: Stream[bytes, int]) -> Stream[bytes, int]:
        return numbers.map(lambda n: 2 * n)

    return app


async def filled(partitions: int = 1) -> MemoryLog:
    log = MemoryLog()
    await log.create("numbers", partitions=partitions, config={})
    await send(log, 9)
    return log


async def send(log: Log, count: int) -> None:
    sink = await log.sink(None, "test")
    sink.send(SOURCE, Columns([None] * count, [b"%d" % n for n in range(count)], list(range(count))))
    await sink.commit({})


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Faulty(WatchedLog):
    """A log whose sources and sinks are changed by a test."""

    def change(self, source: Any, sink: Any) -> None:
        """Put other methods in."""

    async def sink(self, source: Source | None, member: str, *, exactly_once: bool = True) -> Sink:
        sink = await super().sink(source, member, exactly_once=exactly_once)
        if source is not None:
            self.change(source, sink)
        return sink


async def watched(log: WatchedLog, app: App, watchdog: Watchdog, stop: Stop) -> Run:
    """A run that is under way, in a task of its own."""
    begun: asyncio.Future[Run] = asyncio.get_running_loop().create_future()

    async def watch(under_way: Run) -> None:
        await watchdog.watch(under_way)
        if not begun.done():
            begun.set_result(under_way)

    settings = app.settings({}, {})
    running = asyncio.create_task(run(app, log, MemoryDisk(), settings, stop=stop, watch=watch, member="a"))
    waits: list[asyncio.Future[Any]] = [begun, running]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        await running
    return begun.result()


# -------------------------------------------------------------------------------------- incidents


def test_once_when_it_has_lasted_and_once_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Not before its time, not each time it is looked at; what was over before that is not said at all."""
    caplog.set_level(logging.INFO)
    incidents = Incidents()
    for now_s in range(4):
        incidents.see("hair", "on fire", now_s=now_s, after_s=2, task="a/0")
    incidents.see("hair", None, now_s=7, task="a/0")
    for now_s in (8, 9):
        incidents.see("hair", "on fire", now_s=now_s, after_s=2)
    incidents.see("hair", None, now_s=9.5)
    lines = [(record.levelname, record.getMessage(), record.__dict__["seconds"]) for record in caplog.records]
    assert lines == [("WARNING", "on fire, for 2.0 s now", 2), ("INFO", "over after 7.0 s: on fire", 7)]
    assert caplog.records[0].__dict__["task"] == "a/0"
    assert incidents.names() == []


def test_what_has_just_begun(caplog: pytest.LogCaptureFixture) -> None:
    """How long it has lasted is not said yet; a note is said behind what it belongs to."""
    caplog.set_level(logging.INFO)
    incidents = Incidents()
    incidents.see("hair", "on fire", now_s=1, note="Water helps")
    incidents.see("hair", None, now_s=4, note="It was curly")
    assert [record.getMessage() for record in caplog.records] == [
        "on fire. Water helps",
        "over after 3.0 s: on fire. It was curly",
    ]


def test_as_far_back_as_is_known(caplog: pytest.LogCaptureFixture) -> None:
    """What began before it was seen is told with how long it has really lasted."""
    Incidents().see("log", "Kafka does not answer", now_s=100, since_s=88)
    assert said(caplog) == ["Kafka does not answer, for 12 s now"]


# -------------------------------------------------------------------------------------- the worker


async def test_a_worker_that_works_has_nothing_said_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """However long it is looked at; its condition names its tasks."""
    app, log = doubling(), WatchedLog(await filled())
    watchdog = Watchdog("doubling", log, "a", app.settings({}, {}))
    with Stop() as stop:
        async with watchdog.watching():
            under_way = await watched(log, app, watchdog, stop)
            clock = asyncio.get_running_loop().time
            worker = under_way.worker
            await until(lambda: log.traffic.commits > 0 and not any(task.dirty for task in worker.tasks.values()))
            watchdog.look(clock())
            watchdog.look_at_group(await log.group("doubling"), clock())
            assert watchdog.condition.ready
            assert watchdog.condition.reason == "working on 1 task"
            assert watchdog.condition.tasks == ("numbers/0",)
            stop.request()
    assert said(caplog) == []


async def test_a_turn_that_does_not_end(caplog: pytest.LogCaptureFixture) -> None:
    """The call of the log that is under way is named, with how long."""

    class Hanging(Faulty):
        hangs = False

        def change(self, source: Any, sink: Any) -> None:
            real = sink.commit

            async def commit(offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
                if self.hangs:
                    with self.traffic.under_way("commit"):
                        await asyncio.Event().wait()
                return await real(offsets)  # type: ignore[no-any-return]

            sink.commit = commit

    app, log = doubling(epoch_interval="1ms"), Hanging(await filled())
    watchdog = Watchdog("doubling", log, "a", app.settings({}, {}))
    with Stop(leave_s=0.0) as stop:
        await watched(log, app, watchdog, stop)
        log.hangs = True
        await send(log, 1)
        await until(lambda: any(call.name == "commit" for call in log.traffic.calls))
        now_s = asyncio.get_running_loop().time()
        watchdog.look(now_s + TURN_S / 2)
        assert said(caplog) == []
        watchdog.look(now_s + TURN_S + 1)
        [line] = said(caplog)
        assert line.startswith("the worker is stuck: the log has not answered (commit for 16 s), for 16 s now")
        assert not watchdog.condition.ready
        assert watchdog.condition.reason == "waiting for 16 s for the log to answer: commit"
        watchdog.look(now_s + 10 * TURN_S)
        assert said(caplog) == []
        stop.request()


async def test_an_epoch_that_does_not_commit(caplog: pytest.LogCaptureFixture) -> None:
    """Turns end, records are read, and nothing is ever committed: said with what the last try gave."""

    class Refusing(Faulty):
        refuses = True

        def change(self, source: Any, sink: Any) -> None:
            real = sink.commit

            async def commit(offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
                if self.refuses:
                    self.traffic.commit_error = Aborted("the broker is full")
                    raise self.traffic.commit_error
                return await real(offsets)  # type: ignore[no-any-return]

            sink.commit = commit

    app, log = doubling(epoch_interval="200ms"), Refusing(await filled())
    watchdog = Watchdog("doubling", log, "a", app.settings({}, {}))
    with Stop() as stop:
        await watched(log, app, watchdog, stop)
        await until(lambda: log.traffic.commit_error is not None)
        now_s = asyncio.get_running_loop().time()
        for later in (0, COMMIT_S + 1):
            await watchdog.watch(watchdog._run)  # type: ignore[arg-type] # turns end, whatever the hand-moved clock says
            watchdog._turned_s = now_s + later
            watchdog.look(now_s + later)
        lines = [line for line in said(caplog) if "no epoch" in line]
        assert len(lines) == 1
        assert lines[0].startswith("no epoch has been committed (the last try: the broker is full; nothing of")
        assert lines[0].endswith("for 31 s now")
        log.refuses = False
        stop.request()


async def test_a_group_that_it_cannot_join(caplog: pytest.LogCaptureFixture) -> None:
    """Said when it takes long, and the condition says so at once."""
    log = WatchedLog(await filled())
    watchdog = Watchdog("doubling", log, "a", doubling().settings({}, {}))
    for now_s in (0.0, JOIN_S - 1, JOIN_S + 1):
        watchdog.look(now_s)
        assert (watchdog.condition.ready, watchdog.condition.reason) == (False, "joining group 'doubling'")
    assert said(caplog) == ["joining group 'doubling', for 31 s now"]


async def test_a_broker_that_does_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Polls return, with nothing: how long nothing came back is what tells."""

    class Silent:
        unanswered_s = 12.4
        held_up: Mapping[Partition, int] = {}
        outvoted = False

    log = WatchedLog(await filled())
    log.traffic.source = Silent()  # type: ignore[assignment]
    log.traffic.assigned = frozenset()
    watchdog = Watchdog("doubling", log, "a", doubling().settings({}, {}))
    watchdog.look(100.0)
    assert watchdog.condition.reason == "Kafka has not answered for 12 s"
    assert said(caplog) == ["Kafka does not answer, for 12 s now"]
    Silent.unanswered_s = 0.0
    watchdog.look(101.0)
    assert watchdog.condition.ready


async def test_no_answer_is_heard_while_a_function_runs(caplog: pytest.LogCaptureFixture) -> None:
    """The time for which the event loop was held is nobody's silence, however often; what comes behind it is."""

    class Unheard:
        asked_s = 100.0
        now_s = 100.0
        held_up: Mapping[Partition, int] = {}
        outvoted = False

        @property
        def unanswered_s(self) -> float:
            return self.now_s - self.asked_s

    log, source = WatchedLog(await filled()), Unheard()
    log.traffic.source = source  # type: ignore[assignment]
    log.traffic.assigned = frozenset()
    log.traffic._calls[source] = Call("poll", 100.0)
    watchdog = Watchdog("doubling", log, "a", doubling().settings({}, {}))
    watchdog._turned_s, watchdog._pulse = 100.0, Pulse(100.0)

    def beats(*instants: float) -> str:
        for now_s in instants:
            source.now_s = now_s
            watchdog._pulse.beat(now_s)
            watchdog.look(now_s)
        return watchdog.condition.reason

    no_tasks = "no tasks: the group has more workers than tasks"
    assert beats(100.25, 110.25, 110.5, 120.5, 120.75, 140.75) == no_tasks
    assert said(caplog) == []
    assert beats(*(140.75 + n / 4 for n in range(1, 18))) == "Kafka has not answered for 5 s"
    assert said(caplog) == ["Kafka does not answer, for 5.0 s now"]
    assert beats(150.75) == "Kafka has not answered for 5 s"
    assert said(caplog) == []
    assert beats(*(150.75 + n / 4 for n in range(1, 41))) == "Kafka has not answered for 15 s"
    assert said(caplog) == ["the worker is stuck: the log has not answered (poll for 15 s), for 61 s now"]
    source.asked_s = 160.75
    assert beats(160.75) == "waiting for 15 s for the log to answer: poll"
    log.traffic._calls.clear()
    assert beats(161.0) == no_tasks


async def test_a_worker_that_waits_for_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Where it is, is said for a report of the bug that this is."""
    log = WatchedLog(await filled())
    watchdog = Watchdog("doubling", log, "a", doubling().settings({}, {}))
    log.traffic.assigned = frozenset()

    async def turn() -> None:
        await asyncio.Event().wait()

    watchdog._turned_s, watchdog._main = 0.0, asyncio.create_task(turn())
    await asyncio.sleep(0)
    watchdog.look(TURN_S)
    watchdog._main.cancel()
    what = "the worker is stuck, and not because of the log: please report this"
    assert said(caplog) == [f"{what} (it is in turn > Event.wait), for 15 s now"]


async def test_a_partition_that_a_transaction_holds_up(caplog: pytest.LogCaptureFixture) -> None:
    """Said with the tools that find and end it, once, and again when it is over; each transaction for itself."""

    class HeldUp:
        unanswered_s = 0.0
        held_up: Mapping[Partition, int] = {}
        outvoted = False

    caplog.set_level(logging.INFO)
    log = WatchedLog(await filled())
    log.traffic.source = HeldUp()  # type: ignore[assignment]
    log.traffic.assigned = frozenset()
    watchdog = Watchdog("doubling", log, "a", doubling(broker="kafka://host:9092").settings({}, {}))

    def look(now_s: float, **offsets: int) -> list[str]:
        HeldUp.held_up = {Partition(topic, 0): offset for topic, offset in offsets.items()}
        watchdog.look(now_s)
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    assert look(0, visits=1200, clicks=5) == []
    assert look(HELD_UP_S - 1, visits=1200, clicks=7) == []
    what = "visits/0 cannot be read beyond offset 1,200: a transaction that somebody has open there holds it up"
    tool, where = "kafka-transactions.sh --bootstrap-server host:9092", "--topic visits --partition 0"
    [line] = look(HELD_UP_S, visits=1200, clicks=7)
    assert line.startswith(f"{what}, for 30 s now. ")
    assert f"`{tool} describe-producers {where}` shows whose it is" in line
    assert f"`{tool} abort {where} --start-offset 1200` ends it there" in line
    assert "an abort drops them from the partition: send them again" in line
    assert look(HELD_UP_S + 9, visits=1200, clicks=7) == []
    assert look(HELD_UP_S + 10) == [f"over after 40 s: {what}"]


# -------------------------------------------------------------------------------------- the group


def view(*members: tuple[str, Sequence[tuple[str, int]]], changing: bool = False) -> GroupView:
    return GroupView(changing, [MemberView(name, "host", frozenset(tasks)) for name, tasks in members])


async def test_tasks_without_owner(caplog: pytest.LogCaptureFixture) -> None:
    """They hold back all that comes behind them, so they are named; by one worker of the group, of those that work."""
    lines: dict[str, list[str]] = {}
    for member in ("a", "b", "c"):
        log = WatchedLog(await filled(partitions=4))
        app = doubling()
        launch = await prepare(app, log)
        assert launch.topology.tasks == {"numbers": 4}
        log.traffic.offered = frozenset(("numbers", number) for number in range(4))
        watchdog = Watchdog("doubling", log, member, app.settings({}, {}))
        groups = view(("a", ()), ("c", [("numbers", 0)]), ("b", [("numbers", 2)]))
        for now_s in (0.0, OWNERLESS_S - 1, OWNERLESS_S, OWNERLESS_S + 9):
            watchdog.look_at_group(groups, now_s)
        lines[member] = said(caplog)
        caplog.set_level(logging.INFO)
        watchdog.look_at_group(view(("b", [("numbers", n) for n in range(4)])), 50.0)
        lines[member] += [record.getMessage() for record in caplog.records]
        caplog.clear()
    assert lines == {
        "a": [],
        "c": [],
        "b": [
            "task numbers/1 has no owner, and holds back what comes behind it, for 20 s now",
            "task numbers/3 has no owner, and holds back what comes behind it, for 20 s now",
            "over after 50 s: task numbers/1 has no owner, and holds back what comes behind it",
            "over after 50 s: task numbers/3 has no owner, and holds back what comes behind it",
        ],
    }


async def test_a_group_that_does_not_settle(caplog: pytest.LogCaptureFixture) -> None:
    """While it shares out its tasks none has an owner, and that is said, not each task."""
    log = WatchedLog(await filled())
    log.traffic.offered = frozenset({("numbers", 0)})
    watchdog = Watchdog("doubling", log, "a", doubling().settings({}, {}))
    for now_s in (0.0, JOIN_S):
        watchdog.look_at_group(view(("a", ()), changing=True), now_s)
    assert said(caplog) == ["the group is sharing out its tasks, for 30 s now"]


# -------------------------------------------------------------------------------------- the condition


def test_the_way_to_the_tasks() -> None:
    """From joining, through restoring, to working; none at all is as ready as it will be."""

    class Outvoted:
        unanswered_s = 0.0
        held_up: Mapping[Partition, int] = {}
        outvoted = True

    traffic = Traffic()
    tasks = [TaskId("count", number) for number in range(8)]

    def reason(opened: Sequence[TaskId] = (), restoring: Mapping[TaskId, Restoring] | None = None) -> tuple[bool, str]:
        condition = condition_of("app", traffic, opened, restoring or {}, pulse=Pulse(0.0), now_s=0.0)
        return condition.ready, condition.reason

    assert reason() == (False, "joining group 'app'")
    traffic.assigned, traffic.was_assigned = frozenset(tasks[:2]), True
    half = Restoring(Partition("app-count-changelog", 1), ManualClock(), begin=0, position=40, end=100)
    assert reason() == (False, "opening count/0, opening count/1")
    assert reason(tasks[:1], {tasks[1]: half}) == (False, "restoring count/1: 40%")
    assert reason(tasks[:2]) == (True, "working on 2 tasks")
    traffic.assigned = frozenset(tasks)
    assert reason(tasks[:1])[1].endswith("opening count/5 and 2 more")
    traffic.assigned = None
    assert reason() == (False, "the group shares out its tasks anew")
    traffic.assigned = frozenset()
    assert reason() == (True, "no tasks: the group has more workers than tasks")
    traffic.source = Outvoted()  # type: ignore[assignment]
    assert reason() == (True, "no tasks: most workers of the group run another version of the app")
    traffic.leaving = True
    assert reason() == (False, "leaving group 'app'")
