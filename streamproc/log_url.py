"""Which log a URL names."""

from __future__ import annotations

from pathlib import Path

from streamproc.log import Log, LogError
from streamproc.settings import Settings


async def open_log(settings: Settings, *, read_only: bool = False) -> Log:
    """The log that the setting `broker` names.

    `kafka://HOST:PORT,...` is a Kafka cluster, `local://DIR` a log in DIR/log, `memory://` a fresh one, whatever its
    name. `read_only` opens a local log beside the process that writes it. Raises LogError and SettingsError.

    >>> import asyncio
    >>> asyncio.run(open_log(Settings(broker="amqp://rabbit")))
    Traceback (most recent call last):
    streamproc.log.LogError: 'amqp://rabbit' names no log: use kafka://HOST:PORT, local://DIR or memory://
    """
    url = settings.broker
    scheme, separator, place = url.partition("://")
    if scheme == "memory" and separator:
        from streamproc.memory_log import MemoryLog

        return MemoryLog()
    if scheme == "local" and separator:
        if not place:
            msg = f"{url!r} names no directory: write local://DIR, such as local://.streamproc or local:///var/lib/app"
            raise LogError(msg)
        from streamproc.local_log import LocalLog  # loads RocksDB

        return LocalLog(Path(place) / "log", read_only=read_only)
    if scheme == "kafka" and separator:
        from streamproc.kafka.aiokafka_cluster import AiokafkaCluster
        from streamproc.kafka.kafka_log import KafkaLog
        from streamproc.kafka.timing import timing_of

        timing = timing_of(settings)
        cluster = await AiokafkaCluster.connect(place, settings.kafka, request_timeout_s=timing.request_s)
        return KafkaLog(cluster, timing, fetch_bytes=settings.fetch_bytes)
    msg = f"{url!r} names no log: use kafka://HOST:PORT, local://DIR or memory://"
    raise LogError(msg)
