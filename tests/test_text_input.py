from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import SettingsError
from streamproc.text_input import Fields, Format, InputError, InputLine, format_of, read_text


def read(data: bytes, file_format: Format, **options: Any) -> list[InputLine]:
    return list(read_text(io.BytesIO(data), file_format, **options))


def values(data: bytes, file_format: Format, **options: Any) -> list[bytes]:
    return [line.value for line in read(data, file_format, **options)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.json", "json"),
        ("a.jsonl", "json"),
        ("dir.csv/a.NDJSON", "json"),
        ("a.csv", "csv"),
        ("a.tsv", "csv"),
        ("a.log", "lines"),
        ("a.xml", "lines"),
        ("csv", "csv"),
        ("-", "lines"),
    ],
)
def test_the_ending_tells_the_format(path: str, expected: str) -> None:
    """JSON lines and CSV go by their endings, everything else is raw lines."""
    assert format_of(path) == expected


# -------------------------------------------------------------------------------------- raw lines


def test_raw_lines_are_kept_as_they_are() -> None:
    """A line loses its end and nothing else; blank lines are kept, and a last line needs no end."""
    data = b'10.0.0.1 - "GET /"\r\n\n  <a>\xff</a> \nlast\r'
    assert values(data, "lines") == [b'10.0.0.1 - "GET /"', b"", b"  <a>\xff</a> ", b"last"]
    assert values(b"", "lines") == []
    assert values(b"\n", "lines") == [b""]


@pytest.mark.parametrize("fields", [Fields(key="user"), Fields(timestamp="at")])
def test_raw_lines_have_no_fields(fields: Fields) -> None:
    """A key or a timestamp of raw lines is refused before anything is read."""
    with pytest.raises(SettingsError, match="app.log is read as raw lines"):
        read_text(iter(()), "lines", source="app.log", fields=fields)


# -------------------------------------------------------------------------------------- JSON lines


def test_json_lines_are_sent_as_they_are() -> None:
    """Each line is a record, whatever JSON it is; blank lines and a byte order mark are skipped."""
    data = b'\xef\xbb\xbf{"a": 1}\r\n\n   \n[1, 2]\n"x"\nnull'
    assert values(data, "json") == [b'{"a": 1}', b"[1, 2]", b'"x"', b"null"]


@pytest.mark.parametrize("bad", [b"{", b"[", b'{"a":1} {"a":2}', b"\xff", b"NaN"])
def test_a_line_that_is_no_json_is_named(bad: bytes) -> None:
    """The error tells the file and the line, counting blank ones."""
    with pytest.raises(InputError, match=r"tweets\.json, line 3: .*one JSON value a line") as caught:
        read(b'{"a":1}\n\n' + bad + b"\n", "json", source="tweets.json")
    assert caught.value.line == 3


def test_lines_before_a_bad_one_are_given() -> None:
    """Lines come as they are read: an error does not take back those before it."""
    lines = read_text(iter([b"1\n", b"x\n"]), "json")
    assert next(lines).value == b"1"
    with pytest.raises(InputError, match="standard input, line 2"):
        next(lines)


# -------------------------------------------------------------------------------------- CSV


def test_csv_rows_are_objects_of_strings() -> None:
    """The first row names the fields; delimiters, line ends and quotes within quotes are text."""
    data = b'\xef\xbb\xbfuser,text,n\r\na,"x, ""y""\nz",1\r\n\r\nb,,02'
    assert [json.loads(value) for value in values(data, "csv")] == [
        {"user": "a", "text": 'x, "y"\nz', "n": "1"},
        {"user": "b", "text": "", "n": "02"},
    ]


def test_the_delimiter_is_given_or_told_by_the_ending() -> None:
    """A semicolon is asked for; .tsv means tabs."""
    assert values(b"a;b\n1;2\n", "csv", delimiter=";") == [b'{"a":"1","b":"2"}']
    assert values(b"a\tb\n1\t2\n", "csv", source="x.tsv") == [b'{"a":"1","b":"2"}']
    assert values(b"a,b\n1,2\n", "csv", source="x.csv") == [b'{"a":"1","b":"2"}']


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b'a,b\n"1\n1",2\n3\n', 4, "the row has 1 cell, the first row 2 names"),
        (b"a,b\n1,2,3\n", 2, "the row has 3 cells"),
        (b'a,b\n1,"2"x\n', 2, "no CSV"),
        (b'a,b\n1,2\n3,"4\n\n', 3, "no CSV"),
        (b"a,b,a\n", 1, "two columns are named 'a'"),
        (b"a,b\n1,2\n3,\xff\n", 3, "not UTF-8"),
    ],
)
def test_a_row_that_is_no_csv_is_named_by_its_first_line(data: bytes, line: int, says: str) -> None:
    """The error tells the line on which the row begins."""
    with pytest.raises(InputError, match=f"x.csv, line {line}: .*{says}"):
        read(data, "csv", source="x.csv")


def test_a_csv_may_be_empty() -> None:
    """No rows, or names alone, are no records."""
    assert values(b"", "csv") == values(b"a,b\n", "csv") == values(b"\n\n", "csv") == []


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


@given(st.lists(st.tuples(cell, cell), max_size=5))
def test_what_is_written_as_csv_comes_back(rows: list[tuple[str, str]]) -> None:
    """Any text in cells survives the way through a file."""
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("a", "b"), *rows])
    found = [json.loads(value) for value in values(written.getvalue().encode(), "csv")]
    assert found == [{"a": a, "b": b} for a, b in rows]


# -------------------------------------------------------------------------------------- key and timestamp


@pytest.mark.parametrize(
    ("field", "key"),
    [(b'"u"', b"u"), (b"12", b"12"), (b"1.5", b"1.5"), (b"null", None), (b"[1,true]", b"[1,true]"), (b"true", b"true")],
)
def test_a_field_is_the_key_in_its_form_on_the_wire(field: bytes, key: bytes | None) -> None:
    """Text, numbers and all else are written as keys of streams are."""
    assert read(b'{"k":%b}\n' % field, "json", fields=Fields(key="k"))[0].key == key


@pytest.mark.parametrize(
    ("field", "unit", "expected"),
    [
        (b"1700000000123", "ms", 1_700_000_000_123),
        (b'"1700000000123"', "ms", 1_700_000_000_123),
        (b"1700000000", "s", 1_700_000_000_000),
        (b"1700000000.123", "s", 1_700_000_000_123),
        (b'" 1700000000.1239 "', "s", 1_700_000_000_123),
        (b"-1.5", "ms", -2),
        (b'"1970-01-01T00:00:01.5Z"', "ms", 1_500),
        (b'"1970-01-01T01:00+01:00"', "s", 0),
        (b'"1970-01-01 04:00"', "ms", 0),
    ],
)
def test_a_field_is_the_timestamp(field: bytes, unit: Any, expected: int) -> None:
    """Numbers count units since the epoch, exactly, rounded down; text is ISO 8601, its zone tz if it has none."""
    fields = Fields(timestamp="t", unit=unit, tz="Asia/Qatar")
    assert read(b'{"t":%b}\n' % field, "json", fields=fields) == [InputLine(b'{"t":%b}' % field, None, expected)]


def test_cells_of_a_csv_are_keys_and_timestamps() -> None:
    """Cells give key and timestamp as fields of JSON do."""
    fields = Fields(key="user", timestamp="at", unit="s")
    assert read(b"user,at\nu,2\n", "csv", fields=fields) == [InputLine(b'{"user":"u","at":"2"}', b"u", 2_000)]


@pytest.mark.parametrize(
    ("value", "fields", "says"),
    [
        (b'{"user":1,"text":2}', Fields(key="usr"), r"no field 'usr': did you mean user\?"),
        (b'{"user":1,"text":2}', Fields(key="zzz"), "no field 'zzz': there are user, text"),
        (b"[1]", Fields(key="user"), r"no field 'user' in \[1\], which is no object"),
        (b'{"t":"soon"}', Fields(timestamp="t"), "'soon' is no instant"),
        (b'{"t":"2030-01-01T00:00"}', Fields(timestamp="t"), "no time zone"),
        (b'{"t":null}', Fields(timestamp="t"), "None is no instant"),
        (b'{"t":true}', Fields(timestamp="t"), "True is no instant"),
        (b'{"t":"nan"}', Fields(timestamp="t"), "'nan' is no instant"),
        (b'{"t":"Infinity"}', Fields(timestamp="t"), "'Infinity' is no instant"),
    ],
)
def test_a_field_that_gives_nothing_is_an_error_of_its_line(value: bytes, fields: Fields, says: str) -> None:
    """A missing field or a time that is none is named with file and line."""
    with pytest.raises(InputError, match="standard input, line 1: .*" + says):
        read(value, "json", fields=fields)
