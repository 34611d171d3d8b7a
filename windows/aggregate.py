"""The Aggregate protocol: how contributions to a key, or to a key's window, become one value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

V = TypeVar("V", contravariant=True)
R = TypeVar("R", covariant=True)


Contribution: TypeAlias = tuple[int, Any, Any]
"""What an order-sensitive aggregate is given for a record: (timestamp, origin, value), ordered by the first two."""


class Aggregate(Generic[V, R]):
    """Folds contributions into an accumulator, and an accumulator into a result.

    Accumulators are values of the state codec (bool, int, float, str, bytes, lists, dicts, ...), never None. `add` may
    change the one it was given and returns the one to keep; `merge` changes none. Where `ordered` is False, the result
    must not depend on the order in which contributions and partial accumulators come. Where it is True, `column` is
    given (timestamp, origin, value) tuples in place of values; their order is that of the first two items.

    The repr is stored with the state, and state of another repr is refused: it names what shapes the accumulator.
    """

    ordered: bool = False
    invertible: bool = False
    """Whether `remove` takes a part out, exactly: a sliding total then costs two steps a slice, no merge of all."""

    def column(self, values: Sequence[Any]) -> Sequence[Any]:
        """What of each value is added: the user's function applied, before anything changes."""
        return values

    def initial(self) -> Any:
        """The accumulator of nothing."""
        raise NotImplementedError

    def add(self, accumulator: Any, item: Any) -> Any:
        """With one more item (of `column`)."""
        raise NotImplementedError

    def add_rows(self, rows: dict[Any, Any], keys: Sequence[Any], items: Sequence[Any]) -> None:
        """Add item i to the accumulator of key i, for all i: the hot loop; override it where C does it faster."""
        get, add = rows.get, self.add
        for key, item in zip(keys, items, strict=True):
            accumulator = get(key)
            rows[key] = add(self.initial() if accumulator is None else accumulator, item)

    def merge(self, parts: Iterable[Any]) -> Any:
        """The accumulator of all contributions of the parts; changes none of them."""
        raise NotImplementedError

    def remove(self, accumulator: Any, part: Any) -> Any:
        """Without the contributions of `part`, as if they had never come; None: nothing is left. Where `invertible`.

        May change the accumulator, not the part.
        """
        raise NotImplementedError

    def add_each(self, rows: dict[Any, Any], keys: Sequence[Any], items: Sequence[Any]) -> list[Any]:
        """As `add_rows`, with the result of each key's accumulator after each item (running aggregates)."""
        get, add, result = rows.get, self.add, self.result
        results = []
        for key, item in zip(keys, items, strict=True):
            accumulator = get(key)
            accumulator = rows[key] = add(self.initial() if accumulator is None else accumulator, item)
            results.append(result(accumulator))
        return results

    def merge_rows(self, rows: dict[Any, Any], part: Mapping[Any, Any]) -> None:
        """Merge the accumulators of a part into those of `rows`, key by key; the part's are not changed."""
        get, merge = rows.get, self.merge
        for key, accumulator in part.items():
            before = get(key)
            rows[key] = merge([accumulator] if before is None else [before, accumulator])

    def remove_rows(self, rows: dict[Any, Any], part: Mapping[Any, Any]) -> None:
        """Take a part's accumulators back out of `rows`, key by key; only where `invertible`."""
        for key, accumulator in part.items():
            left = self.remove(rows[key], accumulator)
            if left is None:
                del rows[key]
            else:
                rows[key] = left

    def result(self, accumulator: Any) -> Any:
        """The value that users see; it shares nothing with an accumulator that changes later."""
        return accumulator

    def running(self) -> Aggregate[V, R]:
        """The same in order of arrival, given values in place of contributions; itself where order does not matter."""
        if self.ordered:
            raise NotImplementedError(f"{self!r} has no running form")
        return self

    def __repr__(self) -> str:
        return type(self).__name__.lower()
