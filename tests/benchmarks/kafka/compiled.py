"""Programs start as installed ones do: from compiled modules, wherever this process may not write them."""

import compileall
import os
import sys
from typing import Final

from tests.kafka.class_path import BUILD, ROOT

COMPILED: Final = BUILD / "compiled"
SOURCES: Final = ("streamproc", "streamproc/operators", "streamproc/windows", "streamproc/state", "tests/benchmarks")
"""Links are not followed."""


def compiled_environment() -> dict[str, str]:
    """That of a process that finds them."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(COMPILED)}


def compile_all() -> None:
    """They are there, those of other packages too that are imported by the way."""
    before, sys.pycache_prefix = sys.pycache_prefix, str(COMPILED)
    try:
        for source in SOURCES:
            compileall.compile_dir(ROOT / source, quiet=1)
    finally:
        sys.pycache_prefix = before
