"""Transactions (KIP-98, KIP-360, KIP-447, KIP-890) at request level; the same of the simulated and the real cluster."""

import pytest

from streamproc.kafka.requests import (
    Code,
    EndTxn,
    InitProducerId,
    Producer,
    Refused,
)
from tests.simulation.asking import (
    NOBODY,
    begin,
    commit_offset,
    create,
    end,
    produce,
    read,
    refused,
    rows,
    settled,
)
from tests.simulation.bench import Bench, on_both


@on_both
async def test_an_epoch_for_each_transaction(bench: Bench) -> None:
    """KIP-890: EndTxn answers the epoch of the next one; asked again, its answer lost, it answers the same."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    first = await begin(client, name)
    assert first.epoch == 0
    await produce(client, name, first, {p: rows(["x"], at_ms=bench.now_ms)})
    second = await end(client, name, first)
    assert second == Producer(first.id, 1)
    assert await end(client, name, first) == second
    await produce(client, name, second, {p: rows(["y"], at_ms=bench.now_ms)})
    third = await end(client, name, second, commit=False)
    assert third == Producer(first.id, 2)
    assert await end(client, name, second, commit=False) == third
    assert await refused(client, EndTxn(name, second, commit=True)) == Code.INVALID_TXN_STATE


@on_both
async def test_a_late_end_of_an_earlier_transaction_does_not_touch_this_one(bench: Bench) -> None:
    """KIP-890: an EndTxn that comes when the next transaction is open is PRODUCER_FENCED; that one commits whole."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    first = await begin(client, name)
    await produce(client, name, first, {p: rows(["x"], at_ms=bench.now_ms)})
    second = await end(client, name, first)
    await produce(client, name, second, {p: rows(["y"], at_ms=bench.now_ms)})
    for commit in (True, False):
        assert await refused(client, EndTxn(name, first, commit)) == Code.PRODUCER_FENCED
    await produce(client, name, second, {p: rows(["z"], at_ms=bench.now_ms)}, sequence=1)
    await end(client, name, second)
    await settled(client, p)
    assert await read(client, p) == [b"x", b"y", b"z"]


@on_both
async def test_a_late_batch_of_an_earlier_transaction_is_refused(bench: Bench) -> None:
    """In a partition of that transaction, and in one that it never wrote to: INVALID_PRODUCER_EPOCH."""
    client = await bench.client("a")
    [p, other] = await create(bench, client, "out", 2)
    name = bench.name("a")
    first = await begin(client, name)
    await produce(client, name, first, {p: rows(["x"], at_ms=bench.now_ms)})
    await end(client, name, first)
    await settled(client, p)
    late = rows(["late"], at_ms=bench.now_ms)
    for partition, sequence in ((p, 0), (p, 1), (other, 0)):
        answer = await produce(client, name, first, {partition: late}, sequence)
        assert answer[partition].code == Code.INVALID_PRODUCER_EPOCH
    assert await read(client, p) == [b"x"]


@on_both
async def test_nothing_can_be_aborted_and_not_committed(bench: Bench) -> None:
    """A transaction that wrote nothing: commit is INVALID_TXN_STATE, abort is an end like any other."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    first = await begin(client, name)
    assert await refused(client, EndTxn(name, first, commit=True)) == Code.INVALID_TXN_STATE
    second = await end(client, name, first, commit=False)
    assert second.epoch == first.epoch + 1
    await produce(client, name, second, {p: rows(["x"], at_ms=bench.now_ms)})
    third = await end(client, name, second)
    await settled(client, p)
    assert await refused(client, EndTxn(name, third, commit=True)) == Code.INVALID_TXN_STATE
    fourth = await end(client, name, third, commit=False)
    assert fourth.epoch == third.epoch + 1
    assert await refused(client, EndTxn(bench.name("nobody"), first, commit=True)) == Code.INVALID_PRODUCER_ID_MAPPING


@on_both
async def test_who_takes_the_id_aborts_and_fences(bench: Bench) -> None:
    """KIP-98: the holder before gets INVALID_PRODUCER_EPOCH for records, and PRODUCER_FENCED for all else (KIP-360)."""
    client = await bench.client("a")
    [p, q] = await create(bench, client, "out", 2)
    [source] = await create(bench, client, "in")
    name = bench.name("a")
    old = await begin(client, name)
    await produce(client, name, old, {p: rows(["old"], at_ms=bench.now_ms)})
    with pytest.raises(Refused) as caught:
        await client.send(InitProducerId(name, 15_000), 30)
    assert caught.value.code == Code.CONCURRENT_TRANSACTIONS
    new = await begin(client, name)
    assert new.id == old.id
    assert new.epoch > old.epoch + 1
    for partition in (p, q):
        answer = await produce(client, name, old, {partition: rows(["old"], at_ms=bench.now_ms)}, sequence=1)
        assert answer[partition].code == Code.INVALID_PRODUCER_EPOCH
    membership = NOBODY._replace(group=bench.name("g"))
    assert await commit_offset(client, name, old, membership, source, 1) == Code.INVALID_PRODUCER_EPOCH
    assert await refused(client, EndTxn(name, old, commit=True)) == Code.PRODUCER_FENCED
    assert await refused(client, InitProducerId(name, 15_000, old)) == Code.PRODUCER_FENCED
    await produce(client, name, new, {p: rows(["new"], at_ms=bench.now_ms)})
    await end(client, name, new)
    await settled(client, p)
    assert await read(client, p) == [b"new"]


@on_both
async def test_a_fenced_holder_that_asks_for_its_id_aborts_what_is_open_and_stays_fenced(bench: Bench) -> None:
    """KIP-360 looks at the epoch only when nothing is open: the new holder loses its transaction, and not its id."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    old = await begin(client, name)
    new = await begin(client, name)
    await produce(client, name, new, {p: rows(["new"], at_ms=bench.now_ms)})
    assert await refused(client, InitProducerId(name, 15_000, old)) == Code.PRODUCER_FENCED
    assert await refused(client, EndTxn(name, new, commit=True)) == Code.INVALID_TXN_STATE
    again = await begin(client, name, new)
    assert again == Producer(new.id, new.epoch + 1)
    await produce(client, name, again, {p: rows(["again"], at_ms=bench.now_ms)})
    await end(client, name, again)
    await settled(client, p)
    assert await read(client, p) == [b"again"]


@on_both
async def test_the_holder_goes_on_with_another_epoch(bench: Bench) -> None:
    """KIP-360: with its producer it gets the next epoch, and what is open is aborted; asked again, the same one."""
    client = await bench.client("a")
    [p] = await create(bench, client, "out")
    name = bench.name("a")
    first = await begin(client, name)
    second = await begin(client, name, first)
    assert second == Producer(first.id, first.epoch + 1)
    assert await begin(client, name, first) == second
    await produce(client, name, second, {p: rows(["dropped"], at_ms=bench.now_ms)})
    third = await begin(client, name, second)
    assert third == Producer(first.id, second.epoch + 1)
    await produce(client, name, third, {p: rows(["kept"], at_ms=bench.now_ms)})
    fourth = await end(client, name, third)
    await settled(client, p)
    assert await begin(client, name, third) == fourth
    assert await read(client, p) == [b"kept"]


@on_both
async def test_a_transaction_out_of_time_is_aborted(bench: Bench) -> None:
    """Its producer may not write or commit, may abort, and goes on with the next epoch."""
    client = await bench.client("a")
    [p, q] = await create(bench, client, "out", 2)
    name = bench.name("a")
    first = await begin(client, name, timeout_ms=300)
    await produce(client, name, first, {p: rows(["dropped"], at_ms=bench.now_ms)})
    await settled(client, p)
    assert await read(client, p) == []
    for partition in (p, q):
        answer = await produce(client, name, first, {partition: rows(["x"], at_ms=bench.now_ms)}, sequence=1)
        assert answer[partition].code == Code.INVALID_PRODUCER_EPOCH
    assert await refused(client, EndTxn(name, first, commit=True)) == Code.INVALID_TXN_STATE
    second = await end(client, name, first, commit=False)
    assert second == Producer(first.id, first.epoch + 1)
    assert await begin(client, name, first) == second
    await produce(client, name, second, {p: rows(["kept"], at_ms=bench.now_ms)})
    await end(client, name, second)
    await settled(client, p)
    assert await read(client, p) == [b"kept"]


@on_both
async def test_timeouts_that_a_broker_does_not_take(bench: Bench) -> None:
    """transaction.max.timeout.ms is a quarter of an hour."""
    client = await bench.client("a")
    assert await refused(client, InitProducerId(bench.name("a"), 900_001)) == Code.INVALID_TRANSACTION_TIMEOUT
