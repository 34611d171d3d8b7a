"""Routing: the bytes and the partition of each key, looked up once a key and not once a record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from streamproc import wire_key
from streamproc.murmur2 import partition_of
from streamproc.state.keys import identities, key_of

CACHED_KEYS = 100_000
"""How many keys are remembered before the cache starts anew."""


class Router:
    """Gives each key its route: partition by murmur2 of its wire form, keyless ones to partition task mod n.

    `on_wire` says that `encode` gives the wire form, which then is not made twice.
    """

    def __init__(
        self, partitions: int, task: int, encode: Callable[[Any], bytes | None], *, on_wire: bool = False
    ) -> None:
        self._partitions = partitions
        self._keyless = task % partitions
        self._encode = encode
        self._on_wire = on_wire
        self._numbers: dict[Hashable, int] = {}
        self._encoded: dict[Hashable, bytes | None] = {}

    def split(self, keys: Sequence[Any]) -> list[tuple[int, Sequence[int] | None, list[bytes | None]]]:
        """By partition: its number, which rows go there (None: all of them), and their keys' bytes."""
        found = identities(keys)
        try:
            numbers = list(map(self._numbers.__getitem__, found))
        except KeyError:
            self._learn(set(found))
            numbers = list(map(self._numbers.__getitem__, found))
        encoded = list(map(self._encoded.__getitem__, found))
        by_number: dict[int, list[int]] = {number: [] for number in set(numbers)}
        if len(by_number) == 1:  # where the key is still that of the input, all rows stay in the task's partition
            return [(numbers[0], None, encoded)]
        appends = {number: rows.append for number, rows in by_number.items()}
        for i, number in enumerate(numbers):
            appends[number](i)
        return [(number, rows, [encoded[i] for i in rows]) for number, rows in by_number.items()]

    def _learn(self, identities: set[Hashable]) -> None:
        if len(self._numbers) > CACHED_KEYS:
            self._numbers, self._encoded = {}, {}
        for identity in identities - self._numbers.keys():
            key = key_of(identity)
            encoded = self._encode(key)
            wire = encoded if self._on_wire else wire_key.encode_key(key)
            self._encoded[identity] = encoded
            self._numbers[identity] = self._keyless if wire is None else partition_of(wire, self._partitions)
