"""Text files as records: JSON lines, CSV and raw lines, for `streamproc send`.

| format | endings | value of a record |
| --- | --- | --- |
| json | .json .jsonl .ndjson | a line, one JSON value; blank lines are skipped |
| csv | .csv .tsv | a row as a JSON object of strings by the names of the first row; blank rows are skipped |
| lines | all others | a line without its end (LF or CRLF), as it is; blank lines are kept: they may mean something |
"""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from streamproc.counted import counted
from streamproc.errors import SettingsError, StreamprocError
from streamproc.serde import beginning
from streamproc.windows.duration import instant_ms
from streamproc.wire_key import KeyEncodeError, encode_key

Format: TypeAlias = Literal["json", "csv", "lines"]
Unit: TypeAlias = Literal["ms", "s"]

_ENDINGS: Final[Mapping[str, Format]] = {
    "json": "json", "jsonl": "json", "ndjson": "json", "csv": "csv", "tsv": "csv",
}  # fmt: skip
_UNIT_MS: Final = {"ms": 1, "s": 1_000}
_BOM: Final = b"\xef\xbb\xbf"


class InputLine(NamedTuple):
    """What a line or row of a file says: a record's value, its key and its timestamp in ms, where asked for."""

    value: bytes
    key: bytes | None
    timestamp: int | None


class InputError(StreamprocError):
    """A line of a file is not what the file's format says."""

    def __init__(self, source: str, line: int, what: str) -> None:
        super().__init__(f"{source}, line {line}: {what}")
        self.source = source
        self.line = line


class Fields(msgspec.Struct, frozen=True, kw_only=True):
    """Which fields of JSON objects and CSV rows are a record's key and timestamp; None: it has none.

    An instant is ISO 8601 (`tz` is where it is, if it does not say so) or a number in `unit`s since the epoch, also as
    text: milliseconds unless told otherwise, for the number of digits says nothing sure. Fractions are rounded down.
    """

    key: str | None = None
    timestamp: str | None = None
    unit: Unit = "ms"
    tz: tzinfo | str | None = None


def format_of(path: str) -> Format:
    """The format that a file's name tells.

    >>> format_of("tweets.jsonl"), format_of("fixes.CSV"), format_of("access.log")
    ('json', 'csv', 'lines')
    """
    return _ENDINGS.get(path.rpartition(".")[2].lower(), "lines")


def read_text(
    lines: Iterable[bytes],
    file_format: Format,
    *,
    source: str = "standard input",
    fields: Fields | None = None,
    delimiter: str | None = None,
) -> Iterator[InputLine]:
    r"""Yield a record for each line (row) of a binary file, as it is read.

    `source` names it in errors; `delimiter` is of CSV: a comma, or a tab where `source` ends in .tsv. Raises
    InputError; SettingsError where fields are asked of raw lines.

    >>> list(read_text([b"user,n\n", b'a,"1\n', b'2"\n'], "csv", fields=Fields(key="user")))
    [InputLine(value=b'{"user":"a","n":"1\\n2"}', key=b'a', timestamp=None)]
    """
    fields = fields or Fields()
    if file_format == "lines":
        if fields.key is not None or fields.timestamp is not None:
            raise SettingsError(f"{source} is read as raw lines, which have no fields for a key or a timestamp")
        return (InputLine(_without_end(line), None, None) for line in lines)
    if file_format == "csv":
        return _csv_rows(lines, source, fields, delimiter or ("\t" if source.lower().endswith(".tsv") else ","))
    return _json_lines(lines, source, fields)


def _without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


# -------------------------------------------------------------------------------------- JSON lines


def _json_lines(lines: Iterable[bytes], source: str, fields: Fields) -> Iterator[InputLine]:
    for number, line in enumerate(lines, 1):
        data = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not data:
            continue
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InputError(source, number, f"{error}; it is {beginning(data)}. {_ONE_A_LINE}") from error
        yield InputLine(data, *_key_and_timestamp(value, fields, source, number))


_ONE_A_LINE: Final = "The format is one JSON value a line (jq -c does that to a whole document)"


# -------------------------------------------------------------------------------------- CSV


def _csv_rows(lines: Iterable[bytes], source: str, fields: Fields, delimiter: str) -> Iterator[InputLine]:
    rows = csv.reader(_decoded(lines, source), delimiter=delimiter, strict=True)
    line, header = 1, None
    encode = msgspec.json.Encoder().encode
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(source, line, f"this row is no CSV: {error}") from error
        if row is None:
            return
        if header is None:
            header = _checked_header(row, source, line, delimiter) if row else None
        elif row:
            if len(row) != len(header):
                has, names = counted(len(row), "cell"), counted(len(header), "name")
                what = f"the row has {has}, the first row {names}; delimiter is {delimiter!r}"
                raise InputError(source, line, what)
            cells = dict(zip(header, row, strict=True))
            yield InputLine(encode(cells), *_key_and_timestamp(cells, fields, source, line))
        line = rows.line_num + 1


def _decoded(lines: Iterable[bytes], source: str) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        try:
            yield (line.removeprefix(_BOM) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            raise InputError(source, number, f"it is not UTF-8: {error}") from error


def _checked_header(names: list[str], source: str, line: int, delimiter: str) -> list[str]:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        what = f"two columns are named {twice[0]!r}: the first row names the columns; delimiter is {delimiter!r}"
        raise InputError(source, line, what)
    return names


# -------------------------------------------------------------------------------------- key and timestamp


def _key_and_timestamp(value: Any, fields: Fields, source: str, line: int) -> tuple[bytes | None, int | None]:
    try:
        key = None if fields.key is None else encode_key(_field(value, fields.key))
        timestamp = None if fields.timestamp is None else _instant_ms(_field(value, fields.timestamp), fields)
    except (ValueError, OverflowError, KeyEncodeError) as error:
        raise InputError(source, line, str(error)) from error
    return key, timestamp


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"there is no field {name!r} in {value!r}, which is no object")  # noqa: TRY004 - bad input
    if name not in value:
        close = difflib.get_close_matches(name, value, n=3)
        guess = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(value)}"
        raise ValueError(f"there is no field {name!r}: {guess}")
    return value[name]


def _instant_ms(value: Any, fields: Fields) -> int:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            pass
        else:
            if number.is_finite():
                return math.floor(number * _UNIT_MS[fields.unit])
    if isinstance(value, str):
        return instant_ms(value.strip(), tz=fields.tz)
    raise ValueError(f"{value!r} is no instant: it takes ISO 8601 or a number of {fields.unit} since the epoch")
