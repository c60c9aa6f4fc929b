"""The files of a backup: what is in them, for whom, and that a kill or a full disk spares them."""

from __future__ import annotations

import gzip
import os
import stat
import tracemalloc
import uuid
from datetime import datetime
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp, json_util
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from mongoengine import IntField

from lazymig.errors import RunOptionError
from lazymig.operations.backup.files import BackupFiles, checked_database
from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from lazymig.raw.elements import scan, value_of
from tests.support.backups import (
    RENEW,
    attempts,
    change,
    counts,
    dump_of,
    fill,
    read_dump,
    records_of,
    run,
    stored,
    transaction,
)
from tests.support.handlers import handler, model, rule

IDS = [
    1,
    Int64(2**40),
    2.5,
    "ümlaut",
    ObjectId(),
    Binary(b"abc", 128),
    Binary(uuid.uuid4().bytes, 4),
    Decimal128("1.5"),
    datetime(2020, 1, 1),
    True,
    None,
    {"a": 1, "b": {"c": "x"}},
    Timestamp(1, 2),
    MaxKey(),
]


def test_the_dump_is_read_by_pymongo_alone(database, tmp_path):
    """The file is gzipped BSON: the pre-images of the documents that changed, and of no others."""
    database.post.insert_many([{"_id": 1, "text": "old"}, {"_id": 2, "new": True}, {"_id": 3}])
    run(tmp_path, database.post)
    assert read_dump(dump_of(tmp_path, database.post)) == [{"_id": 1, "text": "old"}, {"_id": 3}]


def test_save_gives_the_number_of_documents(database, tmp_path):
    """What was found, over several answers of the server; none where nothing is found."""
    fill(database.post, 4500)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        assert change(writer, database.post) == 4500
        assert change(writer, database.post) == 0
    assert len(read_dump(dump_of(tmp_path, database.post))) == 4500


def test_a_document_is_saved_once_per_attempt(database, tmp_path):
    """A second look of one attempt adds only what is new, for the first is the pre-image."""
    fill(database.post, 3)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            assert writer.save({"_id": {"$lt": 2}}, session) == 2
            database.post.update_many({}, RENEW, session=session)
            assert writer.save({}, session) == 1
            assert writer.save({}, session) == 0
            writer.seal(session)
        writer.commit()
    saved = read_dump(dump_of(tmp_path, database.post))
    assert [(document["_id"], "new" in document) for document in saved] == [
        (0, False),
        (1, False),
        (2, True),
    ]


def test_pre_images_are_read_in_the_transaction(database, tmp_path):
    """What the transaction has written before is what it is going to change."""
    database.post.insert_one({"_id": 1})
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            database.post.update_one({}, {"$set": {"seen": 1}}, session=session)
            writer.save({}, session)
            writer.seal(session)
        writer.commit()
    assert read_dump(dump_of(tmp_path, database.post)) == [{"_id": 1, "seen": 1}]


def test_pre_images_are_on_disk_before_the_write(database, tmp_path, monkeypatch):
    """When `save` returns, the dump is complete and has been flushed to the disk."""
    synced = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd)), sync(fd))[1])
    fill(database.post, 3)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        synced.clear()
        writer.save({})
        dump = dump_of(tmp_path, database.post)
        assert len(read_dump(dump)) == 3
        flushed = {(entry.st_ino, entry.st_size) for entry in synced}
        assert (dump.stat().st_ino, dump.stat().st_size) in flushed
        records = records_of(tmp_path, database.post)
        assert (records.stat().st_ino, records.stat().st_size) in flushed


def test_only_the_owner_may_read(database, tmp_path):
    """Files have mode 0600 and the folders made mode 0700, under the most open umask."""
    database.post.insert_one({"_id": 1})
    before = os.umask(0)
    try:
        run(tmp_path / "a" / "b", database.post)
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    modes = {path.is_dir(): set() for path in made}
    for path in made:
        modes[path.is_dir()].add(stat.S_IMODE(path.stat().st_mode))
    assert modes == {True: {0o700}, False: {0o600}}


def test_metadata_is_that_of_mongodump(database, tmp_path):
    """Options, indexes, uuid, name and type are there, in canonical Extended JSON."""
    database.create_collection("post", collation={"locale": "de", "strength": 2})
    database.post.create_index([("name", 1), ("age", -1)], partialFilterExpression={"age": 1.5})
    run(tmp_path, database.post)
    file = tmp_path / database.name / "post.metadata.json.gz"
    text = gzip.decompress(file.read_bytes()).decode()
    assert '"key":{"name":{"$numberInt":"1"},"age":{"$numberInt":"-1"}}' in text
    assert '"partialFilterExpression":{"age":{"$numberDouble":"1.5"}}' in text
    metadata = json_util.loads(text)
    assert list(metadata) == ["options", "indexes", "uuid", "collectionName", "type"]
    (entry,) = database.list_collections(filter={"name": "post"})
    assert metadata["options"]["collation"]["locale"] == "de"
    assert metadata["uuid"] == bytes(entry["info"]["uuid"]).hex()
    assert (metadata["collectionName"], metadata["type"]) == ("post", "collection")
    assert [index["name"] for index in metadata["indexes"]] == ["_id_", "name_1_age_-1"]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/b", "a%2Fb"),
        ("50%", "50%25"),
        ("a b+c", "a%20b%2Bc"),
        ("/etc/./x", "%2Fetc%2F.%2Fx"),
        ("cafés", "caf%C3%A9s"),
        ("a.b", "a.b"),
    ],
)
def test_names_are_escaped(database, tmp_path, name, file):
    """A collection's name is escaped as mongodump does it, and nothing is written outside."""
    database[name].insert_one({"_id": 1})
    run(tmp_path / "backup", database[name])
    assert {path.name for path in (tmp_path / "backup" / database.name).iterdir()} == {
        f"{file}.bson.gz",
        f"{file}.metadata.json.gz",
        f"{file}.lazymig",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


def test_long_names_are_shortened_as_mongodump_does(tmp_path):
    """A name too long for a file is cut, and a hash of it tells it from others."""
    names = ["ä" * 60, "ä" * 59 + "b"]
    files = [BackupFiles.of(name).name for name in names]
    assert [len(file) for file in files] == [238, 238]
    assert files[0][:211] == files[1][:211] == ("%C3%A4" * 40)[:208] + "%24"
    assert files[0] != files[1]


def test_a_collection_with_a_long_name(database, tmp_path):
    """One whose name is shortened is backed up and restored like any other."""
    collection = database["п" * 90]
    fill(collection, 3)
    before = stored(collection)
    run(tmp_path, collection)
    assert stored(collection) != before
    assert counts(restore(tmp_path, database)) == (3, 0, 0)
    assert stored(collection) == before
    names = {path.suffix for path in (tmp_path / database.name).iterdir()}
    assert names == {".gz", ".lazymig"}


@pytest.mark.parametrize("name", ["..", ".", "", "a/b"])
def test_a_database_cannot_lead_outside(tmp_path, name):
    """A database whose name is no name of a folder is refused."""
    with pytest.raises(ValueError, match="not the name of a folder"):
        checked_database(name)


@pytest.mark.parametrize("identity", IDS, ids=lambda value: type(value).__name__)
def test_ids_of_any_type(database, tmp_path, identity):
    """What was left of a document is found whatever its `_id` is."""
    database.post.insert_one({"_id": identity})
    run(tmp_path, database.post)
    (attempt,) = attempts(tmp_path, database.post)
    assert any(attempt.left)


def test_an_id_behind_other_fields(tmp_path):
    """A document whose `_id` is not its first field is told apart by it all the same."""
    fields = {"a": Regex("x", "i"), "b": [1, {"c": None}], "d": 1.5, "e": b"x", "f": "y"}
    batch = bson.encode({**fields, "_id": 7}) + bson.encode({"_id": 8, **fields})
    elements, _, _ = scan(batch)
    assert [value_of(element, DEFAULT_CODEC_OPTIONS) for element in elements] == [7, 8]


def test_what_was_left_is_read_by_range_where_that_is_dense(monitored_db, command_log, tmp_path):
    """Neighbours are read as one range of `_id`s, scattered documents by their `_id`s alone."""
    collection = command_log.client[monitored_db.name].post
    fill(collection, 5000)
    asked = []
    with BackupWriter(tmp_path, collection, run_id=1) as writer:
        for query in (
            {"_id": {"$lt": 300}},
            *({"_id": {"$in": [300 + n, 4900 + n]}} for n in (1, 2)),
        ):
            writer.begin("migration01__new")
            with transaction(collection) as session:
                count = writer.save(query, session)
                command_log.clear()
                writer.seal(session)
            writer.commit()
            asked.append([sorted(found) for found in conditions(command_log)])
    assert [each.left.count(bytes(16)) for each in attempts(tmp_path, collection)] == [0, 0, 0]
    assert count == 2
    assert asked == [[["$gte", "$lte"]], [["$gte", "$lte"], ["$in"]], [["$in"]]]


def conditions(log: Any) -> list[set[str]]:
    """The operators on `_id` of each query."""
    found = []
    for name, command in log.commands:
        if name == "find":
            query = command["filter"]
            parts = query.get("$and", [query])
            found.append({operator for part in parts for operator in part["_id"]})
    return found


def test_a_backup_needs_a_server(mock_db, tmp_path):
    """A run over a collection of mongomock refuses the option before anything is written."""
    mock_db.post.insert_one({"_id": 1, "v": 1})
    rules = handler(migration01__turn=rule({"v": 1}, {"$set": {"v": 2}}))
    with pytest.raises(RunOptionError, match="backup: needs a server"):
        rules(model(rules, v=IntField())).migrate_pending(backup=tmp_path / "backup")
    assert mock_db.list_collection_names() == ["post"]
    assert not (tmp_path / "backup").exists()


def test_memory_is_bounded_by_a_chunk(database, tmp_path):
    """Ten times the documents in chunks of the same size need no more memory."""
    fill(database.post, 20_000)

    def peak(count: int) -> int:
        with BackupWriter(tmp_path / str(count), database.post, run_id=1) as writer:
            tracemalloc.start()
            for first in range(0, count, 1000):
                change(writer, database.post, {"_id": {"$gte": first, "$lt": first + 1000}}, RENEW)
            _, highest = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return highest

    assert peak(20_000) < 1.2 * peak(2_000)
