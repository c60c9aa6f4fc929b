"""The demonstration, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lazymig.demo.project import STEPS

ROOT = Path(__file__).parents[2]

WITHOUT_SERVER = """
import importlib.util
import os
import runpy

find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: (
    None if name == "fiftyone" else find_spec(name, *package)
)
os.environ["PATH"] = ""
runpy.run_module("lazymig.demo", run_name="__main__")
"""


def demonstrate(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the package at hand, its temporary files in a folder, and odd settings."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "LAZYMIG_MODELS": "no.such.module",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        encoding="utf-8",
        env=environment,
        timeout=300,
    )


@pytest.fixture(scope="module")
def demonstrated(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demonstration on a server of its own, and the folder of its temporary files."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demonstrate("-m", "lazymig.demo", folder=folder)


def test_it_ends_well_and_cleans_up(demonstrated) -> None:
    """The exit code is 0, no file is left, and nothing is said but how the run gets on."""
    folder, result = demonstrated
    assert result.returncode == 0
    assert [line for line in result.stderr.splitlines() if " documents/s, done" not in line] == []
    assert list(folder.iterdir()) == []


def test_each_step_is_shown(demonstrated) -> None:
    """Each step has its number, its files, its commands, and the seconds that it took."""
    output = demonstrated[1].stdout
    for number, step in enumerate(STEPS, 1):
        assert f"\n{number}. {step.title}\n" in output
        for name, content in step.files.items():
            assert f"\n{name}:\n" in output
            assert all(f"    {line}".rstrip() in output for line in content.splitlines())
        for words in step.commands:
            assert f"\n$ {words}\n" in output
    assert len(re.findall(r"^\(\d+\.\d\d s\)$", output, re.MULTILINE)) == len(STEPS)


def test_it_tells_of_a_migration(demonstrated) -> None:
    """The commands find drift, migrate what is old, and leave nothing that is."""
    words = " ".join(demonstrated[1].stdout.split())
    assert "rename: 'mail' is no field of User, but stored in 600 documents" in words
    assert "is it the former name of 'email'?" in words
    assert "enabled, says the model: 800 enabled, as stored: 200" in words
    assert "lazy rules: finished, 1,797 applications of rules in" in words
    assert "nothing to do: no document of User matches a rule" in words
    assert "800 documents checked nothing is wrong" in words
    assert "enabled, says the model: 800 enabled, as stored: 800" in words


def test_without_a_server_it_says_what_to_install(tmp_path: Path) -> None:
    """Where there is no server, the exit code is 1 and one remedy is named, once."""
    result = demonstrate("-c", WITHOUT_SERVER, folder=tmp_path)
    assert result.returncode == 1
    assert "There is no MongoDB server to run it on: no mongod found" in result.stderr
    assert re.findall(r"lazymig\[\w+\]", result.stderr) == ["lazymig[demo]"]
