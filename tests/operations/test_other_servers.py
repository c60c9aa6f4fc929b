"""Runs on servers that have no transactions, or that tell a user less than the tests' own does."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import BackupFailed, History, restore
from lazymig.demo.server import EmbeddedServer, find_mongod
from tests.support.commands import CommandLog
from tests.support.items import RULES, Item, ItemMigration, done, fill, stored
from tests.support.server import CLIENT_OPTIONS

COUNT = 250
NAME = "other"
PASSWORD = "secret"

# Runs mongod without the argument that makes it the member of a replica set.
_ALONE = """#!{python}
import os, sys
arguments = sys.argv[1:]
place = arguments.index("--replSet")
del arguments[place : place + 2]
os.execv({mongod!r}, [{mongod!r}, *arguments])
"""


class _StandaloneServer(EmbeddedServer):
    """A server that belongs to no replica set."""

    def __init__(self, folder: Path) -> None:
        script = folder / "mongod"
        script.write_text(_ALONE.format(python=sys.executable, mongod=str(find_mongod())))
        script.chmod(stat.S_IRWXU)
        super().__init__(binary=script)

    def _initiate(self, client: MongoClient[Any]) -> None:
        pass


@contextmanager
def _connected(uri: str, **options: Any) -> Iterator[CommandLog]:
    """MongoEngine's default alias on a server, and the commands that it sends."""
    log = CommandLog()
    log.client = mongoengine.connect(
        NAME, host=uri, event_listeners=[log], **CLIENT_OPTIONS, **options
    )
    try:
        yield log
    finally:
        mongoengine.disconnect()


def _run(database: Database[Any], backup: Path | None, **options: Any) -> None:
    """Old items, a run over them, and its undoing where there is a backup."""
    database["item"].delete_many({})
    fill(database, COUNT)
    before = stored(database)
    if backup is not None:
        options["backup"] = backup
    report = ItemMigration(Item).migrate_all(chunk_size=100, again=True, **options)
    assert report.complete
    assert [rule.modified for rule in report.rules] == [COUNT] * RULES
    assert stored(database) == done(COUNT)
    assert History(database).run(report.run_id).state == "finished"
    if backup is not None:
        undone = restore(backup, database)
        assert (undone.restored, undone.conflict_count) == (COUNT, 0)
        assert stored(database) == before


def _transactions(log: CommandLog) -> int:
    return sum(body.get("startTransaction", False) for _, body in log.commands)


def test_a_standalone_server_has_no_transactions(tmp_path: Path) -> None:
    """On a server without replica set a run does without transactions, and a backup works too."""
    with _StandaloneServer(tmp_path) as server, _connected(server.uri) as log:
        database = log.client[NAME]
        _run(database, None, max_replication_lag=5)
        _run(database, tmp_path / "backup")
        assert _transactions(log) == 0


@pytest.mark.skipif(os.name != "posix", reason="mongod reads the key file's mode")
def test_the_right_to_read_and_write_is_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who may not ask for the state of the replica set runs, backs up and restores."""
    key = tmp_path / "key"
    key.write_text("lazymig" * 10)
    key.chmod(stat.S_IRUSR)
    with EmbeddedServer(arguments=("--auth", "--keyFile", str(key))) as server:
        with MongoClient(server.uri, **CLIENT_OPTIONS) as client:
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        options: dict[str, Any] = {"username": "root", "password": PASSWORD}
        with MongoClient(server.uri, **options, **CLIENT_OPTIONS) as client:
            role = {"role": "readWrite", "db": NAME}
            client[NAME].command("createUser", "app", pwd=PASSWORD, roles=[role])
        options = {"username": "app", "password": PASSWORD, "authentication_source": NAME}
        with _connected(server.uri, **options) as log:
            database = log.client[NAME]
            with pytest.raises(OperationFailure, match="not authorized"):
                log.client.admin.command("replSetGetStatus")
            _run(database, None, max_replication_lag=60)
            _run(database, tmp_path / "backup", max_replication_lag=60)
            assert _transactions(log) > 0
    assert not any(PASSWORD in record.getMessage() for record in caplog.records)


def test_without_hello_a_run_does_without_transactions(
    monitored_db: Database[Any],
    command_log: CommandLog,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Where a server does not even tell what it is, a run takes it for the least."""
    command = Database.command

    def refusing(database: Any, name: Any, *arguments: Any, **options: Any) -> Any:
        if name in ("hello", "replSetGetStatus"):
            raise OperationFailure(f"not authorized on admin to execute command {name}", 13)
        return command(database, name, *arguments, **options)

    monkeypatch.setattr(Database, "command", refusing)
    command_log.clear()
    _run(monitored_db, None, max_replication_lag=5)
    _run(monitored_db, tmp_path / "backup")
    assert _transactions(command_log) == 0


def test_a_run_that_cannot_begin_its_backup_has_failed(
    mongoengine_db: Database[Any], tmp_path: Path
) -> None:
    """What goes wrong before the first chunk is in the journal too: the run is not left running."""
    fill(mongoengine_db, COUNT)
    before = stored(mongoengine_db)
    (tmp_path / "backup").write_text("no folder")
    with pytest.raises(BackupFailed):
        ItemMigration(Item).migrate_all(backup=tmp_path / "backup")
    (run,) = History(mongoengine_db).runs()
    assert run.state == "failed"
    assert "BackupFailed" in str(run.error)
    assert stored(mongoengine_db) == before
