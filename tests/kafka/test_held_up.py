"""A source that cannot be read on, as somebody's transaction is open there, seen from outside."""

import asyncio
import re
from pathlib import Path
from uuid import uuid4

from streamproc import App, Stream
from streamproc.held_up import way_out
from streamproc.kafka.calls import Deadline
from streamproc.kafka.kafka_log import KafkaLog
from streamproc.kafka.transaction import Transactions
from streamproc.log import Partition
from streamproc.status import COUNTED, Status, status_of
from tests.kafka.copying import TIMING, rows, settled, write
from tests.kafka.opened import opened
from tests.simulation.bench import Bench, on_both


def app_on(topic: str) -> App:
    app = App(f"{topic}-app")

    @app.stream(app.topic(topic, value=str), to=app.topic(f"{topic}-out"))
    def copy(values: Stream[bytes, str]) -> Stream[bytes, str]:
        return values

    return app


@on_both
async def test_status_names_the_transaction_and_the_way_out(bench: Bench) -> None:
    """Whether few or many records wait behind it, and however many can be read before it; no more once it is over."""
    topic = bench.name("visits")
    log = KafkaLog(await bench.client("looks"), TIMING)
    await log.create(topic, partitions=2, config={"retention.ms": "-1"})
    first, second = Partition(topic, 0), Partition(topic, 1)
    await write(log, {first: ["a"]}, bench.name("writer"))
    end = (await log.ends([first]))[first]
    app = app_on(topic)

    async def seen() -> Status:
        return await status_of(app, log, "kafka://host:9092", Path("none"), ahead_ms=1)

    assert (await seen()).problems == ("no worker runs",)
    holder = Transactions(await bench.client("holds"), bench.name("holds"), TIMING)
    await holder.take(Deadline(10))
    holder.send(first, rows("open"))
    holder.send(second, rows(*["open"] * (COUNTED + 1)))
    await holder._outbox.flush(holder._producer, Deadline(10))
    none, *held = (await seen()).problems
    assert [problem.partition(": a transaction")[0] for problem in held] == [
        f"{topic}/0 cannot be read beyond offset {end}",
        f"{topic}/1 cannot be read beyond offset 0",
    ]
    assert f"abort --topic {topic} --partition 0 --start-offset {end}` ends it there" in held[0]
    [stage] = (await seen()).stages
    assert (stage.held_up, stage.behind_ms) == (True, None), "how far behind it is cannot be known"
    await holder.take(Deadline(10))  # aborts it
    await settled(log, first, second)
    assert (await seen()).problems == (none,)
    assert not (await seen()).stages[0].held_up
    await log.close()


async def test_the_way_out_as_it_is_printed(kafka: str, kafka_programs: None) -> None:
    """The commands run, by the script that stands for Kafka's where there is no installation of it; then it is read."""
    async with opened(kafka) as cluster:
        log = KafkaLog(cluster, TIMING)
        topic = f"held-{uuid4().hex[:8]}"
        partition = Partition(topic, 0)
        await log.create(topic, partitions=1, config={"retention.ms": "-1"})
        holder = Transactions(cluster, topic, TIMING._replace(transaction=600_000))  # its time is not over before
        await holder.take(Deadline(10))
        holder.send(partition, rows("open"))
        await holder._outbox.flush(holder._producer, Deadline(10))
        describe, _, abort = re.findall(r"`(kafka-transactions\.sh .*?)`", way_out(partition, 0, f"kafka://{kafka}"))
        assert str(holder._producer.id) in await printed(describe)
        await printed(abort)
        await settled(log, partition)
        assert not (await log.read(partition, 0, 10)).offsets, "its record is dropped"


async def printed(command: str) -> str:
    """What it prints; it does what it says."""
    program, *arguments = command.split()
    running = await asyncio.create_subprocess_exec(
        Path(__file__).with_name(program), *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await running.communicate()
    assert running.returncode == 0, err.decode()
    return out.decode()
