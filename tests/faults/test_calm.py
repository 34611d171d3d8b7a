"""Undisturbed, the app does what the oracle says: what differs in the other files of this folder is a fault's doing."""

import pytest

from tests.faults.inputs import visits
from tests.faults.scene import Scene

pytestmark = pytest.mark.timeout(120)


async def test_undisturbed(scene: Scene) -> None:
    """Three workers, to which nothing happens; and a worker that has no disk goes on from their state."""
    await scene.fill(visits(8_000))
    await scene.finished(scene.worker("a"), scene.worker("b"), scene.worker("c"))


async def test_the_check_finds_what_is_wrong(scene: Scene) -> None:
    """A row that is not there, one that is there twice and two that have changed places are told, each by its key."""
    await scene.fill(visits(500))
    await scene.ended(scene.worker())
    assert await scene.wrong() == []
    good = scene.source[0]
    scene.source[0] = good[:-1]
    assert any(said.startswith("plain of") for said in await scene.wrong())
    scene.source[0] = [*good, good[-1]]
    assert any(said.startswith("chains of") for said in await scene.wrong())
    place = next(i for i in range(1, len(good)) if good[i].user == good[i - 1].user)
    scene.source[0] = [*good[: place - 1], good[place], good[place - 1], *good[place + 1 :]]
    assert any(said.startswith("chains of") for said in await scene.wrong())
