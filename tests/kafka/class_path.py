"""The Java class path of a Kafka broker, resolved once by Maven and kept in the project's build folder."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "kafka"
"""Git ignores it."""

POM = Path(__file__).with_name("pom.xml")
_KEPT = BUILD / "class_path"
_RESOLVE_SECONDS = 300


class MissingProgram(Exception):
    """Java or Maven is not installed; the message names what to install."""


def java() -> str:
    """The program that runs Java classes. Raises `MissingProgram`."""
    return _program("java", "a Java runtime, version 17 or later (Debian, Ubuntu: apt install openjdk-17-jre-headless)")


def class_path() -> str:
    """The jars of `pom.xml`, as Java's `-cp` takes them. Maven runs when they were never resolved, or are gone.

    Raises `MissingProgram`, and `RuntimeError` with Maven's own words.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test runs that begin together resolve once
        if not _fresh():
            _resolve()
        return _KEPT.read_text()


def _fresh() -> bool:
    if not _KEPT.exists() or _KEPT.stat().st_mtime < POM.stat().st_mtime:
        return False
    return all(Path(jar).exists() for jar in _KEPT.read_text().split(os.pathsep))


def _resolve() -> None:
    maven = _program("mvn", "Maven, which fetches the broker's jars once (Debian, Ubuntu: apt install maven)")
    unfinished = BUILD / "class_path.unfinished"
    command = (maven, "-q", "-B", "-f", POM, "dependency:build-classpath", f"-Dmdep.outputFile={unfinished}")
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_RESOLVE_SECONDS)
    if done.returncode:
        raise RuntimeError(f"Maven could not resolve {POM}:\n{done.stdout}{done.stderr}")
    unfinished.replace(_KEPT)


def _program(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingProgram(f"a Kafka broker needs `{name}`, which is not on the PATH: install {what}")
    return found
