"""The table of scenarios in ARCHITECTURE.md names what is there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
SECTION = "### Scenarios of exactly-once, and their tests"


def test_each_scenario_has_its_test() -> None:
    """The twenty, by number; each file is there, and each test in one of the files of its row."""
    text = (TESTS.parent / "ARCHITECTURE.md").read_text().partition(SECTION)[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (\d+) \|.*?\|(.*?)\|", text, re.MULTILINE))
    assert list(map(int, rows)) == list(range(1, 21))
    for row in rows.values():
        names = re.findall(r"`(test_\w+)`", row)
        files = re.findall(r"`([\w/]+\.py)`", row) + ["kafka/test_transaction.py"] * row.startswith(" T ")
        code = "\n".join((TESTS / file).read_text() for file in files)
        assert all(f"def {name}(" in code for name in names), row
        assert code
