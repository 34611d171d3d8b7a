"""What takes long is said."""

from __future__ import annotations

import asyncio

import pytest

from streamproc.kafka.patience import said_if_slow
from streamproc.testing.simulation.virtual_time import run


def test_what_takes_long_is_said_again_and_again_but_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    """With what it waits for at that moment; nothing is said of what is over in time, or any more when it is."""

    async def waits() -> None:
        with said_if_slow(lambda: "never"):
            await asyncio.sleep(4.9)
        began = asyncio.get_running_loop().time()
        with said_if_slow(lambda: f"waited {asyncio.get_running_loop().time() - began:.0f}"):
            await asyncio.sleep(200)
        await asyncio.sleep(200)

    run(waits())
    assert [record.getMessage() for record in caplog.records] == [
        f"waited {seconds}, for {seconds} s now" for seconds in (5, 15, 35, 75, 135, 195)
    ]
