import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from streamproc.log import LogError
from streamproc.runner import Progress, StageProgress
from streamproc.stop import Stop
from streamproc.supervisor import GroupStopped, Patience, Place, Supervisor, merged

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
folder, place, starts, channel = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])

def report(type, **fields):
    os.write(channel, json.dumps({"type": type, **fields}).encode() + b"\\n")

def began():
    report("began", slot=place + 10, name=f"host-{place}")

def read(count):
    stages = [{"name": "in", "records": count, "lag": 1, "event_time": count}]
    progress = {"stages": stages, "late": {}, "skipped": {}, "seconds": 1.0}
    report("doing", condition={"ready": True, "reason": "working on 1 task", "tasks": ["in/0"]}, progress=progress)

def failed(kind, final, unreachable=False, traceback=None):
    report("failed", kind=kind, final=final, message=f"{kind} of {place}", unreachable=unreachable, traceback=traceback)
    sys.exit(1)

def ended(count, lag, asked):
    stages = [{"name": "in", "records": count, "lag": lag, "event_time": count}]
    report("ended", progress={"stages": stages, "late": {}, "skipped": {}, "seconds": 1.0}, asked=asked)

told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))

def until_told():
    (folder / f"up{place}").touch()
    while not told:
        time.sleep(0.01)

def until(name):
    while not (folder / name).exists():
        time.sleep(0.01)
"""

QUICK = Patience(young_s=60.0, pause_s=0.01, most=3)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


class Group:
    """A supervisor over scripts: of each place what it runs, by how often it has been started."""

    def __init__(self, folder: Path, *scripts: Sequence[str], stop: Stop, stop_s: float = 10.0) -> None:
        self.folder = folder
        self.dismissed: list[str] = []
        self.printed: list[tuple[str, bool]] = []
        self.slots: list[int | None] = []
        self._scripts = scripts
        self.supervisor = Supervisor(
            self._argv,
            len(scripts),
            stop=stop,
            dismiss=self._dismiss,
            print_line=lambda text, error: self.printed.append((text, error)),
            patience=QUICK,
            stop_s=stop_s,
        )

    def _argv(self, place: Place, channel: int) -> list[str]:
        scripts = self._scripts[place.number]
        script = scripts[min(place.starts, len(scripts) - 1)]
        self.slots.append(place.slot)
        arguments = [str(self.folder), str(place.number), str(place.starts), str(channel)]
        return [sys.executable, "-c", SCRIPT + script, *arguments]

    async def _dismiss(self, name: str) -> None:
        self.dismissed.append(name)

    async def up(self, *places: int) -> None:
        """These processes wait to be told."""
        await until(lambda: all((self.folder / f"up{place}").exists() for place in places))


async def test_all_read_to_the_end(tmp_path: Path) -> None:
    """Exit code 0 is an end; what the processes read adds up."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); read(3)"], ["began(); read(4)"], stop=stop)
        progress = await group.supervisor.run()
    assert progress.stages == (StageProgress("in", 7, 2, 3),)
    assert group.slots == [None, None]
    assert group.dismissed == []


async def test_who_dies_is_started_again_in_its_slot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After kill -9 at once, and what it had read before is not forgotten. Nobody leaves the group for that."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); read(3); os.kill(os.getpid(), 9)", "began(); read(4)"], stop=stop)
        progress = await group.supervisor.run()
    assert progress.stages[0].records == 7
    assert str(progress).endswith("; not counted: what a process read in the last second before death")
    assert group.slots == [None, 10]
    assert group.dismissed == []
    assert "slot 10: its process was killed by SIGKILL; it is started again at once" in caplog.text


async def test_who_dies_again_and_again_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After so many deaths in a row it leaves the group at once, and the others go on without it."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); failed('NoAnswer', False)"], ["began(); until('over'); read(1)"], stop=stop)
        running = asyncio.create_task(group.supervisor.run())
        await until(lambda: bool(group.dismissed))
        (tmp_path / "over").touch()
        progress = await running
    assert progress.stages[0].records == 1
    assert group.slots == [None, None, 10, 10]
    assert group.dismissed == ["host-0"]
    assert "exit code 1: NoAnswer of 0; it is started again at once" in caplog.text
    assert "exit code 1: NoAnswer of 0; it is started again in 0.0 s" in caplog.text
    assert "that was 3 times in a row: it is given up; 1 of 2 goes on" in caplog.text
    assert progress.cut_short == 0  # none of its processes had begun to read


async def test_a_cluster_that_cannot_be_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """That is no fault of a process: it is started again for as long as it takes; once said, and once when it is over.

    Its own deaths count as before: one that dies again and again behind that is given up.
    """
    outage = ["failed('Unreachable', False, True)"] * 5
    crash = "began(); failed('StoreError', False)"
    with Stop() as stop:
        group = Group(tmp_path, ["began(); read(3); os.kill(os.getpid(), 9)", *outage, crash], stop=stop)
        with pytest.raises(GroupStopped, match="every process died again and again"):
            await group.supervisor.run()
    assert group.supervisor.places[0].starts == 8
    assert [line for line in caplog.messages if "reache" in line] == [
        "slot 10: it is started again every 0.0 s until it reaches the cluster: Unreachable of 0",
        "slot 10: it has reached the cluster again",
    ]


async def test_stopped_while_the_cluster_cannot_be_reached(tmp_path: Path) -> None:
    """Who waits for the cluster does not hold up the end."""
    with Stop() as stop:
        group = Group(tmp_path, ["failed('Unreachable', False, True)"], stop=stop)
        group.supervisor._patience = Patience(pause_s=1_000.0)
        running = asyncio.create_task(group.supervisor.run())
        await until(lambda: group.supervisor.places[0].state == "waits for the cluster")
        stop.request()
        await running
    assert group.supervisor.places[0].state == "ended"


async def test_one_that_somebody_stops(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said that the others go on; its records stay in the sum, and its lag is not: others have its tasks."""
    with Stop() as stop:
        group = Group(
            tmp_path,
            ["began(); ended(5, 27_622, True)"],
            ["began(); until('over'); ended(4, 2, False)"],
            stop=stop,
        )
        running = asyncio.create_task(group.supervisor.run())
        await until(lambda: group.supervisor.places[0].state == "ended")
        assert group.supervisor.progress().stages == (StageProgress("in", 5, 0, None),)
        (tmp_path / "over").touch()
        assert (await running).stages == (StageProgress("in", 9, 2, 4),)
        assert not stop.requested
    assert "slot 10: ended, as somebody asked its process to stop; 1 of 2 goes on" in caplog.messages


async def test_all_are_stopped_by_somebody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Then the run has stopped: it has not read to the end, and what the last one left unread is not forgotten."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); ended(5, 7, True)"], stop=stop)
        assert (await group.supervisor.run()).stages == (StageProgress("in", 5, 7, 5),)
        assert stop.requested
    assert "slot 10: ended, as somebody asked its process to stop; none of 1 goes on" in caplog.messages


async def test_all_given_up(tmp_path: Path) -> None:
    """Where nobody is left it is a failure."""
    with Stop() as stop:
        group = Group(tmp_path, ["os.abort()"], stop=stop)
        with pytest.raises(GroupStopped, match="every process died again and again"):
            await group.supervisor.run()
    assert group.dismissed == []  # it never had a name


async def test_an_error_that_would_come_again_stops_all(tmp_path: Path) -> None:
    """It is told once; who was told of it by the group is not the one that is heard."""
    with Stop() as stop:
        group = Group(
            tmp_path,
            ["began(); until('up1'); until('up2'); failed('GroupFailed', True)"],
            ["began(); until_told(); failed('RecordError', True)"],
            ["began(); until_told(); read(1)"],
            stop=stop,
        )
        with pytest.raises(GroupStopped, match=r"^RecordError of 1$"):
            await group.supervisor.run()
    assert [place.state for place in group.supervisor.places] == ["failed", "failed", "ended"]
    assert group.dismissed == []


async def test_tracebacks(tmp_path: Path) -> None:
    """That of the error which stops all is told with it, once; that of a process which is started again, at once."""
    scripts = [
        "began(); failed('StoreError', False, traceback='first')",
        "failed('RecordError', True, traceback='second')",
    ]
    with Stop() as stop:
        group = Group(tmp_path, scripts, stop=stop)
        with pytest.raises(GroupStopped, match="RecordError of 0") as raised:
            await group.supervisor.run()
    assert group.printed == [("first", True)]
    assert raised.value.__notes__ == ["\nIn the process that failed:\nsecond"]


async def test_called_wrongly(tmp_path: Path) -> None:
    """Exit code 2 is not tried again."""
    with Stop() as stop:
        group = Group(tmp_path, ["print('no such option', file=sys.stderr); sys.exit(2)"], stop=stop)
        with pytest.raises(GroupStopped, match="no slot yet: its process ended with exit code 2"):
            await group.supervisor.run()
    assert group.printed == [("no such option", True)]


async def test_a_signal_is_passed_on(tmp_path: Path) -> None:
    """Who is asked to stop asks its processes, and waits for them."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); until_told(); read(3)"], ["began(); until_told(); read(4)"], stop=stop)
        running = asyncio.create_task(group.supervisor.run())
        await group.up(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert (await running).stages[0].records == 7
    assert group.dismissed == []


async def test_who_does_not_stop_is_killed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And leaves the group by the supervisor's word."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); until_told(); time.sleep(60)"], stop=stop, stop_s=0.2)
        running = asyncio.create_task(group.supervisor.run())
        await group.up(0)
        stop.request()
        await running
    assert group.dismissed == ["host-0"]
    assert "slot 10: not done 0.2 s after it was told to stop: killed" in caplog.text


async def test_no_process_is_left_behind(tmp_path: Path) -> None:
    """However the supervisor ends, its processes do."""
    with Stop() as stop:
        group = Group(tmp_path, ["began(); until_told(); time.sleep(60)"], stop=stop)
        running = asyncio.create_task(group.supervisor.run())
        await group.up(0)
        pid = group.supervisor.places[0].pid
        assert pid is not None
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            await asyncio.sleep(0.01)


async def test_what_they_say(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines of their logs come with the slot, what functions print as it is, and a broken line hurts nobody."""
    caplog.set_level(logging.INFO)
    script = """
began()
report("said", level=30, message="3 records were late")
os.write(channel, b"{broken\\n")
report("said", level=40, message="it fails by:", traceback="Traceback of it")
print("hello", flush=True)
print("x" * 100_000, flush=True)
"""
    with Stop() as stop:
        group = Group(tmp_path, [script], stop=stop)
        await group.supervisor.run()
    assert ("WARNING", "slot 10: 3 records were late") in [(r.levelname, r.message) for r in caplog.records]
    assert group.printed == [("Traceback of it", True), ("hello", False), ("x" * 100_000, False)]


async def test_a_program_that_outlives_its_worker(tmp_path: Path) -> None:
    """What a worker started and left behind holds its pipes, and nobody waits for that."""
    script = "began(); read(1); import subprocess; subprocess.Popen(['sleep', '20'], pass_fds=[channel])"
    with Stop() as stop:
        progress = await Group(tmp_path, [script], stop=stop).supervisor.run()
    assert progress.stages[0].records == 1


async def test_the_group_cannot_be_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A broker that refuses the goodbye of a dead member is said, and no more."""

    async def refuse(name: str) -> None:
        raise LogError("no answer from Kafka")

    with Stop() as stop:
        group = Group(tmp_path, ["began(); until_told(); time.sleep(60)"], stop=stop, stop_s=0.1)
        group.supervisor._dismiss = refuse
        running = asyncio.create_task(group.supervisor.run())
        await group.up(0)
        stop.request()
        await running
    assert "host-0 could not be taken out of the group, which waits for it now: no answer from Kafka" in caplog.text


def test_merged() -> None:
    """Records, late and skipped add up over all; lag and event time are of those that have tasks."""
    gone = Progress((StageProgress("a", 5, 9, 1),), {"x": 1}, {}, 3.0)
    one = Progress((StageProgress("a", 2, 1, 40), StageProgress("b", 1, 0, None)), {"x": 2}, {"y": 1}, 3.0)
    two = Progress((StageProgress("a", 3, 2, 30), StageProgress("b", 1, 0, 7)), {}, {"y": 1}, 3.0)
    assert merged([gone], [one, two], seconds_=8.0, cut_short=2) == Progress(
        (StageProgress("a", 10, 3, 30), StageProgress("b", 2, 0, 7)), {"x": 3}, {"y": 2}, 8.0, 2
    )
