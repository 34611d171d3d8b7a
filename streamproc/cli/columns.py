"""Text in columns, for terminals and pipes alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import rich_click as click


def aligned(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """The rows below their heads, each column as wide as its widest cell; those in `right` end together.

    >>> for line in aligned(["stage", "lag"], [["tweets", "7"], ["x", "12"]], right={1}):
    ...     print(click.unstyle(line))
    stage   lag
    tweets    7
    x        12
    """
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    yield click.style(line(heads), dim=True)
    yield from map(line, cells)
