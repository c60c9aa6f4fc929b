"""The circumstances of a measurement: the machine, and the versions of what is measured."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import mongoengine
import pymongo

import lazymig

__all__ = ["Circumstances", "circumstances"]


@dataclass(frozen=True)
class Circumstances:
    """What figures depend on; `load` is the load average of the last minute, where it is known."""

    processor: str
    cores: int
    load: float | None
    versions: dict[str, str]

    def lines(self) -> tuple[str, str]:
        """A line for the machine, and one for the versions."""
        load = "" if self.load is None else f", load {self.load:.1f}"
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.processor}, {self.cores} cores{load}", versions


def circumstances(mongodb: str) -> Circumstances:
    """Describe this machine at this moment.

    :param mongodb: the version of the server that is measured.
    """
    return Circumstances(
        _processor(),
        os.cpu_count() or 1,
        os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        {
            "lazymig": lazymig.__version__,
            "Python": platform.python_version(),
            "MongoDB": mongodb,
            "PyMongo": pymongo.version,
            "MongoEngine": str(mongoengine.__version__),
        },
    )


def _processor() -> str:
    try:
        named = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        named = None
    return named[1] if named else platform.processor() or platform.machine()
