"""The code of README.md and docs/ is executed, page by page, on the real server.

The blocks check themselves by `assert`. MongoEngine's default alias is connected to a fresh
database; a block that connects by itself is marked `<!-- no-test -->`.
"""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
from pymongo.database import Database

from tests.equivalence.operations import KINDS
from tests.equivalence.test_law import EXAMPLES, LONG
from tests.equivalence.worlds import WORLDS
from tests.support.pages import Block, python_blocks

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README.md"), *ROOT.glob("docs/**/*.md")])
BLOCKS = {
    page.relative_to(ROOT).as_posix(): python_blocks(page.read_text("utf-8")) for page in PAGES
}


def _run(page: str, blocks: list[Block], module: types.ModuleType) -> None:
    for block in blocks:
        # Blank lines in front, so that a traceback names the line of the page.
        source = "\n" * (block.line - 1) + block.source
        exec(compile(source, str(ROOT / page), "exec", dont_inherit=True), module.__dict__)


@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks])
def test_the_code_of_a_page_does_what_it_says(
    page: str, mongoengine_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of a page, in order and in one namespace, run and keep their asserts."""
    # Classes look themselves up by module name when they are pickled or annotated.
    module = types.ModuleType("documentation_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    _run(page, BLOCKS[page], module)


def test_the_readme_shows_executed_code() -> None:
    """The README has at least one block that the suite executes."""
    assert BLOCKS["README.md"] != []


def test_the_files_that_pages_name_are_there() -> None:
    """A page that says which test keeps a promise names a file that exists."""
    named = {
        name
        for page in PAGES
        for name in re.findall(
            r"`((?:tests|lazymig|benchmarks)/[\w/]+\.py)`", page.read_text("utf-8")
        )
    }
    assert named
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []


def test_each_room_is_in_the_layout() -> None:
    """The page for contributors says what lives in each module and folder of the package."""
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    package = ROOT / "lazymig"
    rooms = {each.parent.name for each in package.glob("*/**/__init__.py")}
    rooms |= {each.name for each in package.glob("[a-z]*.py")}
    assert [each for each in sorted(rooms) if not re.search(rf"[`/]{each}/?`", page)] == []


def test_what_a_frequent_change_touches_is_there() -> None:
    """The names that a frequent change touches are in the files that the page says."""
    page = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    named = re.findall(r"`(\w+)` (?:in |\()`([\w/]+\.py)`", page)
    assert len(named) >= 10
    assert [
        f"{name} in {file}"
        for name, file in named
        if not re.search(
            rf"^(class |def )?{name}\b", (ROOT / "lazymig" / file).read_text("utf-8"), re.MULTILINE
        )
    ] == []


def test_the_tests_that_pages_name_are_there() -> None:
    """A promise names a test that exists."""
    named = {
        (name, test)
        for page in PAGES
        for name, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))
    }
    assert named
    assert [
        f"{name}::{test}"
        for name, test in sorted(named)
        if not re.search(rf"^ *def {test}\(", (ROOT / name).read_text("utf-8"), re.MULTILINE)
    ] == []


def test_every_promise_names_its_test() -> None:
    """Each row of the tables of promises ends with the name of a test."""
    page = (ROOT / "docs" / "how-it-is-tested.md").read_text("utf-8")
    tables = re.findall(
        r"^\| (?:promise|what is said) \|.*\n\|.*\n((?:\|.*\n)+)", page, re.MULTILINE
    )
    assert len(tables) == 4
    rows = [row for table in tables for row in table.splitlines()]
    assert [row for row in rows if not re.search(r"\| `tests/\S+::test_\w+` \|$", row)] == []


def test_the_figures_of_the_law_are_those_of_its_tests() -> None:
    """The page says how many worlds, changes, kinds and cases the law is drawn from."""
    page = (ROOT / "docs" / "how-it-is-tested.md").read_text("utf-8")
    changes = sum(len(world.changes) for world in WORLDS.values())
    for figure in (
        f"{len(WORLDS)} worlds",
        f"{changes} changes",
        f"{len(KINDS)} kinds of operation",
    ):
        assert f"**{figure}**" in page
    if not LONG:
        cases = (EXAMPLES // len(KINDS) + 1) * len(KINDS)
        row = rf"^\| the law, over all kinds of operation \| {cases:,} \|"
        assert re.search(row, page, re.MULTILINE)


def test_links_between_pages_lead_somewhere() -> None:
    """A page links to files and headings that are there."""
    broken = []
    for page in [*PAGES, ROOT / "CHANGELOG.md"]:
        for name, heading in re.findall(
            r"\]\(([^)#\s:]*)(?:#([^)\s]*))?\)", page.read_text("utf-8")
        ):
            file = page.parent / name if name else page
            if not file.is_file() or (heading and heading not in _headings_of(file)):
                broken.append((page.relative_to(ROOT).as_posix(), name, heading))
    assert broken == []


def _headings_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in headings}


def test_which_blocks_are_executed() -> None:
    """Of a page, the Python blocks without a `no-test` are taken, with their line numbers."""
    page = "\n".join(
        [
            "```python",
            "first = 1",
            "```",
            "<!-- no-test -->",
            "",
            "```python",
            "never()",
            "```",
            "```python no-test",
            "never()",
            "```",
            "```console",
            "$ make demo",
            "```",
            "````python",
            "third = '```'",
            "````",
        ]
    )
    assert python_blocks(page) == [(2, "first = 1\n"), (16, "third = '```'\n")]


def test_a_block_without_end_is_refused() -> None:
    """A fence that is never closed is an error, not a page without code."""
    with pytest.raises(ValueError, match="line 1: the block is never closed"):
        python_blocks("```python\nassert False\n")


def test_a_false_assert_fails_at_the_line_of_the_page() -> None:
    """An assert that does not hold comes through, and its traceback names the page's line."""
    with pytest.raises(AssertionError) as failure:
        _run(
            "page.md",
            python_blocks("text\n```python\n\nassert 1 == 2\n```\n"),
            types.ModuleType("m"),
        )
    assert failure.traceback[-1].lineno == 4 - 1
