"""The broker goes away and comes back, with transactions open in it: what was not committed is read again."""

from collections.abc import Callable

import pytest

from tests.faults.outage import Outage
from tests.kafka.server import KafkaServer

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    "goes",
    [
        pytest.param(KafkaServer.kill, id="killed"),
        pytest.param(KafkaServer.stop, id="stopped", marks=pytest.mark.long),
    ],
)
async def test_away(outage: Outage, goes: Callable[[KafkaServer], None]) -> None:
    """Killed as in a power failure; or stopped in order, when it says goodbye to its clients, which look for it."""
    workers = await outage.working("a", "b")
    async with outage.away(goes, *workers):
        pass
    await outage.scene.finished(*workers)


@pytest.mark.long
async def test_away_for_longer_than_a_session(outage: Outage) -> None:
    """The workers wait for it, and say so."""
    workers = await outage.working("a", "b")
    async with outage.away(KafkaServer.kill, *workers):
        for worker in workers:
            await worker.said("the worker is stuck: the log has not answered (commit for")
    await outage.scene.finished(*workers)


@pytest.mark.long
async def test_killed_three_times(outage: Outage) -> None:
    """And the worker too, the second time and the third."""
    (worker,) = await outage.working("a")
    for turn in range(3):
        async with outage.away(KafkaServer.kill, worker):
            if turn:
                worker.kill()
        if turn:
            worker = outage.scene.worker("a")
        await outage.scene.more_read()
    await outage.scene.finished(worker)
