"""Uses an installed lazymig, in whatever environment runs it: `python -I smoke.py`.

It needs the extra `cli`, and a `mongod` on PATH for the demonstration, which is left out without.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import lazymig
import lazymig.testing
from lazymig import DocumentMigration


class UserMigration(DocumentMigration):
    """A rule, so that a handler is made."""

    def migration01__add_enabled(self) -> None:
        """A field is added."""
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}


def main() -> None:
    """Import all that is public, and run the program; say what was used."""
    for name in lazymig.__all__:
        getattr(lazymig, name)
    assert lazymig.testing.migrated
    program = Path(sys.executable).with_name("lazymig")
    shown = _output(program, "--version")
    assert version("lazymig") == lazymig.__version__ in shown, shown
    demonstrated = "no mongod on PATH"
    if shutil.which("mongod"):
        assert "nothing to do: no document of User" in _output(program, "demo")
        demonstrated = "demonstration run"
    python = platform.python_version()
    sys.stdout.write(f"Python {python}: lazymig {lazymig.__version__}, {demonstrated}\n")


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


if __name__ == "__main__":
    main()
