import logging

import pytest

from streamproc.cli.progress_lines import ProgressLines
from streamproc.runner import Progress, StageProgress


def test_lines(caplog: pytest.LogCaptureFixture) -> None:
    """A line when something was read since the last one; before anything is known, that."""
    caplog.set_level(logging.INFO)
    lines = ProgressLines()
    none = Progress((), {}, {}, 10.0)
    five = Progress((StageProgress("in", 5, 2, None),), {}, {}, 20.0)
    for progress in (none, none, five, five):
        lines.tell("shop", progress)
    assert caplog.messages == ["shop: nothing read yet", "shop: in 5 records (lag 2) in 20.0 s"]
