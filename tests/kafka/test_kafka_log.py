"""The Log protocol on Kafka: what `tests/test_log.py` promises of the other logs, and what only a cluster can do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.requests import (
    Code,
    CreateTopic,
    DeleteGroup,
    DeleteRecords,
    DeleteTopics,
    DescribeTopics,
    Fetch,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    ListTopics,
    NoAnswer,
    OffsetCommit,
    OffsetDelete,
    OffsetFetch,
    Refused,
    Request,
)
from streamproc.log import (
    Assigned,
    Chunk,
    Columns,
    Committed,
    Event,
    Fenced,
    GroupFailed,
    LogError,
    OffsetOutOfRange,
    Partition,
    Rejected,
    Revoked,
    TaskInput,
    UnknownTopic,
    WireHeaders,
)
from tests.kafka.copying import TIMING, content, rows, settled, write
from tests.kafka.meddling import Fate, Meddled, answered, closed, done_and_closed, lost, refused, unanswered
from tests.kafka.stage import FOREVER, Stage
from tests.simulation.bench import Bench, Runs, SimulatedBench, on_both, on_simulated


async def a_log(bench: Bench, name: str = "a") -> tuple[KafkaLog, Meddled]:
    cluster = Meddled(await bench.client(name))
    return KafkaLog(cluster, TIMING), cluster


async def read(log: KafkaLog, partition: Partition, offset: int = 0) -> Chunk:
    """All there is from an offset on: a broker may give less than that at once."""
    read = Chunk(partition, [], offset, Columns([], [], []))
    while (chunk := await log.read(partition, read.next_offset, 1_000)).next_offset > read.next_offset:
        read.offsets = [*read.offsets, *chunk.offsets]
        read.columns.extend(chunk.columns)
        read.next_offset = chunk.next_offset
    return read


async def values(log: KafkaLog, partition: Partition, offset: int = 0) -> list[bytes | None]:
    return (await read(log, partition, offset)).columns.values


@contextmanager
def heard() -> Iterator[list[str]]:
    """What is said within it."""
    words: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: words.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("streamproc").addHandler(handler)
    try:
        yield words
    finally:
        logging.getLogger("streamproc").removeHandler(handler)


# ------------------------------------------------------------------------------------ topics


@on_both
async def test_a_topic_is_created_once_with_its_configuration(bench: Bench) -> None:
    """The partitions and the configuration are as given first; creating it again changes nothing."""
    log, _ = await a_log(bench)
    name, other = bench.name("tweets"), bench.name("other")
    await log.create(name, partitions=4, config={"retention.ms": "-1"})
    await log.create(name, partitions=9, config={})
    await log.create(other, partitions=1, config={})
    topics = await log.topics([name, "nowhere"])
    assert (topics[name].partitions, topics[name].config["retention.ms"]) == (4, "-1")
    assert (topics[other].partitions, topics[other].config) == (1, {})
    assert "nowhere" not in topics
    await log.close()


@on_both
async def test_a_topic_that_was_created_can_be_written_to_at_once(bench: Bench) -> None:
    """By whoever created it and by whoever came second."""
    log, _ = await a_log(bench)
    second, _ = await a_log(bench, "b")
    name = bench.name("tweets")
    await asyncio.gather(*(one.create(name, partitions=3, config=FOREVER) for one in (log, second)))
    for one in (log, second):
        await write(one, {Partition(name, n): ["x"] for n in range(3)}, bench.name("writer"))
    assert await content(log, Partition(name, 2)) == ["x", "x"]
    await log.close()
    await second.close()


@pytest.mark.parametrize(("name", "partitions"), [("tweets/1", 1), ("", 1), ("..", 1), ("tweets2", 0)])
def test_a_topic_that_kafka_would_refuse_is_refused(runs: Runs, name: str, partitions: int) -> None:
    """Names and partition counts that Kafka would not take."""

    async def scenario(bench: Bench) -> None:
        log, _ = await a_log(bench)
        with pytest.raises(LogError, match="INVALID_TOPIC|INVALID_PARTITIONS"):
            await log.create(name, partitions=partitions, config={})
        await log.close()

    runs(scenario)


@on_both
async def test_a_topic_with_a_setting_that_is_none_is_refused(bench: Bench) -> None:
    """Kafka's word for it, and the setting."""
    log, _ = await a_log(bench)
    with pytest.raises(Refused, match="INVALID_CONFIG"):
        await log.create(bench.name("tweets"), partitions=1, config={"retention": "-1"})
    await log.close()


@on_simulated
async def test_who_may_not_create_topics_is_told_what_to_do(bench: SimulatedBench) -> None:
    """Create it, or allow it."""
    log, cluster = await a_log(bench)
    cluster.meddle(CreateTopic, refused(Code.TOPIC_AUTHORIZATION_FAILED))
    with pytest.raises(LogError, match=r"'tweets' cannot be created: .*AUTHORIZATION.*allow the app's user to create"):
        await log.create("tweets", partitions=1, config={})


@on_both
async def test_an_unknown_topic_is_named_with_those_that_are_there(bench: Bench) -> None:
    """Whoever asks for a topic or partition that is not there learns what is."""
    log, _ = await a_log(bench)
    name = bench.name("tweets")
    await log.create(name, partitions=4, config={})
    with pytest.raises(UnknownTopic, match=f"'x{name}'; did you mean .*'{name}'"):
        await log.read(Partition(f"x{name}", 0), 0, 1)
    with pytest.raises(UnknownTopic, match="partitions 0 to 3, not 4"):
        await log.ends([Partition(name, 4)])
    await log.close()


@on_simulated
async def test_a_topic_that_is_deleted_while_it_is_described_is_left_out(bench: SimulatedBench) -> None:
    """It was there when topics were listed."""
    log, cluster = await a_log(bench)
    await log.create("one", partitions=1, config={})
    await log.create("two", partitions=1, config={})

    async def deleted(request: Request[Any]) -> None:
        if isinstance(request, DescribeTopics):
            cluster.before = None
            await cluster.send(DeleteTopics(["one"]), 1)

    cluster.before = deleted
    topics = await log.topics(["one", "two"])
    assert (list(topics), topics["two"].config["cleanup.policy"]) == (["two"], "delete")


# ------------------------------------------------------------------------------------ plain reads


@on_both
async def test_records_keep_their_order_and_their_offsets(bench: Bench) -> None:
    """A partition holds what was sent to it, in the order of sends and commits; markers leave gaps."""
    log, _ = await a_log(bench)
    name = bench.name("tweets")
    await log.create(name, partitions=2, config=FOREVER)
    p, q = Partition(name, 0), Partition(name, 1)
    sink = await log.sink(None, bench.name("writer"))
    sink.send(p, rows("a", "b"))
    sink.send(q, rows("x"))
    sink.send(p, rows("c"))
    assert await sink.commit({}) == {p: 3, q: 1}
    sink.send(p, rows("d"))
    assert await sink.commit({}) == {p: 5}
    await settled(log, p, q)
    behind = await read(log, p, 1)
    assert (behind.columns.values, behind.offsets, behind.next_offset) == ([b"b", b"c", b"d"], [1, 2, 4], 6)
    assert await log.ends([p, q]) == {p: 6, q: 2}
    assert await log.bounds("first", [p, q]) == {p: 0, q: 0}
    await log.close()


@on_both
async def test_a_read_gives_at_most_its_limit_and_none_at_the_end(bench: Bench) -> None:
    """Behind the limit is the next record."""
    stage = await Stage.set_up(bench)
    await stage.feed(*(f"{n}" for n in range(10)))
    log, p = stage.outside, stage.inputs[0]
    chunk = await log.read(p, 3, 4)
    assert (chunk.columns.values, chunk.next_offset) == ([b"3", b"4", b"5", b"6"], 7)
    end = (await log.ends([p]))[p]
    assert (len((await log.read(p, end, 4)).columns), (await log.read(p, end, 4)).next_offset) == (0, end)
    await stage.close()


@on_both
async def test_an_offset_out_of_range_is_an_error_with_the_range(bench: Bench) -> None:
    """Before the first record kept and behind the end there is nothing to read, and that is said; to a source too."""
    stage = await Stage.set_up(bench)
    await stage.feed("a", "b", "c")
    log, p = stage.outside, stage.inputs[0]
    await log.purge({p: 2})
    end = (await log.ends([p]))[p]
    for offset in (1, end + 1):
        with pytest.raises(OffsetOutOfRange, match=f"keeps 2 to {end}") as caught:
            await log.read(p, offset, 1)
        assert (caught.value.start, caught.value.end) == (2, end)
    a = await stage.alone()
    a.source.seek(p, 0)
    with pytest.raises(OffsetOutOfRange):
        await a.chunk()
    await stage.close()


@on_both
async def test_purged_records_are_gone_and_the_rest_keep_their_offsets(bench: Bench) -> None:
    """Purging in the middle of an epoch, and again below; a purge behind the end is said and does nothing."""
    stage = await Stage.set_up(bench)
    log, p = stage.outside, stage.inputs[0]
    await stage.feed("a", "b", "c")
    await stage.feed("d")
    await log.purge({p: 2})
    await log.purge({p: 1})
    assert await values(log, p, 2) == [b"c", b"d"]
    with heard() as words:
        await log.purge({p: 99})
    assert "is kept for now" in words[-1]
    assert "OFFSET_OUT_OF_RANGE" in words[-1]
    assert await log.bounds("first", [p]) == {p: 2}
    await stage.close()


@pytest.mark.parametrize("fate", [lost, closed, refused(Code.NOT_LEADER_OR_FOLLOWER)], ids=["lost", "closed", "moved"])
def test_a_purge_that_fails_is_said_and_ends_nobody(fate: Fate) -> None:
    """What could not be deleted is by a later one."""

    async def scenario(bench: SimulatedBench) -> None:
        log, cluster = await a_log(bench)
        await log.create("tweets", partitions=1, config={})
        cluster.meddle(DeleteRecords, fate)
        with heard() as words:
            await log.purge({Partition("tweets", 0): 0})
        assert "what was read of tweets/0 is kept for now: " in words[0]

    on_simulated(scenario)()


@on_both
async def test_headers_are_none_where_no_record_has_any(bench: Bench) -> None:
    """A chunk carries a headers column exactly when one of its records has headers."""
    stage = await Stage.set_up(bench)
    log, p = stage.outside, stage.inputs[0]
    header: list[tuple[str, bytes]] = [("origin", b"1")]
    mixed: list[WireHeaders | None] = [header, None]
    sink = await log.sink(None, bench.name("writer"))
    sink.send(p, rows("a"))
    sink.send(p, Columns([None, b"k"], [b"b", None], [5, 6], mixed))
    sink.send(p, Columns([None], [b"d"], [7], [None]))
    await sink.commit({})
    await settled(log, p)
    columns = (await read(log, p)).columns
    assert columns.headers is not None
    assert [h and [(name, value) for name, value in h] for h in columns.headers] == [None, header, None, None]
    assert (columns.keys, columns.values) == ([None, None, b"k", None], [b"a", b"b", None, b"d"])
    assert columns.timestamps[1:] == [5, 6, 7]
    assert (await log.read(p, 0, 1)).columns.headers is None
    assert (await log.read(p, 2, 2)).columns.headers is None
    await stage.close()


@pytest.mark.parametrize("kind", [ListTopics, ListOffsets, Fetch, OffsetFetch])
@pytest.mark.parametrize("fate", [lost, closed, unanswered, refused(Code.NOT_COORDINATOR)], ids="abcd")
def test_a_broker_that_is_gone_for_half_a_minute_is_waited_for(kind: type[Request[Any]], fate: Fate) -> None:
    """A restart of a broker is nothing that a worker ends for."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench)
        await stage.feed("x")
        log, cluster = await a_log(bench)
        cluster.meddle(kind, fate, times=100_000)
        asyncio.get_running_loop().call_later(30, cluster.heal)
        assert set(await log.topics()) == {"in", "out"}
        assert await log.ends(stage.inputs[:1]) == {stage.inputs[0]: 2}
        assert await values(log, stage.inputs[0]) == [b"x"]
        assert await log.committed("group") == {}
        assert asyncio.get_running_loop().time() >= 30

    on_simulated(scenario)()


@on_simulated
async def test_leaders_that_move_apart_are_asked_each_for_its_own(bench: SimulatedBench) -> None:
    """The same question to the same broker would be refused for ever."""
    stage = await Stage.set_up(bench, 3)
    log, cluster = await a_log(bench)
    apart = False

    def led_together(partitions: Any) -> Any:
        return [[p] for p in partitions] if apart else [list(partitions)]

    async def moved(_: Any, request: ListOffsets, timeout_s: float) -> Any:
        nonlocal apart
        apart = True
        raise Refused(Code.NOT_LEADER_OR_FOLLOWER, "ListOffsets")

    cluster.led_together = led_together  # type: ignore[method-assign]
    cluster.meddle(ListOffsets, moved, times=100, where=lambda request: len(request.partitions) > 1)
    assert await log.ends(stage.inputs) == dict.fromkeys(stage.inputs, 0)
    assert asyncio.get_running_loop().time() < 2


# ------------------------------------------------------------------------------------ sinks


@on_both
async def test_an_open_epoch_is_invisible_and_an_aborted_one_stays_so(bench: Bench) -> None:
    """Readers see committed records only: through `read`, `poll` and the end offsets; a closed sink says so."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    p = stage.inputs[0]
    a.sink.send(p, rows("open"))
    assert await values(a.log, p) == []
    assert await a.source.poll(stage.inputs, 0) == []
    assert await a.source.end_offsets([p]) == {p: 0}
    await a.sink.abort()
    assert await a.sink.commit({}) == {}
    a.sink.send(p, rows("closed"))
    await a.sink.close()
    await a.sink.close()
    assert await values(a.log, p) == []
    with pytest.raises(LogError, match="closed"):
        await a.sink.commit({})
    with pytest.raises(LogError, match="closed"):
        a.sink.send(p, rows("x"))
    await stage.close()


@on_both
async def test_records_offsets_and_metadata_become_visible_together(bench: Bench) -> None:
    """One commit: the records, the group's positions and what was stored beside them."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    p, q = stage.inputs
    a.send("#goal")
    assert await a.source.committed([p, q]) == {}
    await a.sink.commit({p: Committed(7, "clock=5"), q: Committed(0, "")})
    await a.sink.commit({q: Committed(3, "é")})
    assert await a.source.committed([p, q]) == {p: (7, "clock=5"), q: (3, "é")}
    assert await a.log.committed(stage.group) == {p: (7, "clock=5"), q: (3, "é")}
    assert await stage.out() == ["#goal"]
    await stage.close()


@on_both
async def test_a_note_is_seen_from_outside_and_can_be_taken_back(bench: Bench) -> None:
    """It is no part of an epoch, open or not; a position that the group reads on from cannot be taken back."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    noted = stage.outputs[1]
    await a.commit(at=7)
    assert await stage.committed() == 7  # which waits for its marker
    a.send("open")
    await a.source.note({noted: Committed(3, "half")})
    position = {stage.inputs[0]: (7, "a-7")}
    assert await a.log.committed(stage.group) == position | {noted: (3, "half")}
    assert await a.source.committed([noted]) == {noted: (3, "half")}
    await a.source.note({noted: None})
    assert await a.log.committed(stage.group) == position
    await a.source.note({noted: None})
    with pytest.raises(Rejected, match="GROUP_SUBSCRIBED_TO_TOPIC"):
        await a.source.note({stage.inputs[0]: None})
    assert await a.log.committed(stage.group) == position
    await a.commit("and more", at=8)
    assert (await stage.out(), await stage.committed()) == (["open", "and more"], 8)
    await stage.close()


@on_both
async def test_a_note_of_who_has_no_tasks_is_refused_and_changes_nothing(bench: Bench) -> None:
    """Whoever was expelled learns that from its next poll or commit, as if it had noted nothing."""
    stage = await Stage.set_up(bench)
    a = await (await stage.worker()).join()
    note = {stage.outputs[0]: Committed(3, "")}
    with pytest.raises(Fenced, match="has no tasks of group"):
        await a.source.note(note)
    await a.assigned()
    await stage.outside.dismiss(stage.group, "a")
    with pytest.raises(Refused, match="UNKNOWN_MEMBER_ID"):
        await a.source.note(note)
    with pytest.raises(Fenced):
        await a.commit("x", at=1)
    assert await stage.outside.committed(stage.group) == {}
    await stage.close()


@pytest.mark.parametrize("kind", [OffsetCommit, OffsetDelete])
def test_a_note_is_tried_once(runs: Runs, kind: type[Request[Any]]) -> None:
    """Whoever notes decides whether to try again: of what was not answered, of what passes, of what does not."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        notes = {stage.outputs[0]: Committed(3, ""), stage.outputs[1]: None}
        for fate, error in (
            (closed, NoAnswer),
            (refused(Code.NOT_COORDINATOR), Refused),
            (answered(lambda request: {stage.outputs[0]: Code.COORDINATOR_LOAD_IN_PROGRESS}), Refused),
            (refused(Code.GROUP_AUTHORIZATION_FAILED), Rejected),
        ):
            before = len(a.cluster.all(kind))
            a.cluster.meddle(kind, fate)
            with pytest.raises(error):
                await a.source.note(notes)
            assert len(a.cluster.all(kind)) - before == 1
        await a.source.note(notes)
        assert await a.log.committed(stage.group) == {stage.outputs[0]: (3, "")}
        await stage.close()

    runs(scenario)


@on_both
async def test_a_large_epoch_is_one_epoch(bench: Bench) -> None:
    """100,000 records of one commit come back whole, in pieces of about a MiB."""
    stage = await Stage.set_up(bench, 1)
    sent = [f"{n:050}" for n in range(100_000)]
    await stage.feed(*sent)
    a = await stage.alone()
    got: list[bytes | None] = []
    while len(got) < len(sent):
        chunk = await a.chunk()
        assert list(chunk.offsets) == list(range(len(got), len(got) + len(chunk.offsets)))
        assert len(chunk.offsets) < 40_000
        got += chunk.columns.values
    assert got == [value.encode() for value in sent]
    await stage.close()


@on_both
async def test_what_is_sent_belongs_to_the_caller(bench: Bench) -> None:
    """The sender's lists are not the log's own."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    mine = rows("a")
    a.sink.send(stage.outputs[0], mine)
    mine.values[0] = b"changed"
    a.sink.send(stage.outputs[0], rows("b"))
    await a.commit(at=1)
    assert mine.values == [b"changed"]
    assert await stage.out() == ["a", "b"]
    await stage.close()


@pytest.mark.parametrize(
    "columns",
    [
        Columns([None], [b"a", b"b"], [0, 0]),
        Columns([None, None], [b"a"], [0, 0]),
        Columns([None], [b"a"], []),
        Columns([None], [b"a"], [0], []),
    ],
    ids=["keys", "values", "timestamps", "headers"],
)
def test_columns_of_different_length_are_refused(columns: Columns) -> None:
    """A value without a timestamp would shift all records behind it."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench)
        sink = await stage.outside.sink(None, "writer")
        with pytest.raises(LogError, match="differ in length"):
            sink.send(stage.outputs[0], columns)

    on_simulated(scenario)()


@on_both
async def test_offsets_need_a_source(bench: Bench) -> None:
    """A sink outside of any group cannot move a group's offsets; nothing of the epoch is visible."""
    stage = await Stage.set_up(bench)
    sink = await stage.outside.sink(None, bench.name("writer"))
    sink.send(stage.outputs[0], rows("x"))
    with pytest.raises(LogError, match="make its sink with a source"):
        await sink.commit({stage.inputs[0]: Committed(1, "")})
    sink.send(stage.outputs[0], rows("y"))
    await sink.commit({})
    assert await stage.out() == ["y"]
    await stage.close()


@on_simulated
async def test_a_source_of_another_log_is_refused(bench: SimulatedBench) -> None:
    """Records in one log and offsets in another are no epoch."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    with pytest.raises(LogError, match="another log"):
        await stage.outside.sink(a.source, "a")
    await stage.close()


@on_simulated
async def test_nothing_of_an_epoch_that_was_fenced_before_it_was_written_comes_out_with_the_next(
    bench: SimulatedBench,
) -> None:
    """The epoch is empty, however the commit ended."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.send("fenced")
    a.source.lost("a test says so")
    with pytest.raises(Fenced):
        await a.commit(at=1)
    assert await a.assigned() == {0, 1}
    await a.commit("seen", at=1)
    assert await stage.out() == ["seen"]
    await stage.close()


# ------------------------------------------------------------------------------------ reading as a member


@on_both
async def test_poll_gives_the_partitions_it_was_asked_for(bench: Bench) -> None:
    """One chunk for each of the given partitions that has records; the others wait."""
    stage = await Stage.set_up(bench, 4)
    for number in range(3):
        await stage.feed("a", "b", to=number)
    a = await stage.alone()
    for partition in stage.inputs:
        a.source.seek(partition, 0)
    await asyncio.sleep(0.5)
    events = await a.source.poll([stage.inputs[1], stage.inputs[3], stage.inputs[2]], 0)
    assert [event.partition.number for event in events if isinstance(event, Chunk)] == [1, 2]
    assert (await a.chunk(0)).columns.values == [b"a", b"b"]
    await stage.close()


@on_both
async def test_reading_begins_at_the_committed_offset(bench: Bench) -> None:
    """A member that seeks nothing goes on where its group has committed, else at the first record kept."""
    stage = await Stage.set_up(bench)
    p, q = stage.inputs
    await stage.feed("a", "b", "c", to=0)
    await stage.feed("a", "b", "c", to=1)
    await stage.outside.purge({q: 1})
    a = await stage.alone()
    await a.sink.commit({p: Committed(2, "")})
    assert (await a.chunk(0)).columns.values == [b"c"]
    assert (await a.chunk(1)).columns.values == [b"b", b"c"]
    await stage.close()


@on_both
async def test_a_failed_poll_loses_nothing(bench: Bench) -> None:
    """When one partition cannot be read, the others' records come with the next poll."""
    stage = await Stage.set_up(bench)
    await stage.feed("a")
    a = await stage.alone()
    a.source.seek(stage.inputs[1], 5)
    got: list[Event] = []
    with pytest.raises(OffsetOutOfRange):
        while True:
            got += await a.source.poll(stage.inputs, 1_000)
    a.source.seek(stage.inputs[1], 0)
    if not got:
        got += [await a.chunk(0)]
    assert next(event.columns.values for event in got if isinstance(event, Chunk)) == [b"a"]
    await stage.close()


@on_both
async def test_two_groups_read_the_same_records(bench: Bench) -> None:
    """Positions, offsets and members of one app are nothing to another."""
    stage = await Stage.set_up(bench, 1)
    await stage.feed("a", "b")
    one = await stage.alone("one")
    stage.group = bench.name("other")
    two = await stage.alone("two")
    await one.sink.commit({stage.inputs[0]: Committed(2, "")})
    assert await two.source.committed(stage.inputs) == {}
    assert (await two.chunk()).columns.values == [b"a", b"b"]
    await stage.close()


@on_both
async def test_a_waiting_poll_wakes_for_a_commit_and_for_the_group(bench: Bench) -> None:
    """A poll with a long time-out returns as soon as there is anything."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()

    async def waits() -> asyncio.Task[list[Event]]:
        while await a.source.poll(stage.inputs, 300):
            pass
        waiting = asyncio.create_task(a.source.poll(stage.inputs, 3_600_000))
        await asyncio.sleep(0.1)
        return waiting

    waiting = await waits()
    await stage.feed("a", to=1)
    (event,) = await waiting
    assert isinstance(event, Chunk)
    waiting = await waits()
    b = await (await stage.worker("b")).join()
    assert await waiting == [Revoked()]
    await a.source.release()
    await b.assigned()
    await stage.close()


@on_simulated
async def test_a_poll_ends_after_its_time_out_whatever_happens(bench: SimulatedBench) -> None:
    """D9: while the group changes, while offsets are held, while nobody answers."""
    stage = await Stage.set_up(bench)
    loop = asyncio.get_running_loop()

    async def polls_in_time(worker: Any, kind: type[Any] | None = None) -> None:
        for timeout_ms in (0, 1, 50, 400):
            began = loop.time()
            events = await worker.source.poll(stage.inputs, timeout_ms)
            assert loop.time() - began <= timeout_ms / 1000 + 1e-6
            assert not events or isinstance(events[0], Revoked)

    a = await stage.alone()
    a.cluster.meddle(OffsetFetch, refused(Code.UNSTABLE_OFFSET_COMMIT), times=100_000)
    await polls_in_time(a)
    a.cluster.meddle(Fetch, lost, times=100_000)
    a.cluster.meddle(ListOffsets, lost, times=100_000)
    await polls_in_time(a)
    a.cluster.heal()
    b = await (await stage.worker("b")).join()
    await polls_in_time(b)
    await polls_in_time(a)
    await a.source.release()
    a.cluster.meddle(JoinGroup, lost, times=100_000)
    await polls_in_time(a)
    await polls_in_time(b)
    await stage.close()


@on_simulated
async def test_a_poll_that_does_not_wait_lets_the_others_run(bench: SimulatedBench) -> None:
    """However busy a worker is: heartbeats go on beside it."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    assert await a.source.poll([], 0) == []
    assert ran.is_set()
    await stage.close()


@on_simulated
async def test_a_poll_that_finds_nothing_sleeps(bench: SimulatedBench) -> None:
    """Whatever is ready of partitions that it was not asked for, and between two generations: time goes on."""
    stage = await Stage.set_up(bench)
    await stage.feed("x", to=0)
    a = await stage.alone()
    for partition in stage.inputs:
        a.source.seek(partition, 0)
    loop, turns = asyncio.get_running_loop(), 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    counting = asyncio.create_task(count_turns())
    for _ in range(3):
        began = loop.time()
        assert await a.source.poll(stage.inputs[1:], 200) == []
        assert loop.time() - began == pytest.approx(0.2)
    b = await (await stage.worker("b")).join()
    await a.revoked()
    began = loop.time()
    assert await a.source.poll(stage.inputs, 200) == []
    await a.source.release()
    a.cluster.meddle(JoinGroup, lost, times=1)
    assert await a.source.poll(stage.inputs, 200) == []
    assert loop.time() - began == pytest.approx(0.4)
    assert turns < 2_000
    counting.cancel()
    await a.assigned()
    await b.assigned()
    await stage.close()


@on_both
async def test_positions_stay_with_the_tasks_that_stay(bench: Bench) -> None:
    """A kept partition is read on; one that went and came back begins at the committed offset."""
    stage = await Stage.set_up(bench, 4)
    for number in range(4):
        await stage.feed("a", "b", to=number)
    a = await stage.alone()
    for number in range(4):
        assert (await a.chunk(number)).columns.values == [b"a", b"b"]
    b = await (await stage.worker("b")).join()
    await a.revoked()
    await a.source.release()
    kept = await a.assigned()
    assert len(kept) == len(await b.assigned()) == 2
    for number in kept:
        for event in await a.source.poll([stage.inputs[number]], 300):
            assert isinstance(event, Chunk)
            assert event.columns.values == []
    await b.source.leave()
    await a.revoked()
    await a.source.release()
    assert await a.assigned() == {0, 1, 2, 3}
    for number in {0, 1, 2, 3} - kept:
        assert (await a.chunk(number)).columns.values == [b"a", b"b"]
    await stage.close()


@on_simulated
async def test_what_was_anothers_in_a_generation_that_was_not_told_begins_at_the_committed_offset(
    bench: SimulatedBench,
) -> None:
    """Groups may change twice before a worker is told: what it seems to have kept is not where it left it."""
    stage = await Stage.set_up(bench, 1)
    await stage.feed("a", "b", "c", "d")
    a = await stage.alone()
    a.source.seek(stage.inputs[0], 0)
    assert len((await a.chunk()).offsets) == 4
    await a.commit(at=4)
    b = await (await stage.worker("b")).join_without_sink()
    await a.revoked()
    await a.source.release()
    while bench.cluster.broker.groups.describe(stage.group).state != "Stable":
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    # Generation 2 goes by; in it somebody else has the task, and takes it back to its beginning.
    generation = b.source._member._joined.generation
    bench.cluster.broker.groups._groups[stage.group].offsets.commit({stage.inputs[0]: Committed(1, "b")})
    c = await (await stage.worker("c")).join_without_sink()
    while b.source._member._joined.generation == generation:
        await asyncio.sleep(0.05)
        for other in (b, c):
            for event in await other.source.poll([], 0):
                if isinstance(event, Revoked):
                    await other.source.release()
    for other in (b, c):
        await other.source.leave()
    async with asyncio.timeout(30):
        while True:
            events = await a.source.poll([], 1_000)
            if events and isinstance(events[0], Revoked):
                await a.source.release()
            elif events and isinstance(events[0], Assigned) and events[0].tasks:
                break
    assert (await a.chunk()).columns.values == [b"b", b"c", b"d"]
    await stage.close()


@on_simulated
async def test_where_a_partition_begins_is_not_known_from_before_it_went_and_came_back(bench: SimulatedBench) -> None:
    """What was being looked up when the tasks changed is looked up again."""
    stage = await Stage.set_up(bench)
    for number in range(2):
        await stage.feed("a", "b", "c", to=number)
    a = await stage.alone()

    async def slow(cluster: Any, request: OffsetFetch, timeout_s: float) -> Any:
        answer = await cluster.send(request, timeout_s)
        await asyncio.sleep(0.4)
        return answer

    a.cluster.meddle(OffsetFetch, slow)
    assert await a.source.poll(stage.inputs, 0) == []  # now it is being looked up
    b = await (await stage.worker("b")).join()
    await a.revoked()
    await a.source.release()
    assert await a.assigned() == {0}
    assert await b.assigned() == {1}
    await asyncio.sleep(0.5)
    await b.commit(at=2, of=1)
    await b.source.leave()
    await a.revoked()
    await a.source.release()
    assert await a.assigned() == {0, 1}
    assert (await a.chunk(1)).columns.values == [b"c"]
    assert (await a.chunk(0)).columns.values == [b"a", b"b", b"c"]
    await stage.close()


@on_both
async def test_a_closed_log_says_so(bench: Bench) -> None:
    """To whoever waits in a poll or asks, and nobody asks on; closing twice is no error."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    waiting = asyncio.create_task(a.source.poll(stage.inputs, 3_600_000))
    await asyncio.sleep(0.1)
    await a.log.close()
    await a.log.close()
    with pytest.raises(LogError, match="closed"):
        await waiting
    for call in (a.log.topics(), a.log.ends(stage.inputs), a.source.committed(stage.inputs)):
        with pytest.raises(LogError, match="closed"):
            await call
    await stage.outside.dismiss(stage.group, "a")
    await stage.close()


# ------------------------------------------------------------------------------------ membership


@on_both
async def test_a_join_revokes_and_shares_out_again(bench: Bench) -> None:
    """Members give up first, then all are assigned; who was there keeps half of what it had."""
    stage = await Stage.set_up(bench, 4)
    a = await stage.alone()
    b = await (await stage.worker("b")).join()
    await a.revoked()
    assert await b.source.poll([], 300) == []
    assert await a.source.poll([], 300) == []
    await a.source.release()
    assert (await a.assigned(), await b.assigned()) == ({0, 1}, {2, 3})
    await stage.close()


@on_both
async def test_a_release_that_nobody_asked_for_does_nothing(bench: Bench) -> None:
    """The worker reads on."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.source.release()
    await stage.feed("x")
    assert (await a.chunk()).columns.values == [b"x"]
    await a.commit("x", at=1)
    await stage.close()


@on_both
async def test_leaving_passes_the_tasks_on(bench: Bench) -> None:
    """The others have everything after they released; the one that left can neither commit nor poll."""
    stage = await Stage.set_up(bench, 4)
    a = await stage.alone()
    b = await (await stage.worker("b")).join()
    await a.revoked()
    await a.source.release()
    await a.assigned()
    await b.assigned()
    await b.source.leave()
    await b.source.leave()
    with pytest.raises(Fenced, match="has left"):
        await b.commit(at=1, of=2)
    with pytest.raises(LogError, match="join it again"):
        await b.source.poll([], 0)
    await a.revoked()
    await a.source.release()
    assert await a.assigned() == {0, 1, 2, 3}
    await stage.close()


@on_both
async def test_a_poll_tells_an_expelled_worker_first(bench: Bench) -> None:
    """It must not read on as if nothing was: what it has not committed begins again at the committed offset."""
    stage = await Stage.set_up(bench)
    await stage.feed("a", "b")
    a = await stage.alone()
    assert len((await a.chunk()).offsets) == 2
    a.send("zombie")
    await stage.outside.dismiss(stage.group, "a")
    with pytest.raises(Fenced):
        for _ in range(50):
            await a.source.poll(stage.inputs, 100)
    assert await a.assigned() == {0, 1}
    with pytest.raises(Fenced, match="begun under generation"):
        await a.commit(at=2)
    assert await a.assigned() == {0, 1}
    assert (await a.chunk()).columns.values == [b"a", b"b"]
    assert await stage.out() == []
    await stage.close()


@pytest.mark.parametrize("learns", ["in a poll", "in a commit", "by a commit that is refused"])
def test_who_was_expelled_reads_again_what_it_has_not_committed(learns: str) -> None:
    """Though it is back before anybody else was told its tasks: the epoch that it had read was dropped."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench, 4)
        for number in range(4):
            await stage.feed("x", "y", to=number)
        a = await stage.alone()
        b = await (await stage.worker("b")).join()
        await a.revoked()
        await a.source.release()
        mine = await a.assigned()
        await b.assigned()
        for number in sorted(mine):
            assert (await a.chunk(number)).columns.values == [b"x", b"y"]
        generation = a.source.membership.generation
        c = await (await stage.worker("c")).join()  # from now on the group waits, for b too
        await b.revoked()
        await stage.outside.dismiss(stage.group, "a")
        if learns == "by a commit that is refused":
            with pytest.raises(Fenced):
                await a.commit(at=2, of=min(mine))
        else:
            await asyncio.sleep(0.5)
            with pytest.raises(Fenced):
                if learns == "in a poll":
                    await a.source.poll([], 0)
                else:
                    await a.commit(at=2, of=min(mine))
        await a.sink.abort()
        assert await a.source.poll([], 500) == []
        await b.source.release()
        kept = await a.assigned() & mine
        assert a.source.membership.generation == generation + 1
        await b.assigned()
        await c.assigned()
        assert kept
        for number in sorted(kept):
            assert (await a.chunk(number)).columns.values == [b"x", b"y"]
        await stage.close()

    on_simulated(scenario)()


@on_both
async def test_a_member_that_fails_stops_them_all(bench: Bench) -> None:
    """Every poll raises GroupFailed with the reason, from then on."""
    stage = await Stage.set_up(bench, 4)
    a = await stage.alone()
    b = await (await stage.worker("b")).join()
    await a.revoked()
    await a.source.release()
    await a.assigned()
    await b.assigned()
    failing = asyncio.create_task(b.source.fail("a record is bad"))
    await a.revoked()
    await a.source.release()
    with pytest.raises(GroupFailed, match="a record is bad"):
        for _ in range(50):
            await a.source.poll([], 100)
    await failing
    await stage.close()


@on_both
async def test_workers_that_disagree_on_a_task_do_not_share_it(bench: Bench) -> None:
    """The same task of two versions of an app would read different partitions."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    b = await (await stage.worker("b")).join_without_sink([TaskInput("copy", 0, (stage.inputs[1],))])
    await a.revoked()
    await a.source.release()
    with pytest.raises(LogError, match="other partitions"):
        for _ in range(50):
            await b.source.poll([], 100)
    await stage.close()


# ------------------------------------------------------------------------------------ a group from outside


@on_both
async def test_a_group_is_seen_from_outside(bench: Bench) -> None:
    """Its members by name, where they are, what they have, and whether it is sharing out anew."""
    stage = await Stage.set_up(bench, 4)
    assert await stage.outside.group(stage.group) == (False, [])
    a = await stage.alone()
    view = await stage.outside.group(stage.group)
    assert (view.changing, [(m.name, m.tasks) for m in view.members]) == (
        False,
        [("a", frozenset(("copy", n) for n in range(4)))],
    )
    assert view.members[0].host
    b = await (await stage.worker("b")).join()
    await a.revoked()
    assert (await stage.outside.group(stage.group)).changing
    await a.source.release()
    await a.assigned()
    await b.assigned()
    view = await stage.outside.group(stage.group)
    assert {m.name: sorted(n for _, n in m.tasks) for m in view.members} == {"a": [0, 1], "b": [2, 3]}
    await stage.close()


@on_both
async def test_a_dead_member_is_dismissed_and_its_tasks_move_at_once(bench: Bench) -> None:
    """Whoever knows that it is dead says so; one that is not in the group, or a group that is not, is no error."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    b = await (await stage.worker("b")).join()
    await a.revoked()
    await a.source.release()
    await a.assigned()
    await b.assigned()
    b.source._member._cancel()  # it is dead
    await stage.outside.dismiss(stage.group, "b")
    await stage.outside.dismiss(stage.group, "b")
    await stage.outside.dismiss(bench.name("nobody"), "b")
    await a.revoked()
    await a.source.release()
    assert await a.assigned() == {0, 1}
    await stage.close()


@on_both
async def test_what_a_group_has_committed_is_told_without_waiting_for_its_transactions(bench: Bench) -> None:
    """Seen from outside: nothing where there is no such group."""
    stage = await Stage.set_up(bench)
    assert await stage.outside.committed(stage.group) == {}
    a = await stage.alone()
    await a.commit(at=3)
    assert await a.source.committed(stage.inputs) == {stage.inputs[0]: (3, "a-3")}
    assert await stage.outside.committed(stage.group) == {stage.inputs[0]: (3, "a-3")}
    await stage.close()


@on_both
async def test_a_group_that_is_forgotten_begins_anew(bench: Bench) -> None:
    """Not while it has members; then its offsets are gone, and its topics, those that are there."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("x", at=1)
    topic = stage.outputs[0].topic
    with pytest.raises(LogError, match="has members, a: stop them first"):
        await stage.outside.forget(stage.group, [topic])
    assert topic in await stage.outside.topics()
    await a.source.leave()
    for _ in range(2):
        await stage.outside.forget(stage.group, [topic, bench.name("nowhere")])
        assert await stage.outside.committed(stage.group) == {}
        topics = await stage.outside.topics()
        assert topic not in topics
        assert stage.inputs[0].topic in topics
    await stage.outside.forget(bench.name("nobody"), [])
    await stage.close()


@pytest.mark.parametrize("kind", [DeleteGroup, DeleteTopics, LeaveGroup, CreateTopic])
@pytest.mark.parametrize("fate", [lost, done_and_closed, unanswered])
def test_what_is_asked_of_a_cluster_twice_is_done_once(kind: type[Request[Any]], fate: Fate) -> None:
    """An answer that is lost is no error."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        await a.commit("x", at=1)
        log, cluster = await a_log(bench)
        cluster.meddle(kind, fate)
        a.source._member._cancel()
        await log.dismiss(stage.group, "a")
        await log.forget(stage.group, [stage.outputs[0].topic])
        await log.create(stage.outputs[0].topic, partitions=2, config={})
        assert await log.committed(stage.group) == {}
        assert await log.ends(stage.outputs) == dict.fromkeys(stage.outputs, 0)

    on_simulated(scenario)()
