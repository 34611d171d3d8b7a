from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple, TypedDict
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamproc.errors import DefinitionError
from streamproc.log import Columns
from streamproc.policy import DeadLetter, checked_policy, dead_letter
from streamproc.topic import BadRecord, EncodeError, Topic
from streamproc.windows.duration import instant_ms
from streamproc.windows.results import WindowResult
from streamproc.wire_key import KeyEncodeError

HOUR_MS = 3_600_000


class Tweet(msgspec.Struct):
    created_at: datetime
    text: str = ""

    @property
    def edited_at(self) -> datetime:
        return self.created_at + timedelta(seconds=1)


class Renamed(msgspec.Struct):
    at: int = msgspec.field(name="Date Created")


class Maybe(msgspec.Struct):
    at: Any


@dataclasses.dataclass
class Call:
    start: int
    seconds: float


class Fix(NamedTuple):
    at: int


class Visit(TypedDict):
    at: int


class Plain:
    def __init__(self, at: int) -> None:
        self.at = at


def at(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def columns(
    *values: bytes | None, timestamps: list[int] | None = None, keys: list[bytes | None] | None = None
) -> Columns:
    return Columns(keys or [None] * len(values), list(values), timestamps or list(range(len(values))))


# -------------------------------------------------------------------------------------- declarations


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a/b", "é", "a" * 250, None, 3])
def test_a_name_that_kafka_refuses_is_a_definition_error(name: Any) -> None:
    """Illegal names fail where they are written, dead-letter topics too."""
    with pytest.raises(DefinitionError, match="name"):
        Topic(name)
    with pytest.raises(DefinitionError, match="name"):
        dead_letter(name)


def test_a_topic_is_what_it_was_declared() -> None:
    """Durations become milliseconds; what is not given is None."""
    topic: Topic[Any, Any] = Topic(
        "a.b_c-1", grace="5s", retention=timedelta(days=7), partitions=3, on_error=dead_letter("bad")
    )
    assert (topic.grace_ms, topic.retention_ms, topic.partitions) == (5_000, 7 * 24 * HOUR_MS, 3)
    assert topic.on_error == DeadLetter("bad")
    bare: Topic[Any, Any] = Topic("bare")
    assert (bare.grace_ms, bare.retention_ms, bare.partitions, bare.on_error, bare.timestamp) == (None,) * 5
    assert (bare.key_type, bare.value_type) == (bytes, Any)
    assert repr(Topic("t", key=str, value=Tweet)) == "Topic('t', key=str, value=Tweet)"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"grace": 5}, "has no unit"),
        ({"grace": "-5s"}, "negative"),
        ({"retention": "0s"}, "longer than zero"),
        ({"partitions": 0}, "partitions=0"),
        ({"partitions": True}, "partitions=True"),
        ({"on_error": "ignore"}, r'on_error=\'ignore\' is no policy: it is "fail", "skip" or dead_letter'),
        ({"tz": "UTC"}, "give timestamp= too"),
        ({"tz": "Nowhere/There", "timestamp": "at"}, "no time zone"),
        ({"lax": True}, "lax=True"),
        ({"timestamp": 3}, "timestamp=3: it is the name of a field"),
        ({"value": Tweet, "timestamp": "createdat"}, r"Tweet has no such field; did you mean 'created_at'\?"),
        ({"value": Tweet | None, "timestamp": "zzz"}, "Tweet has no such field; it has created_at, text"),
        ({"value": Renamed, "timestamp": "Date Created"}, "Renamed has no such field; it has at"),
        ({"value": Call, "timestamp": "star"}, "did you mean 'start'"),
        ({"value": Call, "timestamp": "seconds"}, r"is a float.*int\(v\.seconds \* 1000\)"),
        ({"value": Visit, "timestamp": "when"}, "Visit has no such field"),
        ({"value": Visit, "timestamp": "keys"}, "Visit has no such field"),
        ({"value": Fix | Call, "decode": len, "timestamp": "at"}, "Call has no such field"),
        ({"value": str, "timestamp": "at"}, "str has no fields"),
        ({"value": list[int], "timestamp": "at"}, r"list\[int\] has no fields"),
        ({"value": list[Tweet] | set[int]}, "JSON cannot be read as"),
        ({"key": list[Tweet] | set[int]}, "keys cannot be read as"),
    ],
)
def test_a_wrong_declaration_names_the_topic_and_the_fix(arguments: dict[str, Any], says: str) -> None:
    """Mistakes fail at the definition, with the topic's name and a way out."""
    with pytest.raises(DefinitionError, match=f"topic 'visits': .*{says}"):
        Topic("visits", **arguments)


def test_policies_are_checked() -> None:
    """The three policies pass, anything else is a definition error."""
    assert [checked_policy(policy) for policy in ("fail", "skip", dead_letter("x"))] == [
        "fail",
        "skip",
        DeadLetter("x"),
    ]
    with pytest.raises(DefinitionError, match="dead_letter"):
        checked_policy(dead_letter)


def test_the_type_of_a_decoding_function_is_the_type_of_the_values() -> None:
    """What decode= is annotated to give is the declared type where none is given, and timestamp= is checked by it."""

    def parse(data: bytes) -> Tweet | None: ...

    def silent(data): ...  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202

    assert Topic("t", decode=parse).value_type is Tweet
    assert Topic("t", decode=parse, value=dict).value_type is dict
    assert Topic("t", decode=silent).value_type is Any
    with pytest.raises(DefinitionError, match="did you mean 'created_at'"):
        Topic("t", decode=parse, timestamp="created")


# -------------------------------------------------------------------------------------- event times


@pytest.mark.parametrize(
    ("arguments", "value", "expected"),
    [
        ({"value": Tweet, "timestamp": "created_at"}, Tweet(at(1_500)), 1_500),
        ({"value": Tweet, "timestamp": "edited_at"}, Tweet(at(1_500)), 2_500),
        ({"value": Tweet, "timestamp": lambda tweet: tweet.created_at}, Tweet(at(-1)), -1),
        ({"value": Call, "timestamp": "start"}, Call(7, 0.5), 7),
        ({"value": Fix, "timestamp": "at"}, Fix(8), 8),
        ({"value": Visit, "timestamp": "at"}, {"at": 9}, 9),
        ({"value": dict[str, int], "timestamp": "at"}, {"at": 9}, 9),
        ({"value": Renamed, "timestamp": "at"}, Renamed(10), 10),
        ({"timestamp": "at"}, {"at": 11}, 11),
        ({"timestamp": "at"}, Plain(12), 12),
        ({"value": Plain, "timestamp": "at", "decode": lambda data: Plain(int(data))}, Plain(12), 12),
        ({"timestamp": "at"}, {"at": "1970-01-01T00:00:01Z"}, 1_000),
        ({"value": WindowResult[str, int], "timestamp": "end"}, WindowResult("k", 0, 60, 1), 60),
        ({"value": Maybe, "timestamp": "at"}, Maybe(datetime(1970, 1, 1, 3, tzinfo=timezone(timedelta(hours=3)))), 0),
        ({"value": Maybe, "timestamp": "at", "tz": "Asia/Qatar"}, Maybe(datetime(1970, 1, 1, 4)), 0),  # noqa: DTZ001
        ({"value": Maybe, "timestamp": "at", "tz": ZoneInfo("Asia/Qatar")}, Maybe("1970-01-01T04:00"), 0),
    ],
)
def test_the_event_time_is_what_timestamp_says(arguments: dict[str, Any], value: Any, expected: int) -> None:
    """A field or a function of the value gives the time, in whatever kind of value and instant."""
    topic: Topic[Any, Any] = Topic("t", **arguments)
    assert topic.timestamps([value, value], [5, -1]) == [expected, expected]


def test_the_event_time_is_else_the_records_own() -> None:
    """Without timestamp= the record's timestamp counts, and a record without one is bad."""
    topic: Topic[Any, Any] = Topic("t")
    assert topic.timestamps([1, 2], [5, -7]) == [5, -7]
    with pytest.raises(BadRecord, match="no timestamp: declare timestamp=") as caught:
        topic.timestamps([1, 2, 3], [5, 6, -1])
    assert caught.value.index == 2


def test_a_record_without_a_value_has_its_own_time() -> None:
    """A tombstone has no field to take the time from, so its own timestamp counts."""
    topic: Topic[Any, Any] = Topic("t", value=Tweet | None, timestamp="created_at")
    assert topic.timestamps([Tweet(at(1)), None], [50, 60]) == [1, 60]
    with pytest.raises(BadRecord, match="neither value nor timestamp"):
        topic.timestamps([Tweet(at(1)), None], [50, -1])


@given(
    st.lists(
        st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5)), ZoneInfo("Europe/Rome")])),
        max_size=4,
    )
)
def test_a_column_of_times_is_as_one_by_one(instants: list[datetime]) -> None:
    """The fast way through a column gives what `instant_ms` gives for each."""
    topic: Topic[Any, Any] = Topic("t", value=Maybe, timestamp="at")
    times = topic.timestamps([Maybe(instant) for instant in instants], [0] * len(instants))
    assert times == [instant_ms(instant) for instant in instants]


@pytest.mark.parametrize(
    ("arguments", "bad", "says"),
    [
        ({"value": Maybe, "timestamp": "at"}, Maybe(None), "missing: `at` is None"),
        ({"value": Maybe, "timestamp": "at"}, Maybe(datetime(2030, 1, 1)), '`at`: .*no time zone: pass tz="UTC"'),  # noqa: DTZ001
        ({"value": Maybe, "timestamp": "at"}, Maybe("soon"), "`at`: 'soon' is no instant"),
        ({"timestamp": "at"}, {"when": 1}, "missing: `at` is not there"),
        ({"timestamp": "at"}, 5, "missing: `at` is not there"),
        ({"timestamp": "at"}, {"at": 1.5}, "1.5 is no instant"),
        ({"timestamp": lambda value: None if value == 5 else 1}, 5, "what timestamp= gives is None"),
        ({"timestamp": lambda value: 1 // (value != 5)}, 5, "timestamp= failed: ZeroDivisionError"),
    ],
)
def test_a_record_without_a_good_time_is_named(arguments: dict[str, Any], bad: Any, says: str) -> None:
    """The place of the record and the reason are told."""
    topic: Topic[Any, Any] = Topic("t", **arguments)
    good: Any = Maybe(7) if arguments.get("value") else {"at": 7}
    with pytest.raises(BadRecord, match=says) as caught:
        topic.timestamps([good, good, bad, good], [1, 1, 1, 1])
    assert caught.value.index == 2


def test_a_time_from_the_future_is_bad() -> None:
    """A payload's time may lie `ahead` beyond the record's own; the error says by how much and what to raise."""
    topic: Topic[Any, Any] = Topic("t", value=Tweet, timestamp="created_at")
    now = 1_000 * HOUR_MS
    values = [Tweet(at(now)), Tweet(at(now + HOUR_MS)), Tweet(at(now + 30 * HOUR_MS))]
    assert topic.timestamps(values[:2], [now, now], ahead_ms=HOUR_MS) == [now, now + HOUR_MS]
    with pytest.raises(
        BadRecord, match=r"1970-02-12T22:00:00Z is 1d6h ahead .*1970-02-11T16:00:00Z.*ahead= allows 1h"
    ) as caught:
        topic.timestamps(values, [now] * 3, ahead_ms=HOUR_MS)
    assert caught.value.index == 2
    assert len(topic.timestamps(values, [now] * 3)) == 3
    assert len(topic.timestamps(values, [-1] * 3, ahead_ms=HOUR_MS)) == 3
    assert len(topic.timestamps(values, [now, now, now + 30 * HOUR_MS], ahead_ms=HOUR_MS)) == 3


def test_ahead_is_about_payloads() -> None:
    """Records' own timestamps are compared with nothing."""
    assert Topic[Any, Any]("t").timestamps([1], [10**15], ahead_ms=0) == [10**15]


# -------------------------------------------------------------------------------------- records


def test_columns_are_decoded_side_by_side() -> None:
    """Keys, values and times of good records come back as columns; None says that none was left out."""
    topic: Topic[int, Tweet] = Topic("t", key=int, value=Tweet, timestamp="created_at")
    found = topic.decode_columns(columns(b'{"created_at":"1970-01-01T00:00:01Z"}', keys=[b"1"]))
    assert found == (None, [1], [Tweet(at(1_000))], [1_000])
    assert topic.decode_columns(Columns([], [], [])) == (None, [], [], [])


def test_what_a_function_leaves_out_is_left_out() -> None:
    """Records for which decode= gives None are not there, whatever their keys and times; places tell which are."""
    topic: Topic[int, int] = Topic(
        "t", key=int, decode=lambda data: int(data) or None, timestamp=lambda value: value * 10
    )
    given_columns = columns(b"0", b"1", b"0", b"2", keys=[b"bad", b"7", None, b"8"], timestamps=[-1, 0, 0, 0])
    assert topic.decode_columns(given_columns) == ([1, 3], [7, 8], [1, 2], [10, 20])
    assert topic.decode_columns(columns(b"0")) == ([], [], [], [])
    assert topic.decode_columns(columns(b"1", keys=[b"7"])) == (None, [7], [1], [10])


def test_a_tombstone_is_not_left_out() -> None:
    """A record without a value is a record, also where a function reads values."""
    topic: Topic[bytes, Any] = Topic("t", decode=lambda data: None)
    assert topic.decode_columns(columns(b"x", None, b"y", keys=[b"a", b"b", b"c"])) == ([1], [b"b"], [None], [1])


@pytest.mark.parametrize(
    ("values", "keys", "timestamps", "index", "says"),
    [
        ([b"1", b"0", b"x"], None, None, 2, "the value is no"),
        ([b"0", b"1", b"2"], [b"1", b"1", b"x"], None, 2, "the key is no int: .*; it is b'x'"),
        ([b"0", b"1", b"9"], None, None, 2, "timestamp= failed"),
        ([b"0", b"1", b"2"], None, [0, 0, -9_999], 2, "ahead="),
    ],
)
def test_a_bad_record_is_named_by_its_place_in_the_columns(
    values: list[bytes | None], keys: list[bytes | None] | None, timestamps: list[int] | None, index: int, says: str
) -> None:
    """The index counts all records, those left out too."""
    topic: Topic[int, int] = Topic(
        "t", key=int, decode=lambda data: int(data) or None, timestamp=lambda value: [0, 1, 2][value]
    )
    with pytest.raises(BadRecord, match=says) as caught:
        topic.decode_columns(
            columns(*values, keys=keys, timestamps=timestamps), ahead_ms=HOUR_MS if not timestamps else 100
        )
    assert caught.value.index == index


def test_keys_are_read_by_the_declared_type() -> None:
    """Keys of a column are of the declared type; the first that is not is named."""
    assert Topic[Any, Any]("t").decode_keys([b"a", None]) == [b"a", None]
    topic: Topic[Any, Any] = Topic("t", key=tuple[str, int])
    assert topic.decode_keys([b'["a",1]', None]) == [("a", 1), None]
    with pytest.raises(BadRecord, match=r"the key is no tuple\[str, int\]: Expected `int`") as caught:
        topic.decode_keys([b'["a",1]', b'["a","b"]'])
    assert caught.value.index == 1


def test_an_error_in_writing_names_the_topic() -> None:
    """What cannot be written is named with the topic and the place in the column."""
    topic: Topic[Any, Any] = Topic("out", value=int)
    assert topic.encode_values([1, None]) == [b"1", None]
    assert topic.encode_key(("a", 1)) == b'["a",1]'
    with pytest.raises(EncodeError, match="topic 'out': a value of type str cannot be written as int") as caught:
        topic.encode_values([1, "x"])
    assert caught.value.index == 1
    with pytest.raises(KeyEncodeError, match="topic 'out': the key"):
        topic.encode_key(object())


class Clash(msgspec.Struct):
    start: int


def test_a_clash_of_names_names_the_topic() -> None:
    """A result that cannot be flat is a definition error of the topic."""
    with pytest.raises(DefinitionError, match="topic 'out': Clash has a field 'start'"):
        Topic[Any, Any]("out").encode_values([WindowResult("k", 0, 1, Clash(1))])
    with pytest.raises(DefinitionError, match="topic 'out': Clash has a field 'start'"):
        Topic("out", value=WindowResult[str, Clash])
