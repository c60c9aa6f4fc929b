"""A runner that is killed in the middle of a chunk, and the run that goes on."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from lazymig import History, restore
from lazymig.operations.journal.collection import journal_collection
from lazymig.operations.journal.succession import sessions_left
from tests.support.items import RULES, Item, ItemMigration, done, fill, stored
from tests.support.leases import once_expired
from tests.support.runner import ROOT, command

COUNT = 90
CHUNK = 30


@contextmanager
def _running(arguments: list[str]) -> Any:
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _kill_at(
    uri: str, database: Database[Any], stage: str, occurrence: int, **options: Any
) -> None:
    """Run the rules in a process of its own, and kill it there."""
    options = {"chunk_size": CHUNK, **options}
    with _running(command(uri, database.name, stage, occurrence, **options)) as process:
        assert process.stdout.readline() == "here\n"
        process.kill()
        process.wait()


@pytest.mark.parametrize("with_backup", [False, True], ids=["plain", "backup"])
@pytest.mark.parametrize(
    ("stage", "occurrence"),
    [
        ("work", 2),
        ("written", 1),
        ("written", 3),
        ("noted", 2),
        ("written", 5),
        ("written", 8),
        ("written", 11),
    ],
)
def test_a_killed_run_goes_on_and_does_nothing_twice(
    server_uri: str,
    mongoengine_db: Database[Any],
    tmp_path: Path,
    stage: str,
    occurrence: int,
    with_backup: bool,
) -> None:
    """Wherever in a chunk a runner is killed, `resume` finishes the run; nothing is done twice."""
    fill(mongoengine_db, COUNT)
    options = {"backup": str(tmp_path / "backup")} if with_backup else {}
    _kill_at(server_uri, mongoengine_db, stage, occurrence, **options)
    (broken,) = History(mongoengine_db).runs()
    assert broken.state in ("running", "dead")
    assert broken.ended is None
    report = once_expired(
        mongoengine_db,
        lambda: ItemMigration(Item).migrate_all(resume=True, chunk_size=CHUNK, **options),
    )
    assert report.run_id == broken.id
    assert report.complete
    assert stored(mongoengine_db) == done(COUNT)
    (run,) = History(mongoengine_db).runs()
    assert (run.state, len(run.sessions)) == ("finished", 2)
    assert [rule.state for rule in run.rules] == ["done"] * RULES


@pytest.mark.parametrize(
    ("stage", "occurrence"), [("written", 2), ("noted", 5), ("written", 8), ("written", 11)]
)
def test_the_backup_of_a_killed_run_restores_it(
    server_uri: str,
    mongoengine_db: Database[Any],
    tmp_path: Path,
    stage: str,
    occurrence: int,
) -> None:
    """What a killed run has changed is put back from its backup; what it has not is left alone."""
    fill(mongoengine_db, COUNT)
    before = stored(mongoengine_db)
    _kill_at(server_uri, mongoengine_db, stage, occurrence, backup=str(tmp_path / "backup"))
    # A transaction that the killed process had open would be ended by the server, after a minute.
    left = sessions_left(journal_collection(mongoengine_db), "item")
    mongoengine_db.client.admin.command("killSessions", left)
    report = once_expired(mongoengine_db, lambda: restore(tmp_path / "backup", mongoengine_db))
    assert report.conflict_count == 0
    assert stored(mongoengine_db) == before
