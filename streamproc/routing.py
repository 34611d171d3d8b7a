"""Routing: the bytes and the partition of each key, looked up once a key and not once a record."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from streamproc import wire_key
from streamproc.murmur2 import partition_of
from streamproc.state.keys import identities, key_of

CACHED_KEYS = 100_000
"""How many keys are remembered before the cache starts anew."""


class Route(NamedTuple):
    """Where rows of a key go."""

    number: int
    key: bytes | None


class Router:
    """Gives each key its route: partition by murmur2 of its wire form, keyless ones to partition task mod n."""

    def __init__(self, partitions: int, task: int, encode: Callable[[Any], bytes | None]) -> None:
        self._partitions = partitions
        self._keyless = task % partitions
        self._encode = encode
        self._routes: dict[Hashable, Route] = {}

    def split(self, keys: Sequence[Any]) -> list[tuple[int, Sequence[int] | None, list[bytes | None]]]:
        """By partition: its number, which rows go there (None: all of them), and their keys' bytes."""
        found = identities(keys)
        routes = self._routes
        unknown = set(found) - routes.keys()
        if unknown:
            if len(routes) > CACHED_KEYS:
                routes.clear()
                unknown = set(found)
            for identity in unknown:
                routes[identity] = self._route(key_of(identity))
        if self._partitions == 1:
            return [(0, None, [routes[identity].key for identity in found])]
        by_number: dict[int, list[int]] = {}
        encoded: list[bytes | None] = []
        for i, (number, key) in enumerate(map(routes.__getitem__, found)):
            encoded.append(key)
            try:
                by_number[number].append(i)
            except KeyError:
                by_number[number] = [i]
        return [(number, rows, [encoded[i] for i in rows]) for number, rows in by_number.items()]

    def _route(self, key: Any) -> Route:
        wire = wire_key.encode_key(key)
        return Route(self._keyless if wire is None else partition_of(wire, self._partitions), self._encode(key))
