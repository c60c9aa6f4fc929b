"""The libraries that change the process they are imported in: each file in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import URI_VARIABLE

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize("file", sorted(HERE.glob("apart_*.py")), ids=lambda file: file.stem)
def test_apart(file: Path, server_uri: str) -> None:
    """The tests of a file that pytest does not collect by itself pass in their own process."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
            str(file),
        ],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
        env={**os.environ, URI_VARIABLE: server_uri},
    )
    if done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED:
        pytest.skip(done.stdout.strip().splitlines()[-2])
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
