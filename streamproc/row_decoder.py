"""Decoding the rows of repartition topics: those of re-keys in our codec, those of chained topics as on the user's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from streamproc.log import Columns
from streamproc.topic import BadRecord, Topic

CACHED_KEYS = 100_000
"""How many keys' bytes a decoder remembers before it starts anew."""

OnBad: TypeAlias = Callable[[int, Exception], None]
"""Called for each row that cannot be decoded, with its place in the columns; raises where the policy is to fail."""


class Decoded(NamedTuple):
    """The good rows, as on the wire and decoded."""

    columns: Columns
    keys: list[Any]
    values: list[Any]


class RowDecoder(Protocol):
    """How the rows of one topic are read."""

    def decode(self, columns: Columns, on_bad: OnBad) -> Decoded:
        """The keys and values of the rows that are good and not left out."""


class RekeyedRows:
    """Rows that this plan has written in its own codec: one that cannot be read is no record's error."""

    def __init__(
        self, decode_key: Callable[[bytes], Any], decode_values: Callable[[Sequence[bytes | None]], list[Any]]
    ) -> None:
        self._decode_key = decode_key
        self._decode_values = decode_values
        self._keys: dict[bytes | None, Any] = {None: None}

    def decode(self, columns: Columns, on_bad: OnBad) -> Decoded:
        return Decoded(columns, self._decode_keys(columns.keys), self._decode_values(columns.values))

    def _decode_keys(self, column: Sequence[bytes | None]) -> list[Any]:
        """Each key once."""
        keys = self._keys
        unknown = set(column) - keys.keys()
        if unknown:
            if len(keys) > CACHED_KEYS:
                keys = self._keys = {None: None}
                unknown = set(column) - {None}
            keys.update((data, self._decode_key(data)) for data in unknown if data is not None)
        return list(map(keys.__getitem__, column))


class ChainedRows:
    """Rows as on the user's topic, by its declared types: bad ones, and ones that `decode=` leaves out, too."""

    def __init__(self, topic: Topic[Any, Any]) -> None:
        self._topic = topic

    def decode(self, columns: Columns, on_bad: OnBad) -> Decoded:
        try:
            rows, keys, values = self._topic.decode_rows(columns)
        except BadRecord:
            return self._one_by_one(columns, on_bad)
        return Decoded(columns if rows is None else columns.pick(rows), keys, values)

    def _one_by_one(self, columns: Columns, on_bad: OnBad) -> Decoded:
        good: list[int] = []
        keys: list[Any] = []
        values: list[Any] = []
        for i in range(len(columns)):
            try:
                _, key, value = self._topic.decode_rows(columns.cut(i, i + 1))
            except BadRecord as bad:
                on_bad(i, bad)
                continue
            if value:
                good.append(i)
                keys += key
                values += value
        return Decoded(columns.pick(good), keys, values)
