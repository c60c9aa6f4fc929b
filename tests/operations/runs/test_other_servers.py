"""Runs on servers that have no transactions, or that tell a user less than the tests' own does."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure

from lazymig import BackupFailed, History, restore
from lazymig.engines.bulk import Work
from lazymig.operations.runs import runner as runs
from lazymig.testing.mongod import EmbeddedServer, find_mongod, memory_folder
from tests.support.commands import CommandLog
from tests.support.items import RULES, Item, ItemMigration, done, fill, stored
from tests.support.leases import once_expired
from tests.support.runner import ROOT, command
from tests.support.server import CLIENT_OPTIONS, quick_server

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
        super().__init__(binary=script, folder=memory_folder())

    def _initiate(self, client: MongoClient[Any]) -> None:
        pass


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection string of such a server."""
    with _StandaloneServer(tmp_path_factory.mktemp("standalone")) as server:
        yield server.uri


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


def test_a_standalone_server_has_no_transactions(standalone: str, tmp_path: Path) -> None:
    """On a server without replica set a run does without transactions, and a backup works too."""
    with _connected(standalone) as log:
        log.client.drop_database(NAME)
        database = log.client[NAME]
        _run(database, None, max_replication_lag=5)
        _run(database, tmp_path / "backup")
        assert _transactions(log) == 0


@pytest.mark.parametrize(("stage", "occurrence"), [("written", 2), ("written", 5), ("work", 2)])
@pytest.mark.parametrize("resumed", [True, False])
def test_a_killed_chunk_without_transactions_is_restored(
    standalone: str, tmp_path: Path, stage: str, occurrence: int, resumed: bool
) -> None:
    """Kill, resume, restore: what the killed chunk has changed is put back, unless others wrote it.

    Without the resume nobody knows what the chunk has left, and a conflict says so.
    """
    with _connected(standalone) as log:
        log.client.drop_database(NAME)
        database = log.client[NAME]
        fill(database, COUNT)
        before = stored(database)
        options: dict[str, Any] = {"backup": str(tmp_path / "backup"), "chunk_size": 100}
        arguments = command(standalone, NAME, stage, occurrence, **options)
        with subprocess.Popen(
            arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            process.kill()
        migrate = partial(ItemMigration(Item).migrate_all, resume=True, **options)
        put_back = partial(restore, tmp_path / "backup", database)
        if resumed:
            once_expired(database, migrate)
            database["item"].update_one({"_id": 120}, {"$set": {"by": "app"}})
        undone = put_back() if resumed else once_expired(database, put_back)
        reasons = {each.document_id: each.reason for each in undone.conflicts}
        if resumed:
            assert reasons == {120: "it was changed since"}
            assert [each for each in stored(database) if each["_id"] != 120] == [
                each for each in before if each["_id"] != 120
            ]
        else:
            assert all("a run that was broken off" in each for each in reasons.values())
            assert len(reasons) == (100 if stage == "written" else 0)
            restore(tmp_path / "backup", database, force=True)
            assert stored(database) == before


@contextmanager
def _as_user(folder: Path, role: dict[str, Any]) -> Iterator[CommandLog]:
    """Connect to a server that asks for rights, as a user with one role in one database."""
    key = folder / "key"
    key.write_text("lazymig" * 10)
    key.chmod(stat.S_IRUSR)
    with quick_server("--auth", "--keyFile", str(key)) as server:
        with MongoClient(server.uri, **CLIENT_OPTIONS) as client:
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        options: dict[str, Any] = {"username": "root", "password": PASSWORD}
        with MongoClient(server.uri, **options, **CLIENT_OPTIONS) as client:
            if "actions" in role:
                privilege = {"resource": {"db": NAME, "collection": ""}, **role}
                client[NAME].command("createRole", "few", privileges=[privilege], roles=[])
                role = {"role": "few", "db": NAME}
            client[NAME].command("createUser", "app", pwd=PASSWORD, roles=[role])
        options = {"username": "app", "password": PASSWORD, "authentication_source": NAME}
        with _connected(server.uri, **options) as log:
            yield log


@pytest.mark.skipif(os.name != "posix", reason="mongod reads the key file's mode")
def test_the_right_to_read_and_write_is_enough(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who may not ask for the state of the replica set runs, backs up and restores."""
    with _as_user(tmp_path, {"role": "readWrite", "db": NAME}) as log:
        database = log.client[NAME]
        with pytest.raises(OperationFailure, match="not authorized"):
            log.client.admin.command("replSetGetStatus")
        _run(database, None, max_replication_lag=60)
        _run(database, tmp_path / "backup", max_replication_lag=60)
        assert _transactions(log) > 0
    assert not any(PASSWORD in record.getMessage() for record in caplog.records)


@pytest.mark.skipif(os.name != "posix", reason="mongod reads the key file's mode")
def test_a_backup_without_the_right_to_list_collections(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It works, and a warning says what of the collection is not in it."""
    few = ["find", "insert", "update", "remove", "createCollection", "createIndex"]
    with _as_user(tmp_path, {"actions": few}) as log:
        database = log.client[NAME]
        with pytest.raises(OperationFailure, match="not authorized"):
            list(database.list_collections())
        _run(database, tmp_path / "backup")
        assert _transactions(log) > 0
    told = [each.getMessage() for each in caplog.records if "goes without" in each.getMessage()]
    assert ["right to listCollections" in text for text in told] == [True, False]
    assert "the collection's options" in told[0]
    assert "the collection's indexes" in told[1]


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


@pytest.mark.parametrize("occurrence", [1, 2, 4, 10])
def test_a_chunk_whose_answer_was_lost_without_transactions_is_restored(
    mongoengine_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    occurrence: int,
) -> None:
    """It is done again, and what the first attempt has left is no conflict either."""
    monkeypatch.setattr(runs, "has_transactions", lambda _: False)
    apply = Work.apply
    left = [occurrence]

    def lose(work: Work, rule: Any) -> Any:
        tally = apply(work, rule)
        if work.collection.name == "item":
            left[0] -= 1
            if not left[0]:
                raise AutoReconnect("the answer was lost")
        return tally

    monkeypatch.setattr(Work, "apply", lose)
    fill(mongoengine_db, COUNT)
    before = stored(mongoengine_db)
    report = ItemMigration(Item).migrate_all(chunk_size=100, backup=tmp_path)
    assert report.complete
    assert left[0] < 0
    undone = restore(tmp_path, mongoengine_db)
    assert (undone.restored, undone.conflict_count) == (COUNT, 0)
    assert stored(mongoengine_db) == before


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
