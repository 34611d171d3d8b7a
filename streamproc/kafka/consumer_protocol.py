"""The envelope of what members and leader of a consumer group say: Kafka's ConsumerProtocol, version 0.

Kafka's own tools read it, so that they can tell who has which partitions. What only streamproc understands is in its
user data.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from typing import Final

from streamproc.log import Partition

_VERSION: Final = 0


def pack_subscription(topics: Collection[str], user_data: bytes) -> bytes:
    """A ConsumerProtocolSubscription: which topics a member reads.

    >>> unpack_subscription(pack_subscription(["tweets"], b"more"))
    b'more'
    """
    names = b"".join(map(_string, topics))
    return struct.pack(">hi", _VERSION, len(topics)) + names + _bytes(user_data)


def pack_assignment(partitions: Iterable[Partition], user_data: bytes) -> bytes:
    """A ConsumerProtocolAssignment: which partitions a member is to read.

    >>> unpack_assignment(pack_assignment([Partition("tweets", 0), Partition("tweets", 1)], b"more"))
    b'more'
    """
    by_topic: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        by_topic.setdefault(topic, []).append(number)
    packed = [struct.pack(">hi", _VERSION, len(by_topic))]
    for topic, numbers in by_topic.items():
        packed.append(_string(topic) + struct.pack(f">i{len(numbers)}i", len(numbers), *numbers))
    return b"".join(packed) + _bytes(user_data)


def unpack_subscription(packed: bytes) -> bytes:
    """The user data of a subscription of any version. Raises ValueError."""
    reader = _Reader(packed, 2)
    for _ in range(reader.int32()):
        reader.skip(reader.int16())
    return reader.nullable_bytes()


def subscribed_topics(packed: bytes) -> list[str]:
    """The topics of a subscription of any version. Raises ValueError.

    >>> subscribed_topics(pack_subscription(["tweets", "goals"], b"more"))
    ['tweets', 'goals']
    """
    reader = _Reader(packed, 2)
    return [reader.text() for _ in range(reader.int32())]


def unpack_assignment(packed: bytes) -> bytes:
    """The user data of an assignment of any version. Raises ValueError."""
    reader = _Reader(packed, 2)
    for _ in range(reader.int32()):
        reader.skip(reader.int16())
        reader.skip(4 * reader.int32())
    return reader.nullable_bytes()


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _bytes(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


class _Reader:
    """Kafka's primitive types, one after the other. Raises ValueError where there is less than is said."""

    def __init__(self, packed: bytes, at: int) -> None:
        self._packed = packed
        self._at = at

    def int16(self) -> int:
        return int.from_bytes(self._take(2), signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), signed=True)

    def nullable_bytes(self) -> bytes:
        """Null, written as length -1, is taken for none."""
        return self._take(max(0, self.int32()))

    def text(self) -> str:
        return self._take(self.int16()).decode()

    def skip(self, size: int) -> None:
        self._take(size)

    def _take(self, size: int) -> bytes:
        taken = self._packed[self._at : self._at + size]
        if size < 0 or len(taken) < size:
            msg = f"it ends after {len(self._packed)} bytes"
            raise ValueError(msg)
        self._at += size
        return taken
