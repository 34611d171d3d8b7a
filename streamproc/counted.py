"""Counted: a number of things as people read it."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """So many of these; `what` is one, and a word that gets an s.

    >>> counted(1, "task"), counted(2_000, "record"), counted(0, "internal topic")
    ('1 task', '2,000 records', '0 internal topics')
    """
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
