"""Held up: a partition that cannot be read beyond an offset, as a transaction that began there is open.

Readers of committed records wait for its end: else an abort would change what they have read. One that never ends (a
hanging transaction, KIP-664) holds them up for ever, until somebody ends it by hand.
"""

from __future__ import annotations

from streamproc.log import Partition


def held_up(partition: Partition, offset: int) -> str:
    """What is said of it."""
    return (
        f"{partition.topic}/{partition.number} cannot be read beyond offset {offset:,}: a transaction that somebody "
        "has open there holds it up"
    )


def way_out(partition: Partition, offset: int, broker: str) -> str:
    """What to do, with Kafka's own tools. `broker`: where it is, as the setting says."""
    tool = f"kafka-transactions.sh --bootstrap-server {broker.removeprefix('kafka://')}"
    where = f"--topic {partition.topic} --partition {partition.number}"
    return (
        f"One that is open Kafka ends when its time is over. Else `{tool} describe-producers {where}` shows whose it "
        f"is, `{tool} list` and `describe --transactional-id ID` what became of it, and "
        f"`{tool} abort {where} --start-offset {offset}` ends it there. Where that is CompleteCommit, its records were "
        "acknowledged, and an abort drops them from the partition: send them again"
    )
