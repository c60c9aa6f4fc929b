"""The files that docs/testing.md shows are a suite that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pages import python_blocks
from tests.support.server import URI_VARIABLE
from tests.testing.test_plugin import run_with_plugin

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text(encoding="utf-8")
_FILE = re.compile(
    r"^```\{code-block\} \w+\n:caption: ([^\n]+)\n\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def test_the_files_of_the_page_are_a_suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server_uri: str
) -> None:
    """With the page's models all tests of its files pass, golden files included."""
    monkeypatch.setenv(URI_VARIABLE, server_uri)
    files = dict(_FILE.findall(PAGE))
    assert files.keys() == {
        *("golden/mail_of_2019.json", "pytest.ini"),
        *("test_golden.py", "test_users.py", "conftest.py"),
    }
    on_mongomock = files.pop("conftest.py")
    (pytester.path / "golden").mkdir()
    (pytester.path / "models.py").write_text(python_blocks(PAGE)[0].source)
    for name, text in files.items():
        (pytester.path / name).write_text(text)
    run_with_plugin(pytester).assert_outcomes(passed=5)

    (pytester.path / "conftest.py").write_text(on_mongomock)
    monkeypatch.setenv(URI_VARIABLE, "mongodb://127.0.0.1:1/")
    run_with_plugin(pytester, "golden").assert_outcomes(passed=1)
