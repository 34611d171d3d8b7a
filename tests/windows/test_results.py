from typing import NamedTuple, assert_type

import msgspec
import pytest

from streamproc.windows.results import Item, Previous, Top, WindowResult


class Stats(msgspec.Struct):
    hits: int
    size: float


class Pair(NamedTuple):
    a: int
    b: int


def test_json_leaves_out_what_is_usual() -> None:
    """The JSON of a final result is key, start, end and value; one that may change says so."""
    assert msgspec.json.encode(WindowResult("a", 0, 10, 3)) == b'{"key":"a","start":0,"end":10,"value":3}'
    early = WindowResult("a", 0, 10, 3, final=False)
    assert msgspec.json.decode(msgspec.json.encode(early), type=WindowResult[str, int]) == early


def test_they_can_be_the_type_of_a_topic() -> None:
    """With its parameters a result type decodes typed values, and refuses others."""
    data = b'{"key":7,"start":0,"end":10,"value":{"hits":2,"size":1.5}}'
    result = msgspec.json.decode(data, type=WindowResult[int, Stats])
    assert_type(result, WindowResult[int, Stats])
    assert result == WindowResult(7, 0, 10, Stats(2, 1.5))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(data, type=WindowResult[str, Stats])
    top = Top(0, 10, [Item("a", Stats(1, 1.0))])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(top), type=Top[str, Stats]) == top


def test_results_are_values() -> None:
    """Equal contents are equal, a repr says all, and nothing can be set."""
    result = WindowResult("a", 0, 10, 3)
    assert result == WindowResult("a", 0, 10, 3) != WindowResult("a", 0, 10, 3, final=False)
    assert repr(result) == "WindowResult(key='a', start=0, end=10, value=3, final=True)"
    assert len({result, WindowResult("a", 0, 10, 3)}) == 1
    with pytest.raises(AttributeError):
        result.value = 4  # type: ignore[misc]


def test_a_top_is_a_result_without_a_key() -> None:
    """A top has what a window's result has; its key is None."""
    top = Top(0, 10, [Item("a", 3), Item("b", 2)])
    assert (top.key, top.start, top.end, top.final) == (None, 0, 10, True)
    assert top.value == [("a", 3), ("b", 2)]
    assert_type(top, Top[str, int])
    assert_type(top.value[0].key, str)


def test_previous_is_now_and_before() -> None:
    """A previous takes apart into now and before."""
    now, before = Previous(3, [1, 2])
    assert_type(now, int)
    assert (now, before) == (3, [1, 2])
