"""A network that loses, holds up and cuts, at each request on which exactly-once stands."""

import asyncio
import random

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene
from tests.faults.worker_process import WorkerProcess
from tests.kafka.frames import Api, Request
from tests.kafka.proxy import Proxy
from tests.kafka.rules import Rule, Side

pytestmark = pytest.mark.timeout(180)

OF_A_COMMIT = (Api.PRODUCE, Api.TXN_OFFSET_COMMIT, Api.END_TXN)
OF_A_START = (Api.INIT_PRODUCER_ID, Api.JOIN_GROUP, Api.SYNC_GROUP, Api.OFFSET_FETCH, Api.FIND_COORDINATOR)
OF_ANY_TIME = (Api.HEARTBEAT, Api.FETCH, Api.LIST_OFFSETS, Api.METADATA)
SIDES: tuple[Side, Side] = ("request", "reply")

on_either_side = pytest.mark.parametrize("side", SIDES)
silently_or_not = pytest.mark.parametrize("silently", [False, True], ids=["closed", "silent"])


def of_each(*apis: Api) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("api", apis, ids=lambda api: api.name)


async def test_losses_everywhere(scene: Scene, proxy: Proxy) -> None:
    """All through a run of two workers, one request in sixty or its reply is lost, by a broken connection or not."""
    rng = random.Random(7)
    scene.broker = proxy.bootstrap
    lossy = (*OF_A_COMMIT, *OF_A_START, Api.HEARTBEAT, Api.FETCH)

    def one_in_sixty(request: Request) -> bool:
        return rng.random() < 1 / 60

    rules = [
        proxy.lose(api, rng.choice(SIDES), where=one_in_sixty, times=None, silently=silently)
        for api in lossy
        for silently in (False, True)
    ]
    await scene.fill(visits(5_000, takes_ms=5))
    await scene.finished(scene.worker("a"), scene.worker("b"))
    assert sum(len(rule.frames) for rule in rules) > 5


@pytest.mark.long
@silently_or_not
@on_either_side
@of_each(*OF_A_COMMIT)
async def test_of_a_commit(scene: Scene, proxy: Proxy, api: Api, side: Side, silently: bool) -> None:
    """Three of one worker's are lost, in three epochs; then two in a row."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(6_000, takes_ms=5))
    lost = [
        *(proxy.lose(api, side, nth=nth, silently=silently) for nth in (5, 9, 14)),
        proxy.lose(api, side, nth=20, times=2, silently=silently),
    ]
    worker = scene.worker()
    for rule in lost:
        await asyncio.to_thread(rule.wait)
    await scene.finished(worker)


@pytest.mark.long
@silently_or_not
@on_either_side
@of_each(*OF_A_START)
async def test_of_a_start(scene: Scene, proxy: Proxy, api: Api, side: Side, silently: bool) -> None:
    """The first is lost of a worker that begins, of one that joins it while it works, and of one that comes back."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(8_000, takes_ms=20))

    async def started(machine: str) -> WorkerProcess:
        rule = proxy.lose(api, side, silently=silently)
        worker = scene.worker(machine)
        await asyncio.to_thread(rule.wait)
        return worker

    first = await started("a")
    await first.works_on({8})
    second = await started("b")
    await second.works_on({4})
    second.kill()
    second = await started("b")
    await scene.finished(first, second)


@pytest.mark.long
@silently_or_not
@on_either_side
@of_each(*OF_ANY_TIME)
async def test_of_any_time(scene: Scene, proxy: Proxy, api: Api, side: Side, silently: bool) -> None:
    """Some are lost, and three in a row, while two workers share the work."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(8_000, takes_ms=20))
    second, fourth = (proxy.lose(api, side, nth=nth, silently=silently) for nth in (2, 4))
    three = proxy.lose(api, side, nth=10, times=3, silently=silently)
    workers = scene.worker("a"), scene.worker("b")
    for rule in (second, fourth, three, three, three):
        await asyncio.to_thread(rule.wait)
    await scene.finished(*workers)


SHORT = {"session_timeout": "1500ms", "transaction_timeout": "1500ms"}


async def held_up(proxy: Proxy, rule: Rule) -> None:
    """What the rule holds has stood still for longer than a session and a transaction of SHORT last."""
    await asyncio.to_thread(rule.wait)
    await asyncio.sleep(4)
    proxy.release(rule)


@pytest.mark.long
@on_either_side
@of_each(*OF_A_COMMIT, Api.HEARTBEAT, Api.FETCH)
async def test_held_up(scene: Scene, proxy: Proxy, api: Api, side: Side) -> None:
    """One stands still for longer than a session and a transaction last, and arrives then; the others pass."""
    scene.broker = proxy.bootstrap
    scene.settings |= SHORT
    await scene.fill(visits(8_000, takes_ms=20))
    workers = await scene.sharing("a", "b")
    await held_up(proxy, proxy.hold(api, side))
    await scene.finished(*workers)


@pytest.mark.long
@on_either_side
async def test_offsets_held_up(scene: Scene, proxy: Proxy, side: Side) -> None:
    """Those of a worker that joins stand still for longer than a session and a transaction last, and arrive then."""
    scene.broker = proxy.bootstrap
    scene.settings |= SHORT
    await scene.fill(visits(8_000, takes_ms=20))
    first = scene.worker("a")
    await first.works_on({8})
    rule = proxy.hold(Api.OFFSET_FETCH, side)
    second = scene.worker("b")
    await held_up(proxy, rule)
    await scene.finished(first, second)


async def cut(scene: Scene, proxy: Proxy, *, silently: bool, seconds: float, times: int) -> None:
    """All connections of two workers, again and again, for so long."""
    scene.broker = proxy.bootstrap
    scene.settings |= {"transaction_timeout": "1500ms", "session_timeout": "2s"}
    await scene.fill(visits(3_000 * (times + 1), takes_ms=20))
    workers = await scene.sharing("a", "b")
    for _ in range(times):
        await scene.more_read()
        proxy.cut(silently=silently)
        await asyncio.sleep(seconds)
        proxy.heal()
    await scene.finished(*workers)


async def test_cut_for_longer_than_a_transaction_and_a_session(scene: Scene, proxy: Proxy) -> None:
    """What was open is aborted meanwhile, and the members are expelled; what was decided is not done again."""
    await cut(scene, proxy, silently=False, seconds=3, times=1)


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.3, 1.2, 3, 6])
@silently_or_not
async def test_cuts(scene: Scene, proxy: Proxy, silently: bool, seconds: float) -> None:
    """Three times, shorter than what waits for an answer, longer than it, than a transaction, than a session."""
    await cut(scene, proxy, silently=silently, seconds=seconds, times=3)


@pytest.mark.long
@of_each(*OF_A_COMMIT)
@on_either_side
async def test_cut_at_a_step_of_a_commit(scene: Scene, proxy: Proxy, api: Api, side: Side) -> None:
    """A worker alone: the network breaks there, for longer than its transaction may be open."""
    scene.broker = proxy.bootstrap
    scene.settings |= {"transaction_timeout": "1500ms", "session_timeout": "5s"}
    await scene.fill(visits(6_000, takes_ms=5))
    rule = proxy.hold(api, side, nth=6)
    worker = scene.worker()
    for again in (True, False):
        await asyncio.to_thread(rule.wait)
        proxy.cut()
        await asyncio.sleep(3)
        proxy.release(rule)
        if again:
            rule = proxy.hold(api, side, nth=3)
        proxy.heal()
    await scene.finished(worker)


async def test_an_end_that_comes_late(scene: Scene, proxy: Proxy) -> None:
    """The EndTxn of one epoch arrives once more in the midst of the next ones: it ends none of them (KIP-890)."""
    scene.broker = proxy.bootstrap
    await scene.fill(visits(5_000, takes_ms=5))
    worker_ends = proxy.delay(Api.END_TXN, "request", 0, times=3)
    worker = scene.worker()
    await asyncio.to_thread(worker_ends.wait)
    for _ in range(4):
        between = proxy.hold(Api.TXN_OFFSET_COMMIT, "reply", nth=2)  # records and offsets are in, nothing is decided
        await asyncio.to_thread(between.wait)
        proxy.replay(worker_ends)
        proxy.release(between)
    await scene.finished(worker)
