"""What every log promises: the same suite over each implementation that needs no broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.group import share_out
from streamproc.in_process import InProcessLog
from streamproc.local_log import LocalLog
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
    Replaced,
    Revoked,
    Source,
    TaskInput,
    UnknownTopic,
    WireHeaders,
)
from streamproc.log_url import open_log
from streamproc.memory_log import MemoryLog
from streamproc.settings import Settings

TWEETS = [Partition("tweets", number) for number in range(4)]
TRENDS = Partition("trends", 0)
TASKS = [TaskInput("count", number, (partition,)) for number, partition in enumerate(TWEETS)]

Make = Callable[..., InProcessLog]


@pytest.fixture(params=["memory", "local"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    if request.param == "memory":
        return MemoryLog
    return lambda **settings: LocalLog(tmp_path / "log", **settings)


@pytest.fixture
async def log(make: Make) -> AsyncIterator[InProcessLog]:
    log = make()
    await topics(log)
    yield log
    await log.close()


async def topics(log: InProcessLog) -> None:
    await log.create("tweets", partitions=4, config={"retention.ms": "-1"})
    await log.create("trends", partitions=1, config={})


def rows(*values: bytes, headers: list[WireHeaders | None] | None = None) -> Columns:
    return Columns([None] * len(values), list(values), list(range(len(values))), headers)


async def write(log: InProcessLog, partition: Partition, *values: bytes) -> None:
    sink = await log.sink(None, "writer")
    sink.send(partition, rows(*values))
    await sink.commit({})


async def values(log: InProcessLog, partition: Partition) -> list[bytes | None]:
    return (await log.read(partition, 0, 1_000_000)).columns.values


async def join(
    log: InProcessLog, member: str, group: str = "trending", *, plan: str = "", shared: bytes = b""
) -> Source:
    return await log.source(group, member, TASKS, plan=plan, shared=shared)


async def told(source: Source) -> Event | None:
    events = await source.poll([], 0)
    assert len(events) <= 1
    return events[0] if events else None


async def owned(source: Source) -> set[int]:
    event = await told(source)
    assert isinstance(event, Assigned)
    return {number for _, number in event.tasks}


async def chunk(source: Source, partition: Partition) -> Chunk:
    (event,) = await source.poll([partition], 0)
    assert isinstance(event, Chunk)
    return event


# Topics and plain reads


async def test_a_topic_is_created_once_with_its_configuration(log: InProcessLog) -> None:
    """The partitions and the configuration are as given first; creating it again changes nothing."""
    await log.create("tweets", partitions=9, config={})
    there = await log.topics()
    assert there["tweets"] == (4, {"retention.ms": "-1"})
    assert set(there) == {"tweets", "trends"}


@pytest.mark.parametrize(("name", "partitions"), [("tweets/1", 1), ("", 1), ("..", 1), ("tweets2", 0)])
async def test_a_topic_that_kafka_would_refuse_is_refused(log: InProcessLog, name: str, partitions: int) -> None:
    """Names and partition counts that Kafka would not take are an error here too."""
    with pytest.raises(LogError):
        await log.create(name, partitions=partitions, config={})


async def test_an_unknown_topic_is_named_with_those_that_are_there(log: InProcessLog) -> None:
    """Whoever asks for a topic or partition that is not there learns what is."""
    sink = await log.sink(None, "writer")
    with pytest.raises(UnknownTopic, match=r"'tweet'; did you mean 'tweets'\? Topics: trends, tweets"):
        await log.read(Partition("tweet", 0), 0, 1)
    with pytest.raises(UnknownTopic, match="partitions 0 to 3, not 4"):
        sink.send(Partition("tweets", 4), rows(b"a"))
    with pytest.raises(UnknownTopic):
        await log.ends([Partition("other", 0)])


async def test_records_keep_their_order_and_have_dense_offsets(log: InProcessLog) -> None:
    """A partition holds what was sent to it, in the order of sends and commits, at offsets from 0 without a gap."""
    sink = await log.sink(None, "writer")
    sink.send(TWEETS[0], rows(b"a", b"b"))
    sink.send(TWEETS[1], rows(b"x"))
    sink.send(TWEETS[0], rows(b"c"))
    assert await sink.commit({}) == {TWEETS[0]: 3, TWEETS[1]: 1}
    await write(log, TWEETS[0], b"d")
    read = await log.read(TWEETS[0], 1, 10)
    assert (read.columns.values, list(read.offsets), read.next_offset) == ([b"b", b"c", b"d"], [1, 2, 3], 4)
    assert read.columns.timestamps == [1, 0, 0]
    assert await log.ends([TWEETS[0], TWEETS[2]]) == {TWEETS[0]: 4, TWEETS[2]: 0}


async def test_a_read_gives_at_most_its_limit(log: InProcessLog) -> None:
    """`limit` records at most, and none at the end."""
    await write(log, TRENDS, *(b"%d" % n for n in range(10)))
    assert (await log.read(TRENDS, 3, 4)).columns.values == [b"3", b"4", b"5", b"6"]
    end = await log.read(TRENDS, 10, 4)
    assert (len(end.columns), end.next_offset) == (0, 10)


async def test_an_offset_out_of_range_is_an_error_with_the_range(log: InProcessLog) -> None:
    """Before the first record kept and behind the end there is nothing to read, and that is said."""
    await write(log, TRENDS, b"a", b"b", b"c")
    await log.purge({TRENDS: 2})
    for offset in (1, 4):
        with pytest.raises(OffsetOutOfRange, match="keeps 2 to 3") as caught:
            await log.read(TRENDS, offset, 1)
        assert (caught.value.start, caught.value.end) == (2, 3)
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    source.seek(TRENDS, 0)
    with pytest.raises(OffsetOutOfRange):
        await source.poll([TRENDS], 0)


async def test_purged_records_are_gone_and_the_rest_keep_their_offsets(log: InProcessLog) -> None:
    """Purging in the middle of an epoch, again below, and behind the end moves the start only forward."""
    await write(log, TRENDS, b"a", b"b", b"c")
    await write(log, TRENDS, b"d")
    await log.purge({TRENDS: 2})
    await log.purge({TRENDS: 1})
    assert (await log.read(TRENDS, 2, 10)).columns.values == [b"c", b"d"]
    await log.purge({TRENDS: 99})
    assert await log.ends([TRENDS]) == {TRENDS: 4}
    await write(log, TRENDS, b"e")
    assert (await log.read(TRENDS, 4, 10)).columns.values == [b"e"]


async def test_headers_are_none_where_no_record_has_any(log: InProcessLog) -> None:
    """A chunk carries a headers column exactly when one of its records has headers."""
    header = [("origin", b"1")]
    sink = await log.sink(None, "writer")
    sink.send(TRENDS, rows(b"a"))
    sink.send(TRENDS, rows(b"b", b"c", headers=[header, None]))
    sink.send(TRENDS, rows(b"d", headers=[None]))
    await sink.commit({})
    headers = (await log.read(TRENDS, 0, 4)).columns.headers
    assert headers is not None
    assert [h and [(name, value) for name, value in h] for h in headers] == [None, header, None, None]
    assert (await log.read(TRENDS, 0, 1)).columns.headers is None
    assert (await log.read(TRENDS, 2, 2)).columns.headers is None


async def test_what_is_sent_and_read_belongs_to_the_caller(log: InProcessLog) -> None:
    """Neither the sender's lists nor a reader's are the log's own."""
    mine = rows(b"a")
    sink = await log.sink(None, "writer")
    sink.send(TRENDS, mine)
    mine.values[0] = b"changed"
    await sink.commit({})
    (await log.read(TRENDS, 0, 1)).columns.values[0] = b"changed"
    assert await values(log, TRENDS) == [b"a"]


async def test_columns_of_different_length_are_refused(log: InProcessLog) -> None:
    """A value without a timestamp would shift all records behind it."""
    sink = await log.sink(None, "writer")
    with pytest.raises(LogError, match="differ in length"):
        sink.send(TRENDS, Columns([None], [b"a", b"b"], [0, 0]))


# Epochs


async def test_an_open_epoch_is_invisible_and_an_aborted_one_stays_so(log: InProcessLog) -> None:
    """Readers see committed records only: through `read`, `poll` and the end offsets."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    sink = await log.sink(source, "a")
    sink.send(TWEETS[0], rows(b"open"))
    assert await values(log, TWEETS[0]) == []
    assert await source.poll(TWEETS, 0) == []
    assert await source.end_offsets(TWEETS[:1]) == {TWEETS[0]: 0}
    await sink.abort()
    assert await sink.commit({}) == {}
    sink.send(TWEETS[0], rows(b"closed"))
    await sink.close()
    assert await values(log, TWEETS[0]) == []
    with pytest.raises(LogError, match="closed"):
        await sink.commit({})


async def test_records_offsets_and_metadata_become_visible_together(log: InProcessLog) -> None:
    """One commit: the records, the group's positions and what was stored beside them."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    sink = await log.sink(source, "a")
    sink.send(TRENDS, rows(b"#goal"))
    assert await source.committed(TWEETS) == {}
    await sink.commit({TWEETS[0]: Committed(7, "clock=5"), TWEETS[1]: Committed(0, "")})
    await sink.commit({TWEETS[1]: Committed(3, "é")})
    assert await source.committed(TWEETS) == {TWEETS[0]: (7, "clock=5"), TWEETS[1]: (3, "é")}
    assert await log.committed("trending") == await source.committed(TWEETS)
    assert await values(log, TRENDS) == [b"#goal"]


async def test_a_large_epoch_is_one_epoch(log: InProcessLog) -> None:
    """100,000 records of one commit come back whole, in chunks of at most 10,000."""
    sent = [b"%d" % n for n in range(100_000)]
    await write(log, TWEETS[0], *sent[:1])
    await write(log, TWEETS[0], *sent[1:])
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    got: list[bytes | None] = []
    while events := await source.poll([TWEETS[0]], 0):
        (event,) = events
        assert isinstance(event, Chunk)
        assert len(event.columns) <= 10_000
        assert list(event.offsets) == list(range(len(got), event.next_offset))
        got += event.columns.values
    assert got == sent


async def test_offsets_need_a_source(log: InProcessLog) -> None:
    """A sink outside of any group cannot move a group's offsets."""
    sink = await log.sink(None, "writer")
    with pytest.raises(LogError, match="make its sink with a source"):
        await sink.commit({TWEETS[0]: Committed(1, "")})


async def test_a_source_of_another_log_is_refused(log: InProcessLog) -> None:
    """Records in one log and offsets in another are no epoch."""
    with pytest.raises(LogError, match="another log"):
        await log.sink(await MemoryLog().source("trending", "a", []), "a")


async def test_a_second_sink_of_a_member_fences_the_first(log: InProcessLog) -> None:
    """What the first had open is dropped, and never again does it commit anything; other members are left alone."""
    source, other = await join(log, "a"), await join(log, "b")
    await owned(source)
    await owned(other)
    first, others = await log.sink(source, "a"), await log.sink(other, "b")
    first.send(TRENDS, rows(b"first"))
    others.send(TRENDS, rows(b"other"))
    second = await log.sink(source, "a")
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.commit({TWEETS[0]: Committed(1, "")})
    await second.commit({TWEETS[0]: Committed(2, "")})
    await others.commit({TWEETS[2]: Committed(3, "")})
    assert await source.committed(TWEETS) == {TWEETS[0]: (2, ""), TWEETS[2]: (3, "")}
    assert await values(log, TRENDS) == [b"other"]


async def test_at_least_once_is_exactly_once_where_an_epoch_is_one_write(log: InProcessLog) -> None:
    """A sink without the guarantee shows nothing before it commits, and offsets with the records, all the same."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    sink = await log.sink(source, "a", exactly_once=False)
    sink.send(TRENDS, rows(b"a"))
    assert await values(log, TRENDS) == []
    await sink.abort()
    sink.send(TRENDS, rows(b"b"))
    await sink.commit({TWEETS[0]: Committed(1, "")})
    assert (await values(log, TRENDS), await source.committed(TWEETS)) == ([b"b"], {TWEETS[0]: (1, "")})


# Reading as a member


async def test_poll_gives_the_partitions_it_was_asked_for(log: InProcessLog) -> None:
    """One chunk for each of the given partitions that has records; the others wait."""
    for partition in TWEETS[:3]:
        await write(log, partition, b"a", b"b")
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    read = await source.poll([TWEETS[1], TWEETS[3], TWEETS[2]], 0)
    assert [event.partition for event in read if isinstance(event, Chunk)] == [TWEETS[1], TWEETS[2]]
    assert (await chunk(source, TWEETS[0])).next_offset == 2
    assert await source.poll(TWEETS, 0) == []


async def test_seek_moves_the_next_chunk(log: InProcessLog) -> None:
    """Reading goes on at the offset sought, forwards or back."""
    await write(log, TWEETS[0], b"a", b"b", b"c")
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    source.seek(TWEETS[0], 2)
    assert (await chunk(source, TWEETS[0])).columns.values == [b"c"]
    source.seek(TWEETS[0], 1)
    assert (await chunk(source, TWEETS[0])).columns.values == [b"b", b"c"]


async def test_reading_begins_at_the_committed_offset(log: InProcessLog) -> None:
    """A member that seeks nothing goes on where its group has committed, else at the first record kept."""
    await write(log, TWEETS[0], b"a", b"b", b"c")
    await write(log, TWEETS[1], b"a", b"b", b"c")
    await log.purge({TWEETS[1]: 1})
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    await (await log.sink(source, "a")).commit({TWEETS[0]: Committed(2, "")})
    assert (await chunk(source, TWEETS[0])).columns.values == [b"c"]
    assert (await chunk(source, TWEETS[1])).columns.values == [b"b", b"c"]


async def test_a_failed_poll_loses_nothing(log: InProcessLog) -> None:
    """When one partition cannot be read, the others' records come with the next poll."""
    await write(log, TWEETS[0], b"a")
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    source.seek(TWEETS[1], 5)
    with pytest.raises(OffsetOutOfRange):
        await source.poll(TWEETS, 0)
    source.seek(TWEETS[1], 0)
    assert (await chunk(source, TWEETS[0])).columns.values == [b"a"]


async def test_where_partitions_begin_and_whether_they_are_read_to_their_end(log: InProcessLog) -> None:
    """The first offset kept, and whether there is anything behind what was polled: asked, never guessed."""
    await write(log, TWEETS[0], b"a", b"b", b"c")
    await log.purge({TWEETS[0]: 1})
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    assert await source.first_offsets(TWEETS[:2]) == {TWEETS[0]: 1, TWEETS[1]: 0}
    assert list(source.at_end(TWEETS[:2])) == TWEETS[1:2]
    assert (await chunk(source, TWEETS[0])).next_offset == 3
    assert list(source.at_end(TWEETS[:2])) == TWEETS[:2]
    await write(log, TWEETS[0], b"d")
    assert list(source.at_end(TWEETS[:2])) == TWEETS[1:2]


async def test_the_size_of_chunks_can_be_chosen(make: Make) -> None:
    """A fixed limit, or one drawn for each partition and poll, 0 meaning nothing of it this time."""
    limits = iter([2, 0, 1, 5])
    log = make(chunk_records=lambda: next(limits))
    await topics(log)
    await write(log, TWEETS[0], b"a", b"b", b"c", b"d")
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    read = [await source.poll([TWEETS[0]], 0) for _ in range(4)]
    assert [[event.columns.values for event in events if isinstance(event, Chunk)] for events in read] == [
        [[b"a", b"b"]],
        [],
        [[b"c"]],
        [[b"d"]],
    ]
    await log.close()


async def test_two_groups_read_the_same_records(log: InProcessLog) -> None:
    """Positions, offsets and members of one app are nothing to another."""
    await write(log, TWEETS[0], b"a", b"b")
    one, two = await join(log, "a", "one"), await join(log, "a", "two")
    assert await owned(one) == await owned(two) == {0, 1, 2, 3}
    await (await log.sink(one, "a")).commit({TWEETS[0]: Committed(2, "")})
    assert await two.committed(TWEETS) == {}
    assert (await chunk(two, TWEETS[0])).columns.values == [b"a", b"b"]
    assert await one.poll([TWEETS[0]], 0) == []


async def test_a_waiting_poll_wakes_for_a_commit_and_for_the_group(log: InProcessLog) -> None:
    """A poll with a long time-out returns as soon as there is anything."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    waiting = asyncio.create_task(source.poll(TWEETS, 3_600_000))
    await asyncio.sleep(0)
    await write(log, TRENDS, b"of no interest")
    await write(log, TWEETS[2], b"a")
    (event,) = await waiting
    assert isinstance(event, Chunk)
    waiting = asyncio.create_task(source.poll(TWEETS, 3_600_000))
    await asyncio.sleep(0)
    await join(log, "b")
    assert await waiting == [Revoked()]


async def test_a_poll_ends_after_its_time_out(log: InProcessLog) -> None:
    """With nothing to tell, an empty list; the poll after it finds what came."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    assert await source.poll(TWEETS, 1) == []
    await write(log, TWEETS[0], b"a")
    assert (await chunk(source, TWEETS[0])).columns.values == [b"a"]


async def test_a_closed_log_says_so(log: InProcessLog) -> None:
    """Also to whoever waits in a poll; closing twice is no error."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    waiting = asyncio.create_task(source.poll(TWEETS, 3_600_000))
    await asyncio.sleep(0)
    await log.close()
    await log.close()
    with pytest.raises(LogError, match="closed"):
        await waiting
    with pytest.raises(LogError, match="closed"):
        await log.topics()


def test_no_call_needs_an_event_loop(make: Make) -> None:
    """Every coroutine ends at its first step, so a simulation can drive a log by hand."""

    def step(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        return ended.value.value

    log = make()
    step(log.create("tweets", partitions=4, config={}))
    source = step(log.source("trending", "a", TASKS))
    assert step(source.poll(TWEETS, 0)) == [Assigned(frozenset(("count", n) for n in range(4)))]
    assert step(source.poll(TWEETS, 0)) == []
    sink = step(log.sink(source, "a"))
    sink.send(TWEETS[0], rows(b"a"))
    assert step(sink.commit({TWEETS[0]: Committed(1, "")})) == {TWEETS[0]: 1}
    assert step(source.committed(TWEETS)) == {TWEETS[0]: (1, "")}
    step(source.release())
    step(source.leave())
    step(sink.close())
    step(log.close())


# Notes


async def test_a_note_is_seen_from_outside_and_can_be_taken_back(log: InProcessLog) -> None:
    """It is no part of an epoch, open or not; positions that are not named stay as they are."""
    source = await join(log, "a")
    assert isinstance(await told(source), Assigned)
    sink = await log.sink(source, "a")
    await sink.commit({TWEETS[0]: Committed(7, "clock=5")})
    sink.send(TRENDS, rows(b"open"))
    await source.note({TRENDS: Committed(3, "half")})
    assert await log.committed("trending") == {TWEETS[0]: (7, "clock=5"), TRENDS: (3, "half")}
    assert await source.committed([TRENDS]) == {TRENDS: (3, "half")}
    await source.note({TRENDS: None, TWEETS[3]: None})
    assert await log.committed("trending") == {TWEETS[0]: (7, "clock=5")}
    await sink.commit({TWEETS[0]: Committed(8, "")})
    assert (await values(log, TRENDS), await log.committed("trending")) == ([b"open"], {TWEETS[0]: (8, "")})


async def test_a_note_of_who_has_no_tasks_is_refused_and_changes_nothing(log: InProcessLog) -> None:
    """Before it is told them, when it has released them, is expelled or has left; polls tell what they would have."""
    source = await join(log, "a")
    note = {TRENDS: Committed(3, "")}
    with pytest.raises(Fenced, match="has no tasks of group 'trending' now"):
        await source.note(note)
    assert isinstance(await told(source), Assigned)
    other = await join(log, "b")
    assert isinstance(await told(source), Revoked)
    await source.note(note)
    await source.note({TRENDS: None})
    await source.release()
    with pytest.raises(Fenced):
        await source.note(note)
    await owned(source)
    log.expel("trending", "a")
    with pytest.raises(Fenced):
        await source.note(note)
    with pytest.raises(Fenced, match="expelled"):
        await source.poll([], 0)
    await other.leave()
    with pytest.raises(Fenced):
        await other.note(note)
    assert await log.committed("trending") == {}


async def test_what_was_noted_and_taken_back_is_so_when_the_log_is_opened_again(make: Make, tmp_path: Path) -> None:
    """A local log keeps notes as it keeps offsets, and counts them right."""
    log = make()
    await topics(log)
    source = await join(log, "a")
    await told(source)
    await source.note({TRENDS: Committed(3, "half"), TWEETS[0]: Committed(1, "")})
    await source.note({TRENDS: None})
    await source.note({TRENDS: None})
    await log.close()
    if (tmp_path / "log").exists():
        again = make()
        assert await again.committed("trending") == {TWEETS[0]: (1, "")}
        await again.close()


# Membership


async def test_a_join_revokes_and_shares_out_again(log: InProcessLog) -> None:
    """Members give up first, then all are assigned; who was there keeps half of what it had, the rest goes over."""
    a = await join(log, "a")
    assert await owned(a) == {0, 1, 2, 3}
    b = await join(log, "b")
    assert await told(b) is None
    assert await told(a) == Revoked()
    assert await told(a) is None
    await a.release()
    assert await owned(a) == {0, 1}
    assert await owned(b) == {2, 3}


async def test_who_does_not_release_holds_up_the_others(log: InProcessLog) -> None:
    """No task is given away while its owner may still commit."""
    a, b = await join(log, "a"), await join(log, "b")
    await a.release()
    first, second = await owned(a), await owned(b)
    c = await join(log, "c")
    assert await told(a) == Revoked()
    await a.release()
    await write(log, TWEETS[0], b"a")
    assert [await told(source) for source in (a, c)] == [None, None]
    assert await a.poll(TWEETS, 0) == []
    assert await told(b) == Revoked()
    await b.release()
    shares = [await owned(source) for source in (a, b, c)]
    assert sorted(map(len, shares)) == [1, 1, 2]
    assert shares[0] <= first
    assert shares[1] <= second


async def test_a_second_change_does_not_revoke_twice(log: InProcessLog) -> None:
    """Who is already giving up its tasks is not asked again, and the share counts everybody."""
    a = await join(log, "a")
    assert await owned(a) == {0, 1, 2, 3}
    b = await join(log, "b")
    assert await told(a) == Revoked()
    c = await join(log, "c")
    assert await told(a) is None
    await a.release()
    assert [len(await owned(source)) for source in (a, b, c)] == [2, 1, 1]


async def test_leaving_passes_the_tasks_on(log: InProcessLog) -> None:
    """The others have everything after they released; the one that left can neither commit nor poll."""
    a, b = await join(log, "a"), await join(log, "b")
    await owned(a)
    await owned(b)
    sink = await log.sink(b, "b")
    await b.leave()
    await b.leave()
    with pytest.raises(Fenced, match="has left"):
        await sink.commit({TWEETS[2]: Committed(1, "")})
    with pytest.raises(LogError, match="join it again"):
        await told(b)
    assert await told(a) == Revoked()
    await a.release()
    assert await owned(a) == {0, 1, 2, 3}


async def test_a_commit_is_accepted_until_the_release_and_not_after(log: InProcessLog) -> None:
    """Between `Revoked` and `release` the last epoch is committed; behind it the tasks may be somebody else's."""
    a = await join(log, "a")
    assert isinstance(await told(a), Assigned)
    sink = await log.sink(a, "a")
    await join(log, "b")
    sink.send(TRENDS, rows(b"untold"))
    await sink.commit({TWEETS[0]: Committed(1, "")})
    assert await told(a) == Revoked()
    sink.send(TRENDS, rows(b"last"))
    await sink.commit({TWEETS[0]: Committed(2, "")})
    await a.release()
    sink.send(TRENDS, rows(b"too late"))
    with pytest.raises(Fenced):
        await sink.commit({TWEETS[0]: Committed(3, "")})
    assert await values(log, TRENDS) == [b"untold", b"last"]
    assert await a.committed(TWEETS) == {TWEETS[0]: (2, "")}


async def test_an_epoch_begun_under_an_earlier_membership_is_fenced(log: InProcessLog) -> None:
    """What was read as owner of a task must not be committed as somebody who was assigned something else since."""
    a = await join(log, "a")
    assert isinstance(await told(a), Assigned)
    sink = await log.sink(a, "a")
    sink.send(TRENDS, rows(b"old"))
    await join(log, "b")
    await a.release()
    assert await owned(a) == {0, 1}
    with pytest.raises(Fenced, match="begun under membership"):
        await sink.commit({TWEETS[3]: Committed(1, "")})
    assert await values(log, TRENDS) == []
    assert await owned(a) == {0, 1}
    sink.send(TRENDS, rows(b"new"))
    await sink.commit({TWEETS[0]: Committed(1, "")})
    assert await values(log, TRENDS) == [b"new"]


async def test_a_dead_worker_is_fenced_and_its_tasks_move(log: InProcessLog) -> None:
    """After its expulsion nothing of its epoch is ever visible; when it comes back it joins like anybody."""
    await write(log, TWEETS[2], b"a")
    a, b = await join(log, "a"), await join(log, "b")
    await owned(a)
    assert await owned(b) == {2, 3}
    sink = await log.sink(b, "b")
    assert (await chunk(b, TWEETS[2])).next_offset == 1
    sink.send(TRENDS, rows(b"zombie"))
    log.expel("trending", "b")
    assert await told(a) == Revoked()
    await a.release()
    assert await owned(a) == {0, 1, 2, 3}
    with pytest.raises(Fenced, match="taken for dead"):
        await sink.commit({TWEETS[2]: Committed(1, "")})
    assert await values(log, TRENDS) == []
    assert await a.committed(TWEETS) == {}

    assert await told(b) is None
    assert await told(a) == Revoked()
    with pytest.raises(Fenced):
        await sink.commit({TWEETS[2]: Committed(1, "")})
    await a.release()
    assert await owned(b) == {2, 3}
    assert (await chunk(b, TWEETS[2])).columns.values == [b"a"]
    await sink.commit({TWEETS[2]: Committed(1, "")})


async def test_a_poll_tells_an_expelled_worker_first(log: InProcessLog) -> None:
    """It must not read on as if nothing was, for what it has not committed is lost."""
    a = await join(log, "a")
    assert isinstance(await told(a), Assigned)
    sink = await log.sink(a, "a")
    sink.send(TRENDS, rows(b"zombie"))
    log.expel("trending", "a")
    with pytest.raises(Fenced):
        await a.poll(TWEETS, 0)
    assert await owned(a) == {0, 1, 2, 3}
    with pytest.raises(Fenced, match="begun under membership"):
        await sink.commit({TWEETS[0]: Committed(1, "")})


async def test_expelling_the_one_that_does_not_release_frees_the_others(log: InProcessLog) -> None:
    """A rebalance ends when every member has released, left or died."""
    a = await join(log, "a")
    assert await owned(a) == {0, 1, 2, 3}
    b = await join(log, "b")
    log.expel("trending", "a")
    assert await owned(b) == {0, 1, 2, 3}


async def test_a_worker_that_restarts_under_its_name_takes_its_place(log: InProcessLog) -> None:
    """The others notice nothing; the one before it is fenced for good."""
    a, b = await join(log, "a"), await join(log, "b")
    await owned(a)
    await owned(b)
    sink = await log.sink(b, "b")
    sink.send(TRENDS, rows(b"zombie"))
    again = await join(log, "b")
    assert await owned(again) == {2, 3}
    assert await told(a) is None
    for _ in range(2):
        with pytest.raises(Replaced, match="end this worker"):
            await sink.commit({TWEETS[2]: Committed(1, "")})
        with pytest.raises(Replaced):
            await b.poll(TWEETS, 0)
    assert await values(log, TRENDS) == []
    await b.leave()
    await (await log.sink(again, "b")).commit({TWEETS[2]: Committed(1, "")})


async def test_positions_stay_with_the_tasks_that_stay(log: InProcessLog) -> None:
    """A kept partition is read on; one that went and came back begins at the committed offset."""
    for partition in TWEETS:
        await write(log, partition, b"a", b"b")
    a = await join(log, "a")
    assert isinstance(await told(a), Assigned)
    assert len(await a.poll(TWEETS, 0)) == 4
    b = await join(log, "b")
    await a.release()
    assert await owned(a) == {0, 1}
    assert await a.poll(TWEETS[:2], 0) == []
    await b.leave()
    await a.release()
    assert await owned(a) == {0, 1, 2, 3}
    read = await a.poll(TWEETS, 0)
    assert [event.partition for event in read if isinstance(event, Chunk)] == TWEETS[2:]


async def test_workers_that_disagree_on_a_task_do_not_share_it(log: InProcessLog) -> None:
    """The same task of two versions of an app would read different partitions."""
    await join(log, "a")
    with pytest.raises(LogError, match="other partitions"):
        await log.source("trending", "b", [TaskInput("count", 0, (TWEETS[1],))])
    assert await owned(await join(log, "a")) == {0, 1, 2, 3}


async def test_members_of_another_plan_share_no_tasks(log: InProcessLog) -> None:
    """The plan that fewer have gets none, whatever its tasks read; of two as common, the one that was there first."""
    a = await join(log, "a", plan="old")
    assert await owned(a) == {0, 1, 2, 3}
    other = [TaskInput("count", 0, (TWEETS[1],)), TaskInput("sum", 0, (TWEETS[0],))]
    b = await log.source("trending", "b", other, plan="new")
    await a.release()
    assert (await owned(a), await owned(b)) == ({0, 1, 2, 3}, set())
    c = await log.source("trending", "c", other, plan="new")
    for source in (a, b):
        assert await told(source) == Revoked()
        await source.release()
    events = [await told(source) for source in (a, b, c)]
    tasks = [event.tasks for event in events if isinstance(event, Assigned)]
    assert tasks[0] == frozenset()
    assert tasks[1] | tasks[2] == {("count", 0), ("sum", 0)}


async def test_a_member_that_comes_back_with_another_plan_does_not_keep_its_tasks(log: InProcessLog) -> None:
    """It is as a new member: its plan may be the less common one."""
    a, b = await join(log, "a", plan="old"), await join(log, "b", plan="old")
    await owned(a)
    await owned(b)
    again = await join(log, "b", plan="new")
    assert await told(a) == Revoked()
    await a.release()
    assert (await owned(a), await owned(again)) == ({0, 1, 2, 3}, set())


async def test_a_group_agrees_on_what_its_first_member_shares(log: InProcessLog) -> None:
    """Each `Assigned` says it, until the last member has gone; one that has nothing to share shares nothing."""

    async def agreed(source: Source) -> bytes:
        event = await told(source)
        assert isinstance(event, Assigned)
        return event.shared

    a = await join(log, "a")
    assert await agreed(a) == b""
    b = await join(log, "b", shared=b"of b")
    await a.release()
    assert [await agreed(source) for source in (a, b)] == [b"of b", b"of b"]
    c = await join(log, "c", shared=b"of c")
    await b.leave()
    await a.release()
    assert [await agreed(source) for source in (a, c)] == [b"of b", b"of b"]
    await a.leave()
    await c.leave()
    assert await agreed(await join(log, "d", shared=b"of d")) == b"of d"


async def test_a_member_that_fails_stops_the_group(log: InProcessLog) -> None:
    """Each member's polls raise the first reason, those who wait and come later too; when all have gone it is over."""
    a, b = await join(log, "a"), await join(log, "b")
    await owned(a)
    await owned(b)
    waiting = asyncio.create_task(b.poll([], 3_600_000))
    await asyncio.sleep(0)
    await a.fail("a record is no JSON")
    with pytest.raises(GroupFailed, match="It said: a record is no JSON"):
        await waiting
    await a.leave()
    late = await join(log, "c")
    await late.fail("something else")
    for _ in range(2):
        with pytest.raises(GroupFailed, match="no JSON"):
            await b.poll([], 0)
    with pytest.raises(GroupFailed, match="no JSON"):
        await late.poll([], 0)
    await b.leave()
    await late.leave()
    assert await owned(await join(log, "b")) == {0, 1, 2, 3}


async def test_who_is_not_in_the_group_does_not_stop_it(log: InProcessLog) -> None:
    """A worker that was taken for dead may have failed on what is not its own any more."""
    a, b = await join(log, "a"), await join(log, "b")
    await owned(a)
    await owned(b)
    log.expel("trending", "a")
    await a.fail("a record that is b's")
    assert await told(b) == Revoked()


async def test_a_group_seen_from_outside(log: InProcessLog) -> None:
    """Who is in it, has which tasks, and whether they are being shared out anew; nobody, where there is no group."""
    assert await log.group("trending") == (False, ())
    a = await join(log, "a")
    await owned(a)
    view = await log.group("trending")
    assert not view.changing
    assert [(member.name, len(member.tasks)) for member in view.members] == [("a", 4)]
    await join(log, "b")
    view = await log.group("trending")
    assert view.changing
    assert [(member.name, len(member.tasks)) for member in view.members] == [("a", 4), ("b", 0)]
    await a.release()
    view = await log.group("trending")
    assert not view.changing
    assert [(member.name, len(member.tasks)) for member in view.members] == [("a", 2), ("b", 2)]


task_sets = st.frozensets(st.tuples(st.sampled_from("xy"), st.integers(0, 9)), max_size=20)


@given(
    task_sets, st.dictionaries(st.sampled_from("abcde"), task_sets, max_size=5), st.frozensets(st.sampled_from("abcde"))
)
def test_shares_are_even_whole_and_sticky(
    tasks: frozenset[tuple[str, int]], claims: Mapping[str, frozenset[tuple[str, int]]], members: frozenset[str]
) -> None:
    """Each task has one owner, shares differ by one at most, and nobody loses a task while below the even share."""
    owned_before: dict[str, frozenset[tuple[str, int]]] = {}
    for name, claim in claims.items():
        owned_before[name] = claim.difference(*owned_before.values())
    shares = share_out(dict.fromkeys(members, tasks), owned_before)
    assert sorted(task for share in shares.values() for task in share) == (sorted(tasks) if members else [])
    sizes = [len(share) for share in shares.values()]
    assert not sizes or max(sizes) - min(sizes) <= 1
    for name, share in shares.items():
        had = owned_before.get(name, frozenset()) & tasks
        assert len(share & had) >= min([len(had), *sizes])


def test_the_tasks_of_each_stage_are_shared_evenly() -> None:
    """Whoever comes is given as much of each stage as the others keep; a stage is work of one kind."""
    tasks = [(stage, number) for stage in ("parse", "count", "top") for number in range(4)]
    shares: dict[str, frozenset[tuple[str, int]]] = {}
    for members in ("a", "ab", "abc", "abcd", "bcd", "bd"):
        shares = share_out(dict.fromkeys(members, tasks), shares)
        for stage in ("parse", "count", "top"):
            counts = [sum(task[0] == stage for task in share) for share in shares.values()]
            assert max(counts) - min(counts) <= 1, (members, shares)


# URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("kafka://", r"names no brokers"),
        ("amqp://rabbit", r"use kafka://HOST:PORT, local://DIR or memory://"),
        ("local", r"use kafka://HOST:PORT, local://DIR or memory://"),
        ("local://", r"names no directory"),
    ],
)
async def test_a_url_that_names_no_log_is_refused_with_the_way_out(url: str, words: str) -> None:
    """The message lists what can be opened."""
    with pytest.raises(LogError, match=words):
        await open_log(Settings(broker=url))


async def test_urls_open_logs(tmp_path: Path) -> None:
    """`memory://` is a fresh log each time; `local://DIR` keeps it in DIR/log, also for a reader beside."""
    assert isinstance(await open_log(Settings(broker="memory://trending")), MemoryLog)
    log = await open_log(Settings(broker=f"local://{tmp_path}"))
    await log.create("tweets", partitions=1, config={})
    reader = await open_log(Settings(broker=f"local://{tmp_path}"), read_only=True)
    assert (tmp_path / "log").is_dir()
    assert set(await reader.topics()) == {"tweets"}
    await reader.close()
    await log.close()
