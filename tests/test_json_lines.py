import json
import logging
from typing import Any

import pytest

from streamproc.json_lines import JsonLines


def line_of(message: str, *arguments: Any, name: str = "streamproc", **fields: Any) -> dict[str, Any]:
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments, None)
    record.__dict__.update(fields)
    line = JsonLines().format(record)
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_line() -> None:
    """Time in UTC, level and message; of what was given beside it, what is one of the known fields."""
    line = line_of("%s late", 3, topic="tweets", partition=2, count=3, unknown="x", created=1_700_000_000.25)
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "message": "3 late",
        "topic": "tweets",
        "partition": 2,
        "count": 3,
    }


def test_another_library_is_named() -> None:
    """What others log comes with their name."""
    assert line_of("lost", name="aiokafka.conn")["logger"] == "aiokafka.conn"


@pytest.mark.parametrize("message", ["two\nlines", "caf\udce9", 'a "quote"', "\x00"])
def test_any_text_is_one_line(message: str) -> None:
    """Whatever the message holds, names of files that are no UTF-8 among it."""
    assert line_of("%s", message)["message"].startswith(message[:3].encode(errors="backslashreplace").decode()[:3])


def test_what_json_does_not_know_is_shown() -> None:
    """A key of the user's may be anything."""
    assert line_of("x", key=complex(1, 2))["key"] == "(1+2j)"


def test_an_error_comes_with_its_traceback() -> None:
    """As one field."""
    try:
        raise ValueError("no")  # noqa: TRY301
    except ValueError as error:
        line = line_of("it fails", exc_info=(ValueError, error, error.__traceback__))
    assert "ValueError: no" in line["traceback"]
