"""The package as a whole: its public names, its version, what it ships."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import lazymig
from lazymig import DocumentMigration, RunOptions
from lazymig.odm.handler import MigrationHandler

ROOT = Path(__file__).parents[1]


def _metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_public_names_are_sorted_and_there() -> None:
    """`lazymig.__all__` is sorted, names nothing twice, and each of its names can be imported."""
    assert lazymig.__all__ == sorted(set(lazymig.__all__))
    assert [name for name in lazymig.__all__ if not hasattr(lazymig, name)] == []


def test_every_public_name_is_documented() -> None:
    """Each name of `lazymig.__all__` is on the page of the API."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    documented = re.findall(r"(?:auto\w+|py:\w+):: ([A-Za-z_]+)", page)
    assert sorted(set(lazymig.__all__) - {"signals"} - set(documented)) == []


def test_every_attribute_of_a_handler_is_documented() -> None:
    """Each attribute that a handler may declare is explained in the class and on a page."""
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    for name in MigrationHandler.__annotations__:
        assert f":cvar {name}:" in str(DocumentMigration.__doc__)
        assert name in pages


def test_every_option_of_a_run_is_documented() -> None:
    """Each keyword of a bulk run is in the options' docstring and on the page about production."""
    page = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    for name in RunOptions.__annotations__:
        assert f"`{name}`" in str(RunOptions.__doc__)
        assert f"`{name}`" in page


def test_the_version_is_written_once() -> None:
    """The metadata takes the version from the package instead of repeating it."""
    assert _metadata()["metadata"]["version"] == "attr: lazymig.__version__"


def test_the_changelog_opens_with_the_version() -> None:
    """The newest heading of the changelog is the version of the package."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(.+?)\]", changelog, re.MULTILINE)[0] == lazymig.__version__


def test_a_released_version_has_a_date() -> None:
    """Each version of the changelog says when it was released, or that it was not yet."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## .*$", changelog, re.MULTILINE)
    assert headings
    for heading in headings:
        assert re.fullmatch(r"## \[\d+\.\d+\.\d+\] - (\d{4}-\d\d-\d\d|Unreleased)", heading)


def test_the_type_marker_is_shipped() -> None:
    """`py.typed` lies in the package and is part of what is installed."""
    assert (Path(lazymig.__file__).parent / "py.typed").is_file()
    assert "py.typed" in _metadata()["options.package_data"]["lazymig"].split()
