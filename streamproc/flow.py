"""Flow: one pass of a stage's operators over what came, by whole batches or, after a failure, record by record.

rows of the inputs  ->  process  ->  rows          each operator, parents first: it takes its rows,
watermark           ->  close    ->  rows          then closes what the watermark closes; both go on
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamproc.errors import MissingKey, RecordError, Where
from streamproc.graph import Port
from streamproc.operators.batch import FOREVER, NEVER, Batch, concat
from streamproc.operators.operator import CloseError, Operator
from streamproc.outputs import Outputs
from streamproc.reader import Reader
from streamproc.state.errors import StoreError
from streamproc.step import Failure, Step
from streamproc.topic_writer import TopicWriters


class Flow:
    """The operators of a task, parents first. `careful`: record by record, `on_failure` deciding on each that fails."""

    def __init__(
        self,
        inputs: Mapping[int, Reader],
        steps: Sequence[Step],
        outputs: Outputs,
        writers: TopicWriters,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.steps = steps
        self.careful = False
        self.late: dict[str, int] = {}
        """Late records of the open epoch, by step."""
        self._inputs = inputs
        self._outputs = outputs
        self._writers = writers
        self._on_failure = on_failure

    def run(self, fresh: Mapping[int, Batch], *, closing: bool = True, ended: bool = False) -> None:
        """One pass over the stage: each operator takes its rows, then closes what the watermark closes; both go on.

        `closing=False` leaves the watermarks as they are, for the next pass.
        """
        run = self._run_carefully if self.careful else self._run
        watermark_of = self.last_watermark if ended else self.watermark_of
        rows: dict[Port, Batch] = {}
        outs: dict[int, Step] = {}
        for node in self._inputs:
            batch = fresh.get(node)
            if batch is not None and len(batch):
                rows[Port(node)] = batch
        for step in self.steps:
            operator = step.operator
            inputs = [(rows[port], side) for port, side in step.parents if port in rows]
            watermark = watermark_of(outs, [port for port, _ in step.parents])
            step.out = FOREVER if watermark == FOREVER else NEVER
            closes = _ending(operator, watermark) if ended else _risen(operator, watermark, closing=closing)
            if inputs or closes is not None:
                given, late = run(step, inputs, closes)
                if len(given):
                    rows[Port(step.node.id)] = given
                if len(late):
                    rows[Port(step.node.id, late=True)] = late
                    self.late[step.node.name] = self.late.get(step.node.name, 0) + len(late)
            if ended:
                operator.ended_to = max(operator.ended_to, operator.reach)
            if watermark < FOREVER:
                if closing:
                    operator.watermark = max(operator.watermark, watermark)
                step.out = operator.passes_on()
            outs[step.node.id] = step

    # ------------------------------------------------------------------------------------ watermarks

    def _port_watermark(self, outs: Mapping[int, Step], port: Port) -> int:
        step = outs.get(port.node)
        if step is None:
            reader = self._inputs.get(port.node)
            return FOREVER if reader is None else reader.watermark()  # a co-read topic with fewer partitions
        if port.late:
            return FOREVER if step.out == FOREVER else step.operator.watermark
        return step.out

    def watermark_of(self, outs: Mapping[int, Step], ports: Sequence[Port]) -> int:
        """The minimum over branches and inputs; FOREVER while all of them are idle."""
        return min(self._port_watermark(outs, port) for port in ports)

    def last_watermark(self, outs: Mapping[int, Step], ports: Sequence[Port]) -> int:
        """When the input has ended: how far time has gone on any of them; NEVER where nothing came."""
        found = [NEVER]
        for port in ports:
            if port.node in outs:
                found.append(self._port_watermark(outs, port))
            elif port.node in self._inputs:
                found.append(self._inputs[port.node].last_watermark())
        return max(watermark for watermark in found if watermark < FOREVER)

    def closed_below(self, nodes: Sequence[int]) -> int:
        """The largest watermark up to which operators have closed that these nodes' rows reach with the same times."""
        below, closed_to = set(nodes), NEVER
        for step in self.steps:
            if any(port.node in below for port, _ in step.parents):
                closed_to = max(closed_to, step.operator.watermark)
                if not step.operator.retimes:
                    below.add(step.node.id)
        return closed_to

    # ------------------------------------------------------------------------------------ a step

    def _run(self, step: Step, inputs: Sequence[tuple[Batch, int]], closes: int | None) -> tuple[Batch, Batch]:
        operator, given, late = step.operator, [], []
        for batch, side in inputs:
            if step.node.checks_key and None in batch.keys:
                raise MissingKey
            given.append(operator.process(batch, side))
            if operator.late is not None:
                late.append(operator.late)
                operator.late = None
        if closes is not None:
            given.append(operator.close(closes))
        for sent in operator.take_sent():
            self._send(sent)
        return concat(given), concat(late)

    def _send(self, sent: Any) -> None:
        """Write what an operator sent aside; where that is not possible, it is the error of what sent it."""
        try:
            self._writers.chosen(sent.topic).write([sent.key], [sent.value], [sent.timestamp])
        except StoreError:
            raise
        except Exception as error:
            if sent.closing is None:
                raise
            unit, key = sent.closing
            raise CloseError(unit, key, sent.timestamp) from error

    def _run_carefully(
        self, step: Step, inputs: Sequence[tuple[Batch, int]], closes: int | None
    ) -> tuple[Batch, Batch]:
        """Row by row; a row or a closing unit that fails is undone and left to the error policy."""
        given, late = [], []
        for batch, side in inputs:
            for i in range(len(batch)):
                row = batch.select([i])
                try:
                    one, one_late = self._attempt(step, [(row, side)], None)
                except (StoreError, RecordError):  # the latter: of what closed before the row, by the policy
                    raise
                except Exception as error:  # noqa: BLE001 - whatever a user's function raises is the record's error
                    self._on_failure(Failure(step.node, row.keys[0], row.values[0], row.timestamps[0], error))
                    continue
                given.append(one)
                late.append(one_late)
        if closes is not None:
            try:
                given.append(self._attempt(step, [], closes)[0])
            except (StoreError, RecordError):
                raise
            except Exception as error:  # what closed left something that cannot be kept: no unit of it can be left out
                raise RecordError(Where(step.node.name), error) from error
        return concat(given), concat(late)

    def _attempt(self, step: Step, inputs: Sequence[tuple[Batch, int]], closes: int | None) -> tuple[Batch, Batch]:
        """Run a step, again without each closing unit that fails and is skipped; what failed is undone."""
        operator = step.operator
        while True:
            try:
                with _Undo(self._outputs, step):
                    found = self._run(step, inputs, closes)
                    for table in step.tables.values():
                        table.savepoint()
            except CloseError as error:
                cause = error.__cause__ or error
                self._on_failure(Failure(step.node, error.key, None, error.timestamp, cause, closing=True))
                operator.discarded |= {error.unit}
            else:
                operator.discarded = frozenset()
                return found


class _Undo:
    """What the block changed of one step, and wrote, is undone when it raises; it ends with a savepoint."""

    def __init__(self, outputs: Outputs, step: Step) -> None:
        self._outputs = outputs
        self._step = step

    def __enter__(self) -> None:
        operator = self._step.operator
        self._kept = {attribute: getattr(operator, attribute) for attribute in (*operator.remembers, "discarded")}
        self._mark = self._outputs.mark()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            return
        self._outputs.cut(self._mark)
        for table in self._step.tables.values():
            table.rollback()
        operator = self._step.operator
        for attribute, value in self._kept.items():
            setattr(operator, attribute, value)
        self._step.reopen()


def _ending(operator: Operator, last: int) -> int:
    """The end of the input, with how far time has gone."""
    operator.end_time = max(operator.watermark, last)
    return FOREVER


def _risen(operator: Operator, watermark: int, *, closing: bool) -> int | None:
    """The watermark to close to, where it has risen."""
    return watermark if closing and operator.watermark < watermark < FOREVER else None
