"""The package as a whole: its public names, its version, what it ships."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import lazymig

ROOT = Path(__file__).parents[1]


def _metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_public_names_are_sorted_and_there() -> None:
    """`lazymig.__all__` is sorted, names nothing twice, and each of its names can be imported."""
    assert lazymig.__all__ == sorted(set(lazymig.__all__))
    assert [name for name in lazymig.__all__ if not hasattr(lazymig, name)] == []


def test_the_version_is_written_once() -> None:
    """The metadata takes the version from the package instead of repeating it."""
    assert _metadata()["metadata"]["version"] == "attr: lazymig.__version__"


def test_the_changelog_opens_with_the_version() -> None:
    """The newest heading of the changelog is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)[0] == lazymig.__version__


def test_the_type_marker_is_shipped() -> None:
    """`py.typed` lies in the package and is part of what is installed."""
    assert (Path(lazymig.__file__).parent / "py.typed").is_file()
    assert "py.typed" in _metadata()["options.package_data"]["lazymig"].split()
