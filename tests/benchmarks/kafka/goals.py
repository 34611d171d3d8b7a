"""What was aimed at, beside what was found."""


class Goals:
    """Notes which goals are missed."""

    def __init__(self) -> None:
        self._count = 0
        self._missed: list[str] = []

    def at_most(self, what: str, found: float, limit: float) -> str:
        """Note it; how a table shows the goal."""
        self.note(what, met=found <= limit)
        return f"<= {limit:g}"

    def at_least(self, what: str, found: float, limit: float) -> str:
        """Note it; how a table shows the goal."""
        self.note(what, met=found >= limit)
        return f">= {limit:,.0f}"

    def note(self, what: str, *, met: bool) -> None:
        """One that no table shows."""
        self._count += 1
        if not met:
            self._missed.append(what)

    def __str__(self) -> str:
        if not self._count:
            return "no goals were set for these parts"
        if not self._missed:
            return f"all {self._count} goals are met"
        return f"{len(self._missed)} of {self._count} goals are missed: {', '.join(self._missed)}"


def line(widths: tuple[int, ...], columns: tuple[object, ...]) -> str:
    """A row of a table; what is first stands on the left."""
    cells = [f"{cell:>{width}}" for width, cell in zip(widths[1:], columns[1:], strict=True)]
    return f"{columns[0]:<{widths[0]}}" + "".join(cells)
