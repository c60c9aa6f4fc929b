"""`make conformance` on a tiny suite of our own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parent.parent

SUITE = """
from mongoengine import Document, StringField, connect
from mongoengine.base import BaseDocument


class Page(Document):
    title = StringField()


def test_saves_and_loads():
    client = connect("tiny", host="mongodb://localhost:27017/tiny")
    Page(title="a").save()
    assert Page.objects(title="a").count() == 1
    client.drop_database("tiny")
"""
CURIOUS = """

def test_knows_its_base():
    assert Page.__mro__[1] is Document


def test_knows_its_handler():
    assert not hasattr(Page, "migration_handler") or Page.migration_handler is None
"""


def _conformance(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    (folder / "tests" / "test_pages.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "conformance", str(folder)]
    return subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)


def test_a_suite_that_passes_alike_conforms(tmp_path: Path) -> None:
    """Tests that end alike with and without lazymig are counted, and the exit code is 0."""
    result = _conformance(tmp_path, SUITE)
    assert result.returncode == 0, result.stdout + result.stderr
    counts = [line.split() for line in result.stdout.splitlines() if line.endswith(" passed")]
    assert [one[:3] for one in counts] == [
        [name, "1", "passed"] for name in ("plain", "mixin", "rule")
    ]


def test_a_test_that_ends_otherwise_is_named(tmp_path: Path) -> None:
    """A test that only fails with the mixin, or only with a rule, is named, with exit code 1."""
    result = _conformance(tmp_path, SUITE + CURIOUS)
    assert result.returncode == 1, result.stdout + result.stderr
    name = "differs: tests/test_pages.py::test_knows_its_"
    assert f"{name}base: plain passed, mixin failed, rule failed" in result.stdout
    assert f"{name}handler: plain passed, mixin passed, rule failed" in result.stdout


@pytest.mark.parametrize("arguments", [(), ("no-such-folder",)])
def test_without_a_suite_it_says_how_it_is_called(arguments: tuple[str, ...]) -> None:
    """Without a checkout nothing is run, and the exit code is 2."""
    command = [sys.executable, "-m", "conformance", *arguments]
    result = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "MONGOENGINE=" in result.stderr
