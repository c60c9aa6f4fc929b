"""docs/tutorial.md is followed as a reader would, block by block, on a terminal and a real server.

`LAZYMIG_UPDATE_PAGES=1` writes what the commands give into the page; read the difference then.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from lazymig.cli.settings import VARIABLES
from lazymig.demo.project import STEPS
from tests.support.screens import run_on_terminal

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tutorial.md"
UPDATES = bool(os.environ.get("LAZYMIG_UPDATE_PAGES"))

_BLOCK = re.compile(
    r"(?:<!-- (?P<note>.*?) -->\n\n)?```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.DOTALL
)

# What differs from run to run, or from terminal to terminal, and what is compared instead.
_VARYING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"[\da-f]{24}", "ID"),
    (r"[━╸╺]+", "BAR"),
    (r"\d+:\d\d:\d\d|-:--:--", "LEFT"),
    (r"[\d.,]+[kMG]?/(s|min|h)\b", "RATE"),
    (r"[\d.,]+ (s|min|ms|h)\b( \d+ s\b)?", "SECONDS"),
    (r"(?<= )\d+\.\d\d$", "SECONDS"),
    # A sample has another document each time.
    (r"_id \d+:", "_id N:"),
    (r"\d+@example", "N@example"),
    (r"points: '?\d'?", "points: N"),
)


@dataclass(frozen=True)
class Block:
    """A block of the page: a file to be written, or commands with what they give."""

    kind: str
    file: str | None
    text: str
    start: int
    end: int

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a block, each with its output."""
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        assert parts[0] == ""
        return list(zip(parts[1::2], parts[2::2], strict=True))


def blocks(page: str) -> Iterator[Block]:
    """The blocks of a page that a reader carries out, but those that are not for tests."""
    for found in _BLOCK.finditer(page):
        note = found["note"] or ""
        if note != "no-test":
            file = note.removeprefix("file: ") if note.startswith("file: ") else None
            assert file or found["kind"] == "console", f"what is done with {found[0]!r}?"
            yield Block(found["kind"], file, found["text"], *found.span("text"))


def compared(output: str) -> list[str]:
    """What of an output is compared: its words, without what varies; and each line once."""
    for pattern, name in _VARYING:
        output = re.sub(pattern, name, output, flags=re.MULTILINE)
    return output.split()


class Reader:
    """Who follows the page, in a folder and with a database of one's own."""

    def __init__(self, folder: Path, uri: str, database: str) -> None:
        self.folder = folder
        self._database = database
        self._host = uri.split("/")[2]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name not in VARIABLES.values()},
            "MONGODB_URI": uri.replace("/?", f"/{database}?"),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, words: str, expected: str) -> tuple[int, str]:
        """Carry out a command; give its exit code, and what it has shown."""
        program, *arguments = shlex.split(words)
        programs = {
            "lazymig": [sys.executable, "-m", "lazymig"],
            "python": [sys.executable],
            "rm": ["/bin/rm"],
        }
        code, output = run_on_terminal(
            [*programs[program], *arguments],
            folder=self.folder,
            environment=self._environment,
            answer="y\n" if "[y/N]: y" in expected or UPDATES else "",
        )
        own = {str(self.folder): "/home/you/shop", self._host: "localhost:27017"}
        for name, shown in {**own, self._database: "tutorial"}.items():
            output = output.replace(name, shown)
        return code, "" if output == "\n" else output


@pytest.fixture
def reader(tmp_path: Path, server_uri: str, database: Database[Any]) -> Reader:
    """A reader with an empty folder."""
    folder = tmp_path / "shop"
    folder.mkdir()
    return Reader(folder, server_uri, "tutorial" if UPDATES else database.name)


def test_the_tutorial_does_what_it_shows(reader: Reader) -> None:
    """Each block, run as it stands, gives what is shown, and once more does no harm.

    All files that the reader did not write by hand are gone in the end: one can begin again.
    """
    page = PAGE.read_text("utf-8")
    written: set[str] = set()
    updated: list[tuple[Block, str]] = []
    for block in blocks(page):
        if block.file is not None:
            written.add(block.file)
            (reader.folder / block.file).write_text(block.text, "utf-8")
            continue
        shown = []
        for words, expected in block.commands:
            code, output = reader.run(words, expected)
            shown.append(f"$ {words}\n{output}")
            wanted = 1 if words == "lazymig diff" else 0
            assert code == wanted, f"{words}: {output}"
            if not UPDATES:
                assert compared(output) == compared(expected), f"{words} gives\n{output}"
            _code, again = reader.run(words, expected)
            assert "Traceback" not in again
        updated.append((block, "".join(shown)))
    assert {each.name for each in reader.folder.iterdir()} == written
    if UPDATES:
        for block, text in reversed(updated):
            page = page[: block.start] + text + page[block.end :]
        PAGE.write_text(page, "utf-8")


def test_the_demonstration_tells_the_same_story() -> None:
    """The files of `lazymig demo` are those of the page, in this order, and so are its commands."""
    page = list(blocks(PAGE.read_text("utf-8")))
    files = [(block.file, block.text) for block in page if block.file is not None]
    commands = [words for block in page if block.file is None for words, _ in block.commands]
    told = [words for words in commands if not words.endswith("--dry-run") and words[:3] != "rm "]
    assert sorted(files) == sorted(item for step in STEPS for item in step.files.items())
    assert [words for step in STEPS for words in step.commands] == told
