"""What is said and kept of a record that fails."""

from typing import Any

import pytest
from msgspec import Struct

from streamproc import App, RecordError, Stream, dead_letter, tumbling
from streamproc.errors import Where
from streamproc.testing import Record, replay
from tests.live import Live


def test_where_without_a_record() -> None:
    """What closed has no offset."""
    assert str(Where("a.b", key="k", timestamp=5)) == "a.b: key 'k', timestamp 5"
    assert str(Where("a.b", "t", 1, 2, "k", 5)) == "a.b: t/1 at offset 2, key 'k', timestamp 5"


class Order(Struct):
    id: int


@pytest.mark.parametrize(("value", "bytes_"), [(1, b"1"), ("x", b"x"), (b"y", b"y"), (Order(7), b'{"id":7}')])
def test_behind_a_re_key_a_dead_letter_holds_what_the_step_was_given(value: Any, bytes_: bytes) -> None:
    """There the source's record is not at hand: the value is written as an output would be, under its key."""
    app = App("dead", on_error=dead_letter("dead"))

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda _: value).key_by(lambda _: "k").latest().updates().map(lambda _: 1 // 0)

    [letter] = replay(app, {"numbers": [Record(1, timestamp=77)]}).records("dead")
    assert (letter.key, letter.value, letter.timestamp) == (b"k", bytes_, 77)
    assert letter.headers["streamproc-error-topic"] == b"dead-one-key_by-repartition"
    assert letter.headers["streamproc-error-type"] == b"ZeroDivisionError"


def test_dead_letters_are_of_their_epoch() -> None:
    """A dead letter is committed with the position behind its record: none without the other."""
    app = App("dead", on_error=dead_letter("dead"))

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return (
            numbers.map(lambda v: 1 // v, name="inverse").map(lambda v: v, on_error="fail").map(later, on_error="fail")
        )

    fails = [True]

    def later(value: int) -> int:
        if fails[0] and value < 0:
            raise OSError("not now")
        return value

    live = Live()
    live.create("numbers")
    live.send("numbers", (None, b"0", 0), (None, b"1", 1), (None, b"-1", 2), (None, b"0", 3))
    with pytest.raises(RecordError, match="not now"):
        live.run(app)
    assert live.rows("dead") == []
    fails[0] = False
    worker = live.run(app)
    assert live.values("dead") == [b"0", b"0"]
    assert worker.skipped == {"one.inverse": 2}
    live.run(app)
    assert len(live.rows("dead")) == 2


def test_dead_letters_of_every_task() -> None:
    """They may go to a topic with other partitions than the source, declared or not."""
    app = App("dead", on_error=dead_letter("dead"))
    numbers = app.topic("numbers", value=int)
    app.topic("dead", value=bytes, partitions=2)

    @app.stream(numbers, to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(lambda v: 1 // v)

    out = replay(app, {"numbers": [0, 0, 0, 0, 1]}, partitions=4)
    assert out["dead"] == [b"0"] * 4
    assert out["out"] == [1]


def test_an_error_in_its_own_text() -> None:
    """An exception whose message cannot be told does not hide the record."""

    class Mute(Exception):
        def __str__(self) -> str:
            return ""

    def f(value: int) -> int:
        raise Mute

    app = App("mute")

    @app.stream(app.topic("numbers", value=int), to=app.topic("out"))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.map(f)

    with pytest.raises(RecordError, match=r"one.map-f: numbers/0 at offset 0, key None, timestamp 0: Mute"):
        replay(app, {"numbers": [1]})


def test_what_closes_fails_in_several_tasks_behind_the_last_commit() -> None:
    """All records are committed when the end closes what is open: each task that fails is left with care until it has.

    One that fails drops the epoch of all: whatever is committed meanwhile, care is not over before that.
    """
    app = App("closing", on_error="skip")

    def odd(low: int, high: int) -> int:
        return 1 // (low - high) if low == high else high

    @app.stream(app.topic("numbers", key=bytes, value=int), to=app.topic("out", partitions=1))
    def one(numbers: Stream[bytes, int]) -> Any:
        return numbers.window(tumbling("10s")).reduce(odd).map(lambda row: row.value)

    live = Live(epoch_records=1, chunk_records=1)
    live.create("numbers", 4)
    for partition in range(4):
        live.send("numbers", (b"bad", b"1", 1_000), (b"bad", b"1", 1_001), partition=partition)
        live.send("numbers", (b"good", b"1", 1_000), (b"good", b"%d" % partition, 1_001), partition=partition)
    worker = live.run(app)
    assert sorted(live.values("out"), key=repr) == [b"0", b"2", b"3"]
    assert worker.skipped == {"one.reduce-odd": 5}
