"""A log in memory whose answers to commits are told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamproc.in_process import InProcessSink
from streamproc.log import Aborted, Columns, Committed, LogError, Partition, Rejected, Unknown
from streamproc.memory_log import MemoryLog


class NoAnswer(LogError):
    """The log did not answer."""


class Answers:
    """What commits are answered with: the next ones, one after the other; behind them all is done as it is asked.

    next            aborted, lost, lost but committed, rejected, done
    unanswered      how many of the next aborts are not answered
    commits         the offsets of all commits, with what was answered
    exactly_once    how the last sink was asked for
    """

    def __init__(self, log: MemoryLog) -> None:
        self.next: list[str] = []
        self.unanswered = 0
        self.commits: list[tuple[Mapping[Partition, Committed], str]] = []
        self.exactly_once: bool | None = None
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def sink(self, source: Any, member: str, *, exactly_once: bool = True) -> _Sink:
        self.exactly_once = exactly_once
        return _Sink(await self._log.sink(source, member, exactly_once=exactly_once), self)


class _Sink:
    def __init__(self, sink: InProcessSink, answers: Answers) -> None:
        self._sink = sink
        self._answers = answers
        self._in_doubt = False

    def send(self, partition: Partition, columns: Columns) -> None:
        assert not self._in_doubt, "an epoch is begun while another is in doubt"
        self._sink.send(partition, columns)

    async def commit(self, offsets: Mapping[Partition, Committed]) -> Mapping[Partition, int]:
        assert not self._in_doubt
        answer = self._answers.next.pop(0) if self._answers.next else "done"
        self._answers.commits.append((offsets, answer))
        if answer in ("done", "lost but committed"):
            ends = await self._sink.commit(offsets)
        else:
            await self._sink.abort()
        if answer == "done":
            return ends
        self._in_doubt = True
        if answer == "aborted":
            raise Aborted("the broker had enough")
        if answer == "rejected":
            raise Rejected("a record is larger than the topic allows")
        raise Unknown

    async def abort(self) -> None:
        if self._answers.unanswered:
            self._answers.unanswered -= 1
            raise NoAnswer("no answer")
        self._in_doubt = False
        await self._sink.abort()

    async def close(self) -> None:
        await self._sink.close()
