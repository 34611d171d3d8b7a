"""Tests of the tests: bugs to plant in the real engine, each of which must be noticed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest

Plant = Callable[[pytest.MonkeyPatch], None]
"""Plants a bug, until the patch is undone."""
Catch = Callable[[], str]
"""Gives what it noticed, or ''."""


class Bugs(dict[str, Plant]):
    """Bugs by name: each is one rule, forgotten."""

    def bug(self, name: str) -> Callable[[Plant], Plant]:
        """The decorated function plants the bug of this name."""

        def register(plant: Plant) -> Plant:
            assert name not in self, f"two bugs of one name: {name}"
            self[name] = plant
            return plant

        return register


def assert_noticed(plant: Plant, catch: Catch, patch: pytest.MonkeyPatch) -> None:
    """The bug, planted, is noticed, and by what it does: not because what plants it no longer fits the engine."""
    plant(patch)
    noticed = catch()
    assert noticed != "", "the bug was not noticed"
    misfit = re.search("TypeError|AttributeError|NameError", noticed)
    assert misfit is None, f"the planted code no longer fits the engine: {noticed}"


def by_hand(catches: Mapping[str, Catch], module: str) -> list[Catch]:
    """Those that were written by hand, each once; the others were made in the module."""
    return [catch for catch in dict.fromkeys(catches.values()) if catch.__module__ != module]
