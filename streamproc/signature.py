"""Signature: what a step's state depends on, in the words in which an app is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamproc.windows.duration import duration_text
from streamproc.windows.kinds import CountingWindows, SessionWindows

_UNNAMED = ("verb", "windows", "aggregate")
"""Parts that say themselves what they are."""


def shown_signature(signature: Mapping[str, Any]) -> str:
    """All of it.

    >>> shown_signature({"verb": "session", "gap_ms": 120_000, "aggregate": "count", "grace_ms": 5_000})
    "window session('2m') count grace 5s"
    """
    return " ".join(f"{label}{value}" for label, value in _parts(signature).values()).strip()


def shown_change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, old -> new.

    >>> shown_change({"verb": "top", "n": 3, "per": True}, {"verb": "top", "n": 10, "per": True})
    'n=3 -> 10'
    >>> shown_change({"verb": "top", "n": 3}, {"verb": "running", "aggregate": "count"})
    'top n=3 -> running count'
    """
    before, after = _parts(old), _parts(new)
    if before.keys() != after.keys() or before["verb"] != after["verb"]:
        return f"{shown_signature(old)} -> {shown_signature(new)}"
    changes = ((label, value, after[name][1]) for name, (label, value) in before.items())
    return ", ".join(f"{label}{was} -> {now}" for label, was, now in changes if was != now)


def _parts(signature: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """By name: the label, and the value as text."""
    parts = {}
    for name, value in _as_written(signature).items():
        if name in _UNNAMED:
            parts[name] = ("", str(value))
        elif name.endswith("_ms") and isinstance(value, int):
            parts[name] = (f"{name.removesuffix('_ms')} ", duration_text(value))
        else:
            parts[name] = (f"{name}=", str(value))
    return parts


def _as_written(signature: Mapping[str, Any]) -> dict[str, Any]:
    """The verb first; windows with an operator of their own are an argument of `window`, too."""
    rest = dict(signature)
    verb = rest.pop("verb", "")
    if verb == "session":
        return {"verb": "window", "windows": SessionWindows(rest.pop("gap_ms")), **rest}
    if verb == "counting":
        return {"verb": "window", "windows": CountingWindows(rest.pop("n"), rest.pop("every")), **rest}
    return {"verb": verb, **rest}
