"""An epoch on Kafka: four outcomes, what is visible after each, and what the next epoch meets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamproc.kafka.calls import Deadline
from streamproc.kafka.committing import OldMembership
from streamproc.kafka.leadership import transactional_id
from streamproc.kafka.requests import (
    Code,
    EndTxn,
    InitProducerId,
    OffsetFetch,
    Produce,
    Produced,
    Request,
    TransactionVersion,
    TxnOffsetCommit,
)
from streamproc.kafka.transaction import TakenOver, Transactions
from streamproc.log import Aborted, Committed, Fenced, LogError, Rejected, Replaced, Unknown
from streamproc.testing.simulation.transactions import EXHAUSTED
from tests.kafka.copying import TIMING, rows
from tests.kafka.meddling import Fate, answered, closed, done_and_closed, late, lost, refused, unanswered
from tests.kafka.stage import Stage, Worker
from tests.simulation.bench import Bench, Runs, SimulatedBench, on_both, on_simulated

SHORT = TIMING._replace(transaction=1_500)
"""Three answers that do not come are more than a transaction may take."""
FATES = {
    "lost": lost,
    "closed": closed,
    "unanswered": unanswered,
    "done and closed": done_and_closed,
    "late": late(0.3),
    "later": late(0.8),
    "no leader": refused(Code.LEADER_NOT_AVAILABLE),
    "other leader": refused(Code.NOT_LEADER_OR_FOLLOWER),
}


async def aborted(worker: Worker, *values: str, at: int) -> Aborted:
    with pytest.raises(Aborted) as caught:
        await worker.commit(*values, at=at)
    return caught.value


async def fenced(worker: Worker, *values: str, at: int) -> Fenced:
    with pytest.raises(Fenced) as caught:
        await worker.commit(*values, at=at)
    return caught.value


# ------------------------------------------------------------------------------------ committed


@on_both
async def test_an_epoch_is_visible_as_a_whole_and_not_before(bench: Bench) -> None:
    """Records of several partitions and the offsets: nothing of them before the commit, all of it behind."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.send("x", to=0)
    a.send("y", "z", to=1)
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == ([], [], None)
    ends = await a.sink.commit({stage.inputs[0]: Committed(5, "token")})
    assert ends == {stage.outputs[0]: 1, stage.outputs[1]: 2}
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["x"], ["y", "z"], 5)
    await stage.close()


@on_both
async def test_what_was_sent_to_a_partition_in_pieces_is_one_batch_in_that_order(bench: Bench) -> None:
    """However many sends: a partition costs one round trip."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    for n in range(10):
        a.send(f"x{n}")
    assert await a.commit(at=1) == 10
    (produce,) = a.cluster.all(Produce)
    assert [stamped.batch.count for stamped in produce.batches.values()] == [10]
    assert await stage.out() == [f"x{n}" for n in range(10)]
    await stage.close()


@on_both
async def test_a_request_is_no_larger_than_a_leader_takes(bench: Bench) -> None:
    """One batch alone may be larger; what does not fit goes in the next request, and all of it comes."""
    stage = await Stage.set_up(bench, 5)
    a = await stage.alone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamproc.kafka.producing.REQUEST_BYTES", 1_000)
        for number in range(5):
            a.send("x" * (2_000 if number == 2 else 300), to=number)
        await a.commit(at=1)
    sizes = [[stamped.batch.size for stamped in request.batches.values()] for request in a.cluster.all(Produce)]
    assert all(sum(batches) <= 1_000 or len(batches) == 1 for batches in sizes)
    assert [len(batches) for batches in sizes] == [2, 1, 2]
    assert [len((await stage.out(number))[0]) for number in range(5)] == [300, 300, 2_000, 300, 300]
    await stage.close()


@on_both
async def test_epochs_follow_one_another_without_a_question_between_them(bench: Bench) -> None:
    """EndTxn answers the epoch of the next transaction (KIP-890), whose records are numbered from 0."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    for n in range(5):
        await a.commit(f"x{n}", at=n)
    assert len(a.cluster.all(InitProducerId)) == 1
    producers = [next(iter(request.batches.values())) for request in a.cluster.all(Produce)]
    assert sorted({stamped.producer.epoch for stamped in producers}) == [0, 1, 2, 3, 4]
    assert {stamped.sequence for stamped in producers} == {0}
    assert await stage.out() == [f"x{n}" for n in range(5)]
    await stage.close()


@on_both
async def test_an_epoch_of_nothing_asks_nothing(bench: Bench) -> None:
    """No records and no offsets: no transaction."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    before = len(a.cluster.all(EndTxn))
    assert await a.sink.commit({}) == {}
    assert len(a.cluster.all(EndTxn)) == before
    await stage.close()


# ------------------------------------------------------------------------------------ what is lost


@pytest.mark.parametrize("kind", [InitProducerId, Produce, TxnOffsetCommit, EndTxn])
@pytest.mark.parametrize("fate", [lost, closed, unanswered, done_and_closed])
def test_a_lost_request_or_answer_is_nothing_to_the_user(runs: Runs, kind: type[Request[Any]], fate: Fate) -> None:
    """It is sent again; the broker knows records by their numbers and an EndTxn by its epoch."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        await a.commit("first", at=1)
        a.cluster.meddle(kind, fate)
        if kind is InitProducerId:
            a.sink._writer._settled = False  # type: ignore[attr-defined]
        assert await a.commit("second", at=2) is not None
        await a.commit("third", at=3)
        assert (await stage.out(), await stage.committed()) == (["first", "second", "third"], 3)
        await stage.close()

    runs(scenario)


@pytest.mark.parametrize(("fate", "committed"), [(lost, False), (unanswered, True)])
def test_an_end_that_is_not_answered_in_time_is_unknown_until_it_is_settled(
    runs: Runs, fate: Fate, committed: bool
) -> None:
    """Cut off beyond the time-out: Unknown; when `abort` has returned the offset tells, and it never changes again."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone("a", SHORT)
        await a.commit("first", at=1)
        a.cluster.meddle(EndTxn, fate, times=100)
        with pytest.raises(Unknown):
            await a.commit("second", at=2)
        await a.sink.abort()
        found = (await a.source.committed(stage.inputs[:1]))[stage.inputs[0]]
        assert found == ((2, "a-2") if committed else (1, "a-1"))
        a.cluster.heal()
        await asyncio.sleep(2)
        assert await stage.out() == (["first", "second"] if committed else ["first"])
        await a.commit("third", at=3)
        assert await stage.out() == (["first", "second", "third"] if committed else ["first", "third"])
        assert await stage.committed() == 3
        await stage.close()

    runs(scenario)


@on_both
async def test_while_the_broker_cannot_say_nothing_is_settled(bench: Bench) -> None:
    """`abort` raises; the next one settles. Nothing of an earlier epoch becomes visible behind it."""
    stage = await Stage.set_up(bench)
    a = await stage.alone("a", SHORT)
    a.cluster.meddle(EndTxn, lost, times=100)
    with pytest.raises(Unknown):
        await a.commit("x", at=1)
    a.cluster.meddle(InitProducerId, lost, times=1)
    with pytest.raises(LogError, match="no answer"):
        await a.sink.abort()
    await a.sink.abort()
    a.cluster.heal()
    await a.commit("y", at=1)
    assert await stage.out() == ["y"]
    await stage.close()


@on_both
async def test_an_end_that_comes_when_the_next_epoch_is_open_does_not_touch_it(bench: Bench) -> None:
    """KIP-890: the late one is PRODUCER_FENCED, the epoch that is open commits whole."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.cluster.meddle(EndTxn, late(1.0))
    await a.commit("first", at=1)  # by a second EndTxn, half a second later

    async def wait_for_it(request: Request[Any]) -> None:
        if isinstance(request, TxnOffsetCommit):  # its records are written
            await asyncio.sleep(1.0)

    a.cluster.before = wait_for_it
    a.send("second", to=0)
    await a.commit("third", at=2, to=1)
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["first", "second"], ["third"], 2)
    await stage.close()


@on_both
async def test_a_late_batch_of_an_epoch_that_was_given_up_is_never_seen(bench: Bench) -> None:
    """It is of an epoch of the producer that is over."""
    stage = await Stage.set_up(bench)
    a = await stage.alone("a", SHORT)
    a.cluster.meddle(Produce, late(2.5), times=100)
    await aborted(a, "first", at=1)
    a.cluster.heal()
    await a.sink.abort()
    await a.commit("second", at=1)
    await asyncio.sleep(3)
    await a.commit("third", at=2)
    assert await stage.out() == ["second", "third"]
    await stage.close()


# ------------------------------------------------------------------------------------ aborted


@on_both
async def test_nothing_of_an_aborted_epoch_is_ever_visible(bench: Bench) -> None:
    """Neither of one that was not sent yet, nor of one whose records the broker has; the next ones commit."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.send("dropped")
    await a.sink.abort()
    a.cluster.meddle(TxnOffsetCommit, refused(Code.TRANSACTION_ABORTABLE))
    assert "TRANSACTION_ABORTABLE" in str(await aborted(a, "written", at=1))
    await a.sink.abort()
    await a.commit("seen", at=2)
    await a.commit("too", at=3)
    assert (await stage.out(), await stage.committed()) == (["seen", "too"], 3)
    await stage.close()


@on_both
async def test_an_epoch_after_one_that_failed_needs_no_abort_between_them(bench: Bench) -> None:
    """What was left open is aborted first, or nothing of the two could be told apart."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.cluster.meddle(TxnOffsetCommit, refused(Code.TRANSACTION_ABORTABLE))
    await aborted(a, "first", at=1)
    await a.commit("second", at=2)
    assert (await stage.out(), await stage.committed()) == (["second"], 2)
    await stage.close()


@on_both
async def test_a_cancelled_commit_is_settled_like_one_that_failed(bench: Bench) -> None:
    """At whichever request it was: nothing of it comes out with the next epoch."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    for kind in (Produce, TxnOffsetCommit, EndTxn):
        a.cluster.meddle(kind, lost, times=1)
        commit = asyncio.create_task(a.commit(f"cancelled at {kind.__name__}", at=1))
        await asyncio.sleep(0.2)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        await a.sink.abort()
        await a.commit(f"behind {kind.__name__}", at=1)
    assert await stage.out() == ["behind Produce", "behind TxnOffsetCommit", "behind EndTxn"]
    await stage.close()


@pytest.mark.parametrize("kind", [TxnOffsetCommit, EndTxn])
def test_a_transaction_that_the_broker_gave_up_is_aborted_and_the_next_one_commits(
    runs: Runs, kind: type[Request[Any]]
) -> None:
    """Its time was over before its offsets came, or its end: Aborted, as the id is still this process's own."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone("a", SHORT)

        async def stop(request: Request[Any]) -> None:
            if isinstance(request, kind) and a.cluster.all(kind) == [request]:
                await asyncio.sleep(3)

        a.cluster.before = stop
        await aborted(a, "late", at=1)
        await a.sink.abort()
        await a.commit("next", at=2)
        assert (await stage.out(), await stage.committed()) == (["next"], 2)
        await stage.close()

    runs(scenario)


# ------------------------------------------------------------------------------------ the membership is over


@on_both
async def test_who_was_expelled_commits_nothing(bench: Bench) -> None:
    """UNKNOWN_MEMBER_ID: Fenced; then it is told its tasks again and reads from what is committed."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await stage.feed("x", "y")
    assert len((await a.chunk()).offsets) == 2
    await stage.outside.dismiss(stage.group, "a")
    assert "expelled" in str(await fenced(a, "x", "y", at=2))
    assert await a.sink.abort() is None  # type: ignore[func-returns-value]
    assert await stage.out() == []
    assert await a.assigned() == {0, 1}
    assert len((await a.chunk()).offsets) == 2
    await a.commit("x", "y", at=2)
    assert (await stage.out(), await stage.committed()) == (["x", "y"], 2)
    await stage.close()


@on_both
async def test_the_membership_of_a_commit_is_that_of_the_reading(bench: Bench) -> None:
    """An epoch begun under one generation is not committed under the next, in which its tasks may be another's."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.send("old")
    b = await (await stage.worker("b")).join()
    await a.revoked()
    before = a.source.membership
    await a.source.release()
    mine = await a.assigned()
    assert mine | await b.assigned() == {0, 1}
    assert "begun under generation" in str(await fenced(a, at=1))
    writer = Transactions(a.cluster, bench.name("raw"), TIMING)
    writer.send(stage.outputs[0], rows("raw"))
    with pytest.raises(OldMembership) as caught:
        await writer.commit(before, {stage.inputs[0]: Committed(1, "")})
    assert caught.value.code == Code.ILLEGAL_GENERATION
    await writer.settle()
    assert await stage.out() == []
    assert await a.assigned() == mine
    await a.commit("new", at=2, of=min(mine))
    assert await stage.out() == ["new"]
    await stage.close()


@on_both
async def test_the_last_epoch_of_who_gives_up_its_tasks_is_where_the_next_begins(bench: Bench) -> None:
    """Between `Revoked` and `release` a commit is accepted, and the next owner goes on there; behind it none is."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    for number in (0, 1):
        await stage.feed("x", "y", "z", to=number)
        assert len((await a.chunk(number)).offsets) == 3
    b = await (await stage.worker("b")).join()
    await a.revoked()
    a.send("x", "y", to=0)
    a.send("x", "y", to=1)
    await a.sink.commit({partition: Committed(2, "last") for partition in stage.inputs})
    await a.source.release()
    assert "released" in str(await fenced(a, "z", at=3))
    (moved,) = await b.assigned()
    assert (await b.source.committed(stage.inputs))[stage.inputs[moved]] == (2, "last")
    assert list((await b.chunk(moved)).offsets) == [2]
    await b.commit("z", at=3, of=moved, to=moved)
    assert (await stage.out(moved), await stage.committed(moved)) == (["x", "y", "z"], 3)
    assert (await stage.out(1 - moved), await stage.committed(1 - moved)) == (["x", "y"], 2)
    await stage.close()


@on_both
async def test_who_gives_up_its_tasks_too_late_is_fenced(bench: Bench) -> None:
    """Longer than rebalance_timeout: the group goes on without it, and nothing of its last epoch is visible."""
    stage = await Stage.set_up(bench)
    timing = TIMING._replace(rebalance=1_000)
    a = await stage.alone("a", timing)
    b = await (await stage.worker("b", timing)).join()
    await a.revoked()
    a.send("x")
    (moved,) = await b.assigned()
    await b.commit("x by b", at=1, of=moved)
    await fenced(a, at=1)
    await a.sink.abort()
    assert (await stage.out(), await stage.committed(moved)) == (["x by b"], 1)
    await stage.close()


@on_both
async def test_who_was_replaced_by_its_own_name_ends(bench: Bench) -> None:
    """FENCED_INSTANCE_ID, in the same generation: Replaced, each time, and nothing visible."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    before = a.source.membership
    a.send("zombie")
    again = await (await stage.worker("a")).join_without_sink()
    assert await again.assigned() == {0, 1}
    assert again.source.membership.generation == before.generation
    writer = Transactions(a.cluster, bench.name("raw"), TIMING)
    with pytest.raises(OldMembership) as caught:
        await writer.commit(before, {stage.inputs[0]: Committed(1, "")})
    assert caught.value.code == Code.FENCED_INSTANCE_ID
    await writer.settle()
    for _ in range(2):
        with pytest.raises(Replaced):
            await a.commit(at=1)
        with pytest.raises(Replaced):
            await a.source.poll([], 1_000)
        await a.sink.abort()
    again.sink = await again.log.sink(again.source, "a")
    await again.commit("alive", at=1)
    assert await stage.out() == ["alive"]
    await stage.close()


@on_both
async def test_who_lost_its_id_to_its_own_name_learns_that_it_was_replaced(bench: Bench) -> None:
    """The id goes first, and that alone may pass; the group tells."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    again = await stage.alone("a")
    await fenced(a, "zombie", at=1)
    await a.sink.abort()
    with pytest.raises(Replaced):
        for _ in range(50):
            await a.source.poll([], 1_000)
    await again.commit("alive", at=1)
    assert await stage.out() == ["alive"]
    await stage.close()


@on_both
async def test_every_offset_goes_under_the_membership_and_with_the_instance_id(bench: Bench) -> None:
    """KIP-447: the default of a simple consumer, which is always accepted, never slips through."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("x", at=1)
    (request,) = a.cluster.all(TxnOffsetCommit)
    assert request.membership == a.source.membership
    assert request.membership.generation >= 1
    assert (request.membership.instance, bool(request.membership.member)) == ("a", True)
    await stage.close()


# ------------------------------------------------------------------------------------ the transactional id


@on_both
async def test_a_new_holder_of_the_id_aborts_what_the_old_one_has_open(bench: Bench) -> None:
    """A worker that restarts finds nothing of itself in its way."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.cluster.meddle(EndTxn, lost, times=100)
    commit = asyncio.create_task(a.commit("dead", at=1))
    await asyncio.sleep(0.2)
    commit.cancel()
    again = await stage.alone("a")
    assert await again.source.committed(stage.inputs) == {}
    await again.commit("alive", at=1)
    assert await stage.out() == ["alive"]
    await stage.close()


@on_both
async def test_who_lost_the_id_does_not_steal_it_back(bench: Bench) -> None:
    """Not before the group has taken it in again; then the id is its own."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("first", at=1)
    other = Transactions(await bench.client("other"), transactional_id(stage.group, "a"), TIMING)
    await other.take(Deadline(10))
    assert "taken over" in str(await fenced(a, "lost", at=2))
    await a.sink.abort()
    asked = len(a.cluster.all(InitProducerId))
    with pytest.raises(Fenced, match="not assigned"):
        await a.commit("lost too", at=2)
    other.send(stage.outputs[1], rows("other"))
    assert await other.commit(None, {}) == {stage.outputs[1]: 1}
    assert len(a.cluster.all(InitProducerId)) == asked
    assert await a.assigned() == {0, 1}
    await a.commit("second", at=2)
    other.send(stage.outputs[1], rows("other again"))
    with pytest.raises(TakenOver):
        await other.commit(None, {})
    with pytest.raises(TakenOver):
        await other.commit(None, {stage.inputs[0]: Committed(9, "")})
    await other.settle()
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["first", "second"], ["other"], 2)
    await stage.close()


@on_both
async def test_an_id_that_was_taken_over_while_an_epoch_was_in_doubt_is_settled(bench: Bench) -> None:
    """Who took it has aborted what was open, or waited for what was decided; `commit` tells of it."""
    stage = await Stage.set_up(bench)
    a = await stage.alone("a", SHORT)
    a.cluster.meddle(EndTxn, lost, times=100)
    with pytest.raises(Unknown):
        await a.commit("doubt", at=1)
    other = Transactions(await bench.client("other"), transactional_id(stage.group, "a"), TIMING)
    await other.take(Deadline(10))
    await a.sink.abort()
    assert await a.source.committed(stage.inputs) == {}
    a.cluster.heal()
    assert "taken over" in str(await fenced(a, "lost", at=1))
    assert await a.assigned() == {0, 1}
    await a.commit("seen", at=1)
    assert await stage.out() == ["seen"]
    await stage.close()


@on_both
async def test_the_markers_of_the_last_transaction_are_waited_for(bench: Bench) -> None:
    """CONCURRENT_TRANSACTIONS, from whoever says so: it passes within milliseconds."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("first", at=1)
    busy = Code.CONCURRENT_TRANSACTIONS
    a.cluster.meddle(Produce, answered(lambda request: dict.fromkeys(request.batches, Produced(busy, -1))), times=3)
    a.cluster.meddle(TxnOffsetCommit, answered(lambda request: dict.fromkeys(request.offsets, busy)), times=3)
    a.cluster.meddle(EndTxn, refused(busy), times=3)
    await a.commit("second", at=2)
    assert await stage.out() == ["first", "second"]
    assert [len(a.cluster.all(kind)) for kind in (Produce, TxnOffsetCommit, EndTxn)] == [5, 5, 5]
    await stage.close()


@on_both
async def test_an_end_refused_as_busy_to_the_last_is_no_doubt(bench: Bench) -> None:
    """The coordinator has not looked at it: Aborted. Behind other refusals that pass it may have been written down."""
    stage = await Stage.set_up(bench)
    a = await stage.alone("a", SHORT)
    a.cluster.meddle(EndTxn, refused(Code.CONCURRENT_TRANSACTIONS), times=10_000)
    await aborted(a, "busy", at=1)
    await a.sink.abort()
    a.cluster.heal()
    a.cluster.meddle(EndTxn, refused(Code.COORDINATOR_NOT_AVAILABLE), times=10_000)
    with pytest.raises(Unknown):
        await a.commit("perhaps", at=1)
    await a.sink.abort()
    a.cluster.heal()
    await a.commit("seen", at=1)
    assert await stage.out() == ["seen"]
    await stage.close()


@pytest.mark.parametrize("code", [Code.INVALID_TXN_STATE, Code.PRODUCER_FENCED, Code.INVALID_PRODUCER_ID_MAPPING])
def test_a_refusal_behind_a_lost_answer_is_of_an_epoch_that_may_be_committed(runs: Runs, code: int) -> None:
    """Unknown, never Aborted: the first EndTxn was done."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        a.cluster.meddle(EndTxn, done_and_closed)
        a.cluster.meddle(EndTxn, refused(code))
        with pytest.raises(Unknown, match="closed; then"):
            await a.commit("x", at=1)
        await a.sink.abort()
        assert (await a.source.committed(stage.inputs[:1]))[stage.inputs[0]].offset == 1
        await a.commit("y", at=2)
        assert await stage.out() == ["x", "y"]
        await stage.close()

    runs(scenario)


@on_simulated
async def test_the_epochs_of_a_producer_id_run_out_and_it_goes_on_with_another(bench: SimulatedBench) -> None:
    """Behind epoch 32,766 the answers name another producer id, be one of them lost or not."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    broker, name = bench.cluster.broker, transactional_id(stage.group, "a")
    while (producer := broker.transactions.init_producer_id(InitProducerId(name, 1_000))).epoch < EXHAUSTED - 2:
        pass
    a.sink._writer._producer = producer  # type: ignore[attr-defined]
    values = [f"x{n}" for n in range(8)]
    for n, value in enumerate(values):
        if n in (2, 5):
            a.cluster.meddle(EndTxn, unanswered)
        await a.commit(value, at=n)
    producers = [next(iter(request.batches.values())).producer for request in a.cluster.all(Produce)]
    assert len({one.id for one in producers}) == 2
    assert await stage.out() == values
    await stage.close()


@pytest.mark.parametrize("fate", [lost, unanswered])
def test_an_epoch_in_doubt_at_the_end_of_a_producer_id_is_settled(fate: Fate) -> None:
    """Unknown just there: what settles it gives the new producer id."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone("a", SHORT)
        broker, name = bench.cluster.broker, transactional_id(stage.group, "a")
        while (producer := broker.transactions.init_producer_id(InitProducerId(name, 1_000))).epoch < EXHAUSTED:
            pass
        a.sink._writer._producer = producer  # type: ignore[attr-defined]
        a.cluster.meddle(EndTxn, fate, times=100)
        with pytest.raises(Unknown):
            await a.commit("doubt", at=1)
        await a.sink.abort()
        a.cluster.heal()
        await a.commit("seen", at=2)
        assert await stage.out() == (["seen"] if fate is lost else ["doubt", "seen"])
        await stage.close()

    on_simulated(scenario)()


@on_both
async def test_a_cluster_without_kip_890_is_refused_with_the_way_out(bench: Bench) -> None:
    """Its transactions end one another; at least once it will do."""
    stage = await Stage.set_up(bench)
    worker = await stage.worker()
    worker.cluster.meddle(TransactionVersion, answered(1), times=100)
    with pytest.raises(LogError, match=r"transaction.version 1, and exactly-once needs 2 .*kafka-features.sh"):
        await worker.join()
    assert not worker.cluster.all(InitProducerId)
    await worker.log.sink(worker.source, "a", exactly_once=False)
    await stage.close()


# ------------------------------------------------------------------------------------ records that are refused


@on_both
async def test_a_batch_that_is_too_large_for_its_topic_goes_in_smaller_ones(bench: Bench) -> None:
    """In the same epoch, in order; the next epoch knows."""
    stage = await Stage.set_up(bench, max_message_bytes="1000")
    a = await stage.alone()
    values = [f"{n:03}{'x' * 100}" for n in range(50)]
    assert await a.commit(*values, at=1) == 50
    assert await stage.out() == values
    before = len(a.cluster.all(Produce))
    await a.commit(*values, at=2)
    assert await stage.out() == values + values
    sizes = {s.batch.count for request in a.cluster.all(Produce)[before:] for s in request.batches.values()}
    assert max(sizes) < 10
    await stage.close()


@on_both
async def test_a_record_that_is_too_large_for_its_topic_is_rejected_by_name_and_size(bench: Bench) -> None:
    """Nothing of its epoch is visible, the smaller records before it included; the next epoch commits."""
    stage = await Stage.set_up(bench, max_message_bytes="1000")
    a = await stage.alone()
    topic = stage.outputs[0].topic
    a.send("y", to=1)
    with pytest.raises(Rejected, match=rf"a record for {topic}/0, of 2,\d\d\d bytes: MESSAGE_TOO_LARGE.*max.message"):
        await a.commit("x", "x" * 2000, "x", at=1)
    await a.sink.abort()
    await a.commit("z", at=1)
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["z"], [], 1)
    await stage.close()


@on_both
async def test_a_record_from_the_future_is_rejected_with_the_way_out(bench: Bench) -> None:
    """Kafka 4 takes none that is more than an hour ahead, if the topic says nothing else."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    a.sink.send(stage.outputs[0], rows("x", at_ms=bench.now_ms + 2 * 3_600_000))
    topic = stage.outputs[0].topic
    with pytest.raises(Rejected, match=f"{topic}/0: INVALID_TIMESTAMP.*message.timestamp.after.max.ms"):
        await a.commit(at=1)
    await a.sink.abort()
    await a.commit("y", at=1)
    assert await stage.out() == ["y"]
    await stage.close()


@on_both
async def test_a_record_without_a_key_in_a_compacted_topic_is_rejected(bench: Bench) -> None:
    """It would be again."""
    stage = await Stage.set_up(bench, cleanup_policy="compact")
    a = await stage.alone()
    with pytest.raises(Rejected, match="INVALID_RECORD.*give it one"):
        await a.commit("x", at=1)
    await stage.close()


@on_both
async def test_records_for_a_topic_that_is_not_there_are_rejected(bench: Bench) -> None:
    """When it was waited for, in case that it is new."""
    stage = await Stage.set_up(bench)
    a = await stage.alone("a", SHORT)
    a.sink.send(stage.outputs[0]._replace(topic=bench.name("other")), rows("x"))
    with pytest.raises(Rejected, match="other.*UNKNOWN_TOPIC_OR_PARTITION.*create it again"):
        await a.commit(at=1)
    await a.sink.abort()
    await a.commit("y", at=1)
    assert await stage.out() == ["y"]
    await stage.close()


@pytest.mark.parametrize(
    ("kind", "answer", "words"),
    [
        (Produce, Code.TOPIC_AUTHORIZATION_FAILED, "out.*Write on those it writes"),
        (Produce, Code.CLUSTER_AUTHORIZATION_FAILED, "IdempotentWrite"),
        (Produce, Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Write and Describe on its transactional ids"),
        (TxnOffsetCommit, Code.GROUP_AUTHORIZATION_FAILED, "offset of in.*Read on the group"),
        (TxnOffsetCommit, Code.TOPIC_AUTHORIZATION_FAILED, "offset of in.*Read on the topics"),
        (TxnOffsetCommit, Code.OFFSET_METADATA_TOO_LARGE, "offset.metadata.max.bytes"),
    ],
)
def test_what_may_not_be_written_is_rejected_with_the_way_out(
    runs: Runs, kind: type[Request[Any]], answer: Code, words: str
) -> None:
    """Trying again is of no use before somebody allows it; the epoch is not visible."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()

        def refuse(request: Any) -> Any:
            if isinstance(request, Produce):
                return dict.fromkeys(request.batches, Produced(answer, -1))
            return dict.fromkeys(request.offsets, answer)

        a.cluster.meddle(kind, answered(refuse))
        with pytest.raises(Rejected, match=words):
            await a.commit("x", at=1)
        await a.sink.abort()
        await a.commit("y", at=1)
        assert (await stage.out(), await stage.committed()) == (["y"], 1)
        await stage.close()

    runs(scenario)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (Code.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "Write and Describe"),
        (Code.INVALID_TRANSACTION_TIMEOUT, "lower the setting transaction_timeout"),
    ],
)
def test_an_id_that_may_not_be_had_is_said_at_the_start(runs: Runs, code: int, words: str) -> None:
    """Before anything is read."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        worker = await stage.worker()
        worker.cluster.meddle(InitProducerId, refused(code), times=100)
        with pytest.raises(Rejected, match=words):
            await worker.join()
        await stage.close()

    runs(scenario)


@on_both
async def test_one_partition_that_is_refused_is_the_end_of_the_epoch_and_not_of_the_partition(bench: Bench) -> None:
    """An error that is no way out's: Aborted, and the next epoch writes to it, numbered from 0."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("first", at=1)

    def one_refused(request: Produce) -> Any:
        return {p: Produced(Code.OUT_OF_ORDER_SEQUENCE if p.number else Code.NONE, 7) for p in request.batches}

    a.cluster.meddle(Produce, answered(one_refused))
    a.send("dropped", to=0)
    a.send("refused", to=1)
    await aborted(a, at=2)
    await a.sink.abort()
    a.send("second", to=1)
    await a.commit("second", at=2)
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["first", "second"], ["second"], 2)
    await stage.close()


# ------------------------------------------------------------------------------------ leaders


class TwoLeaders:
    """A cluster of two brokers, as far as Produce sees: even partitions are led by one, odd ones by the other."""

    def __init__(self, worker: Worker) -> None:
        self.swapped = False
        self._cluster = worker.cluster
        worker.cluster.led_together = self._led_together  # type: ignore[method-assign]
        worker.cluster.before = self._before

    def _led_together(self, partitions: Any) -> Any:
        groups: dict[int, list[Any]] = {}
        for partition in partitions:
            groups.setdefault(0 if self.swapped else partition.number % 2, []).append(partition)
        return list(groups.values())

    async def _before(self, request: Request[Any]) -> None:
        if isinstance(request, Produce):
            assert len(self._led_together(request.batches)) == 1


@on_both
async def test_what_one_leader_refuses_leaves_nothing_under_way_at_the_other(bench: Bench) -> None:
    """The answer of an epoch that is over must not be taken for that of the next one's records."""
    stage = await Stage.set_up(bench)
    a = await stage.alone()
    await a.commit("first", at=1, to=0)
    await a.commit("first", at=1, to=1)
    TwoLeaders(a)

    async def slow(cluster: Any, request: Any, timeout_s: float) -> Any:
        answer = await cluster.send(request, timeout_s)
        await asyncio.sleep(0.3)
        return answer

    async def slower(cluster: Any, request: Any, timeout_s: float) -> Any:
        await asyncio.sleep(0.4)
        return dict.fromkeys(request.batches, Produced(Code.NOT_LEADER_OR_FOLLOWER, -1))

    async def wrong(cluster: Any, request: Any, timeout_s: float) -> Any:
        await asyncio.sleep(0.1)
        return dict.fromkeys(request.batches, Produced(Code.OUT_OF_ORDER_SEQUENCE, -1))

    a.cluster.meddle(Produce, wrong, where=lambda request: stage.outputs[0] in request.batches)
    a.cluster.meddle(Produce, slow, where=lambda request: stage.outputs[1] in request.batches)
    a.cluster.meddle(Produce, slower, where=lambda request: stage.outputs[1] in request.batches)
    a.send("dropped", to=0)
    a.send("dropped", to=1)
    await aborted(a, at=2)
    await a.sink.abort()
    a.send("second", to=0)
    a.send("second", to=1)
    await a.commit(at=2)
    assert (await stage.out(0), await stage.out(1)) == (["first", "second"], ["first", "second"])
    await stage.close()


@on_both
async def test_leaders_move_in_the_middle_of_an_epoch(bench: Bench) -> None:
    """What one broker does not lead any more goes to the other; order and number stay."""
    stage = await Stage.set_up(bench, max_message_bytes="600")
    a = await stage.alone()
    leaders = TwoLeaders(a)

    async def moved(cluster: Any, request: Any, timeout_s: float) -> Any:
        leaders.swapped = not leaders.swapped
        return dict.fromkeys(request.batches, Produced(Code.NOT_LEADER_OR_FOLLOWER, -1))

    for after in (1, 2, 3, 5, 8):
        a.cluster.meddle(Produce, moved, after=after)
    values = [f"{n:02}{'x' * 100}" for n in range(20)]
    for number in (0, 1):
        a.send(*values, to=number)
    await a.commit(at=1)
    assert await stage.out(0) == await stage.out(1) == values
    await stage.close()


@pytest.mark.parametrize("fate", FATES.values(), ids=FATES)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_the_order_within_a_partition_is_kept_and_nothing_comes_twice(fate: Fate, after: int) -> None:
    """Whatever happens to a batch in the middle of many."""

    async def scenario(bench: SimulatedBench) -> None:
        stage = await Stage.set_up(bench, max_message_bytes="600")
        a = await stage.alone()
        await a.commit(*(f"{n:02}{'x' * 100}" for n in range(20)), at=1)
        a.cluster.meddle(Produce, fate, after=after, times=2)
        await a.commit(*(f"{n:02}{'x' * 100}" for n in range(20, 40)), at=2)
        assert await stage.out() == [f"{n:02}{'x' * 100}" for n in range(40)]
        await stage.close()

    on_simulated(scenario)()


# ------------------------------------------------------------------------------------ offsets under an open transaction


@pytest.mark.parametrize("end", ["commits", "aborts", "dies"])
def test_committed_offsets_are_told_when_no_transaction_holds_them(runs: Runs, end: str) -> None:
    """KIP-447: the holder commits: the new one; aborts, or dies and is fenced: the old one. Until then they wait."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        await a.commit(at=5)
        go_on = asyncio.Event()

        async def wait(request: Request[Any]) -> None:
            if isinstance(request, EndTxn):
                await go_on.wait()

        a.cluster.before = wait
        if end == "aborts":
            a.cluster.meddle(EndTxn, refused(Code.TRANSACTION_ABORTABLE))
        commit = asyncio.create_task(a.commit(at=9))
        await asyncio.sleep(0.2)
        b = await stage.worker("b")
        asked = asyncio.create_task(b.log._offsets.stable(stage.group, stage.inputs[:1]))
        await asyncio.sleep(0.3)
        assert not asked.done()
        assert (await stage.outside.committed(stage.group))[stage.inputs[0]].offset == 5
        if end == "dies":
            commit.cancel()
            taken = Transactions(b.cluster, transactional_id(stage.group, "a"), TIMING)
            await taken.take(Deadline(10))
        elif end == "aborts":
            go_on.set()
            with pytest.raises(Aborted):
                await commit
            await a.sink.abort()
        else:
            go_on.set()
            await commit
        assert (await asked)[stage.inputs[0]].offset == (9 if end == "commits" else 5)
        assert len(b.cluster.all(OffsetFetch)) > 3
        await stage.close()

    runs(scenario)


@pytest.mark.parametrize("code", [Code.NOT_COORDINATOR, Code.COORDINATOR_LOAD_IN_PROGRESS, Code.REQUEST_TIMED_OUT])
def test_a_coordinator_that_is_elsewhere_is_no_group_without_offsets(runs: Runs, code: int) -> None:
    """The error of the whole answer is never read as "nothing committed"."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await stage.alone()
        await a.commit(at=7)
        a.cluster.meddle(OffsetFetch, refused(code), times=3)
        assert (await a.source.committed(stage.inputs[:1]))[stage.inputs[0]].offset == 7
        a.cluster.meddle(OffsetFetch, refused(Code.GROUP_AUTHORIZATION_FAILED))
        with pytest.raises(LogError, match="GROUP_AUTHORIZATION_FAILED"):
            await a.source.committed(stage.inputs[:1])
        await stage.close()

    runs(scenario)
