"""What a start would say, said before it."""

import re
from typing import Any

import pytest

from streamproc import App, Stream, tumbling
from streamproc.clock import ManualClock
from streamproc.compatibility import Compatibility, compatibility
from streamproc.errors import PlanChanged
from streamproc.log import Columns, Committed, LogError, Partition
from streamproc.memory_log import MemoryLog
from streamproc.runner import Run, run
from streamproc.state.memory import MemoryDisk
from streamproc.stop import Stop


def counting(
    *, size: str = "1m", name: str = "count", grace: str = "1s", stateless: bool = False, sorts: bool = False
) -> App:
    app = App("counting", epoch_interval="1ms")
    words, counts, shouted = app.topic("words", value=str, grace=grace), app.topic("counts"), app.topic("shouted")

    @app.stream(words, to=(counts, shouted))
    def count(words: Stream[bytes, str]) -> Any:
        by_word = words.key_by(lambda word: word)
        if sorts:
            by_word.in_order().to(shouted)
        return by_word.window(tumbling(size)).count(name=name), words.map(str.upper if stateless else str.title)

    return app


async def filled(partitions: int = 2) -> MemoryLog:
    log = MemoryLog()
    await log.create("words", partitions=partitions, config={})
    sink = await log.sink(None, "test")
    for number in range(partitions):
        sink.send(Partition("words", number), Columns([None] * 9, [b"a"] * 9, list(range(9))))
    await sink.commit({})
    return log


async def run_once(app: App, log: MemoryLog) -> None:
    with Stop() as stop:
        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, until_end=True, member="a")


async def run_until_read(log: MemoryLog, offset: int) -> None:
    """A live run that is stopped as soon as the first stage has committed: what it wrote waits."""
    app = counting()
    with Stop() as stop:

        async def look(_: Run) -> None:
            committed = (await log.committed("counting")).get(Partition("words", 0))
            if committed is not None and committed.offset == offset:
                stop.request()

        await run(app, log, MemoryDisk(), app.settings({}, {}), stop=stop, watch=look, member="a")


async def checked(app: App, log: MemoryLog) -> Compatibility:
    """What is said; and that nothing was made or changed, and the start says the same."""
    before = (dict(await log.topics()), dict(await log.committed("counting")))
    ends = await log.ends([Partition(name, n) for name, topic in before[0].items() for n in range(topic.partitions)])
    found = await compatibility(app, log, app.settings({}, {}), ManualClock(1_000))
    assert (dict(await log.topics()), dict(await log.committed("counting"))) == before
    assert await log.ends(list(ends)) == ends
    if found.refused:
        with pytest.raises((PlanChanged, LogError)) as refused:
            await run_once(app, log)
        assert str(refused.value).partition(" has state of ")[0].partition("/")[0] in " ".join(found.refused)
    return found


async def test_nothing_is_stored() -> None:
    """Any plan can begin; the topics that it makes are named, and not made."""
    found = await checked(counting(), await filled())
    assert found.refused == ()
    assert (found.positions, found.tasks) == (0, 0)
    made = {"counts", "shouted", "counting-count-key_by-changelog", "counting-count-key_by-repartition"}
    assert set(found.makes) == made


async def test_the_same_plan() -> None:
    """It goes on from its positions, with its state."""
    app, log = counting(), await filled()
    await run_once(app, log)
    assert await checked(counting(), log) == Compatibility((), positions=4, tasks=2)


async def test_what_is_noted_of_restores_does_not_count() -> None:
    """A worker was stopped in the midst of one: that is no position, and has no plan."""
    app, log = counting(), await filled()
    await run_once(app, log)
    note = Committed(1, '{"restores": "a", "begin": 0, "end": 9}')
    log.records().write({}, "counting", {Partition("counting-count-key_by-changelog", 0): note})
    assert await checked(counting(), log) == Compatibility((), positions=4, tasks=2)


async def test_what_may_change() -> None:
    """Stateless steps are free; so is the plan that differs in them."""
    log = await filled()
    await run_once(counting(), log)
    assert (await checked(counting(stateless=True), log)).refused == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"size": "2m"},
            r"has state of count.count, which has changed: tumbling\('1m'\) -> tumbling\('2m'\)\. Go back to",
        ),
        ({"grace": "2s"}, "has state of count.count, which has changed: grace 1s -> 2s. Go back to"),
        (
            {"name": "other"},
            r"has state of count.count, which the plan does not have \(any more\)\. Give the step its old name",
        ),
    ],
)
async def test_state_of_another_plan(change: Any, said: str) -> None:
    """Refused with the step and the ways out, once a stage, however many tasks it has."""
    log = await filled()
    await run_once(counting(), log)
    [refused] = (await checked(counting(**change), log)).refused
    assert re.search(said, refused)
    assert "streamproc reset" in refused
    assert refused.endswith("(So it is with 1 more task of stage count-key_by.)")


async def test_another_app_of_the_name() -> None:
    """Its state is not to be reset before it is known to be nobody else's."""
    log = await filled()
    await run_once(counting(), log)
    app = App("counting")

    @app.stream(app.topic("words", value=str), to=app.topic("lengths"))
    def lengths(words: Stream[bytes, str]) -> Any:
        return words.key_by(len).window(tumbling("1m")).count()

    [refused] = (await compatibility(app, log, app.settings({}, {}), ManualClock(1_000))).refused
    assert refused.startswith(
        "there is state in topic 'counting-count-key_by-changelog', for which this plan has no stage. Is there another "
        "app named 'counting'? Then give one of the two another name. If it is of an earlier version of this one: "
    )


async def test_another_number_of_partitions() -> None:
    """Of a topic that was made anew."""
    log = await filled(2)
    await run_once(counting(), log)
    topics = log._records._topics  # type: ignore[attr-defined]
    topics["counting-count-key_by-changelog"] = topics["counting-count-key_by-changelog"]._replace(partitions=1)
    [refused] = (await checked(counting(), log)).refused
    assert "topic 'counting-count-key_by-changelog' has 1 partition and this plan needs 2" in refused


async def test_rows_that_wait() -> None:
    """What waits behind a re-key must carry what the new plan needs of it."""
    log = await filled()
    await run_until_read(log, 9)
    [refused] = (await checked(counting(sorts=True), log)).refused
    assert "rows of an earlier plan wait in topic 'counting-count-key_by-repartition'" in refused


async def test_positions_that_the_log_no_longer_has() -> None:
    """A source whose records were deleted beyond the position."""
    log = await filled(1)
    await run_until_read(log, 9)
    sink = await log.sink(None, "test")
    sink.send(Partition("words", 0), Columns([None] * 9, [b"a"] * 9, list(range(9))))
    await sink.commit({})
    await log.purge({Partition("words", 0): 15})
    [refused] = (await checked(counting(), log)).refused
    assert "offset 9 of words/0 is out of range: the log keeps 15 to 18" in refused
