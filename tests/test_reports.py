from pathlib import Path

import pytest

from streamproc.errors import PlanChanged, RecordError, StateLost, Where
from streamproc.kafka.requests import NoAnswer, Unreachable
from streamproc.log import GroupFailed, LogError, UnknownTopic
from streamproc.reports import Failed, is_final
from streamproc.slot import SlotHeld
from streamproc.state.errors import StoreLocked


@pytest.mark.parametrize(
    ("error", "final"),
    [
        (PlanChanged("another plan"), True),
        (StateLost("the changelog is gone"), True),
        (RecordError(Where("count"), ValueError("no number")), True),
        (UnknownTopic("tweets", {}), True),
        (GroupFailed("a: no number"), True),
        (SlotHeld(0, Path("nowhere")), False),
        (StoreLocked("count/0"), False),
        (LogError("too many aborted epochs"), False),
        (Unreachable("no Kafka broker can be reached", lasting=False), False),
    ],
)
def test_errors_that_would_come_again(error: Exception, final: bool) -> None:
    """What the app, its data or its plan are the cause of; not what others hold, or what a disk or a network does."""
    assert is_final(error) is final


def test_what_a_process_ends_with() -> None:
    """Whether the cluster is the cause is told; the traceback where it is asked for."""
    assert Failed.by(NoAnswer("the join", "none came within 8 s"), "no answer", debug=False) == Failed(
        "NoAnswer", final=False, message="no answer", unreachable=True
    )
    with pytest.raises(ValueError, match="invalid literal") as raised:
        int("x")
    failed = Failed.by(raised.value, "no number", debug=True)
    assert not failed.unreachable
    assert failed.traceback is not None
    assert failed.traceback.startswith("Traceback (most recent call last):")
    assert 'int("x")' in failed.traceback
