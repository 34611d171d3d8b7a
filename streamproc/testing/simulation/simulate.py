"""simulate: an app on a simulated Kafka cluster, with everything going wrong that can, and what each topic received."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from streamproc.app import App
from streamproc.log import Columns, Partition, Topic
from streamproc.plan import TaskId
from streamproc.state.memory import MemoryStore
from streamproc.testing.given import given, spread
from streamproc.testing.received import Received
from streamproc.testing.simulation.history import History
from streamproc.testing.simulation.virtual_time import run
from streamproc.testing.simulation.weather import ROUGH, Weather
from streamproc.testing.simulation.world import World

BATCHES = (1, 10, 100, 1_000)
"""How many records the other program writes at once, at most: one of these."""


class Outcome(Received):
    """What each topic received: values decoded by the topic's type, in order of partition and offset.

    history   all that happened, a line each: who started and crashed, what reached the broker, what workers logged
    alarms    errors that workers logged: none, unless streamproc breaks its law
    late      late records by step, and
    errors    records that the error policy skipped or sent to a dead-letter topic, by step: as workers counted them,
              so without those of workers that were killed, and twice what had to be read twice
    """

    def __init__(self, world: World, app: App, contents: Mapping[Partition, Columns]) -> None:
        assert world.processes.launch is not None, "a worker has started"
        partitions: dict[str, int] = {}
        for topic, number in contents:
            partitions[topic] = max(number + 1, partitions.get(topic, 0))
        super().__init__(
            app,
            world.processes.launch,
            {name: Topic(count, {}) for name, count in partitions.items()},
            contents.__getitem__,
            self._restored,
        )
        self._contents = contents
        self.history: History = world.history
        self.alarms = world.alarms
        self.late = world.processes.late
        self.errors = world.processes.skipped

    def _restored(self, task: TaskId) -> MemoryStore:
        """A task's store, from its changelog alone."""
        plan, store = self._launch.plan, MemoryStore()
        (stage,) = (stage for stage in plan.stages if stage.name == task.stage)
        columns = self._contents[Partition(plan.changelog_of(stage), task.number)]
        for key, value in zip(columns.keys, columns.values, strict=True):
            store.write({key or b"": value}, 0)
        return store


def simulate(
    app: App,
    inputs: Mapping[str, Iterable[Any]],
    *,
    seed: int,
    workers: int = 3,
    partitions: int = 4,
    weather: Weather = ROUGH,
) -> Outcome:
    """Run the app on the records of each source topic to their end, on a simulated Kafka cluster, in virtual time.

    All of streamproc is real down to the requests that it sends. Workers crash, stand still, come and go; requests are
    lost, late and repeated; the broker stops and restarts: as the seed draws it from the weather. One seed is one run.
    What is exact is the same under every seed: final rows, tables, late records; `replay` gives it, too. Inputs are
    values or `Record`s.
    A record that fails under the policy "fail" raises RecordError, a run that does not end Hangs.

    >>> from streamproc.testing.simulation import Record, simulate
    >>> app = App("clicks")
    >>> clicks = app.topic("clicks", key=str)
    >>> @app.stream(clicks, to=app.topic("totals", key=str, value=int))
    ... def totals(clicks):
    ...     return clicks.count()
    >>> given = [Record("/", key=user) for user in ["ann", "bob", "ann"] * 50]
    >>> out = simulate(app, {"clicks": given}, seed=7)
    >>> sorted(out["totals"]) == sorted([*range(1, 101), *range(1, 51)]), out.table("count"), out.alarms
    (True, {'ann': 100, 'bob': 50}, [])
    >>> print(out.history[1])
        0.0000 slot-1   starts
    """

    async def main() -> Outcome:
        rng = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        world = World(app, rng, weather, workers=workers)
        for topic, records in given(app, inputs).items():
            world.create(topic.name, partitions)
            world.append(spread(topic, records, partitions), batch_records=rng.choice(BATCHES))
        await world.run_to_end()
        return Outcome(world, app, await world.contents())

    return run(main())
