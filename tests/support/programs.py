"""Programs that tests call, beside the Python that runs them or on PATH."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def find_ruff() -> str | None:
    """The path of ruff; `None` where it is not installed."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("ruff", path=os.pathsep.join((beside, os.environ.get("PATH", ""))))
