"""The demonstration, run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ON_MONGOMOCK = """
import runpy
from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable

def start(self):
    raise ServerUnavailable("no mongod found")

EmbeddedServer.start = start
runpy.run_module("lazymig.demo", run_name="__main__")
"""

NO_DATABASE = f"import sys; sys.modules['mongomock'] = None\n{ON_MONGOMOCK}"


def demonstrate(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with the package at hand, and with its temporary files in a folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        encoding="utf-8",
        env=environment,
        timeout=120,
    )


@dataclass(frozen=True)
class Run:
    """One run: what it gave, the folder of its temporary files, and how many documents it had."""

    result: subprocess.CompletedProcess[str]
    folder: Path
    users: int
    old: int
    new: int
    iterated: int

    @property
    def output(self) -> str:
        return self.result.stdout


KINDS = {
    "server": (["-m", "lazymig.demo"], 2000, 3000, 200, 500),
    "mongomock": (["-c", ON_MONGOMOCK], 600, 900, 60, 200),
}


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The demonstration on a server of its own, and without one."""
    arguments, *amounts = KINDS[request.param]
    folder = tmp_path_factory.mktemp("demo")
    return Run(demonstrate(*arguments, folder=folder), folder, *amounts)


def rows(output: str, start: str) -> list[list[str]]:
    """Give the cells of the table rows that begin so, the numbers without their commas."""
    cells = [line.replace(",", "").split() for line in output.splitlines()]
    return [row[1:] for row in cells if row[:1] == [start]]


def texts(*numbers: int) -> list[str]:
    """Give the numbers as they stand in a row."""
    return [str(number) for number in numbers]


def test_it_ends_well_and_cleans_up(run: Run) -> None:
    """The exit code is 0, nothing is complained about, and no file is left."""
    assert (run.result.returncode, run.result.stderr) == (0, "")
    assert list(run.folder.iterdir()) == []


def test_it_fits_a_terminal(run: Run) -> None:
    """The output is plain text of at most 80 columns."""
    assert run.output.isascii()
    assert max(map(len, run.output.splitlines())) <= 80


def test_every_step_tells_its_seconds(run: Run) -> None:
    """Each of the nine numbered steps ends with the seconds that it took."""
    assert len(re.findall(r"^\d+\. .*\n-+$", run.output, re.MULTILINE)) == 9
    assert len(re.findall(r"^  \(\d+\.\d\d s\)$", run.output, re.MULTILINE)) == 9


def test_old_documents_become_fewer(run: Run) -> None:
    """The counts of the stored documents follow the loads, then the bulk run."""
    assert rows(run.output, "user") == [
        texts(run.users, 0),
        texts(run.users - 1, 1),
        texts(0, run.users),
        texts(run.users),
    ]
    assert rows(run.output, "blog_post") == [
        texts(run.old, run.new),
        texts(run.old - 1, run.new + 1),
        texts(0, run.old + run.new),
        texts(run.old + run.new),
    ]


def test_an_iteration_migrates_once(run: Run) -> None:
    """The first iteration migrates what is old, the second one nothing."""
    count = run.iterated
    assert f"first time: {count} loaded, {count - 1} of them migrated" in run.output
    assert f"second time: {count} loaded, 0 of them migrated" in run.output


def test_a_query_sees_through_the_rules(run: Run) -> None:
    """A query on a new field finds all users while one alone is stored so, and writes nothing."""
    found = re.findall(r"enabled=True\)\.count\(\)\n  (\d+)$", run.output, re.MULTILINE)
    in_store = re.findall(r'"enabled": True}\)\n  (\d+)$', run.output, re.MULTILINE)
    assert found == texts(run.users)
    assert in_store == texts(1, run.users)


def test_the_reports_count_what_was_done(run: Run) -> None:
    """Each rule's report gives matched and modified documents, and no errors."""
    tables = rows(run.output, "User") + rows(run.output, "BlogPost")
    users, posts = run.users - 1, run.old - run.iterated
    assert [row[:4] for row in tables if len(row) == 5] == [
        ["migration01__add_enabled", *texts(users, users, 0)],
        ["migration02__remove_age", *texts(users, users, 0)],
        ["migration01__add_tags", *texts(posts, posts, 0)],
        ["migration02__rename_created_at", *texts(posts, posts, 0)],
        ["migration03__title_with_language", *texts(posts, posts, 0)],
        ["allmigration01__add_update_date", *texts(run.old, run.old, 0)],
    ]
    assert run.output.count("active: none") == 2


def test_without_server_and_mongomock_it_says_what_to_install(tmp_path: Path) -> None:
    """Where there is no database at all, the exit code is 1 and the remedy is named."""
    result = demonstrate("-c", NO_DATABASE, folder=tmp_path)
    assert result.returncode == 1
    assert "pip install 'lazymig[demo]'" in result.stderr
