"""Forks of the test's own process."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

import pytest

__all__ = ["PATIENCE", "forking", "in_child"]

# What a child may take for what should take no time at all, on a machine that is very busy.
PATIENCE = 60

forking = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Python 3.12 and later warn of every fork beside a thread, which is what is tested.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_child(answer: Callable[[], str]) -> str:
    """What a forked process answers; "" if it waits, or fails."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, answer().encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], PATIENCE)
        return os.read(reading, 1000).decode() if ready else ""
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
