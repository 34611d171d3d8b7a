"""Topic: the declaration of a topic, and what it makes of records: keys, values and event times, column by column."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from operator import attrgetter, itemgetter, sub
from types import NoneType
from typing import Any, Final, Generic, TypeVar, get_type_hints, is_typeddict

from msgspec import MsgspecError

from streamproc import wire_key
from streamproc.errors import DefinitionError
from streamproc.log import Columns
from streamproc.operators.batch import FOREVER
from streamproc.policy import OnError, checked_policy
from streamproc.serde import BadRecord, EncodeError, beginning, value_serde
from streamproc.topic_name import checked_topic_name
from streamproc.type_hints import class_of, field_names, field_types, members, show, without_none
from streamproc.windows.duration import Duration, Instant, duration_ms, duration_text, instant_ms

__all__ = ["BadRecord", "EncodeError", "Topic"]

K = TypeVar("K")
V = TypeVar("V")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

NO_TIMESTAMP: Final = -1
"""What Kafka says where a record has no timestamp."""


class Topic(Generic[K, V]):
    """A topic as an app declares it. Equal to itself alone; made by `app.topic(...)`, and not changed after.

    key, value     the declared types (`streamproc.wire_key`, `streamproc.serde`)
    decode         reads values in place of the type; what it gives None for is left out
    timestamp      the field, or the function of the value, that says the event time; None: the record's own timestamp
    grace_ms       for verbs that say nothing else; None: the app's
    tz             where naive times of `timestamp=` are
    on_error       for verbs that say nothing else; None: the app's
    partitions     how many the topic gets when streamproc makes it; None: its own choice
    retention_ms   how long records are kept when streamproc makes the topic; None: for ever

    >>> Topic("tweets", value=dict[str, int], grace="5s").grace_ms
    5000
    """

    __slots__ = (
        "_event_time", "_read_key", "_serde", "decode", "grace_ms", "key_type", "lax", "name", "on_error", "partitions",
        "retention_ms", "timestamp", "tz", "value_type",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        *,
        key: Any = bytes,
        value: Any = Any,
        decode: Callable[[bytes], V | None] | None = None,
        timestamp: str | Callable[[V], Instant] | None = None,
        grace: Duration | None = None,
        tz: tzinfo | str | None = None,
        on_error: OnError | None = None,
        partitions: int | None = None,
        retention: Duration | None = None,
        lax: bool = False,
    ) -> None:
        self.name: Final = checked_topic_name(name)
        self.key_type: Final = key
        self.value_type: Final = _returned(decode) if decode is not None and value is Any else value
        self.decode: Final = decode
        self.timestamp: Final = timestamp
        self.tz: Final = tz
        self.lax: Final = lax
        self.partitions: Final = partitions
        try:
            self.grace_ms: Final = None if grace is None else duration_ms(grace, zero=True)
            self.retention_ms: Final = None if retention is None else duration_ms(retention)
            self.on_error: Final = None if on_error is None else checked_policy(on_error)
            self._serde: Final = value_serde(self.value_type, decode=decode, lax=lax)
            self._read_key: Final = wire_key.key_decoder(key)
            self._event_time: Final = _event_time(self.value_type, timestamp)
            _check_tz(tz, timestamp)
            _check_partitions(partitions)
        except (ValueError, TypeError, DefinitionError) as error:
            raise DefinitionError(f"topic {name!r}: {error}") from error

    def __repr__(self) -> str:
        return f"Topic({self.name!r}, key={show(self.key_type)}, value={show(self.value_type)})"

    # ------------------------------------------------------------------------------------ reading

    def decode_columns(
        self, columns: Columns, *, ahead_ms: int = FOREVER
    ) -> tuple[list[int] | None, list[Any], list[Any], list[int]]:
        """The places of the records that are not left out (None: all of them), their keys, values and event times.

        Raises BadRecord with the place, in the columns given, of the first bad record found.
        """
        rows, keys, values = self.decode_rows(columns)
        if rows is None:
            return None, keys, values, self.timestamps(values, columns.timestamps, ahead_ms=ahead_ms)
        own = [columns.timestamps[i] for i in rows]
        try:
            return rows, keys, values, self.timestamps(values, own, ahead_ms=ahead_ms)
        except BadRecord as bad:
            raise BadRecord(rows[bad.index], str(bad)) from bad.__cause__

    def decode_rows(self, columns: Columns) -> tuple[list[int] | None, list[Any], list[Any]]:
        """The same without event times."""
        values, keys = self.decode_values(columns.values), columns.keys
        if not self._serde.leaves_out or None not in values:
            return None, self.decode_keys(keys), values
        rows = [i for i, value in enumerate(values) if value is not None or columns.values[i] is None]
        try:
            return rows, self.decode_keys([keys[i] for i in rows]), [values[i] for i in rows]
        except BadRecord as bad:
            raise BadRecord(rows[bad.index], str(bad)) from bad.__cause__

    def decode_keys(self, column: Sequence[bytes | None]) -> list[Any]:
        """The key of each; None where there is none. Raises BadRecord."""
        if self.key_type is bytes:
            return list(column)
        read = self._read_key
        try:
            if self.key_type is str and None not in column:
                return list(map(bytes.decode, column))  # type: ignore[arg-type] # no None among them
            return [read(data) for data in column]
        except (ValueError, MsgspecError):
            return [self._decode_key(data, i) for i, data in enumerate(column)]

    def decode_values(self, column: Sequence[bytes | None]) -> list[Any]:
        """The value of each, also of what would be left out: None. Raises BadRecord."""
        return self._serde.decode_column(column)

    def timestamps(self, values: Sequence[Any], own: Sequence[int], *, ahead_ms: int = FOREVER) -> list[int]:
        """The event time of each in ms, given the values and the records' own timestamps. A tombstone has its own.

        Raises BadRecord where there is no instant, or one more than `ahead_ms` beyond the record's own timestamp.
        """
        event_time = self._event_time
        if event_time is None:
            if NO_TIMESTAMP in own:
                raise BadRecord(own.index(NO_TIMESTAMP), "the record has no timestamp: declare timestamp= on the topic")
            return list(own)
        try:
            instants = [event_time(value) for value in values]
            times = self._column_ms(instants)
        except Exception:  # noqa: BLE001 - a function of the user's may raise anything
            rows = enumerate(zip(values, own, strict=True))
            times = [self._event_ms(event_time, value, at, i) for i, (value, at) in rows]
        if ahead_ms < FOREVER and times and max(times) - min(own) > ahead_ms and max(map(sub, times, own)) > ahead_ms:
            _refuse_future(times, own, ahead_ms)
        return times

    # ------------------------------------------------------------------------------------ writing

    def encode_key(self, key: Any) -> bytes | None:
        """A key on the wire: by what it is, not by the declared type. Raises KeyEncodeError."""
        try:
            return wire_key.encode_key(key)
        except wire_key.KeyEncodeError as error:
            raise wire_key.KeyEncodeError(f"topic {self.name!r}: {error}") from error.__cause__

    def encode_values(self, values: Sequence[Any]) -> list[bytes | None]:
        """The bytes of each value. Raises EncodeError."""
        try:
            return self._serde.encode_column(values)
        except EncodeError as error:
            raise EncodeError(error.index, f"topic {self.name!r}: {error}") from error.__cause__
        except DefinitionError as error:
            raise DefinitionError(f"topic {self.name!r}: {error}") from error

    # ------------------------------------------------------------------------------------ event times

    def _column_ms(self, instants: list[Any]) -> list[int]:
        kinds = set(map(type, instants))
        if kinds <= {int}:
            return instants
        if kinds == {datetime} and self.tz is None:
            return [(at - _EPOCH) // _MILLISECOND for at in instants]  # naive ones raise
        return [instant_ms(at, tz=self.tz) for at in instants]

    def _decode_key(self, data: bytes | None, index: int) -> Any:
        try:
            return self._read_key(data)
        except (ValueError, MsgspecError) as error:
            shown = "" if data is None else f"; it is {beginning(data)}"
            raise BadRecord(index, f"the key is no {show(self.key_type)}: {error}{shown}") from error

    def _event_ms(self, event_time: Callable[[Any], Any], value: Any, own: int, index: int) -> int:
        if value is None:
            if own == NO_TIMESTAMP:
                raise BadRecord(index, "the record has neither value nor timestamp")
            return own
        named = f"`{self.timestamp}`" if isinstance(self.timestamp, str) else "what timestamp= gives"
        try:
            instant = event_time(value)
        except (KeyError, AttributeError) as error:
            raise BadRecord(index, f"the event time is missing: {named} is not there ({error})") from error
        except Exception as error:
            raise BadRecord(index, f"timestamp= failed: {type(error).__name__}: {error}") from error
        if instant is None:
            raise BadRecord(index, f"the event time is missing: {named} is None")
        try:
            return instant_ms(instant, tz=self.tz)
        except (ValueError, OverflowError) as error:
            raise BadRecord(index, f"the event time, {named}: {error}") from error


def _refuse_future(times: Sequence[int], own: Sequence[int], ahead_ms: int) -> None:
    for i, (event, came) in enumerate(zip(times, own, strict=True)):
        if event - came > ahead_ms and came != NO_TIMESTAMP:
            what = (
                f"its event time {_shown(event)} is {duration_text(event - came)} ahead of the record's own, "
                f"{_shown(came)}, as if a clock were wrong: ahead= allows {duration_text(ahead_ms)} and can be raised"
            )
            raise BadRecord(i, what)


def _shown(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms // 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms"


# -------------------------------------------------------------------------------------- declarations


def _event_time(value_type: Any, timestamp: Any) -> Callable[[Any], Any] | None:
    """The function that `timestamp=` stands for."""
    if timestamp is None:
        return None
    if callable(timestamp):
        function: Callable[[Any], Any] = timestamp
        return function
    if not isinstance(timestamp, str):
        raise DefinitionError(f"timestamp={timestamp!r}: it is the name of a field, or a function of the value")
    kinds = members(without_none(value_type))
    for kind in kinds:
        _check_field(kind, timestamp)
    if any(kind in (Any, object) for kind in kinds):
        return _field_of_any(timestamp)
    return itemgetter(timestamp) if all(_is_mapping(kind) for kind in kinds) else attrgetter(timestamp)


def _check_field(kind: Any, field: str) -> None:
    names = field_names(kind)
    if names is None:
        if class_of(kind) in (bytes, str, int, float, bool, list, tuple, set, NoneType):
            raise DefinitionError(f"timestamp={field!r}: {show(kind)} has no fields; a function of the value will do")
        return
    cls = class_of(kind)
    if field not in names and (is_typeddict(cls) or not hasattr(cls, field)):
        close = difflib.get_close_matches(field, names, n=3)
        guess = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {', '.join(names)}"
        raise DefinitionError(f"timestamp={field!r}: {show(kind)} has no such field; {guess}")
    if field in names and _field_type(kind, field) is float:
        msg = f"timestamp={field!r}: it is a float; say what it counts, as in timestamp=lambda v: int(v.{field} * 1000)"
        raise DefinitionError(msg)


def _field_type(kind: Any, field: str) -> Any:
    try:
        return field_types(kind).get(field)
    except (NameError, TypeError):
        return None  # a hint that only its author's function can resolve


def _is_mapping(kind: Any) -> bool:
    cls = class_of(kind)
    return is_typeddict(cls) or (isinstance(cls, type) and issubclass(cls, Mapping))


def _field_of_any(field: str) -> Callable[[Any], Any]:
    return lambda value: value[field] if isinstance(value, dict) else getattr(value, field)


def _returned(decode: Callable[[bytes], Any]) -> Any:
    """The type that a decoding function is annotated to give, without None; Any where it says nothing."""
    try:
        found = without_none(get_type_hints(decode).get("return", Any))
    except (NameError, TypeError):
        return Any
    return Any if found is NoneType else found


def _check_tz(tz: tzinfo | str | None, timestamp: object) -> None:
    if tz is None:
        return
    if timestamp is None:
        raise DefinitionError("tz= says where the times of timestamp= are: give timestamp= too")
    instant_ms(datetime(2000, 1, 1), tz=tz)  # noqa: DTZ001 - that it is naive is the point


def _check_partitions(partitions: object) -> None:
    if partitions is not None and (type(partitions) is not int or partitions < 1):
        raise DefinitionError(f"partitions={partitions!r}: it is a number from 1 on")
