from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from enum import Enum
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from streamproc.state.codec import Codec, CodecError
from streamproc.state.keys import identities
from streamproc.state.memory import MemoryStore
from streamproc.state.schedule import BUCKET_MS, Schedule
from streamproc.state.table import Table

Model = dict[Any, dict[Hashable, list[int]]]


class Color(Enum):
    RED = 1
    BLUE = 2


INNERS = identities(["a", "a\0", 1, True, (1, "a")])
PLAIN, GROUPED, TIMED = "plain", "grouped", "timed"
OUTERS: dict[str, list[Any]] = {
    PLAIN: [None],
    GROUPED: [*identities(["a", "a\0", 1, True])],
    TIMED: [-(1 << 62), -1, 0, 1 << 62],
}


class TableMachine(RuleBasedStateMachine):
    """A table is a dict of dicts that can be put back to its last savepoint, and to its last settled epoch.

    Beside it stands another table of the same store, whose name begins as this one's: neither sees the other's rows.
    """

    kind: str

    @initialize()
    def start(self) -> None:
        self.store = MemoryStore()
        self.position = 0
        self.open()
        self.now: Model = {}
        self.saved: Model = {}
        self.settled: Model = {}
        self.sealed: list[tuple[Model, dict[bytes, bytes | None]]] = []
        self.beside.put("a", [7])
        self.store.write(self.beside.seal(), 0)
        self.beside.settle(0)

    def open(self) -> None:
        self.table: Table[list[int]] = Table(self.store, "totals", Codec(), timed=self.kind == TIMED)
        self.beside: Table[list[int]] = Table(self.store, "totals/due", Codec())

    def group(self, outer: Any) -> dict[Hashable, list[int]]:
        return self.now.setdefault(outer, {})

    @rule(data=st.data(), value=st.integers(0, 99))
    def put(self, data: st.DataObject, value: int) -> None:
        outer, inner = data.draw(st.sampled_from(OUTERS[self.kind])), data.draw(st.sampled_from(INNERS))
        self.table.put(inner, [value], outer)
        self.group(outer)[inner] = [value]

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        outer, inner = data.draw(st.sampled_from(OUTERS[self.kind])), data.draw(st.sampled_from(INNERS))
        self.table.delete(inner, outer)
        self.group(outer).pop(inner, None)

    @rule(data=st.data(), value=st.integers(0, 99), whole=st.booleans())
    def change_in_place(self, data: st.DataObject, value: int, whole: bool) -> None:
        outer, inners = (
            data.draw(st.sampled_from(OUTERS[self.kind])),
            data.draw(st.lists(st.sampled_from(INNERS), max_size=4)),
        )
        rows = self.table.whole(outer) if whole else self.table.rows(inners, outer)
        group = self.group(outer)
        for inner in inners:
            assert rows.get(inner) == group.get(inner)
            if inner in rows:
                rows[inner].append(value)
                group[inner].append(value)
            else:
                rows[inner], group[inner] = [value], [value]
        self.table.changed(inners, outer)

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        outer = data.draw(st.sampled_from(OUTERS[self.kind]))
        self.table.drop(outer)
        self.group(outer).clear()

    @rule(data=st.data())
    def read(self, data: st.DataObject) -> None:
        outer, inner = data.draw(st.sampled_from(OUTERS[self.kind])), data.draw(st.sampled_from(INNERS))
        assert self.table.get(inner, outer) == self.group(outer).get(inner)

    @rule(data=st.data())
    def read_whole(self, data: st.DataObject) -> None:
        outer = data.draw(st.sampled_from(OUTERS[self.kind]))
        assert self.table.whole(outer) == self.group(outer)

    @precondition(lambda self: self.kind == TIMED)
    @rule(before=st.sampled_from([*OUTERS[TIMED], 3]))
    def due(self, before: int) -> None:
        found = self.table.due(before)
        assert found == sorted(set(found))
        assert all(outer < before for outer in found)
        assert {outer for outer, group in self.now.items() if group and outer < before} <= set(found)
        assert all(self.table.has(outer) for outer in found)

    @rule()
    def savepoint(self) -> None:
        self.table.savepoint()
        self.saved = deepcopy(self.now)

    @rule()
    def rollback(self) -> None:
        self.table.rollback()
        self.now = deepcopy(self.saved)

    @rule()
    def seal(self) -> None:
        self.sealed.append((deepcopy(self.now), self.table.seal()))
        self.saved = deepcopy(self.now)

    @precondition(lambda self: self.sealed)
    @rule(limit=st.sampled_from([0, 500, 1000, 1 << 30]))
    def settle(self, limit: int) -> None:
        self.settled, changes = self.sealed.pop(0)
        self.position += 1
        self.store.write(changes, self.position)
        self.table.settle(limit)

    @rule()
    def abort(self) -> None:
        self.table.abort()
        self.sealed.clear()
        self.now, self.saved = deepcopy(self.settled), deepcopy(self.settled)

    @rule()
    def reopen(self) -> None:
        """As after a crash: what was not settled is gone."""
        self.open()
        self.sealed.clear()
        self.now, self.saved = deepcopy(self.settled), deepcopy(self.settled)

    @rule()
    def refuse_to_save_what_cannot_be_kept(self) -> None:
        """A savepoint that fails has moved nothing: a rollback is still to the one before."""
        outer = OUTERS[self.kind][0]
        self.table.put("a", object(), outer)  # type: ignore[arg-type]
        with pytest.raises(CodecError):
            self.table.savepoint()
        self.rollback()

    def teardown(self) -> None:
        """Row by row first, then whole: the first must not lean on what the second has read."""
        for outer in OUTERS[self.kind]:
            assert {i: v for i in INNERS if (v := self.table.get(i, outer)) is not None} == self.group(outer)
            assert self.table.whole(outer) == self.group(outer)

    @invariant()
    def the_other_table_is_as_it_was(self) -> None:
        if hasattr(self, "beside"):
            assert self.beside.whole() == {"a": [7]}


class PlainTable(TableMachine):
    kind = PLAIN


class GroupedTable(TableMachine):
    kind = GROUPED


class TimedTable(TableMachine):
    kind = TIMED


TestPlainTable = PlainTable.TestCase
TestGroupedTable = GroupedTable.TestCase
TestTimedTable = TimedTable.TestCase


class ScheduleMachine(RuleBasedStateMachine):
    """A schedule is a dict of due times: what is popped is what is due, once, in order, over restarts and rollbacks."""

    @initialize()
    def start(self) -> None:
        self.store = MemoryStore()
        self.position = 0
        self.now: dict[Hashable, int] = {}
        self.saved: dict[Hashable, int] = {}
        self.open()

    def open(self) -> None:
        self.table: Table[int] = Table(self.store, "due", Codec(), timed=True)
        self.schedule = Schedule(self.table)

    TIMES = st.one_of(
        st.integers(-3 * BUCKET_MS, 3 * BUCKET_MS),
        st.sampled_from([-BUCKET_MS, -1, 0, BUCKET_MS - 1, BUCKET_MS, 10**12]),
    )

    @rule(entry=st.sampled_from(INNERS), due=TIMES)
    def set_or_move(self, entry: Hashable, due: int) -> None:
        if entry in self.now:
            self.schedule.move(entry, self.now[entry], due)
        else:
            self.schedule.set(entry, due)
        self.now[entry] = due

    @rule(entry=st.sampled_from(INNERS))
    def cancel(self, entry: Hashable) -> None:
        if entry in self.now:
            self.schedule.cancel(entry, self.now.pop(entry))

    @rule(until=TIMES)
    def pop_due(self, until: int) -> None:
        found = self.schedule.pop_due(until)
        assert [due for due, _ in found] == sorted(due for due, _ in found)
        assert len(found) == len({entry for _, entry in found})
        assert {entry: due for due, entry in found} == {entry: due for entry, due in self.now.items() if due <= until}
        self.now = {entry: due for entry, due in self.now.items() if due > until}

    @rule()
    def savepoint(self) -> None:
        self.table.savepoint()
        self.saved = dict(self.now)

    @rule()
    def rollback(self) -> None:
        self.table.rollback()
        self.now = dict(self.saved)

    @rule(limit=st.sampled_from([0, 1 << 30]), restart=st.booleans())
    def settle(self, limit: int, restart: bool) -> None:
        self.position += 1
        self.store.write(self.table.seal(), self.position)
        self.table.settle(limit)
        self.saved = dict(self.now)
        if restart:
            self.open()


TestSchedule = ScheduleMachine.TestCase


def test_a_group_that_came_and_went_within_an_epoch_is_never_written() -> None:
    """A window that opens and closes between two savepoints costs no byte."""
    table: Table[int] = Table(MemoryStore(), "t", Codec(), timed=True)
    table.put("a", 1, 10)
    table.drop(10)
    assert table.seal() == {}


def test_dropping_what_was_saved_writes_a_tombstone_for_each_row() -> None:
    """The changelog is compacted by key: every row that was ever written has to be deleted by name."""
    store = MemoryStore()
    table: Table[int] = Table(store, "t", Codec(), timed=True)
    for inner in ("a", "b"):
        table.put(inner, 1, 10)
    written = table.seal()
    store.write(written, 1)
    table.settle(0)
    table.drop(10)
    assert table.seal() == dict.fromkeys(written)


def test_a_drop_is_undone_with_all_else_since_the_savepoint() -> None:
    """A window closed in a call that failed is open again."""
    table: Table[int] = Table(MemoryStore(), "t", Codec(), timed=True)
    table.put("a", 1, 10)
    table.savepoint()
    table.drop(10)
    assert table.due(11) == []
    table.rollback()
    assert table.due(11) == [10]
    assert table.whole(10) == {"a": 1}


def test_keys_with_classes_can_be_listed_when_the_cache_was_dropped() -> None:
    """A key that is an enum member is decoded again from its bytes: its class was seen when it was written."""
    store = MemoryStore()
    table: Table[int] = Table(store, "t", Codec())
    red, pair = identities([Color.RED, (1, Color.BLUE)])
    table.put(red, 1)
    table.put(pair, 2)
    store.write(table.seal(), 1)
    table.settle(0)
    table.rollback()
    assert table.whole() == {red: 1, pair: 2}
    store.write(table.seal(), 2)
    again: Table[int] = Table(store, "t", Codec([Color]))
    assert again.whole() == {red: 1, pair: 2}


def test_an_epoch_in_progress_is_apart_from_the_one_being_committed() -> None:
    """What is changed behind seal() is in the next epoch, and both drop together."""
    store = MemoryStore()
    table: Table[list[int]] = Table(store, "t", Codec())
    table.put("a", [1])
    first = table.seal()
    table.rows(["a"])["a"].append(2)
    table.changed(["a"])
    store.write(first, 1)
    table.settle(0)
    assert table.get("a") == [1, 2]
    assert Table(store, "t", Codec()).get("a") == [1]
    table.abort()
    assert table.get("a") == [1]


def test_the_newest_of_several_epochs_in_commit_is_read() -> None:
    """Where the cache does not have a row, the epoch sealed last does."""
    table: Table[int] = Table(MemoryStore(), "t", Codec())
    for value in (1, 2, 3):
        table.put("a", value)
        table.seal()
    table.rollback()
    assert table.get("a") == 3
    table.rollback()
    assert table.whole() == {"a": 3}


def test_the_cache_is_bounded_by_its_limit() -> None:
    """Clean groups leave it at settle, and what is read again comes from the store."""
    store = MemoryStore()
    table: Table[int] = Table(store, "t", Codec(), timed=True)
    for instant in range(100):
        table.put("a", instant, instant)
    store.write(table.seal(), 1)
    full = table.cached_bytes
    table.settle(full // 4)
    assert 0 < table.cached_bytes <= full // 4
    assert [table.get("a", instant) for instant in range(100)] == list(range(100))


def test_rows_that_left_the_cache_of_a_plain_table_are_still_rows() -> None:
    """A plain table is one group, of which a part is dropped: the rest is not taken for all of it."""
    store = MemoryStore()
    table: Table[int] = Table(store, "t", Codec())
    for i in range(10):
        table.put(i, i)
    store.write(table.seal(), 1)
    table.settle(0)
    assert [table.get(i) for i in range(10)] == list(range(10))
    assert table.whole() == {i: i for i in range(10)}


def test_no_group_holds_the_rows_of_one_whose_key_it_begins() -> None:
    """A key and the same with a zero byte behind it are two groups, in the store too."""
    store = MemoryStore()
    table: Table[int] = Table(store, "t", Codec())
    table.put("x", 1, "a")
    table.put("x", 2, "a\0")
    store.write(table.seal(), 1)
    again: Table[int] = Table(store, "t", Codec())
    assert again.whole("a") == {"x": 1}
    assert again.whole("a\0") == {"x": 2}


def test_a_schedule_reads_what_is_due_and_not_what_lives() -> None:
    """Entries due later are not decoded, however many there are."""
    store = MemoryStore()
    schedule = Schedule(Table(store, "due", Codec(), timed=True))
    for i in range(100):
        schedule.set(i, i * BUCKET_MS)
    table = schedule._table
    store.write(table.seal(), 1)
    table.settle(0)
    assert schedule.pop_due(BUCKET_MS) == [(0, 0), (BUCKET_MS, 1)]
    assert table.cached_bytes < 1000
