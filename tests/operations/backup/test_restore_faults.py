"""Undoing runs that were killed, against other writers, and what the server refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure

from lazymig.errors import BackupFailed, BackupUnreadable, CollectionLocked, LeaseLost
from lazymig.operations.backup import files as backup_files
from lazymig.operations.backup import restore as restoring
from lazymig.operations.backup.files import DataFile
from lazymig.operations.backup.folder import Folder
from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from lazymig.operations.journal.collection import journal_collection
from lazymig.operations.journal.lease import Lease
from tests.support.backups import (
    BETWEEN,
    CHANGED,
    OLD,
    RENEW,
    change,
    counts,
    dump_of,
    fill,
    reasons,
    records_of,
    run,
    stored,
    transaction,
)
from tests.support.items import Item, ItemMigration


def attempted(path, collection, stage):
    """A run of one chunk that is killed at a stage; `committed` is before that could be noted."""
    writer = BackupWriter(path, collection, run_id="killed")
    writer.begin("migration01__new")
    with transaction(collection) as session:
        writer.save(OLD, session)
        collection.update_many({**OLD, "_id": {"$ne": -1}}, RENEW, session=session)
        if stage != "written":
            writer.seal(session)
        if stage != "committed":
            session.abort_transaction()


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("stage", ["written", "sealed", "committed"])
def test_a_killed_run_is_undone(database, tmp_path, stage, resumed):
    """Whether its last transaction was committed is decided by what is stored."""
    fill(database.post, 3)
    before = stored(database.post)
    attempted(tmp_path, database.post, stage)
    if resumed:
        run(tmp_path, database.post)
    report = restore(tmp_path, database)
    assert report.conflict_count == 0
    assert stored(database.post) == before
    changed = 3 if resumed or stage == "committed" else 0
    assert report.restored == changed


@pytest.mark.parametrize("stage", ["written", "sealed"])
def test_an_attempt_that_failed_does_not_count(database, tmp_path, stage):
    """Where a chunk was repeated, its documents get back what the repetition has found."""
    fill(database.post, 3)
    attempted(tmp_path, database.post, stage)
    database.post.update_one({"_id": 1}, {"$set": {"by": "app"}})
    before = stored(database.post)
    run(tmp_path, database.post)
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


def test_what_an_attempt_did_not_change_settles_nothing(database, tmp_path):
    """A document that the update leaves as it is does not tell whether it was committed."""
    database.post.insert_many([{"_id": -1}, {"_id": 0}, {"_id": 1}])
    attempted(tmp_path, database.post, "sealed")
    database.post.update_one({"_id": 1}, {"$set": {"by": "app"}})
    before = stored(database.post)
    run(tmp_path, database.post)
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


@pytest.mark.parametrize("committed", [True, False])
def test_a_doubt_within_a_run_is_settled_by_the_chain(database, tmp_path, committed):
    """Where the outcome of a commit is not known, what the next change found tells it."""
    fill(database.post, 3)
    before = stored(database.post)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            writer.save({}, session)
            database.post.update_many({}, RENEW, session=session)
            writer.seal(session)
            if not committed:
                session.abort_transaction()
        change(writer, database.post, {}, {"$inc": {"n": 1}}, "migration02__n")
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


def test_writes_after_a_failed_attempt_are_no_conflicts(database, tmp_path):
    """What a killed run has not changed is the application's alone."""
    fill(database.post, 3)
    attempted(tmp_path, database.post, "written")
    database.post.update_many({}, {"$set": {"by": "app"}})
    assert counts(restore(tmp_path, database, force=True)) == (0, 0, 0)
    assert database.post.count_documents({"by": "app"}) == 3


def test_a_doubt_that_nothing_settles_is_a_conflict(database, tmp_path):
    """If every document of the last chunk was written since, none of them is overwritten."""
    fill(database.post, 3)
    attempted(tmp_path, database.post, "committed")
    database.post.update_many({}, {"$set": {"by": "app"}})
    assert set(reasons(restore(tmp_path, database)).values()) == {CHANGED}
    run(tmp_path, database.post, {}, {"$inc": {"n": 1}})
    assert set(reasons(restore(tmp_path, database)).values()) == {BETWEEN}


@pytest.mark.parametrize("sealed", [False, True])
def test_without_a_transaction_a_part_may_be_written(database, tmp_path, sealed):
    """Then the pre-images stay: sealed they are put back, and unsealed they are conflicts."""
    fill(database.post, 3)
    before = stored(database.post)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        writer.save(OLD)
        database.post.update_many({"_id": {"$lt": 2}}, RENEW)
        if sealed:
            writer.seal()
        writer.abandon()
    expected = (2, 1, 0) if sealed else (0, 1, 2)
    assert counts(restore(tmp_path, database)) == expected
    restore(tmp_path, database, force=True)
    assert stored(database.post) == before


@pytest.mark.parametrize("file", [dump_of, records_of])
def test_torn_tails_are_ignored(database, tmp_path, file):
    """Half of what a killed run was writing does not keep the rest from being put back."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    torn = file(tmp_path, database.post)
    torn.write_bytes(torn.read_bytes() + torn.read_bytes()[: 60 if file is records_of else 40])
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


def test_a_damaged_backup_is_reported(database, tmp_path):
    """A dump that is cut off, or altered, is named; nothing is written."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    after = stored(database.post)
    dump = dump_of(tmp_path, database.post)
    content = dump.read_bytes()
    dump.write_bytes(content[:-1])
    with pytest.raises(BackupUnreadable, match=r"post\.bson\.gz: it ends at byte"):
        restore(tmp_path, database)
    folder = Folder(tmp_path, database.name, writable=False)
    shorter = DataFile(folder, dump.name, writable=False)
    folder.close()
    dump.write_bytes(content)
    with pytest.raises(BackupUnreadable, match="the pre-images from byte 20 on are damaged"):
        list(shorter.batches(20, len(content) - 21))
    shorter.close()
    altered = bytearray(content)
    altered[-30] ^= 1
    dump.write_bytes(altered)
    with pytest.raises(BackupUnreadable, match="the pre-images from byte 20 on are damaged"):
        restore(tmp_path, database)
    dump.unlink()
    with pytest.raises(BackupUnreadable, match=r"post\.bson\.gz cannot be read: No such file"):
        restore(tmp_path, database)
    assert stored(database.post) == after


def test_a_backup_that_is_being_written(database, tmp_path, server_uri):
    """Another process has it open: nothing is restored, and the error says why."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    after = stored(database.post)
    script = (
        "import sys; from pymongo import MongoClient\n"
        "from lazymig.operations.backup.writer import BackupWriter\n"
        "client = MongoClient(sys.argv[1])\n"
        "BackupWriter(sys.argv[3], client[sys.argv[2]].post, run_id=1)\n"
        "print('open', flush=True); sys.stdin.read(); client.close()\n"
    )
    command = [sys.executable, "-c", script, server_uri, database.name, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BackupUnreadable, match="another process uses it; stop that run"):
            restore(tmp_path, database)
        other.kill()
    assert stored(database.post) == after
    assert counts(restore(tmp_path, database)) == (3, 0, 0)


def locked_for_others(path):
    """Whether another process is refused the lock of a file."""
    script = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    )
    command = [sys.executable, "-c", script, str(path)]
    return b"BlockingIOError" in subprocess.run(command, capture_output=True, check=False).stderr


@pytest.mark.skipif(os.name != "posix", reason="only there files are locked")
def test_a_backup_that_this_process_is_writing(database, tmp_path):
    """It is refused as another process's is, and stays locked for the others."""
    fill(database.post, 3)
    before = stored(database.post)
    records = records_of(tmp_path / "backup", database.post)
    (tmp_path / "link").symlink_to(tmp_path / "backup")
    with BackupWriter(tmp_path / "backup", database.post, run_id=1) as writer:
        change(writer, database.post)
        for path in (tmp_path / "backup", tmp_path / "link"):
            with pytest.raises(BackupUnreadable, match="this process uses it already; stop that"):
                restore(path, database)
            with pytest.raises(BackupFailed, match="this process uses it already; wait for its"):
                BackupWriter(path, database.post, run_id=2)
        assert locked_for_others(records)
    assert not locked_for_others(records)
    assert counts(restore(tmp_path / "link", database)) == (3, 0, 0)
    assert stored(database.post) == before


@pytest.mark.skipif(os.name != "posix", reason="only there files are locked")
def test_a_backup_that_this_process_is_restoring(database, tmp_path):
    """Nobody in the same process writes it, or restores it, at the same time."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    records = records_of(tmp_path, database.post)
    refused = []

    def use_it_too(*done):
        with pytest.raises(BackupFailed, match="this process uses it already"):
            BackupWriter(tmp_path, database.post, run_id=2)
        with pytest.raises(BackupUnreadable, match="this process uses it already"):
            restore(tmp_path, database)
        refused.append(locked_for_others(records))

    assert counts(restore(tmp_path, database, progress=use_it_too)) == (3, 0, 0)
    assert refused == [True]


@pytest.mark.parametrize("force", [False, True])
def test_a_write_during_the_restore_is_not_lost(database, tmp_path, monkeypatch, force):
    """What comes between comparing and writing is a conflict; the neighbours are put back."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    read = restoring.stored_now
    writes = [
        lambda: database.post.update_one({"_id": 0}, {"$set": {"by": "app"}}),
        lambda: database.post.delete_one({"_id": 1}),
    ]

    def read_and_be_late(collection, elements):
        found = read(collection, elements)
        while writes:
            writes.pop()()
        return found

    monkeypatch.setattr(restoring, "stored_now", read_and_be_late)
    report = restore(tmp_path, database, force=force)
    assert counts(report) == (1, 0, 2)
    assert set(reasons(report).values()) == {"it was changed while it was restored"}
    assert database.post.find_one({"_id": 0})["by"] == "app"
    assert database.post.find_one({"_id": 1}) is None


@pytest.mark.parametrize("fields", [{}, {"$odd": 1}])
def test_a_document_that_came_back_during_the_restore(database, tmp_path, monkeypatch, fields):
    """A forced insert does not replace what somebody has inserted in the meantime."""
    fill(database.post, 1, **fields)
    run(tmp_path, database.post)
    database.post.delete_one({})
    read = restoring.stored_now

    def read_and_be_late(collection, elements):
        found = read(collection, elements)
        database.post.insert_one({"_id": 0, "by": "app"})
        return found

    monkeypatch.setattr(restoring, "stored_now", read_and_be_late)
    report = restore(tmp_path, database, force=True)
    assert counts(report) == (0, 0, 1)
    assert reasons(report)[0].startswith("MongoDB refused it: E11000")
    assert database.post.find_one() == {"_id": 0, "by": "app"}


def test_what_mongodb_refuses_is_a_conflict(database, tmp_path):
    """A unique index that came since keeps one document from being put back, and no other.

    The reason quotes nothing that is stored.
    """
    database.post.insert_many([{"_id": 0, "name": "secret"}, {"_id": 1, "name": "b"}])
    run(tmp_path, database.post, {}, {"$unset": {"name": 1}, "$set": {"new": True}})
    database.post.insert_one({"_id": 2, "name": "secret"})
    database.post.create_index("name", unique=True, sparse=True)
    report = restore(tmp_path, database)
    assert counts(report) == (1, 0, 1)
    assert reasons(report)[0] == (
        "MongoDB refused it: E11000 duplicate key error collection: "
        f"{database.post.full_name} index: name_1"
    )
    assert database.post.find_one({"_id": 1}) == {"_id": 1, "name": "b"}


def test_a_restore_and_a_run_keep_each_other_out(mongoengine_db, tmp_path):
    """Beside a run nothing is put back, and beside a restore no run begins."""
    mongoengine_db.item.insert_many([{"_id": number, "v": 1, "n": 0} for number in range(20)])
    before = stored(mongoengine_db.item)
    migration = ItemMigration(Item)
    migration.migrate_all(backup=tmp_path / "first")
    refused = []

    def restore_beside_it():
        with pytest.raises(CollectionLocked, match="holds the lease until"):
            restore(tmp_path / "first", mongoengine_db)
        refused.append("restore")

    def run_beside_it(*done):
        with pytest.raises(CollectionLocked, match="note 'restore' holds the lease"):
            migration.migrate_all()
        refused.append("run")

    migration.migrate_all(backup=tmp_path / "second", throttle=restore_beside_it, again=True)
    assert set(refused) == {"restore"}
    assert restore(tmp_path / "second", mongoengine_db, progress=run_beside_it).restored == 20
    assert refused[-1] == "run"
    assert restore(tmp_path / "first", mongoengine_db).restored == 20
    assert stored(mongoengine_db.item) == before


@pytest.mark.parametrize("written", [False, True])
def test_a_server_that_is_away_is_waited_for(database, tmp_path, monkeypatch, written):
    """A write whose answer is lost is sent again, and each document is counted once."""
    fill(database.post, 5)
    before = stored(database.post)
    run(tmp_path, database.post)
    send, calls = Collection.bulk_write, list[int]()

    def losing(*given, **named):
        calls.append(1)
        if len(calls) == 1 and not written:
            raise AutoReconnect("the primary has stepped down")
        result = send(*given, **named)
        if len(calls) == 1:
            raise AutoReconnect("the answer is lost")
        return result

    monkeypatch.setattr(Collection, "bulk_write", losing)
    assert counts(restore(tmp_path, database)) == (5, 0, 0)
    assert stored(database.post) == before
    assert len(calls) == (1 if written else 2)


def test_the_lease_is_taken_and_given_back(database, tmp_path):
    """A run is kept out whatever journal it has; nothing of the lease is left behind."""
    database.post.insert_one({"_id": 1, "new": True})
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        writer.save({})
    with Lease(journal_collection(database, "other"), "post"), pytest.raises(CollectionLocked):
        restore(tmp_path, database)
    assert counts(restore(tmp_path, database)) == (0, 1, 0)
    assert journal_collection(database).count_documents({"kind": "lease"}) == 0


def test_without_the_right_to_a_journal(database, tmp_path, monkeypatch, caplog):
    """Who may not write the journal is warned and restores; no other error is passed over."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    codes = [2, 13]

    def refuse(self):
        raise OperationFailure("not authorized on the journal", codes.pop(0))

    monkeypatch.setattr(Lease, "acquire", refuse)
    with pytest.raises(OperationFailure):
        restore(tmp_path, database)
    assert not caplog.records
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    (told,) = caplog.records
    assert "post: no right to write the journal lazymig_journal" in told.getMessage()


def test_a_lease_lost_ends_the_restore(database, tmp_path, monkeypatch):
    """Nothing is written without the lease; a second restore puts the rest back."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    monkeypatch.setattr(backup_files, "_MOST_HELD", 2)
    with monkeypatch.context() as patch:
        answers = [True, False]
        patch.setattr(Lease, "valid", property(lambda lease: answers.pop(0)))
        patch.setattr(Lease, "taken", property(lambda lease: True))
        with pytest.raises(LeaseLost, match="lost while it was restored; restore again"):
            restore(tmp_path, database)
    assert database.post.count_documents({"new": True}) == 1
    assert counts(restore(tmp_path, database)) == (1, 2, 0)
    assert stored(database.post) == before


def test_a_lease_that_is_renewed_late_is_waited_for(database, tmp_path, monkeypatch):
    """A server that was away for longer than the lease lasts ends no restore."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    answers = [False, False, True]
    monkeypatch.setattr(Lease, "valid", property(lambda lease: answers.pop(0)))
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert answers == []
    assert stored(database.post) == before
