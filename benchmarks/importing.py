"""What an application pays for at its start: the imports, each in a process of its own."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from functools import cache, partial
from typing import Any

from pymongo.database import Database

from benchmarks.measure import Benchmark, Comparison, Side

__all__ = ["compiled", "importing"]

_MONGOENGINE = "import mongoengine"
_PACKAGE = f"{_MONGOENGINE}, lazymig"
_NAMES = f"{_MONGOENGINE}\nfrom lazymig import DocumentMigration, LazyMigrationMixin"


def importing(_database: Database[Any], _scale: float) -> Benchmark:
    """Import lazymig, and what a module of models needs of it, beyond MongoEngine."""
    return Benchmark(
        "import",
        (
            Side("MongoEngine", partial(_run, _MONGOENGINE)),
            Side("lazymig", partial(_run, _PACKAGE)),
            Side("mixin", partial(_run, _NAMES)),
        ),
        (
            Comparison(
                "import lazymig", "lazymig", "MongoEngine", 1.0, 0.06, "MongoEngine + 60 ms"
            ),
            Comparison(
                "... and its mixin", "mixin", "MongoEngine", 1.0, 0.12, "MongoEngine + 120 ms"
            ),
        ),
        lambda: "nothing",
    )


def _run(program: str) -> bytes:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    call = [sys.executable, "-c", f"{program}\nprint('done')"]
    return subprocess.run(call, env=environment, capture_output=True, check=True).stdout


@cache
def compiled() -> str:
    """A folder for bytecode: compiled once, as where it is installed, whatever the environment."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name
