"""Undoing runs: what is put back, what is a conflict, and what a killed run has left."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

import bson
import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.raw_bson import RawBSONDocument

from lazymig.errors import BackupUnreadable, RunOptionError
from lazymig.operations.backup import files as backup_files
from lazymig.operations.backup.restore import RestoreConflict, restore
from lazymig.operations.backup.writer import BackupWriter
from tests.support.backups import (
    BETWEEN,
    CHANGED,
    DELETED,
    change,
    counts,
    fill,
    reasons,
    run,
    stored,
)


def test_a_run_is_undone(database, tmp_path):
    """Every document is, byte for byte, what it was; the others are not touched."""
    database.post.insert_many([{"b": 1, "a": Int64(2)}, {"new": True}, {"a": {"y": 1, "x": 2.0}}])
    before = stored(database.post)
    run(tmp_path, database.post, update={"$set": {"new": True}, "$unset": {"a": 1}})
    assert stored(database.post) != before
    report = restore(tmp_path, database)
    assert stored(database.post) == before
    assert counts(report) == (2, 0, 0)
    assert report.conflicts == ()
    assert report.collections == (f"{database.name}.post",)
    assert report.seconds > 0


def test_restoring_twice_does_no_harm(database, tmp_path):
    """The second time every document is as before already."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    restore(tmp_path, database)
    assert counts(restore(tmp_path, database)) == (0, 3, 0)
    assert stored(database.post) == before


def test_what_was_written_since_is_a_conflict(database, tmp_path):
    """Changed and deleted documents are listed and left alone; the neighbours are put back."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    database.post.update_one({"_id": 0}, {"$set": {"by": "app"}})
    database.post.delete_one({"_id": 1})
    report = restore(tmp_path, database)
    name = database.post.full_name
    assert report.conflicts == (
        RestoreConflict(name, 0, CHANGED),
        RestoreConflict(name, 1, DELETED),
    )
    assert counts(report) == (1, 0, 2)
    assert database.post.find_one({"_id": 0})["by"] == "app"
    assert database.post.count_documents({}) == 2
    assert "new" not in database.post.find_one({"_id": 2})


def test_force_puts_conflicts_back(database, tmp_path):
    """What was changed is replaced, and what was deleted inserted."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    database.post.update_one({"_id": 0}, {"$set": {"by": "app"}})
    database.post.delete_one({"_id": 1})
    assert counts(restore(tmp_path, database, force=True)) == (3, 0, 0)
    assert stored(database.post) == before


@pytest.mark.parametrize(
    ("was", "became"),
    [({"n": 1}, {"n": 1.0}), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"n": 1}, {"n": Int64(1)})],
)
def test_as_the_run_left_it_is_meant_byte_for_byte(database, tmp_path, was, became):
    """A number of another type, or another order of fields, was written by somebody else."""
    database.post.insert_one({"_id": 1, "old": True, **was})
    run(tmp_path, database.post, {}, {"$unset": {"old": 1}})
    database.post.replace_one({"_id": 1}, became)
    assert reasons(restore(tmp_path, database)) == {1: CHANGED}


IDS = [
    1,
    Int64(2**40),
    2.5,
    "ümlaut",
    ObjectId(),
    Binary(b"abc", 128),
    Decimal128("1.5"),
    True,
    None,
    {"a": 1, "b": {"c": "x"}},
    OrderedDict([("b", 1), ("a", 2)]),
]


def test_ids_of_any_type(database, tmp_path):
    """Compound ones, in their order of fields, numbers and null as well."""
    database.post.insert_many([{"_id": identity, "n": n} for n, identity in enumerate(IDS)])
    before = stored(database.post)
    run(tmp_path, database.post)
    database.post.update_many({}, {"$set": {"by": "app"}})
    report = restore(tmp_path, database)
    assert counts(report) == (0, 0, len(IDS))
    found = [bson.encode({"_id": conflict.document_id}) for conflict in report.conflicts]
    assert found == [bson.encode({"_id": identity}) for identity in IDS]
    database.post.update_many({}, {"$unset": {"by": 1}})
    assert counts(restore(tmp_path, database)) == (len(IDS), 0, 0)
    assert stored(database.post) == before


ODD = [
    {"b": 1, "t": Timestamp(0, 0), "a": "$b"},
    {"t": Timestamp(0, 0), "$odd": {"$x": ["$$NOW"]}},
    {"z": {"t": Timestamp(0, 0)}, "$set": {"a.b": 1}, "": 2, "a": 1},
]


def store_exactly(collection, document):
    """Store what an insert would refuse or alter."""
    pipeline = [{"$replaceWith": {"$literal": RawBSONDocument(bson.encode(document))}}]
    collection.update_one({"_id": document["_id"]}, pipeline, upsert=True)


def test_what_a_replacement_would_alter_or_refuse(database, tmp_path):
    """Timestamps of zero, and fields whose names begin with `$`, are put back byte for byte."""
    for number, document in enumerate(ODD):
        store_exactly(database.post, {"_id": number, **document})
        store_exactly(database.post, {"_id": f"deleted {number}", **document})
    database.post.insert_one({"_id": "plain"})
    before = stored(database.post)
    assert [bson.decode(document) for document in before[: len(ODD)]] == [
        {"_id": number, **document} for number, document in enumerate(ODD)
    ]
    run(tmp_path, database.post)
    database.post.delete_many({"_id": {"$regex": "^deleted"}})
    report = restore(tmp_path, database)
    assert counts(report) == (len(ODD) + 1, 0, len(ODD))
    assert set(reasons(report).values()) == {DELETED}
    assert counts(restore(tmp_path, database, force=True)) == (len(ODD), len(ODD) + 1, 0)
    assert stored(database.post) == before
    assert counts(restore(tmp_path, database)) == (0, len(before), 0)


def test_two_rules_are_undone_in_one_chain(database, tmp_path):
    """Each document gets back what it was before the first rule that changed it."""
    fill(database.post, 3)
    before = stored(database.post)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        change(writer, database.post, {"_id": {"$lt": 2}})
        change(writer, database.post, {"_id": {"$gt": 0}}, {"$inc": {"n": 1}}, "migration02__n")
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


def test_several_runs_are_undone_in_one_chain(database, tmp_path):
    """So it is with runs into one folder, and after an undo between them."""
    fill(database.post, 3)
    before = stored(database.post)
    run(tmp_path, database.post)
    run(tmp_path, database.post, {}, {"$inc": {"n": 1}})
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before
    run(tmp_path, database.post, {}, {"$set": {"other": 1}})
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(database.post) == before


def test_a_write_between_two_rules_is_a_conflict(database, tmp_path):
    """The chain is broken: putting back the first state would lose the application's write."""
    fill(database.post, 2)
    before = stored(database.post)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        change(writer, database.post)
        database.post.update_one({"_id": 0}, {"$set": {"by": "app"}})
        change(writer, database.post, {}, {"$inc": {"n": 1}}, "migration02__n")
    report = restore(tmp_path, database)
    assert (counts(report), reasons(report)) == ((1, 0, 1), {0: BETWEEN})
    assert counts(restore(tmp_path, database, force=True)) == (1, 1, 0)
    assert stored(database.post) == before


def test_several_collections(database, tmp_path):
    """All collections that the folder has of this database, and no other database's."""
    collections = [database["a/b"], database["50%"], database.post]
    for collection in collections:
        fill(collection, 2)
        run(tmp_path, collection)
    with pytest.raises(BackupUnreadable, match="no backup of lazymig of the database 'other'"):
        restore(tmp_path, database.client["other"])
    report = restore(tmp_path, database)
    assert counts(report) == (6, 0, 0)
    assert set(report.collections) == {collection.full_name for collection in collections}
    assert all("new" not in document for c in collections for document in c.find())


def test_a_backup_that_has_nothing(database, tmp_path):
    """A run that found nothing to change leaves nothing to restore."""
    run(tmp_path, database.post)
    assert counts(restore(tmp_path, database)) == (0, 0, 0)


def test_unchanged_documents_stay(database, tmp_path):
    """A document that the update did not change is counted as unchanged."""
    database.post.insert_one({"_id": 1, "n": 1})
    run(tmp_path, database.post, {}, {"$set": {"n": 1}})
    assert counts(restore(tmp_path, database)) == (0, 1, 0)


def test_progress_is_told(database, tmp_path, monkeypatch):
    """After each batch: the documents done, and their total."""
    monkeypatch.setattr(backup_files, "_MOST_HELD", 2)
    fill(database.post, 5)
    run(tmp_path, database.post)
    told = []
    restore(tmp_path, database, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_a_report_lists_a_thousand_conflicts(database, tmp_path):
    """It counts all of them."""
    fill(database.post, 1100)
    run(tmp_path, database.post)
    database.post.delete_many({})
    report = restore(tmp_path, database)
    assert (len(report.conflicts), report.conflict_count) == (1000, 1100)


def test_a_restore_needs_a_server(mock_db, tmp_path):
    """A database of mongomock is refused before the folder is looked at."""
    with pytest.raises(RunOptionError, match=r"database: .* a restore needs a server"):
        restore(tmp_path, mock_db)


def test_documents_too_large_to_be_compared(database, tmp_path):
    """A document of which two do not fit into one command is put back all the same."""
    database.post.insert_one({"_id": 1, "text": "x" * (9 << 20)})
    before = stored(database.post)
    run(tmp_path, database.post)
    assert counts(restore(tmp_path, database)) == (1, 0, 0)
    assert stored(database.post) == before


def test_writes_carry_the_shard_key(monitored_db, command_log, tmp_path):
    """Beside the `_id`, each write names the values that the document has now."""
    monitored_db.post.insert_many([{"_id": 1, "tenant": {"id": "a"}}, {"_id": 2}])
    run(tmp_path, monitored_db.post, shard_key=("tenant.id", "_id"))
    restore(tmp_path, command_log.client[monitored_db.name])
    (updates,) = [command["updates"] for name, command in command_log.commands if name == "update"]
    assert [
        {name: bson.decode(condition.raw) if name == "_id" else condition["$eq"]}
        for update in updates
        for name, condition in update["q"].items()
        if name != "$expr"
    ] == [
        {"_id": {"$eq": 1}},
        {"tenant.id": "a"},
        {"_id": {"$eq": 2}},
        {"tenant.id": None},
    ]


def test_memory_is_bounded(database, tmp_path, monkeypatch):
    """Ten times the documents need no more memory."""
    monkeypatch.setattr(backup_files, "_MOST_HELD", 200)
    fill(database.small, 1_000)
    fill(database.large, 10_000)
    peaks = {}
    for name in ("small", "large"):
        with BackupWriter(tmp_path / name, database[name], run_id=1) as writer:
            for first in range(0, 10_000, 500):
                change(writer, database[name], {"_id": {"$gte": first, "$lt": first + 500}})
        tracemalloc.start()
        restore(tmp_path / name, database)
        peaks[name] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks["large"] < 1.2 * peaks["small"]
