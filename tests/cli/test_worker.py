"""`streamproc worker`: what a service manager sees of it."""

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from typing import Any

import pytest

from streamproc.slot import taken_slot
from tests.cli.program import APP, Program, until, visits
from tests.cli.test_run import SLOW, expected_hits, expected_sizes

WORKER = ("worker", "visits_app:app")


def lines(text: str) -> list[dict[str, Any]]:
    """What was logged: each line is a JSON object with time, level and message."""
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert {"time", "level", "message"} <= line.keys()
    return found


def read_until(process: subprocess.Popen[str], part: str) -> list[dict[str, Any]]:
    """Its lines up to one whose message has this part."""
    assert process.stderr is not None
    found: list[dict[str, Any]] = []
    while not found or part not in found[-1]["message"]:
        line = process.stderr.readline()
        assert line, found
        found += lines(line)
    return found


def asked(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def port_of(process: subprocess.Popen[str]) -> int:
    url = read_until(process, "health: ")[-1]["message"]
    return int(url.rpartition(":")[2].partition("/")[0])


def test_to_the_end(program: Program) -> None:
    """It does what `run` does, says it in JSON alone, and ends with 0."""
    program.send(visits(700), "--partitions", "2")
    done = program.run(*WORKER, "--until-end")
    assert program.values("hits") == expected_hits(700)
    said = lines(done.stderr)
    assert said[-1]["message"].startswith("visits: read to the end: visits 700 records")
    assert done.stdout == ""


def test_a_signal(program: Program) -> None:
    """SIGTERM commits what was read; exit code 0."""
    program.send(visits(500))
    process = program.start(*WORKER)
    until(lambda: program.count("sizes") > 0, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "SIGTERM: committing what was read" in err
    program.run(*WORKER, "--until-end")
    assert program.values("sizes") == expected_sizes(500)


def test_its_name(program: Program) -> None:
    """The slot's name is told, and is the same in the next process; another slot has another."""
    program.send(visits(1))
    names = []
    for slot in ((), (), ("--slot", "3")):
        said = lines(program.run(*WORKER, "--until-end", *slot).stderr)
        [line] = [line for line in said if "slot" in line["message"]]
        names.append(line["member"])
    assert names[0] == names[1] != names[2]
    assert (program.folder / "data" / "state" / "visits" / "@slots" / "3").read_text().startswith(names[2])


def test_a_slot_in_use(program: Program) -> None:
    """Who asks for a slot that is held is told by whom; exit code 1: whoever holds it may end."""
    program.send(visits(1))
    with taken_slot(program.folder / "data" / "state" / "visits", 0):
        [line] = lines(program.run(*WORKER, "--slot", "0", code=1).stderr)
    assert "slot 0 is held by process" in line["message"]
    assert line["level"] == "error"


def test_a_record_that_fails(program: Program) -> None:
    """The last line says why, with where it is as fields; exit code 2: it would fail again."""
    program.send(visits(100, bad=57))
    last = lines(program.run(*WORKER, "--until-end", code=2).stderr)[-1]
    assert last["level"] == "error"
    assert "in inverse: return 1 / (visit.size + 1)" in last["message"]
    where = {name: last[name] for name in ("step", "topic", "partition", "offset")}
    assert where == {"step": "per_page.map-inverse", "topic": "visits", "partition": 0, "offset": 57}
    assert "traceback" not in last
    assert "ZeroDivisionError" in lines(program.run(*WORKER, "--debug", code=2).stderr)[-1]["traceback"]


def test_a_topic_that_is_not_there_yet(program: Program) -> None:
    """Exit code 1: somebody may make it, so that a service manager tries again."""
    said = lines(program.run(*WORKER, code=1).stderr)
    assert "makes it, or the app that writes to it" in said[-1]["message"]


def test_a_changed_plan(program: Program) -> None:
    """A worker that is refused would be again: exit code 2, so that a service manager need not try."""
    program.send(visits(100))
    program.run(*WORKER, "--until-end")
    program.write("other_app.py", APP.replace('tumbling("1m")', 'tumbling("2m")'))
    assert "has state of per_page.count" in lines(program.run("worker", "other_app:app", code=2).stderr)[-1]["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--epoch-interval", "5x"), "setting epoch_interval: '5x' is no duration"),
        (("--health", "8080"), "--health '8080' is no address"),
        (("--health", "127.0.0.1:0", "--live-within", "soon"), "--live-within: 'soon' is no duration"),
    ],
)
def test_a_wrong_setting(program: Program, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 2 says that starting it again is of no use; the line is JSON as all others."""
    program.send(visits(1))
    assert said in lines(program.run(*WORKER, *arguments, code=2).stderr)[-1]["message"]


def test_a_port_in_use(program: Program) -> None:
    """Where its health is to be told must be free."""
    program.send(visits(1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        last = lines(program.run(*WORKER, "--health", f"127.0.0.1:{port}", code=2).stderr)[-1]
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in last["message"]


def test_ready_and_live(program: Program) -> None:
    """Ready once it has opened its tasks, with their names."""
    program.send(visits(10), "--partitions", "2")
    process = program.start(*WORKER, "--health", "127.0.0.1:0")
    port = port_of(process)
    until(lambda: asked(port, "/ready")[0] == 200, process)
    code, body = asked(port, "/ready")
    assert body["reason"] == "working on 4 tasks"
    assert body["tasks"] == ["per_page-key_by/0", "per_page-key_by/1", "visits/0", "visits/1"]
    assert asked(port, "/live")[0] == 200
    assert (body["app"], code) == ("visits", 200)


def test_a_function_that_blocks(program: Program) -> None:
    """Answers come while it holds the event loop: it does not live, and the line that holds it is in the log."""
    program.send(visits(10))
    program.write("slow.py", SLOW)
    program.environment["HOLD_S"] = "3600"
    process = program.start("worker", "slow:app", "--health", "127.0.0.1:0", "--live-within", "300ms")
    port = port_of(process)
    until((program.folder / "started").exists, process)
    until(lambda: asked(port, "/live")[0] == 503, process)
    code, body = asked(port, "/ready")
    assert code == 503
    assert body["reason"].startswith("the event loop has been blocked for")
    assert body["reason"].endswith('in hold: time.sleep(float(os.environ.get("HOLD_S", "0")))')
    [*_, line] = read_until(process, "the event loop is blocked")
    assert "slow.py" in line["message"]
    assert "in hold: time.sleep" in line["message"]


def test_within_ten_seconds(program: Program) -> None:
    """It leaves though a function never returns: by itself, with 1, and the record is there for the next one."""
    program.send(visits(50))
    program.write("slow.py", SLOW)
    program.environment["HOLD_S"] = "3600"
    process = program.start("worker", "slow:app")
    until((program.folder / "started").exists, process)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    last = lines(err)[-1]
    assert last["message"].startswith("not done 9.5 s after it was asked to stop")
    assert "slow.py" in last["message"]
    program.run("worker", "slow:app", "--until-end")
    assert program.values("sizes") == expected_sizes(50)


def test_processes_need_kafka(program: Program) -> None:
    """A local log is one process's: `run --processes` says so, and what to name."""
    program.send(visits(1))
    for broker in ("local://data", "memory://"):
        err = program.run("run", "visits_app:app", "--processes", "2", "--broker", broker, code=2).stderr
        assert f"--processes needs a Kafka broker, and the broker is {broker}" in err
