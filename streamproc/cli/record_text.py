"""Records as text: JSON lines for programs, and what people read."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import rich_click as click

from streamproc.cli.times import shown_time
from streamproc.log import Partition, WireHeaders

_encode = msgspec.json.Encoder().encode


def json_line(
    partition: Partition,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: WireHeaders | None,
) -> str:
    """A record as a line of JSON.

    >>> json_line(Partition("hits", 0), 7, 1000, b"a", b'{"n": 1}', None)
    '{"topic":"hits","partition":0,"offset":7,"timestamp":1000,"key":"a","value":{"n":1}}'
    """
    record: dict[str, Any] = {
        "topic": partition.topic,
        "partition": partition.number,
        "offset": offset,
        "timestamp": timestamp,
        "key": text_of(key),
        "value": value_of(value),
    }
    if headers:
        record["headers"] = {name: text_of(data) for name, data in headers}
    return _encode(record).decode()


def readable(
    partition: Partition,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: WireHeaders | None,
) -> str:
    """A record as people read it: time, place, key and value."""
    place = click.style(f"{partition.number}:{offset}", dim=True)
    time = click.style(shown_time(timestamp), fg="cyan")
    shown_key = "" if key is None else click.style(f"{_inline(text_of(key))} ", fg="yellow", bold=True)
    lines = [f"{time} {place} {shown_key}{_inline(value_of(value))}"]
    lines += [click.style(f"    {name}: {_inline(text_of(data))}", dim=True) for name, data in headers or ()]
    return "\n".join(lines)


def value_of(data: bytes | None) -> Any:
    """The JSON value that bytes are, else their text, else {"base64": ...}."""
    if data is None:
        return None
    try:
        value = msgspec.json.decode(data)
        _encode(value)  # a number may be read that cannot be written (1e999)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return text_of(data)
    return value


def text_of(data: bytes | None) -> str | dict[str, str] | None:
    """The text that bytes are, else {"base64": ...}."""
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _inline(value: Any) -> str:
    return value if isinstance(value, str) else _encode(value).decode()
