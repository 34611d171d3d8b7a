"""At least once on Kafka: nothing is lost, whatever comes twice; offsets move when all records are acknowledged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from streamproc.kafka.requests import (
    Code,
    EndTxn,
    InitProducerId,
    OffsetCommit,
    Produce,
    Produced,
    Request,
    TxnOffsetCommit,
)
from streamproc.log import Aborted, Fenced, Rejected
from tests.kafka.copying import TIMING, rows
from tests.kafka.meddling import Fate, answered, closed, done_and_closed, late, lost, refused, unanswered
from tests.kafka.stage import Stage, Worker
from tests.simulation.bench import Bench, Runs, SimulatedBench, on_both, on_simulated


async def alone(stage: Stage, timing: Any = TIMING) -> Worker:
    worker = await (await stage.worker("a", timing)).join(exactly_once=False)
    await worker.assigned()
    return worker


@on_both
async def test_records_are_there_and_then_the_offsets_move(bench: Bench) -> None:
    """No transaction: there is no marker behind the records, and none of its requests was sent."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    a.send("y", to=1)
    assert await a.commit("x", at=1) == 1
    assert await a.commit(at=2) is None
    assert await a.commit("z", at=3) == 2
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["x", "z"], ["y"], 3)
    assert not [request for request in a.cluster.sent if isinstance(request, EndTxn | TxnOffsetCommit)]
    assert {request.transactional_id for request in a.cluster.all(InitProducerId)} == {None}
    await stage.close()


@pytest.mark.parametrize("kind", [InitProducerId, Produce, OffsetCommit])
@pytest.mark.parametrize("fate", [lost, closed, unanswered, done_and_closed])
def test_a_lost_request_or_answer_is_nothing_to_the_user(runs: Runs, kind: type[Request[Any]], fate: Fate) -> None:
    """Within one epoch nothing comes twice: the producer is idempotent."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await alone(stage)
        a.cluster.meddle(kind, fate)
        await a.commit("first", at=1)
        await a.commit("second", at=2)
        assert (await stage.out(), await stage.committed()) == (["first", "second"], 2)
        await stage.close()

    runs(scenario)


@on_both
async def test_what_comes_after_an_epoch_that_failed_is_never_taken_for_it(bench: Bench) -> None:
    """The records that may have arrived and those that come now have the same numbers: not the same producer."""
    stage = await Stage.set_up(bench)
    a = await alone(stage, TIMING._replace(transaction=1_500))
    await a.commit("first", at=1)
    a.cluster.meddle(Produce, unanswered, times=100)
    with pytest.raises(Aborted):
        await a.commit("perhaps", at=2)
    await a.sink.abort()
    a.cluster.heal()
    await a.commit("surely", at=2)
    assert await stage.out() == ["first", "perhaps", "surely"]
    await stage.close()


@on_simulated
async def test_a_late_batch_of_an_epoch_that_failed_takes_nobodys_place(bench: SimulatedBench) -> None:
    """It comes between the batches of the next one, which are all there."""
    stage = await Stage.set_up(bench)
    a = await alone(stage, TIMING._replace(transaction=400))
    a.cluster.meddle(Produce, late(0.9), times=1)
    a.cluster.meddle(Produce, lost, times=100)
    with pytest.raises(Aborted):
        await a.commit("late", at=1)
    a.cluster.heal()
    for n in range(12):
        await a.commit(f"x{n}", at=n)
        await asyncio.sleep(0.1)
    out = await stage.out()
    assert "late" in out
    assert [value for value in out if value != "late"] == [f"x{n}" for n in range(12)]
    await stage.close()


@on_both
async def test_a_cancelled_commit_is_an_epoch_that_failed(bench: Bench) -> None:
    """Nothing that comes after it is lost for it."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    a.cluster.meddle(Produce, unanswered)
    commit = asyncio.create_task(a.commit("perhaps", at=1))
    await asyncio.sleep(0.2)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await a.sink.abort()
    await a.commit("surely", at=1)
    assert await stage.out() == ["perhaps", "surely"]
    await stage.close()


@on_both
async def test_offsets_move_only_behind_all_records(bench: Bench) -> None:
    """One partition is refused: the offsets stay, and the epoch is read again."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    refuse_one = answered(lambda request: {p: Produced(45 if p.number else 0, 0) for p in request.batches})
    a.cluster.meddle(Produce, refuse_one)
    a.send("x", to=1)
    with pytest.raises(Aborted, match="OUT_OF_ORDER_SEQUENCE"):
        await a.commit("x", at=1)
    assert not a.cluster.all(OffsetCommit)
    a.send("x", to=1)
    await a.commit("x", at=1)
    assert (await stage.out(0), await stage.out(1), await stage.committed()) == (["x"], ["x"], 1)
    await stage.close()


@on_both
async def test_offsets_whose_refusal_passes_are_sent_again_and_the_records_are_not(bench: Bench) -> None:
    """A coordinator that moves costs no duplicates."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    moved = answered(lambda request: dict.fromkeys(request.offsets, Code.COORDINATOR_LOAD_IN_PROGRESS))
    a.cluster.meddle(OffsetCommit, moved, times=3)
    a.cluster.meddle(OffsetCommit, refused(Code.NOT_COORDINATOR))
    await a.commit("x", at=1)
    assert (await stage.out(), await stage.committed(), len(a.cluster.all(Produce))) == (["x"], 1, 1)
    await stage.close()


@on_both
async def test_who_was_expelled_moves_no_offsets(bench: Bench) -> None:
    """Fenced; its records are there, and are written again by whoever has its tasks."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    await stage.outside.dismiss(stage.group, "a")
    with pytest.raises(Fenced):
        await a.commit("x", at=1)
    await a.sink.abort()
    assert await a.assigned() == {0, 1}
    assert await stage.committed() is None
    await a.commit("x", at=1)
    assert (await stage.out(), await stage.committed()) == (["x", "x"], 1)
    await stage.close()


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (InitProducerId, Code.CLUSTER_AUTHORIZATION_FAILED, "IdempotentWrite"),
        (Produce, Code.TOPIC_AUTHORIZATION_FAILED, "Write on those it writes"),
        (OffsetCommit, Code.GROUP_AUTHORIZATION_FAILED, "Read on the group"),
    ],
)
def test_what_may_not_be_written_is_rejected_with_the_way_out(
    runs: Runs, kind: type[Request[Any]], code: Code, words: str
) -> None:
    """Trying again is of no use before somebody allows it."""

    async def scenario(bench: Bench) -> None:
        stage = await Stage.set_up(bench)
        a = await alone(stage)
        a.cluster.meddle(kind, refused(code))
        with pytest.raises(Rejected, match=words):
            await a.commit("x", at=1)
        await stage.close()

    runs(scenario)


@on_both
async def test_a_cluster_of_any_transaction_version_will_do(bench: Bench) -> None:
    """Nobody asks for it; and no transactional id is taken, so that nobody is fenced."""
    stage = await Stage.set_up(bench)
    a = await alone(stage)
    other = await stage.worker("b")
    sink = await other.log.sink(None, "a", exactly_once=False)
    await a.commit("x", at=1)
    sink.send(stage.outputs[0], rows("y"))
    await sink.commit({})
    await a.commit("z", at=2)
    assert await stage.out() == ["x", "y", "z"]
    await stage.close()
