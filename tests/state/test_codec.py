from __future__ import annotations

import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamproc.state.codec import MAX_DEPTH, Codec, CodecError, TypedCodec


class Color(Enum):
    RED = 1
    GREEN = 2


class Level(IntEnum):
    LOW = 1


class Access(Flag):
    READ = 1
    WRITE = 2


class Place(NamedTuple):
    city: str
    at: tuple[float, float] = (0.0, 0.0)


class User(msgspec.Struct):
    name: str
    age: int = 0


class Tweet(msgspec.Struct, rename="camel", tag=True):
    created_at: datetime
    user: User | None
    like_count: float
    tags: list[str] = []
    counts: dict[str, list[int]] = {}
    text: str = msgspec.field(name="Tweet", default="")


@dataclass
class Reading:
    sensor: str
    value: float
    parts: list[int] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Total:
    count: int
    mean: float | None = None


@attrs.define
class Call:
    number: str
    seconds: int = 0
    notes: list[str] = attrs.field(factory=list)


class Row(TypedDict):
    user: User
    n: int


class Normalised(msgspec.Struct):
    name: str

    def __post_init__(self) -> None:
        self.name = f"<{self.name}>"


@dataclass
class Derived:
    x: int
    square: int = field(init=False)
    _hidden: int = 0

    def __post_init__(self) -> None:
        self.square = self.x**2

    @cached_property
    def cube(self) -> int:
        return self.x**3


@dataclass
class Fields(list[int]):
    size: int = 0


class Everything(msgspec.Struct):
    color: Color
    level: Level
    access: Access
    place: Place
    reading: Reading
    total: Total
    call: Call
    items: Any = None


any_text = st.text(st.characters(exclude_categories=()))
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
zones = st.none() | st.just(UTC) | offsets
atoms: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(),
    any_text,
    st.binary(),
    st.datetimes(timezones=zones),
    st.dates(),
    st.times(timezones=zones),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([Color.RED, Level.LOW, Access.READ, Access.READ | Access.WRITE, Access(0)]),
)
hashables = st.recursive(
    atoms.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.lists(inner, max_size=3).map(frozenset),
    max_leaves=5,
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    sets = st.lists(hashables, max_size=3).map(set)
    dicts = st.dictionaries(hashables, inner, max_size=4)
    records = st.builds(Reading, any_text, st.floats(), lists) | st.builds(User, inner, inner)
    more = st.builds(Call, any_text, inner, lists) | st.builds(Place, any_text, lists.map(tuple))
    return st.one_of(lists, lists.map(tuple), sets, dicts, records, more)


values = st.recursive(atoms | hashables, containers, max_leaves=10)


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down, in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, Decimal):
        return bool(a.as_tuple() == b.as_tuple())
    if isinstance(a, datetime | time):
        return bool(a.utcoffset() == b.utcoffset() and a.replace(tzinfo=None, fold=0) == b.replace(tzinfo=None))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, dict):
        return same([*a.items()], [*b.items()])
    names = getattr(type(a), "__match_args__", ())  # the fields of Structs, dataclasses and attrs classes
    return all(same(getattr(a, name), getattr(b, name)) for name in names) if names else bool(a == b)


def reader() -> Codec:
    """A codec that has seen no value, only declarations, as after a restart."""
    return Codec([Everything, User, Tweet, Normalised, Derived])


# ------------------------------------------------------------------------------------------ round trips


@given(values)
@example([1, 1.0, True, "1", b"1", (1,), [1], {1}, frozenset({1}), {1: 1.0}])
@example({1: [], (1, "a"): {}, None: (), "\ud800": 1 << 80, 1 << 64: "\udfff\ud800"})
@example([math.nan, math.inf, -0.0, Decimal("NaN12"), Decimal("sNaN"), Decimal("-0E+5")])
@example(((), [], {}, set(), frozenset(), "", b""))
@example((datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), timedelta.min, timedelta.max))
def test_a_value_comes_back_exactly(value: Any) -> None:
    """Decoding gives the same value, with the same types at every depth and dicts in the same order."""
    assert same(reader().decode(Codec().encode(value)), value)


@given(st.lists(values, max_size=4))
@example([1, 1 << 64, "a"])
@example(["a", "\ud800"])
@example([])
def test_columns_are_their_values(column: list[Any]) -> None:
    """Columns encode and decode as one value after the other does."""
    codec = reader()
    datas = codec.encode_column(column)
    assert datas == list(map(codec.encode, column))
    assert same(codec.decode_column(datas), column)


def test_offsets_are_kept_and_zone_names_are_not() -> None:
    """An aware datetime comes back with its offset from UTC as a fixed one."""
    codec = Codec()
    match = datetime(2022, 11, 20, 19, 0, tzinfo=ZoneInfo("Asia/Qatar"))
    back = codec.decode(codec.encode(match))
    assert back == match
    assert back.tzinfo == timezone(timedelta(hours=3))
    assert codec.decode(codec.encode(match.astimezone(UTC))).tzinfo is UTC


def test_changed_in_place_after_encoding_changes_no_bytes() -> None:
    """Bytes are a copy: a container that is changed afterwards does not show in them."""
    codec, value = Codec(), {"a": [1, 2]}
    data = codec.encode(value)
    value["a"].append(3)
    assert codec.decode(data) == {"a": [1, 2]}


# ------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "builtins:object"),
        (bytearray(b"x"), "builtins:bytearray"),
        (deque([1]), "collections:deque"),
        (Counter("aab"), "collections:Counter"),
        (OrderedDict(a=1), "collections:OrderedDict"),
        (defaultdict(int), "collections:defaultdict"),
        (type("Name", (str,), {})("x"), "Name"),
        (type("Number", (int,), {})(1), "Number"),
        (len, "builtin_function_or_method"),
        (User, "msgspec.*StructMeta"),
        (ValueError("x"), "builtins:ValueError"),
        (Fields(), "Fields"),
    ],
)
def test_other_types_are_refused(value: Any, name: str) -> None:
    """A value outside the closed set, subclasses of built-in types among them, is an error that names its type."""
    for nested in (value, [value], (1, value), {"a": [value]}, User("a", value)):
        with pytest.raises(CodecError, match=rf"{name}.*annotate the function or the topic.*or convert it"):
            Codec().encode(nested)
        with pytest.raises(CodecError, match=name):
            Codec().typed(User).encode_column([nested])


def test_a_value_that_contains_itself_is_refused() -> None:
    """Endless values are a CodecError, through lists, dicts, tuples and classes."""
    items: list[Any] = []
    items.append((items,))
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    user = User("a")
    user.age = user  # type: ignore[assignment]
    for value in (items, mapping, user):
        with pytest.raises(CodecError, match="contains itself"):
            Codec().encode(value)


def test_depth_is_bounded_where_it_is_written() -> None:
    """What encodes decodes: MAX_DEPTH containers do both, one more does neither."""
    codec = reader()

    def nest(depth: int, value: Any) -> Any:
        for level in range(depth):
            value = [[value], (value,), {"a": value}, {(): value}, User("a", value)][level % 5]
        return value

    for innermost in (timedelta(1), 1):
        assert same(codec.decode(codec.encode(nest(MAX_DEPTH, innermost))), nest(MAX_DEPTH, innermost))
    one_more: list[Any] = [{"a": 1}, {}, [], (), User("a"), {(): 1}]
    for container in one_more:
        with pytest.raises(CodecError, match=f"more than {MAX_DEPTH}"):
            codec.encode(nest(MAX_DEPTH, container))


def test_a_zone_without_an_offset_is_refused() -> None:
    """A time of day in a named zone has no offset to keep."""
    with pytest.raises(CodecError, match="without an offset"):
        Codec().encode(time(12, tzinfo=ZoneInfo("Asia/Qatar")))


# ------------------------------------------------------------------------------------------ classes


def everything() -> Everything:
    return Everything(
        Color.GREEN,
        Level.LOW,
        Access.WRITE,
        Place("Doha", (1.0, 2.0)),
        Reading("s", 1.5),
        Total(3),
        Call("112"),
        {1, 2},
    )


def test_decoding_needs_the_class() -> None:
    """A class that was never declared or seen is an error that names it; nothing is imported."""
    data = Codec().encode({"a": User("x")})
    with pytest.raises(CodecError, match=r"test_codec:User is not known here: annotate"):
        Codec().decode(data)
    assert Codec([User]).decode(data) == {"a": User("x")}


@pytest.mark.parametrize("hint", [Everything, list[Everything | None], Mapping[str, Annotated[Everything, "doc"]]])
def test_declaring_a_type_declares_what_it_is_made_of(hint: Any) -> None:
    """Registration follows type hints into fields, so one annotation is enough."""
    assert same(Codec([hint]).decode(Codec().encode(everything())), everything())


def test_typed_dicts_declare_their_fields() -> None:
    """A TypedDict's values are dicts; the classes in its hints are registered."""
    row: Row = {"user": User("x"), "n": 1}
    assert Codec([Row]).decode(Codec().encode(row)) == row


def test_a_class_seen_at_encoding_is_known() -> None:
    """The codec that encoded a class can decode it."""
    codec = Codec()
    assert same(codec.decode(codec.encode(everything())), everything())


def test_two_classes_of_one_name_are_refused() -> None:
    """Which of the two to build would be a guess."""
    codec = Codec([msgspec.defstruct("Twin", ["a"], module="m")])
    with pytest.raises(CodecError, match="two classes are called m:Twin"):
        codec.register(msgspec.defstruct("Twin", ["b"], module="m"))


def both(cls: type) -> list[Codec]:
    return [Codec([cls]), Codec().typed(cls)]


def test_new_fields_have_their_defaults_and_lost_ones_are_left_out() -> None:
    """A class that gained a field with a default or lost one reads what was kept; one that gained another does not."""
    before = msgspec.defstruct("C", [("a", int), ("b", int)], module="m")
    gained = msgspec.defstruct(
        "C", [("a", int), ("b", int), ("c", list[int], msgspec.field(default_factory=list))], module="m"
    )
    lost = msgspec.defstruct("C", [("a", int)], module="m")
    required = msgspec.defstruct("C", [("a", int), ("b", int), ("c", int)], module="m")
    for index in (0, 1):
        data = both(before)[index].encode(before(1, 2))
        assert data[0] == 1 + index
        assert both(gained)[index].decode(data) == gained(1, 2, [])
        assert both(lost)[index].decode(data) == lost(1)
        with pytest.raises(CodecError, match=r"(?s)c.*give new fields a default"):
            both(required)[index].decode(data)


@pytest.mark.parametrize("make", [dataclass, attrs.define])
def test_new_fields_of_other_classes_have_their_defaults(make: Any) -> None:
    """The same for dataclasses, attrs classes and NamedTuples."""

    def version(hints: dict[str, Any], **defaults: Any) -> Any:
        return make(type("C", (), {"__annotations__": hints, "__module__": "m", **defaults}))

    before, gained = version({"a": int}), version({"a": int, "b": int}, b=5)
    required = version({"a": int, "b": int})
    for index in (0, 1):
        data = both(before)[index].encode(before(1))
        assert data[0] == 1 + index
        back = both(gained)[index].decode(data)
        assert (back.a, back.b) == (1, 5)
        with pytest.raises(CodecError, match=r"(?s)b.*give new fields a default"):
            both(required)[index].decode(data)


def test_new_fields_of_named_tuples_have_their_defaults() -> None:
    """A NamedTuple is kept by field names too."""

    def version(*hints: tuple[str, type]) -> Any:
        cls: Any = NamedTuple("P", hints)  # type: ignore[misc]
        return cls

    before, after = version(("a", int)), version(("a", int), ("b", int))
    data = Codec().encode(before(1))
    with pytest.raises(CodecError, match="b"):
        Codec([after]).decode(data)
    after._field_defaults["b"] = 7
    assert Codec([after]).decode(data) == after(1, 7)


def test_an_attrs_default_may_look_at_the_instance() -> None:
    """A factory that takes self sees the fields before it."""

    @attrs.define
    class After:
        a: int
        b: int = attrs.field(default=attrs.Factory(lambda self: self.a + 1, takes_self=True))

    codec = Codec([After])
    data = codec.encode(After(1))
    assert codec.registry.of(After).build({"a": 4}) == After(4, 5)
    assert codec.decode(data) == After(1, 2)


def test_fields_are_what_they_were_whatever_post_init_does() -> None:
    """A `__post_init__` does not work on what it has worked on already."""
    for codec in (reader(), Codec().typed(Normalised), Codec().typed(Derived)):
        codec.register(Derived)
        codec.register(Normalised)
        value = Normalised("a")
        assert codec.decode(codec.encode(value)).name == "<a>"
        derived = Derived(3)
        derived.square = 10
        assert derived.cube == 27
        assert codec.decode(codec.encode(derived)) == derived


def test_attributes_outside_the_fields_are_refused() -> None:
    """What would be lost without a word is an error."""
    reading = Reading("a", 1.0)
    reading.extra = 1  # type: ignore[attr-defined]
    for codec in (Codec(), Codec().typed(Reading)):
        with pytest.raises(CodecError, match="extra outside its fields"):
            codec.encode(reading)


def test_a_field_without_a_value_is_an_error() -> None:
    """A deleted attribute cannot be kept, and says which."""
    call = Call("112")
    del call.seconds
    for codec in (Codec(), Codec().typed(Call)):
        with pytest.raises(CodecError, match="no value for a field.*seconds"):
            codec.encode_column([call])


def test_enum_members_go_by_name() -> None:
    """Renumbered members stay themselves, and a member that is gone is an error."""
    data = Codec().encode(Color.GREEN)
    renumbered: Any = Enum("Color", ["BLUE", "RED", "GREEN"], module=__name__)  # type: ignore[misc]
    assert Codec([renumbered]).decode(data) is renumbered["GREEN"]
    gone: Any = Enum("Color", ["RED"], module=__name__)  # type: ignore[misc]
    with pytest.raises(CodecError, match="no member 'GREEN' any more"):
        Codec([gone]).decode(data)


# ------------------------------------------------------------------------------------------ declared types

users = st.builds(User, any_text, st.integers(-(1 << 70), 1 << 70))
odd_users = st.builds(User, st.none() | any_text, st.booleans() | st.floats() | st.integers())
tweets: st.SearchStrategy[Any] = st.builds(
    Tweet,
    st.datetimes(timezones=zones),
    st.none() | users | odd_users,
    st.floats() | st.integers(),
    st.lists(any_text) | st.lists(any_text).map(tuple),
    st.dictionaries(any_text, st.lists(st.integers()))
    | st.dictionaries(st.integers(), st.lists(st.integers() | st.booleans())),
    any_text,
)
readings: st.SearchStrategy[Any] = st.builds(
    Reading, any_text, st.floats() | st.integers(), st.lists(st.integers() | st.booleans())
)
totals: st.SearchStrategy[Any] = st.builds(Total, st.integers() | st.floats(), st.none() | st.floats() | st.booleans())
calls: st.SearchStrategy[Any] = st.builds(Call, any_text, st.integers() | st.none(), st.lists(any_text))


@pytest.mark.parametrize(("cls", "instances"), [(Tweet, tweets), (Reading, readings), (Total, totals), (Call, calls)])
@given(data=st.data())
def test_typed_codecs_keep_values_exactly(cls: type, instances: st.SearchStrategy[Any], data: st.DataObject) -> None:
    """Whatever a declared class really holds comes back exactly, mixed with values of other types."""
    column = data.draw(st.lists(instances | st.none() | values, max_size=4))
    codec = reader().typed(cls)
    assert isinstance(codec, TypedCodec)
    datas = codec.encode_column(column)
    assert datas == list(map(codec.encode, column))
    for decoded in (reader().typed(cls).decode_column(datas), list(map(codec.decode, datas))):
        assert same(decoded, column)


@pytest.mark.parametrize(
    "value",
    [
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), User("a", 1), 1.0, ["x"], {"a": [1]}, "t"),
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), None, math.nan),
        Reading("a", 1.0, [1]),
        Total(1, 2.0),
        Call("a", 1, ["x"]),
        User("a", 1),
    ],
)
def test_exact_instances_skip_the_description(value: Any) -> None:
    """An instance that holds what its class declares is kept without a description."""
    codec = Codec().typed(type(value))
    data = codec.encode(value)
    assert data[0] == 2
    assert type(value).__module__.encode() not in data
    assert same(codec.decode(data), value)
    assert Codec().typed(type(value) | None).encode(value) == data


@pytest.mark.parametrize(
    "value",
    [
        User("a", True),
        User("a", 1.0),  # type: ignore[arg-type]
        User(None),  # type: ignore[arg-type]
        User("\ud800"),
        User("a", 1 << 64),
        Tweet(datetime(2022, 11, 20, tzinfo=UTC).replace(tzinfo=None), None, 1.0),
        Tweet(datetime(2022, 11, 20, tzinfo=ZoneInfo("Asia/Qatar")), None, 1.0),
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), None, 1),
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), None, 1.0, ("x",)),  # type: ignore[arg-type]
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), None, 1.0, [], {"a": [True]}),
        Tweet(datetime(2022, 11, 20, tzinfo=UTC), None, 1.0, [], {1: [1]}),  # type: ignore[dict-item]
        None,
        {"name": "a", "age": 1},
        1,
    ],
)
def test_other_values_of_a_declared_type_describe_themselves(value: Any) -> None:
    """A value that its declared type would change or refuse takes the long way, alone or in a column."""
    exact = User("exact")
    codec = Codec().typed(Tweet if isinstance(value, Tweet) else User)
    assert codec.encode(value)[0] == 1
    assert same(codec.decode_column(codec.encode_column([value, exact, value])), [value, exact, value])


class Constrained(msgspec.Struct):
    age: Annotated[int, msgspec.Meta(ge=0)]


class Positional(msgspec.Struct, array_like=True):
    a: int


class Omitting(msgspec.Struct, omit_defaults=True):
    a: int = 1


class Node(msgspec.Struct):
    next: Node | None = None


class Choice(msgspec.Struct):
    value: int | str


class Pair(msgspec.Struct):
    value: tuple[int, int]


class Coloured(msgspec.Struct):
    color: Color


class Literally(msgspec.Struct):
    value: Literal["a"]


@dataclass
class Private:
    _x: int


@attrs.define
class Converted:
    x: int = attrs.field(converter=int)


@pytest.mark.parametrize(
    "value",
    [
        Constrained(-1),
        Positional(1),
        Omitting(),
        Node(Node()),
        Choice(1),
        Pair((1, 2)),
        Coloured(Color.RED),
        Literally("b"),  # type: ignore[arg-type]
        Private(1),
        Converted(1),
        Normalised("a"),
        Color.RED,
        Place("a"),
    ],
)
def test_classes_in_doubt_describe_themselves(value: Any) -> None:
    """A class that msgspec might not give back exactly has no short form."""
    codec = Codec().typed(type(value))
    assert type(codec) is Codec
    assert same(codec.decode(codec.encode(value)), value)


@pytest.mark.parametrize("hint", [int, str, Any, list[User], dict[str, User], User | Tweet, None, "User", Row])
def test_any_annotation_may_be_declared(hint: Any) -> None:
    """What has no short form is encoded with its description."""
    codec = Codec().typed(hint)
    assert codec.decode(codec.encode([User("a")])) == [User("a")]


def test_a_typed_value_needs_its_declaration() -> None:
    """Without the declared type a short form cannot be read, and says what to annotate."""
    with pytest.raises(CodecError, match="kept by its declared type"):
        reader().decode(Codec().typed(User).encode(User("a")))


# ------------------------------------------------------------------------------------------ corruption


@given(st.binary())
@example(b"")
@example(b"\x03\x01")
@example(b"\x01" + b"\x91" * 5000)
@example(b"\x01\xdd\xff\xff\xff\xff")
@example(b"\x01\xd4\x03\x01")
@example(b"\x01\xc7\x02\x04\x91\x90")
@example(b"\x01\xc7\x03\x0e\x92\x90\x80")
@example(b"\x02\xc1")
def test_foreign_bytes_are_a_codec_error(data: bytes) -> None:
    """Any bytes decode to a value or raise CodecError."""
    for codec in (reader(), Codec().typed(User)):
        for decode in (codec.decode, lambda x, codec=codec: codec.decode_column([x])):
            with suppress(CodecError):
                decode(data)


@given(values, st.data())
def test_damaged_values_are_a_codec_error(value: Any, data: st.DataObject) -> None:
    """So do values with a byte changed or the end cut off."""
    encoded = bytearray(Codec().encode(value))
    at = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(CodecError):
        reader().decode(bytes(encoded[:at]))
    encoded[at] = data.draw(st.integers(0, 255))
    with suppress(CodecError):
        reader().decode(bytes(encoded))


def test_atoms_used_above_are_what_the_page_says() -> None:
    """Each type of the closed set comes back alone."""
    codec = Codec()
    for value in (date(2022, 11, 20), time(1, 2, 3, 4), UUID(int=5), Decimal("1.50"), timedelta(-1, 5, 6)):
        assert same(codec.decode(codec.encode(value)), value)
