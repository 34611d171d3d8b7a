"""Reading ahead: what is there when it is asked for, what waits for whom, and what is said of what cannot be read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from streamproc.kafka.calls import Deadline
from streamproc.kafka.fetching import SOON_MS, WAIT_MS, Fetcher
from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.offsets import Offsets
from streamproc.kafka.requests import Code, Fetch, Fetched, ListOffsets
from streamproc.kafka.transaction import Transactions
from streamproc.log import Chunk, Columns, LogCorrupt, LogError, OffsetOutOfRange, Partition, UnknownTopic
from tests.kafka.copying import TIMING, rows, write
from tests.kafka.meddling import Fate, Meddled, answered, closed, lost, refused
from tests.simulation.bench import Bench, SimulatedBench, on_both, on_simulated

PIECE_BYTES = 2_000


class Reading:
    """A fetcher on a topic of so many partitions, and a log that writes to it."""

    def __init__(self, bench: Bench, log: KafkaLog, cluster: Meddled, partitions: Sequence[Partition]) -> None:
        self.bench = bench
        self.log = log
        self.cluster = cluster
        self.partitions = partitions
        self.fetcher = Fetcher(cluster, Offsets(cluster, TIMING).why_unreadable, partition_bytes=PIECE_BYTES)

    @classmethod
    async def begin(cls, bench: Bench, partitions: int = 2, **config: str) -> Reading:
        topic = bench.name("tweets")
        log = KafkaLog(await bench.client("writer"), TIMING)
        settings = {name.replace("_", "."): value for name, value in config.items()}
        await log.create(topic, partitions=partitions, config={"retention.ms": "-1"} | settings)
        numbers = [Partition(topic, number) for number in range(partitions)]
        return cls(bench, log, Meddled(await bench.client("reader")), numbers)

    async def write(self, *values: str, to: int = 0) -> None:
        await write(self.log, {self.partitions[to]: values}, self.bench.name("writer"))

    def seek_all(self) -> None:
        for partition in self.partitions:
            self.fetcher.seek(partition, 0)

    async def take(self, *numbers: int) -> list[Chunk]:
        """What comes first of these partitions."""
        wanted = [self.partitions[number] for number in numbers or range(len(self.partitions))]
        async with asyncio.timeout(30):
            while not (chunks := self.fetcher.take(wanted)):
                await self.fetcher.arrived.wait()
        return chunks

    async def values(self, count: int, number: int = 0) -> list[str]:
        """So many records of a partition, whatever the pieces they come in."""
        found: list[str] = []
        while len(found) < count:
            (chunk,) = await self.take(number)
            assert chunk.columns.values == [] or chunk.offsets[0] <= chunk.next_offset
            found += [(value or b"").decode() for value in chunk.columns.values]
        return found

    @property
    def fetches(self) -> list[Fetch]:
        return self.cluster.all(Fetch)

    async def close(self) -> None:
        await self.fetcher.close()
        await self.cluster.close()
        await self.log.close()


# ------------------------------------------------------------------------------------ ahead, and bounded


@on_both
async def test_what_is_there_is_read_before_it_is_asked_for(bench: Bench) -> None:
    """A seek is enough; and what is taken is followed by what comes next."""
    reading = await Reading.begin(bench)
    await reading.write("a", "b")
    await reading.write("c", to=1)
    reading.seek_all()
    async with asyncio.timeout(30):
        while {p for p in reading.partitions if p not in reading.fetcher._ready}:
            await asyncio.sleep(0.01)
    chunks = reading.fetcher.take(reading.partitions)
    assert [(chunk.columns.values, list(chunk.offsets)) for chunk in chunks] == [([b"a", b"b"], [0, 1]), ([b"c"], [0])]
    assert reading.fetcher.take(reading.partitions) == []
    await reading.write("d")
    assert await reading.values(1) == ["d"]
    await reading.close()


@on_both
async def test_one_piece_of_a_partition_waits_and_no_more(bench: Bench) -> None:
    """Memory is bounded by what is assigned, however much there is and however long nobody takes it."""
    reading = await Reading.begin(bench, 1)
    sent = [f"{n:03}{'x' * 500}" for n in range(40)]
    for start in range(0, 40, 2):
        await reading.write(*sent[start : start + 2])
    reading.seek_all()
    await reading.fetcher.arrived.wait()
    await asyncio.sleep(1.0)
    (first,) = reading.fetcher._ready.values()
    assert isinstance(first, Fetched)
    assert len(first.offsets) < 8
    assert len(reading.fetches) == 1
    assert await reading.values(40) == sent
    await reading.close()


@on_both
async def test_a_batch_larger_than_a_piece_is_read_whole(bench: Bench) -> None:
    """Else it would never be read."""
    reading = await Reading.begin(bench, 1)
    sent = [f"{n}{'x' * 900}" for n in range(9)]
    await reading.write(*sent)
    reading.seek_all()
    assert await reading.values(9) == sent
    await reading.close()


@on_both
async def test_control_records_alone_move_the_position(bench: Bench) -> None:
    """A chunk without records: behind markers and what was aborted, so that nobody waits for what never comes."""
    reading = await Reading.begin(bench, 1)
    client = await bench.client("aborts")
    writer = Transactions(client, bench.name("aborts"), TIMING)
    for _ in range(2):
        await writer.take(Deadline(10))
        writer.send(reading.partitions[0], rows("aborted"))
        await writer._outbox.flush(writer._producer, Deadline(10))
        writer._settled = False
    await writer.take(Deadline(10))
    end = (await reading.log.ends(reading.partitions))[reading.partitions[0]]
    reading.seek_all()
    position = 0
    while position < end:
        (chunk,) = await reading.take()
        assert (chunk.columns.values, list(chunk.offsets)) == ([], [])
        assert chunk.next_offset > position
        position = chunk.next_offset
    assert reading.fetcher.at_end(reading.partitions) == set(reading.partitions)
    await reading.write("committed")
    (chunk,) = await reading.take()
    assert (chunk.columns.values, list(chunk.offsets)) == ([b"committed"], [end])
    await reading.close()


# ------------------------------------------------------------------------------------ who waits for whom


@on_simulated
async def test_a_partition_that_is_not_read_holds_back_no_other(bench: SimulatedBench) -> None:
    """Its piece waits; of the other one all comes, each piece a moment after the last was taken."""
    reading = await Reading.begin(bench)
    for n in range(50):
        await reading.write(f"{n:02}{'x' * 1_500}", to=1)
    await reading.write("waits", to=0)
    reading.seek_all()
    await asyncio.sleep(1)
    began = asyncio.get_running_loop().time()
    assert len(await reading.values(50, 1)) == 50
    assert asyncio.get_running_loop().time() - began < 50 * 0.05
    assert [chunk.columns.values for chunk in await reading.take(0)] == [[b"waits"]]
    await reading.close()


@on_simulated
async def test_a_piece_that_waits_makes_nobody_ask_in_vain(bench: SimulatedBench) -> None:
    """A poll for other partitions sleeps until something new is there: it is not woken by what it does not want."""
    reading = await Reading.begin(bench)
    await reading.write("waits", to=0)
    reading.seek_all()
    await asyncio.sleep(1)
    assert reading.fetcher.take(reading.partitions[1:]) == []
    assert not reading.fetcher.arrived.is_set()
    await reading.write("comes", to=1)
    assert [chunk.columns.values for chunk in await reading.take(1)] == [[b"comes"]]
    await reading.close()


@on_simulated
async def test_what_is_sought_does_not_wait_for_a_leader_that_waits_for_records(bench: SimulatedBench) -> None:
    """Tasks are opened one by one: each is read at once, though the idle ones before it are being asked for."""
    reading = await Reading.begin(bench, 32)
    for number in range(1, 32):
        await reading.write("x", to=number)
    reading.fetcher.seek(reading.partitions[0], 0)
    await asyncio.sleep(0.1)
    for number in range(1, 32):
        reading.fetcher.seek(reading.partitions[number], 0)
        began = asyncio.get_running_loop().time()
        await reading.take(number)
        assert asyncio.get_running_loop().time() - began < 3 * SOON_MS / 1000
    await reading.close()


@on_simulated
async def test_an_idle_topic_is_asked_for_twice_a_second_in_one_message(bench: SimulatedBench) -> None:
    """However the partitions came to be read: one by one, too."""
    reading = await Reading.begin(bench, 20)
    for partition in reading.partitions:
        reading.fetcher.seek(partition, 0)
        await asyncio.sleep(0.003)
    await asyncio.sleep(2)
    before = len(reading.fetches)
    await asyncio.sleep(60)
    fetches = reading.fetches[before:]
    assert 100 <= len(fetches) <= 60_000 / WAIT_MS + 1
    assert {len(fetch.offsets) for fetch in fetches} == {20}
    await reading.close()


@on_simulated
async def test_a_paused_partition_costs_the_others_few_requests(bench: SimulatedBench) -> None:
    """While its piece waits the rest is asked for in turns of 40 ms, so that it can join them when it is taken."""
    reading = await Reading.begin(bench, 4)
    await reading.write("waits", to=0)
    reading.seek_all()
    await asyncio.sleep(1)
    before = len(reading.fetches)
    await asyncio.sleep(10)
    assert len(reading.fetches) - before <= 10_000 / (2 * SOON_MS)
    await reading.take(0)
    await asyncio.sleep(1)
    before = len(reading.fetches)
    await asyncio.sleep(10)
    assert len(reading.fetches) - before <= 10_000 / WAIT_MS + 1
    await reading.close()


# ------------------------------------------------------------------------------------ seek and keep


@on_both
async def test_a_seek_decides_what_comes_next(bench: Bench) -> None:
    """Forwards, back, to where it is; whatever is ready or under way."""
    reading = await Reading.begin(bench, 1)
    (p,) = reading.partitions
    await reading.write("a", "b", "c", "d")
    for offset, pause in ((0, 0.0), (2, 0.3), (1, 0.0), (3, 0.0), (3, 0.3), (0, 0.0)):
        reading.fetcher.seek(p, offset)
        await asyncio.sleep(pause)
        (chunk,) = await reading.take()
        assert list(chunk.offsets) == list(range(offset, 4))
    reading.fetcher.seek(p, 0)
    reading.fetcher.seek(p, 3)
    assert await reading.values(1) == ["d"]
    await reading.close()


@on_simulated
async def test_what_a_fetch_brings_of_a_partition_that_was_sought_away_is_not_read(bench: SimulatedBench) -> None:
    """At every moment of a fetch; the other partition of the message is."""
    for moment_ms in range(12):
        reading = await Reading.begin(SimulatedBench(), 2)
        await reading.write("a", "b", "c", to=0)
        await reading.write("x", to=1)
        reading.seek_all()
        await asyncio.sleep(moment_ms / 2_000)
        reading.fetcher.seek(reading.partitions[0], 2)
        got = await reading.values(1, 0)
        assert got == ["c"]
        assert await reading.values(1, 1) == ["x"]
        await reading.close()


@on_simulated
async def test_what_is_not_kept_is_dropped_and_the_rest_is_read_on(bench: SimulatedBench) -> None:
    """Ready or under way; one that comes back begins where it is sought, and not where it was."""
    for moment_ms in range(12):
        reading = await Reading.begin(SimulatedBench(), 2)
        first, second = reading.partitions
        await reading.write("a", "b", "c", to=0)
        await reading.write("x", "y", to=1)
        reading.seek_all()
        await asyncio.sleep(moment_ms / 2_000)
        reading.fetcher.keep({second})
        assert first not in reading.fetcher
        assert await reading.values(2, 1) == ["x", "y"]
        await asyncio.sleep(1)
        assert reading.fetcher.take([first]) == []
        reading.fetcher.seek(first, 1)
        assert await reading.values(2, 0) == ["b", "c"]
        await reading.close()


# ------------------------------------------------------------------------------------ at the end


@on_both
async def test_the_end_is_never_guessed(bench: Bench) -> None:
    """Only the leader says so, of where it is read to; what waits to be taken, or is open, is not the end."""
    reading = await Reading.begin(bench, 1)
    (p,) = reading.partitions
    assert reading.fetcher.at_end([p]) == set()
    reading.fetcher.seek(p, 0)
    assert reading.fetcher.at_end([p]) == set()
    async with asyncio.timeout(30):
        while not reading.fetcher.at_end([p]):
            await asyncio.sleep(0.01)
    await reading.write("a")
    await reading.fetcher.arrived.wait()
    assert reading.fetcher.at_end([p]) == set()
    while reading.fetcher.take([p]):
        pass
    async with asyncio.timeout(30):
        while not reading.fetcher.at_end([p]):
            reading.fetcher.take([p])
            await asyncio.sleep(0.01)
    reading.fetcher.seek(p, 0)
    assert reading.fetcher.at_end([p]) == set()
    reading.fetcher.keep(())
    assert reading.fetcher.at_end([p]) == set()
    await reading.close()


@on_both
async def test_what_a_transaction_holds_up_is_told(bench: Bench) -> None:
    """From its first record on, however often Kafka is asked; no more once it has ended, nor of what is not read."""
    reading = await Reading.begin(bench, 1)
    (p,) = reading.partitions
    await reading.write("a")
    end = (await reading.log.ends([p]))[p]
    writer = Transactions(await bench.client("holds"), bench.name("holds"), TIMING)
    await writer.take(Deadline(10))
    writer.send(p, rows("open"))
    await writer._outbox.flush(writer._producer, Deadline(10))
    assert reading.fetcher.held_up == {}

    async def until(expected: dict[Partition, int]) -> None:
        async with asyncio.timeout(30):
            while reading.fetcher.held_up != expected:
                reading.fetcher.take([p])
                await asyncio.sleep(0.01)

    reading.fetcher.seek(p, 0)
    await until({p: end})
    reading.fetcher.keep(())
    assert reading.fetcher.held_up == {}
    reading.fetcher.seek(p, end)
    await until({p: end})
    await writer.take(Deadline(10))  # aborts it
    await reading.write("behind")
    assert await reading.values(1) == ["behind"]
    await until({})
    await reading.close()


@on_simulated
async def test_a_broker_that_does_not_say_where_the_end_is_is_not_taken_to_be_at_it(bench: SimulatedBench) -> None:
    """-1 is no offset."""
    reading = await Reading.begin(bench, 1)
    empty = Columns([], [], [])
    says_nothing = answered(lambda request: {p: Fetched(0, (), empty, offset) for p, offset in request.offsets.items()})
    reading.cluster.meddle(Fetch, says_nothing, times=1)
    reading.seek_all()
    await asyncio.sleep(0.004)
    assert reading.fetcher.at_end(reading.partitions) == set()
    await reading.close()


@on_simulated
async def test_a_partition_in_trouble_is_not_at_its_end(bench: SimulatedBench) -> None:
    """Nothing is known of it; nor of those whose leader is silent."""
    for fate in (closed, refused(Code.NOT_LEADER_OR_FOLLOWER)):
        reading = await Reading.begin(SimulatedBench(), 2)
        reading.seek_all()
        await asyncio.sleep(2)
        assert reading.fetcher.at_end(reading.partitions) == set(reading.partitions)
        reading.cluster.meddle(Fetch, fate, times=10_000)
        await asyncio.sleep(1)
        assert reading.fetcher.at_end(reading.partitions) == set()
        await reading.close()


# ------------------------------------------------------------------------------------ what cannot be read


@on_both
async def test_an_offset_that_is_not_kept_is_an_error_and_never_a_reset(bench: Bench) -> None:
    """D10. It is said again each time, the position stays, and other partitions lose nothing by it."""
    reading = await Reading.begin(bench)
    first, second = reading.partitions
    await reading.write("a", "b", "c", to=0)
    await reading.write("x", to=1)
    await reading.log.purge({first: 2})
    reading.fetcher.seek(first, 1)
    for _ in range(2):
        with pytest.raises(OffsetOutOfRange, match="offset 1 of .* is out of range: the log keeps 2 to "):
            await reading.take(0)
    reading.fetcher.seek(second, 0)
    async with asyncio.timeout(30):
        while len(reading.fetcher._ready) < 2:
            await asyncio.sleep(0.01)
    assert [chunk.columns.values for chunk in reading.fetcher.take([second, first])] == [[b"x"]]
    with pytest.raises(OffsetOutOfRange):
        reading.fetcher.take([second, first])
    reading.fetcher.seek(first, 99)
    with pytest.raises(OffsetOutOfRange, match="offset 99"):
        await reading.take(0)
    reading.fetcher.seek(first, 2)
    assert await reading.values(1, 0) == ["c"]
    await reading.close()


@on_simulated
async def test_an_error_is_said_first_or_next_and_no_piece_is_lost_by_it(bench: SimulatedBench) -> None:
    """Wherever it stands among those that are asked for."""
    reading = await Reading.begin(bench, 3)
    for number in (0, 2):
        await reading.write(f"x{number}", to=number)
    for number, offset in ((0, 0), (1, 7), (2, 0)):
        reading.fetcher.seek(reading.partitions[number], offset)
    await asyncio.sleep(1)
    assert [chunk.partition.number for chunk in reading.fetcher.take(reading.partitions)] == [0, 2]
    with pytest.raises(OffsetOutOfRange):
        reading.fetcher.take(reading.partitions)
    await asyncio.sleep(1)
    with pytest.raises(OffsetOutOfRange):
        reading.fetcher.take(reading.partitions)
    await reading.close()


@on_simulated
async def test_an_offset_that_a_new_leader_did_not_know_for_a_moment_passes(bench: SimulatedBench) -> None:
    """It is looked at again before it is called an error."""
    reading = await Reading.begin(bench, 1)
    await reading.write("a", "b")
    _refuse(reading, Code.OFFSET_OUT_OF_RANGE, times=2)
    reading.seek_all()
    assert await reading.values(2) == ["a", "b"]
    assert reading.cluster.all(ListOffsets)
    await reading.close()


@on_simulated
async def test_a_damaged_batch_is_an_error_and_the_position_stays_before_it(bench: SimulatedBench) -> None:
    """Nothing is skipped: it is read when it can be."""
    reading = await Reading.begin(bench, 1)
    await reading.write("a", "b")
    _refuse(reading, Code.CORRUPT_MESSAGE, times=2)
    reading.seek_all()
    for _ in range(2):
        with pytest.raises(LogCorrupt, match="tweets/0 is damaged: the batch at offset 0"):
            await reading.take()
    assert await reading.values(2) == ["a", "b"]
    await reading.close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.TOPIC_AUTHORIZATION_FAILED, "may not be read: allow the app's user Read on the topic"),
        (Code.UNSUPPORTED_COMPRESSION_TYPE, "is compressed, from offset 0 on, by a codec .*: pip install cramjam"),
        (Code.UNSUPPORTED_FOR_MESSAGE_FORMAT, "cannot be read at offset 0: UNSUPPORTED_FOR_MESSAGE_FORMAT"),
        (-1, "cannot be read at offset 0: UNKNOWN_SERVER_ERROR"),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_what_does_not_pass_is_said(code: int, words: str, whole: bool) -> None:
    """An error of a partition, or of the whole answer."""

    async def scenario(bench: SimulatedBench) -> None:
        reading = await Reading.begin(bench, 1)
        if whole:
            reading.cluster.meddle(Fetch, refused(code), times=1)
        else:
            _refuse(reading, code)
        reading.seek_all()
        with pytest.raises(LogError, match=words):
            await reading.take()
        await reading.close()

    on_simulated(scenario)()


@pytest.mark.parametrize(
    "code",
    [
        Code.NOT_LEADER_OR_FOLLOWER,
        Code.LEADER_NOT_AVAILABLE,
        Code.UNKNOWN_TOPIC_OR_PARTITION,
        Code.KAFKA_STORAGE_ERROR,
        Code.REQUEST_TIMED_OUT,
    ],
)
def test_what_passes_is_waited_out(code: int) -> None:
    """Ten times a second at most; the partitions that are well are read meanwhile."""

    async def scenario(bench: SimulatedBench) -> None:
        reading = await Reading.begin(bench, 2)
        await reading.write("a", to=0)
        _refuse(reading, code, times=50)
        reading.seek_all()
        await asyncio.sleep(0.2)
        for n in range(10):
            await reading.write(f"x{n}", to=1)
            assert await reading.values(1, 1) == [f"x{n}"]
        assert await reading.values(1, 0) == ["a"]
        asked = sum(reading.partitions[0] in fetch.offsets for fetch in reading.fetches)
        assert 51 <= asked <= 10 * asyncio.get_running_loop().time() + 1
        await reading.close()

    on_simulated(scenario)()


@pytest.mark.parametrize("fate", [lost, closed])
def test_a_silent_leader_is_asked_until_it_answers(fate: Fate) -> None:
    """Nothing is raised; how long it has been silent is known, and nothing is lost."""

    async def scenario(bench: SimulatedBench) -> None:
        reading = await Reading.begin(bench, 8)
        reading.seek_all()
        await asyncio.sleep(30)
        assert reading.fetcher.unanswered_s <= WAIT_MS / 1000 + 0.01
        reading.cluster.meddle(Fetch, fate, times=100_000)
        await asyncio.sleep(20)
        assert reading.fetcher.take(reading.partitions) == []
        assert 18 < reading.fetcher.unanswered_s <= 21
        assert len(reading.fetches) < 500
        reading.cluster.heal()
        await reading.write("a", to=3)
        assert await reading.values(1, 3) == ["a"]
        assert reading.fetcher.unanswered_s < 6
        await reading.close()

    on_simulated(scenario)()


@on_simulated
async def test_silence_is_of_those_that_were_asked(bench: SimulatedBench) -> None:
    """A fetcher that had nothing to ask for, or whose pieces nobody took, is not unanswered for that."""
    reading = await Reading.begin(bench, 1)
    await asyncio.sleep(100)
    assert reading.fetcher.unanswered_s == 0
    await reading.write("a")
    reading.seek_all()
    assert reading.fetcher.unanswered_s == 0
    await asyncio.sleep(100)
    await reading.take()
    assert reading.fetcher.unanswered_s == 0
    await reading.close()


@on_both
async def test_a_topic_that_was_deleted_is_an_error_in_the_end(bench: Bench) -> None:
    """Not at once, as a new one is not known everywhere; the others are read on."""
    reading = await Reading.begin(bench, 1)
    (p,) = reading.partitions
    other = Partition(bench.name("other"), 0)
    await reading.log.create(other.topic, partitions=1, config={"retention.ms": "-1"})
    reading.seek_all()
    reading.fetcher.seek(other, 0)
    await asyncio.sleep(0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamproc.kafka.fetching.GONE_S", 1.0)
        began = asyncio.get_running_loop().time()
        await reading.log.forget(bench.name("nobody"), [p.topic])
        with pytest.raises(UnknownTopic, match="there is no topic"):
            await reading.take()
        assert asyncio.get_running_loop().time() - began > 0.9
    await write(reading.log, {other: ["x"]}, bench.name("writer"))
    async with asyncio.timeout(10):
        while not (chunks := reading.fetcher.take([other])):
            await reading.fetcher.arrived.wait()
    assert chunks[0].columns.values == [b"x"]
    await reading.close()


@on_simulated
async def test_a_partition_that_nobody_leads_is_said_now_and_then(bench: SimulatedBench) -> None:
    """Waiting in silence looks like working."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("streamproc").addHandler(handler)
    try:
        reading = await Reading.begin(bench, 1)
        _refuse(reading, Code.LEADER_NOT_AVAILABLE, times=100_000)
        reading.seek_all()
        await asyncio.sleep(100)
        await reading.close()
    finally:
        logging.getLogger("streamproc").removeHandler(handler)
    assert 4 <= len(heard) <= 7
    assert all(words.startswith("tweets/0 cannot be read, for ") for words in heard)
    assert all(words.endswith(" s now: LEADER_NOT_AVAILABLE") for words in heard)


# ------------------------------------------------------------------------------------ the end of it


@on_both
async def test_a_closed_fetcher_asks_nothing_more(bench: Bench) -> None:
    """Whatever was under way, and whoever seeks still."""
    reading = await Reading.begin(bench)
    reading.seek_all()
    await asyncio.sleep(0.2)
    await reading.fetcher.close()
    asked = len(reading.fetches)
    reading.seek_all()
    await asyncio.sleep(0.2)
    assert len(reading.fetches) == asked
    assert not reading.fetcher._tasks
    await reading.close()


@on_simulated
async def test_an_error_of_the_program_is_not_hidden_in_the_background(bench: SimulatedBench) -> None:
    """It is raised to whoever takes; nothing stands still in silence."""
    reading = await Reading.begin(bench, 1)

    async def broken(cluster: Any, request: Any, timeout_s: float) -> Mapping[Partition, Fetched]:
        raise ZeroDivisionError

    reading.cluster.meddle(Fetch, broken)
    reading.seek_all()
    with pytest.raises(ZeroDivisionError):
        await reading.take()
    await reading.close()


def _refuse(reading: Reading, code: int, *, times: int = 1) -> None:
    """So many fetches are answered with this code for the first partition, and with what there is for the others."""
    first = reading.partitions[0]

    async def fate(cluster: Any, request: Fetch, timeout_s: float) -> Mapping[Partition, Fetched]:
        rest = {p: offset for p, offset in request.offsets.items() if p != first}
        found = await cluster.send(Fetch(rest, 0, request.partition_bytes), timeout_s) if rest else {}
        await asyncio.sleep(0.001)
        return {**found, first: Fetched(code, (), Columns([], [], []), request.offsets[first])}

    reading.cluster.meddle(Fetch, fate, times=times, where=lambda request: first in request.offsets)
