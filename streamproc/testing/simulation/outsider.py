"""Another program that writes to a simulated cluster: in batches, in transactions, in some that it gives up."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import count

from streamproc.kafka.requests import Producer, Stamped
from streamproc.log import Columns, Partition
from streamproc.testing.simulation.batches import pack
from streamproc.testing.simulation.broker import Broker

FIRST_ID = 1_000_000
"""Its producer ids, beyond those that the broker gives."""
ABORTED = 0.2
"""Chance that a batch comes first in a transaction that is aborted."""


class Outsider:
    """Writes without a network: what it appends is there at once."""

    def __init__(self, broker: Broker, rng: random.Random) -> None:
        self._broker = broker
        self._rng = rng
        self._ids = count(FIRST_ID)

    def append(
        self, records: Mapping[Partition, Columns], now_ms: int, *, batch_records: int, in_transactions: bool
    ) -> None:
        """The records of each partition, in their order, in batches of up to so many.

        `in_transactions`: some batches are, and leave markers behind them and gaps in the offsets; some come twice, the
        first time in a transaction that is aborted.
        """
        for partition, columns in records.items():
            start = 0
            while start < len(columns):
                stop = start + self._rng.randint(1, batch_records)
                for batch in pack(columns.cut(start, stop)):
                    if in_transactions and self._rng.random() < ABORTED:
                        self._write(partition, batch.columns, now_ms, commit=False)
                    if in_transactions and self._rng.random() < 0.5:
                        self._write(partition, batch.columns, now_ms, commit=True)
                    else:
                        self._write(partition, batch.columns, now_ms, commit=None)
                start = stop

    def _write(self, partition: Partition, columns: Columns, now_ms: int, *, commit: bool | None) -> None:
        """One batch, in a transaction that ends like this; None: in none."""
        log = self._broker.topics.log(partition)
        assert log is not None, f"there is no {partition}"
        (batch,) = pack(columns)
        producer = Producer(next(self._ids), 0)
        produced = log.append(Stamped(batch, producer, 0), now_ms, transactional=commit is not None)
        assert not produced.code, produced
        if commit is not None:
            log.mark(producer._replace(epoch=1), now_ms, commit=commit)
