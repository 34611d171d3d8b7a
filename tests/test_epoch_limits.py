"""How much an epoch may hold."""

from streamproc.epoch_limits import HALVINGS, LAST_TRIES, EpochLimits
from streamproc.log import Chunk, Columns, Partition
from streamproc.settings import Settings
from streamproc.step_size import GROWTH, StepSize


def limits() -> EpochLimits:
    return EpochLimits(Settings(epoch_interval="200ms", epoch_records=100_000, epoch_bytes=64 << 20))


def now(epoch: EpochLimits) -> tuple[int, int, int]:
    return epoch.interval_ms, epoch.records, epoch.size_bytes


def chunk(records: int) -> Chunk:
    columns = Columns([None] * records, [b"%d" % n for n in range(records)], [0] * records)
    return Chunk(Partition("tweets", 0), range(10, 10 + records), 12 + records, columns)


def test_by_the_settings_at_first() -> None:
    assert now(limits()) == (200, 100_000, 64 << 20)


def test_half_of_everything_and_back() -> None:
    """As often as it was halved it must be committed until it is whole again, and never becomes more."""
    epoch = limits()
    epoch.halve()
    assert epoch.aborted()
    assert now(epoch) == (50, 25_000, 16 << 20)
    for _ in range(3):
        epoch.committed()
    assert now(epoch) == (200, 100_000, 64 << 20)


def test_there_is_a_smallest() -> None:
    """It holds something, and is due at once."""
    epoch = EpochLimits(Settings(epoch_interval="1s", epoch_records=5, epoch_bytes=7))
    for _ in range(50):
        epoch.halve()
    assert now(epoch) == (0, 1, 1)


def test_only_so_many_of_the_smallest_are_tried() -> None:
    """One that is committed in between begins the count anew."""
    epoch = limits()
    tries = [epoch.aborted() for _ in range(HALVINGS + LAST_TRIES)]
    assert tries == [True] * (HALVINGS + LAST_TRIES - 1) + [False]
    epoch = limits()
    for _ in range(HALVINGS + LAST_TRIES - 1):
        assert epoch.aborted()
    epoch.committed()
    for _ in range(LAST_TRIES):
        assert epoch.aborted()


def large() -> StepSize:
    size = StepSize()
    size.records = 1_000
    return size


def test_a_chunk_is_stepped_in_parts() -> None:
    """Together they are the chunk; how large the next is shows when it is asked for."""
    epoch = limits()
    assert list(epoch.parts(whole := chunk(8), large())) == [whole]
    epoch.halve()
    parts = epoch.parts(chunk(8), large())
    first = next(parts)
    assert (list(first.offsets), first.next_offset, len(first.columns)) == ([10, 11, 12, 13], 14, 4)
    epoch.halve()
    second = next(parts)
    assert (list(second.offsets), second.columns.values) == ([14, 15], [b"4", b"5"])
    epoch.committed()
    (last,) = parts
    assert (list(last.offsets), last.next_offset) == ([16, 17], 20), "the gap behind a chunk is its last part's"


def test_a_part_is_as_large_as_the_task_may_step() -> None:
    """Its functions have shown meanwhile how long they take."""
    size = StepSize()
    parts = limits().parts(chunk(9), size)
    assert len(next(parts).offsets) == 1
    size.took(1, ms=1)
    assert len(next(parts).offsets) == GROWTH
    assert len(next(parts).offsets) == 8 - GROWTH
    assert list(parts) == []


def test_a_part_is_no_more_than_an_epoch() -> None:
    """So an epoch has not more than it may, whatever a poll brings."""
    epoch = EpochLimits(Settings(epoch_records=5))
    assert [len(part.offsets) for part in epoch.parts(chunk(12), large())] == [5, 5, 2]


def test_a_chunk_without_records_is_a_part() -> None:
    """Its gap is to be passed."""
    epoch = limits()
    epoch.halve()
    assert list(epoch.parts(gap := chunk(0), StepSize())) == [gap]


def test_parts_have_a_record_at_least() -> None:
    epoch = limits()
    for _ in range(HALVINGS):
        epoch.halve()
    assert [len(part.offsets) for part in epoch.parts(chunk(3), large())] == [1, 1, 1]
