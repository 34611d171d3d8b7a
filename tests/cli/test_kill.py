"""kill -9 at any moment: what a run left is what the next one goes on from."""

import random
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from streamproc.cli import main
from tests.cli.program import ROOT, Program, until

KILLS = 20
ACCESS_LOG = ROOT / "tests" / "data" / "apache_access.log"

APP = """
import re
from streamproc import App, Stream, hopping, session

app = App("tags")
posts = app.topic("posts", key=str, value=str, grace="2s")
top, counts, visits, plain = app.topic("top"), app.topic("counts"), app.topic("visits"), app.topic("plain")

@app.stream(posts, to=(top, counts, visits, plain))
def tags(posts: Stream[str, str]):
    by_tag = posts.flat_map(words).key_by(lambda tag: tag)
    windows = by_tag.window(hopping("1m", every="10s")).count(name="windows")
    so_far, sessions = by_tag.in_order().count(name="so-far"), posts.window(session("5s")).count()
    return windows.top(3), so_far, sessions, posts.map(str.upper)

def words(post: str) -> list[str]:
    return re.findall("#([a-z]+)", post)
"""


def posts(rng: random.Random, count: int) -> list[bytes]:
    """So many posts of ten users, about two a second, some a little late."""
    lines = []
    for n in range(count):
        at = 1_000_000 + n * 500 - rng.choice((0, 0, 0, 1_500, 4_000))
        tags = " ".join(f"#{rng.choice('abcdefgh')}" for _ in range(rng.randint(0, 3)))
        lines.append(b'{"user": "u%d", "at": %d, "text": "%s"}\n' % (rng.randint(0, 9), at, tags.encode()))
    return lines


def outcome(program: Program, topics: tuple[str, ...]) -> dict[Any, list[Any]]:
    """By topic, partition and key: the records in their order."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for topic in topics:
        for number, chunk in enumerate(program.chunks(topic)):
            columns = chunk.columns
            for key, value, at in zip(columns.keys, columns.values, columns.timestamps, strict=True):
                found[topic, number, key].append((value, at))
    return dict(found)


def send(program: Program, what: str, lines: list[bytes]) -> None:
    """More of the app's input, from this process: quick."""
    path = program.write("sent.jsonl" if what == "tags" else "sent.log", b"".join(lines))
    options = ["--timestamp", "at", "--key", "user"] if what == "tags" else ["--lines"]
    topic, broker = "posts" if what == "tags" else "access", f"local://{program.folder / 'data'}"
    main(["send", topic, str(path), "--partitions", "2", "--broker", broker, *options])


def started_and_killed(program: Program, target: str, watched: str, rng: random.Random) -> bool:
    """Starts the app and kills it: while it starts or restores, or about when it commits. Whether that was visible."""
    before = program.count(watched)
    process = program.start("run", target)
    if rng.random() < 0.5:
        time.sleep(0.2 + rng.random() * 0.5)
    else:
        give_up = time.monotonic() + 2  # what was sent may have closed no window
        until(lambda: program.count(watched) > before or time.monotonic() > give_up, process)
        time.sleep(rng.random() * 0.02)
    process.kill()
    process.communicate()
    return program.count(watched) > before


CASES = {
    "tags": ("tags_app:app", "plain", ("top", "counts", "visits", "plain")),
    "web_stats": ("streamproc.apps.web_stats:app", "minutes", ("minutes", "pages", "sessions", "access-bad")),
}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("what", CASES)
def test_kill_9_at_twenty_moments(what: str, tmp_path: Path) -> None:
    """Killed twenty times, now and then losing its disk, an app writes what it did undisturbed, once and in order."""
    target, watched, topics = CASES[what]
    rng = random.Random(what)
    lines = posts(rng, 6_000) if what == "tags" else ACCESS_LOG.read_bytes().splitlines(keepends=True)
    piece = len(lines) // KILLS
    calm, killed = Program(tmp_path / "calm"), Program(tmp_path / "killed")
    try:
        for program in (calm, killed):
            program.write("tags_app.py", APP)
            moved = 0
            for start in range(0, len(lines), piece):
                send(program, what, lines[start : start + piece])
                if program is killed:
                    moved += started_and_killed(program, target, watched, rng)
                    if rng.random() < 0.15:
                        shutil.rmtree(program.folder / "data" / "state", ignore_errors=True)
            program.run("run", target, "--until-end")
        assert moved > KILLS // 4, "the moments are worth something"
        expected, found = outcome(calm, topics), outcome(killed, topics)
    finally:
        calm.close()
        killed.close()
    assert found.keys() == expected.keys()
    for place, rows in expected.items():
        assert found[place] == rows, place
