"""The first screen tells the truth: the picture, the recording and the commands of the README."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from mongoengine import BooleanField, Document, StringField

from frontpage.__main__ import IMAGES, README, without_blanks
from frontpage.commands import console, outputs, replaced
from frontpage.overview import ANSWER, FILTER, QUESTION, overview
from frontpage.recording import ROWS, recording, screens, transcript, without_numbers
from lazymig import DocumentMigration, LazyMigrationMixin

REMAKE = "is out of date; `make frontpage` makes it again"


def test_the_overview_is_in_date() -> None:
    """The pictures in the repository are those that the script draws."""
    for name, drawn in overview().items():
        assert (IMAGES / name).read_text(encoding="utf-8") == drawn, f"{name} {REMAKE}"


def test_the_overview_shows_what_happens(mongoengine_db) -> None:
    """The filter in the picture is the one that is sent, and the answer the one that comes."""

    class UserMigration(DocumentMigration):
        def migration01__add_enabled(self):
            self.target = {"enabled": {"$exists": False}}
            self.update = {"$set": {"enabled": True}}

    class User(LazyMigrationMixin, Document):
        name = StringField(required=True)
        enabled = BooleanField(default=True)
        migration_handler = UserMigration

    mongoengine_db.user.insert_many([{"name": "John Doe"}, {"name": "Jane Doe"}])
    User.objects.get(name="Jane Doe")
    sent = User.objects(enabled=True)._query
    # What it says besides makes the rule's index fit, and excludes nothing.
    assert sent["$or"][0]["enabled"].pop("$eq") is None
    assert sent == json.loads("".join(FILTER))
    before = list(mongoengine_db.user.find())
    assert str(eval(QUESTION, {"User": User})) == ANSWER
    assert list(mongoengine_db.user.find()) == before


@pytest.mark.server
def test_the_recording_is_in_date() -> None:
    """The recorded demonstration is the one that runs today, apart from numbers and ids."""
    recorded = (IMAGES / "demo.txt").read_text(encoding="utf-8")
    today = without_blanks(transcript())
    assert without_numbers(today) == without_numbers(recorded), f"demo.txt {REMAKE}"
    assert (IMAGES / "demo.svg").read_text(encoding="utf-8") == recording(recorded), (
        f"demo.svg {REMAKE}"
    )


def test_the_recording_shows_every_line() -> None:
    """The screens of the recording have all lines that are not blank, in order, and fit."""
    printed = (IMAGES / "demo.txt").read_text(encoding="utf-8")
    shown = screens(printed)
    assert [line for screen in shown for line in screen if line.strip()] == [
        line for line in printed.splitlines() if line.strip()
    ]
    assert max(map(len, shown)) <= ROWS


@pytest.mark.server
def test_the_commands_of_the_readme_give_what_it_shows() -> None:
    """Each command prints what stands below it in the README, apart from numbers and ids."""
    page = README.read_text(encoding="utf-8")
    made = replaced(page, console(outputs(page)))
    assert without_numbers(made) == without_numbers(page), f"README.md {REMAKE}"


@pytest.mark.parametrize("image", sorted(IMAGES.glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_is_plain(image: Path) -> None:
    """A picture is well-formed, says what it shows, and loads and runs nothing."""
    text = image.read_text(encoding="utf-8")
    root = ET.fromstring(text)
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text
    assert {each.tag.rpartition("}")[2] for each in root.iter()} <= {
        "circle",
        "g",
        "polyline",
        "rect",
        "style",
        "svg",
        "text",
        "title",
    }
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|\bon\w+=", text) == []
    assert "prefers-color-scheme: dark" in text


def test_pages_show_pictures_that_are_there() -> None:
    """Each picture that a page shows is a file of the repository."""
    pages = [README, *README.parent.glob("docs/**/*.md")]
    shown = [
        page.parent / name
        for page in pages
        for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert shown
    assert [path for path in shown if not path.is_file()] == []
