"""How many records a stage takes at once."""

from streamproc.step_size import GROWTH, STEP_MS, StepSize


def after(*steps: tuple[int, int]) -> int:
    """The records of the next step, behind steps of so many records that took so many ms."""
    size = StepSize()
    for records, ms in steps:
        size.took(records, ms=ms)
    return size.records


def test_what_is_quick_grows() -> None:
    """A clock that shows no time at all has not shown that there is no end to it."""
    assert after() == 1
    assert after((1, 0)) == GROWTH
    assert after((1, 0), (GROWTH, 1)) == GROWTH * GROWTH


def test_it_comes_to_rest_where_a_step_takes_as_long_as_it_is_to() -> None:
    """10 ms a record, then 1 ms a record."""
    slow = [(1, 10), (4, 40), (10, 100), (10, 100)]
    assert after(*slow) == 10
    assert after(*slow, (10, 10), (40, 40), (100, 100), (100, 100)) == 100


def test_there_is_no_step_without_a_record() -> None:
    assert after((1, 1_000)) == 1
    assert after((1, 1_000), (1, 10)) == GROWTH


def test_the_rest_of_a_chunk_shows_no_way_up_but_one_down() -> None:
    """Three records that are quick say nothing of a hundred; three that are slow say enough."""
    assert after((1, 0), (3, 0)) == GROWTH
    assert after((1, 0), (3, 3 * STEP_MS)) == 1
