"""Workers that the group has taken for dead, and that are not: what they commit then is refused, and nobody sees it."""

from __future__ import annotations

import time

import pytest

from streamproc.kafka.committing import OldMembership
from streamproc.kafka.requests import Code, Heartbeat, Membership
from streamproc.kafka.transaction import Transactions
from streamproc.log import Committed, Fenced
from tests.kafka.copying import TIMING, rows
from tests.kafka.meddling import lost
from tests.kafka.stage import Stage, Worker
from tests.simulation.bench import Bench, RealBench, on_both
from tests.simulation.conftest import now_ms

QUICK = TIMING._replace(session=1_500)


async def with_open_epoch(stage: Stage) -> Worker:
    """It has read two records, and sent what becomes of them."""
    worker = await stage.alone("a", QUICK)
    await stage.feed("x", "y")
    assert len((await worker.chunk()).offsets) == 2
    worker.send("x", "y")
    return worker


@on_both
async def test_a_worker_that_was_not_heard_for_a_session_commits_nothing(bench: Bench) -> None:
    """Another one has its tasks by then, and has done its work: what came in comes out once."""
    stage = await Stage.set_up(bench, 1)
    zombie = await with_open_epoch(stage)
    zombie.cluster.meddle(Heartbeat, lost, times=10_000)
    other = await (await stage.worker("b", QUICK)).join()
    assert await other.assigned() == {0}
    assert len((await other.chunk()).offsets) == 2
    await other.commit("x", "y", at=2)
    with pytest.raises(Fenced):
        await zombie.commit(at=2)
    await zombie.sink.abort()
    assert (await stage.out(), await stage.committed()) == (["x", "y"], 2)
    await stage.close()


@on_both
async def test_it_is_the_membership_that_the_broker_refuses(bench: Bench) -> None:
    """UNKNOWN_MEMBER_ID, though nobody has taken the transactional id. Without a membership it would come out twice."""
    stage = await Stage.set_up(bench, 1)
    zombie = await with_open_epoch(stage)
    membership = zombie.source.membership
    await stage.outside.dismiss(stage.group, "a")
    other = await (await stage.worker("b", QUICK)).join()
    assert await other.assigned() == {0}
    await other.commit("x", "y", at=2)
    writer = Transactions(zombie.cluster, bench.name("own"), QUICK)
    offsets = {stage.inputs[0]: Committed(2, "")}
    writer.send(stage.outputs[0], rows("x", "y"))
    with pytest.raises(OldMembership) as caught:
        await writer.commit(membership, offsets)
    assert caught.value.code == Code.UNKNOWN_MEMBER_ID
    await writer.settle()
    assert await stage.out() == ["x", "y"]
    writer.send(stage.outputs[0], rows("x", "y"))
    await writer.commit(Membership(membership.group, -1, "", ""), offsets)
    assert await stage.out() == ["x", "y", "x", "y"]
    await stage.close()


async def test_a_process_that_was_blocked_for_longer_than_its_session(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The epoch that it had open is refused; it says what happened, joins again, and the same records come out once."""
    bench = RealBench(kafka, now_ms)
    stage = await Stage.set_up(bench, 1)
    worker = await with_open_epoch(stage)
    time.sleep(QUICK.session / 1000 + 1)  # noqa: ASYNC251 - that is what must not happen
    with pytest.raises(Fenced):
        await worker.commit(at=2)
    await worker.sink.abort()
    assert (await stage.out(), await stage.committed()) == ([], None)
    assert await worker.assigned() == {0}
    assert len((await worker.chunk()).offsets) == 2
    await worker.commit("x", "y", at=2)
    assert (await stage.out(), await stage.committed()) == (["x", "y"], 2)
    assert "nothing else could run in this process" in caplog.text
    await stage.close()
    await bench.close()
