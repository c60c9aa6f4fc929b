"""Runs and reports over documents that no codec can decode: static rules reach all of them."""

from __future__ import annotations

import pymongo
import pytest
from bson.datetime_ms import DatetimeMS
from mongoengine import BooleanField, DynamicDocument, IntField

from lazymig import DocumentMigration, History, LazyMigrationMixin, check_documents, diff, restore
from lazymig.engines.access import by_ids, compared, ids_of, key_of, not_by_ids
from lazymig.engines.walk import Position, Walk
from lazymig.errors import MigrationFailed
from lazymig.operations.journal.entries import NewRun
from lazymig.operations.journal.journal import Journal
from lazymig.raw.differences import extended_json
from lazymig.raw.elements import RawDocument, StoredValue, known_again, scanned
from tests.support import oddities
from tests.support.oddities import stored


class OddMigration(DocumentMigration):
    def migration01__flag(self):
        self.target = {"flag": {"$exists": False}}
        self.update = {"$set": {"flag": True}}

    def migration02__count(self):
        self.target = {"n": {"$exists": False}}
        self.update = {"$set": {"n": 1}}


class Odd(LazyMigrationMixin, DynamicDocument):
    flag = BooleanField()
    n = IntField()
    migration_handler = OddMigration
    meta = {"collection": "odd", "auto_create_index": False}


def insert(collection, documents):
    """Insert documents as they are."""
    collection.insert_many([RawDocument(document) for document in documents])


def only_ids(count):
    """Documents of odd `_id`s alone."""
    kinds = [list(oddities.ids(number).values()) for number in range(count)]
    return [oddities.document(element) for each in kinds for element in each]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_walk_meets_every_document_once(database, size):
    """Whatever its `_id` is: dates beyond Python's, strings that are not UTF-8, objects."""
    documents = only_ids(6)
    insert(database.odd, documents)
    met = []
    walk = Walk(database.odd)
    while (chunk := walk.next(size)) is not None:
        found = list(database.odd.find_raw_batches(chunk.within))
        chunked = [document for batch in found for _, document in scanned(batch)]
        assert len(chunked) == chunk.documents <= size
        met += chunked
        # A run that is resumed goes on from what the journal has of its position.
        journal = Journal(database).collection
        journal.replace_one({"_id": 1}, chunk.end.to_bson() | {"_id": 1, "was": None}, True)
        journal.update_one({"_id": 1}, {"$set": {"at": chunk.end.to_bson()}})
        walk = Walk(database.odd, Position.from_bson(journal.find_one({"_id": 1})["at"]))
    assert sorted(met) == sorted(documents)


def test_odd_ids_are_found_again(database):
    """By their `_id`s, one or several, documents are found, compared and excepted."""
    documents = only_ids(3)
    insert(database.odd, documents)
    ids = list(ids_of(database.odd, {}, sort=[("_id", 1)]))
    assert len({key_of(each) for each in ids}) == len(ids) == len(documents)
    assert sum(isinstance(each, StoredValue) for each in ids) == 12
    assert sum(isinstance(each, DatetimeMS) for each in ids) == 3
    for index, each in enumerate(ids):
        assert database.odd.count_documents(by_ids([each])) == 1
        assert database.odd.count_documents(not_by_ids(ids[: index + 1])) == len(ids) - index - 1
        assert database.odd.count_documents({"_id": compared("$gte", each)}) > 0
    assert database.odd.count_documents(by_ids(ids)) == len(ids)
    journal = Journal(database).collection
    journal.insert_one({"_id": 1, "ids": ids})
    again = [known_again(each) for each in journal.find_one({"_id": 1})["ids"]]
    assert [key_of(each) for each in again] == [key_of(each) for each in ids]
    text = next(each for each in ids if isinstance(each, StoredValue))
    assert extended_json(text) == "caf\\xe9000000"
    assert repr(text) == "'caf\\\\xe9000000'"


@pytest.mark.parametrize("chunk_size", [7, None])
def test_static_rules_reach_odd_documents(mongoengine_db, tmp_path, chunk_size):
    """A run applies them to all, backs up, tells its state, and is undone byte for byte."""
    documents = oddities.documents(90)
    insert(mongoengine_db.odd, documents)
    before = stored(mongoengine_db.odd)
    migration = OddMigration(Odd)
    names = {"migration01__flag", "migration02__count"}
    assert set(migration.get_deprecated()["active"]) == names
    assert {each.name: each.remaining for each in migration.get_status()} == dict.fromkeys(
        names, 90
    )
    report = migration.migrate_pending(chunk_size=chunk_size, backup=tmp_path)
    assert report.complete
    assert report.modified == 180
    assert mongoengine_db.odd.count_documents({"flag": True, "n": 1}) == 90
    assert set(migration.get_deprecated()["deprecated"]) == names
    (run,) = History(mongoengine_db).runs()
    assert run.state == "finished"
    assert all(rule.last_id is not None for rule in run.rules) == (chunk_size is not None)
    assert restore(tmp_path, mongoengine_db).restored == 90
    assert stored(mongoengine_db.odd) == before


def test_reports_name_odd_documents(mongoengine_db):
    """What cannot be decoded is counted and named in a check, and keeps no diff from its end."""
    kinds = oddities.ids(3)
    documents = [
        oddities.document(kinds[kind], oddities.FIELDS["string"])
        for kind in ("number", "date", "string", "object")
    ]
    insert(mongoengine_db.odd, documents)
    (finding,) = (each for each in check_documents(Odd).findings if each.kind == "not_decodable")
    assert finding.count == len(documents)
    assert {"caf\\xe9000003", 3, DatetimeMS(oddities.FAR + 3)} <= {
        each for each in finding.ids if not isinstance(each, dict)
    }
    assert any(finding.path == "_id" for finding in diff(Odd).findings)


def test_what_cannot_be_decoded_waits_for_a_rule_without_a_target(mongoengine_db):
    """A document in quarantine that nobody can load counts, and keeps no report from its end."""

    class Fickle(DocumentMigration):
        def migration01__never(self):
            if self.doc.get("flag") == "never":
                self.target = {"flag": "never"}
                self.update = {"$unset": {"flag": 1}}

    class Waits(LazyMigrationMixin, DynamicDocument):
        migration_handler = Fickle
        meta = {"collection": "odd", "auto_create_index": False}

    kinds = oddities.ids(1)
    insert(mongoengine_db.odd, [oddities.document(kinds["number"], oddities.FIELDS["string"])])
    journal = Journal(mongoengine_db)
    rules = (("migration01__never", "digest"),)
    new = NewRun("Waits", "odd", "Fickle", "lazy", rules, {}, None, 60.0, 100)
    entry = journal.begin(new)
    error = MigrationFailed("no", model="Waits", rule="migration01__never", document_id=1)
    journal.quarantine.add(entry, "migration01__never", [error])
    journal.finish(entry, "finished")
    (status,) = Fickle(Waits).get_status()
    assert status.quarantined == 1
    assert Fickle(Waits).get_deprecated()["active"] == ["migration01__never"]


class NamedMigration(DocumentMigration):
    def migration01__shout(self):
        self.target = {"loud": {"$exists": False}}
        self.update = {"$set": {"loud": self.doc["name"].swapcase()}}


class Named(LazyMigrationMixin, DynamicDocument):
    migration_handler = NamedMigration
    meta = {"collection": "odd", "auto_create_index": False}


class LoudMigration(DocumentMigration):
    def migration01__shout(self):
        self.target = {"loud": {"$exists": False}}
        self.update = {"$set": {"loud": self.doc["name"].upper()}}


class Loud(LazyMigrationMixin, DynamicDocument):
    migration_handler = LoudMigration
    meta = {"collection": "odd", "auto_create_index": False}


@pytest.mark.parametrize("kind", ["string", "object", "binary"])
def test_a_translated_rule_reaches_odd_documents(mongoengine_db, kind):
    """What the server can compute it computes for documents too that Python cannot name."""
    name = oddities.element(2, b"name", oddities.text(b"ada"))
    insert(
        mongoengine_db.odd,
        [oddities.document(oddities.ids(number)[kind], name) for number in range(3)],
    )
    migration = LoudMigration(Loud)
    assert [status.form for status in migration.get_status()] == ["translated"]
    report = migration.migrate_pending()
    assert (report.complete, report.modified) == (True, 3)
    assert mongoengine_db.odd.count_documents({"loud": "ADA"}) == 3


@pytest.mark.parametrize(
    "kind",
    [
        "string",
        "object",
        pytest.param(
            "binary",
            marks=pytest.mark.skipif(
                pymongo.version_tuple < (4, 10),
                reason="this PyMongo decodes no document with such a UUID, in whatever way",
            ),
        ),
    ],
)
def test_documents_without_a_name_in_python_are_named_each(mongoengine_db, kind):
    """A computed rule is refused for each of them, until somebody has helped; so in a preview."""
    name = oddities.element(2, b"name", oddities.text(b"ada"))
    insert(
        mongoengine_db.odd,
        [oddities.document(oddities.ids(number)[kind], name) for number in range(3)],
    )
    migration = NamedMigration(Named)
    (told,) = migration.preview().rules
    assert any("failed for 3 of 3" in problem for problem in told.problems)
    report = migration.migrate_pending(max_errors=3)
    assert len({key_of(error.document_id) for error in report.errors}) == 3
    assert mongoengine_db.odd.count_documents(by_ids([report.errors[0].document_id])) == 1
    retried = migration.retry_quarantined(report.run_id)
    assert (retried.complete, len(retried.errors)) == (False, 3)
    assert [status.quarantined for status in migration.get_status()] == [3]
    mongoengine_db.odd.update_many({}, [{"$set": {"loud": {"$toUpper": "$name"}}}])
    assert migration.retry_quarantined(report.run_id).complete
