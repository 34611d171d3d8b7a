"""Received: what each topic holds at the end of a test, decoded, and the tables behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from streamproc.app import App
from streamproc.errors import DefinitionError
from streamproc.launch import Launch
from streamproc.log import Columns, Partition, UnknownTopic
from streamproc.log import Topic as LogTopic
from streamproc.operators.records import Record as WholeRecord
from streamproc.operators.running import Running
from streamproc.plan import TaskId
from streamproc.state.keys import key_of
from streamproc.state.store import Store
from streamproc.state.table import Table


class Received(Mapping[str, list[Any]]):
    """Topics and what they received: values decoded by the topic's type, in order of partition and offset."""

    def __init__(
        self,
        app: App,
        launch: Launch,
        topics: Mapping[str, LogTopic],
        read: Callable[[Partition], Columns],
        open_store: Callable[[TaskId], Store],
    ) -> None:
        self._app = app
        self._launch = launch
        self._topics = topics
        self._read = read
        self._open_store = open_store

    def __getitem__(self, name: str) -> list[Any]:
        return [record.value for record in self.records(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._topics)

    def __len__(self) -> int:
        return len(self._topics)

    def records(self, name: str) -> list[WholeRecord[Any, Any]]:
        """A topic's records, whole, decoded by the topic's types; bytes for a topic the app does not declare."""
        if name not in self._topics:
            raise UnknownTopic(name, self._topics)
        found: list[WholeRecord[Any, Any]] = []
        topic = self._app.topics.get(name)
        for number in range(self._topics[name].partitions):
            columns = self._read(Partition(name, number))
            keys: Sequence[Any] = columns.keys if topic is None else topic.decode_keys(columns.keys)
            values: Sequence[Any] = columns.values if topic is None else topic.decode_values(columns.values)
            headers = columns.headers or [None] * len(columns)
            rows = zip(keys, values, columns.timestamps, headers, strict=True)
            found += [WholeRecord(k, v, t, dict(h or ())) for k, v, t, h in rows]
        return found

    def table(self, name: str) -> dict[Any, Any]:
        """The rows of a running aggregate, by the name of its step (`count`) or of stream and step (`totals.count`)."""
        for node in self._launch.plan.nodes:
            if isinstance(node.kind, Running) and name in (node.name, node.step):
                stage = self._launch.plan.stage_of[node.id]
                found = {}
                for number in range(self._launch.topology.tasks[stage.name]):
                    store = self._open_store(TaskId(stage.name, number))
                    rows = Table[Any](store, node.name, self._app.codec()).whole()
                    found.update({key_of(key): node.kind.aggregate.result(held) for key, held in rows.items()})
                    store.close()
                return found
        msg = f"app {self._app.name!r} has no running aggregate named {name!r}"
        raise DefinitionError(msg)
