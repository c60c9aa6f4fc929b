"""Rules over a whole collection: counts, values, refused documents, rules that write by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import DictField, IntField, ListField, StringField
from pymongo import WriteConcern
from pymongo.database import Database

from lazymig import MigrationFailed, UpdateQueryError
from tests.support.commands import CommandLog
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule


def _post(rules: Any) -> Any:
    numbers = {name: IntField() for name in ("n", "copy", "late")}
    texts = {"tags": ListField(StringField()), "sub": DictField()}
    return model(rules, **numbers, **texts, meta={"strict": False})


def _insert(database: Any, count: int, **more: Any) -> None:
    database["post"].insert_many([{"_id": n, "n": n, **more} for n in range(count)])


@pytest.mark.parametrize("call", ["migrate_all", "migrate_pending"])
def test_each_of_2500_documents_gets_its_own_value(
    mongoengine_db: Database[Any], call: str
) -> None:
    """A rule that reads `self.doc` writes each document its own value, over several batches."""
    _insert(mongoengine_db, 2500)
    prefix = "all" if call == "migrate_all" else ""
    rules = handler(**{f"{prefix}migration01__copy": copying("n", "copy")})
    report = getattr(rules(_post(rules)), call)()
    assert (report.matched, report.modified, report.errors) == (2500, 2500, ())
    assert report.complete
    assert all(doc["copy"] == doc["n"] for doc in mongoengine_db["post"].find())


def test_on_mongomock_each_document_gets_its_own_value(mock_db: Any) -> None:
    """Where bulk writes do not work, single updates do the same."""
    _insert(mock_db, 50)
    rules = handler(allmigration01__copy=copying("n", "copy"))
    report = rules(_post(rules)).migrate_all()
    assert (report.matched, report.modified) == (50, 50)
    assert all(doc["copy"] == doc["n"] for doc in mock_db["post"].find())


def test_a_thousand_documents_are_one_read_and_one_write(
    monitored_db: Database[Any], command_log: CommandLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,500 documents of a dynamic bulk rule are written in three commands, if it is quick."""
    monkeypatch.setattr("lazymig.engines.computed.guarded.SLICE", 600.0)
    _insert(monitored_db, 2500)
    rules = handler(allmigration01__copy=copying("n", "copy"))
    migration = rules(_post(rules))
    command_log.clear()
    migration.migrate_all(chunk_size=2500)
    updated = [body["update"] for name, body in command_log.commands if name == "update"]
    assert Counter(updated)["post"] == 3


def test_a_static_rule_is_one_command(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """A rule that reads no document is one update on the server, whatever the collection's size."""
    _insert(monitored_db, 2500)
    rules = handler(
        allmigration01__x=rule(*ADD_ENABLED),
        allmigration02__y=rule({"n": {"$lt": 10}}, {"$unset": {"n": ""}}),
    )
    migration = rules(_post(rules))
    command_log.clear()
    report = migration.migrate_all(chunk_size=None)
    updated = [body["update"] for name, body in command_log.commands if name == "update"]
    assert Counter(updated)["post"] == 2
    assert [(each.name, each.matched, each.modified) for each in report.rules] == [
        ("allmigration01__x", 2500, 2500),
        ("allmigration02__y", 10, 10),
    ]


def test_matched_and_modified_differ_where_nothing_changes(mongoengine_db: Database[Any]) -> None:
    """A document that matches and already has the value counts as matched, not as modified."""
    _insert(mongoengine_db, 4, late=1)
    mongoengine_db["post"].update_one({"_id": 0}, {"$set": {"late": 0}})
    rules = handler(allmigration01__x=rule({"n": {"$gte": 0}}, {"$set": {"late": 1}}))
    report = rules(_post(rules)).migrate_all()
    assert (report.matched, report.modified) == (4, 1)
    assert (report.model, report.scope, report.seconds > 0) == ("Post", "bulk", True)
    assert report.collection == f"{mongoengine_db.name}.post"


def _one_bad(database: Any) -> None:
    _insert(database, 10)
    database["post"].update_many({}, {"$set": {"tags": []}})
    database["post"].update_one({"_id": 3}, {"$set": {"tags": "no list"}})


def _pushing(self: Any) -> None:
    self.target = {"tags": {"$ne": "x"}}
    self.update = {"$push": {"tags": "x"}}


def _pushing_by_document(self: Any) -> None:
    self.target = {"tags": {"$ne": "x"}}
    self.update = {"$push": {"tags": "x"}, "$set": {"copy": self.doc["n"]}}


@pytest.mark.parametrize("method", [_pushing, _pushing_by_document])
@pytest.mark.parametrize("call", ["migrate_all", "migrate_pending"])
def test_a_refused_document_gets_no_later_rule(
    mongoengine_db: Database[Any], call: str, method: Any
) -> None:
    """A document that the server refuses is in the report, keeps its contents; others go on."""
    _one_bad(mongoengine_db)
    prefix = "all" if call == "migrate_all" else ""
    late = rule({"late": {"$exists": False}}, {"$set": {"late": 1}})
    rules = handler(**{f"{prefix}migration01__push": method, f"{prefix}migration02__late": late})
    report = getattr(rules(_post(rules)), call)(max_errors=1)
    (error,) = report.errors
    assert isinstance(error, MigrationFailed)
    assert (error.model, error.rule, error.document_id) == ("Post", f"{prefix}migration01__push", 3)
    push, rest = report.rules
    assert (rest.matched, rest.modified, rest.errors) == (9, 9, ())
    # MongoDB does not say how many documents an update has reached before it refuses one.
    assert push.modified <= 9
    untouched = {"_id": 3, "n": 3, "tags": "no list"}
    assert mongoengine_db["post"].find_one({"_id": 3}) == untouched
    assert mongoengine_db["post"].count_documents({"late": 1, "tags": "x"}) == 9


def test_raise_for_errors_raises_the_first(mongoengine_db: Database[Any]) -> None:
    """A report with errors raises its first one on demand; one without raises nothing."""
    _one_bad(mongoengine_db)
    rules = handler(allmigration01__push=_pushing)
    report = rules(_post(rules)).migrate_all()
    with pytest.raises(MigrationFailed) as caught:
        report.raise_for_errors()
    assert caught.value is report.errors[0]
    mongoengine_db["post"].delete_one({"_id": 3})
    again = rules(_post(rules)).migrate_all()
    again.raise_for_errors()
    assert again.matched == 0


def test_a_rule_that_raises_for_one_document_fails_that_one(mongoengine_db: Database[Any]) -> None:
    """An exception of the rule is its document's error and stops no other."""
    _insert(mongoengine_db, 5)

    def method(self: Any) -> None:
        self.target = {"copy": {"$exists": False}}
        self.update = {"$set": {"copy": 1 // (self.doc["n"] - 2)}}

    rules = handler(allmigration01__x=method)
    report = rules(_post(rules)).migrate_all()
    assert [(e.document_id, type(e.__cause__)) for e in report.errors] == [(2, ZeroDivisionError)]
    assert mongoengine_db["post"].count_documents({"copy": {"$exists": True}}) == 4


@pytest.mark.parametrize(
    "method", [rule({"copy": {"$exists": False}}, {"$set": {"copy": 1}}), copying("n", "copy")]
)
def test_an_unacknowledged_collection_is_written_with_care(
    mongoengine_db: Database[Any], method: Any
) -> None:
    """A collection with w=0 is migrated with acknowledged writes, so that the report is true."""
    _insert(mongoengine_db, 30)
    careless = mongoengine_db.get_collection("post", write_concern=WriteConcern(w=0))
    rules = handler(allmigration01__x=method)
    report = rules(_post(rules)).migrate_all(careless)
    assert (report.matched, report.modified) == (30, 30)
    assert mongoengine_db["post"].count_documents({"copy": {"$exists": True}}) == 30


def test_scopes_do_not_mix(mongoengine_db: Database[Any]) -> None:
    """migrate_all runs the bulk rules alone, migrate_pending the lazy ones alone, a load too."""
    _insert(mongoengine_db, 3)
    rules = handler(
        migration01__lazy=rule({"copy": {"$exists": False}}, {"$set": {"copy": 1}}),
        allmigration01__bulk=rule({"late": {"$exists": False}}, {"$set": {"late": 1}}),
    )
    post = _post(rules)
    assert [each.name for each in rules(post).migrate_all().rules] == ["allmigration01__bulk"]
    assert mongoengine_db["post"].find_one({"_id": 0}) == {"_id": 0, "n": 0, "late": 1}
    mongoengine_db["post"].update_many({}, {"$unset": {"late": ""}})
    assert post.objects.get(key=1).copy == 1
    assert mongoengine_db["post"].count_documents({"late": 1}) == 0
    assert [each.name for each in rules(post).migrate_pending().rules] == ["migration01__lazy"]
    assert mongoengine_db["post"].count_documents({"copy": 1}) == 3
    assert mongoengine_db["post"].count_documents({"late": 1}) == 0


def test_a_document_is_met_once_though_a_rule_moves_it(mongoengine_db: Database[Any]) -> None:
    """Documents that move forward in the index of the target meanwhile are written once each."""
    mongoengine_db["post"].create_index("n")
    _insert(mongoengine_db, 2500)

    def method(self: Any) -> None:
        self.target = {"n": {"$gte": 0}}
        self.update = {"$set": {"n": self.doc["n"] + 10_000}}

    rules = handler(allmigration01__x=method)
    report = rules(_post(rules)).migrate_all()
    assert (report.matched, report.modified) == (2500, 2500)
    assert {doc["n"] - doc["_id"] for doc in mongoengine_db["post"].find()} == {10_000}


def test_a_bulk_run_needs_no_integer_keys(mongoengine_db: Database[Any]) -> None:
    """Mixed `_id` types, sub-documents among them, are migrated like any other."""
    keys = [ObjectId(), "a", 1, 1.5, {"a": 1, "b": [2]}, b"x"]
    mongoengine_db["post"].insert_many([{"_id": key, "n": 1} for key in keys])
    rules = handler(allmigration01__x=copying("n", "copy"))
    report = rules(_post(rules)).migrate_all()
    assert (report.modified, report.errors) == (len(keys), ())


def test_a_refusal_does_not_repeat_what_was_done(mongoengine_db: Database[Any]) -> None:
    """A rule that does not end its match is applied once to each document, refused one or not."""
    _insert(mongoengine_db, 10, hits=0)
    mongoengine_db["post"].update_one({"_id": 5}, {"$set": {"hits": "no number"}})
    rules = handler(allmigration01__x=rule({"n": {"$gte": 0}}, {"$inc": {"hits": 1}}))
    report = rules(_post(rules)).migrate_all(max_errors=1)
    assert [error.document_id for error in report.errors] == [5]
    hits = [doc["hits"] for doc in mongoengine_db["post"].find({"_id": {"$ne": 5}})]
    assert hits == [1] * 9


def test_a_rule_that_turns_dynamic_when_it_is_applied_is_refused(
    mongoengine_db: Database[Any],
) -> None:
    """A rule that reads the document only outside of reports raises, and nothing is written."""
    _insert(mongoengine_db, 3)

    def turning(self: Any) -> None:
        self.target = {"n": {"$gte": 0}}
        if not self.status and self.doc["n"] > 5:
            return
        self.update = {"$set": {"late": 1}}

    rules = handler(allmigration01__turning=turning)
    with pytest.raises(UpdateQueryError, match=r"allmigration01__turning: .*whatever self.status"):
        rules(_post(rules)).migrate_all()
    assert mongoengine_db["post"].count_documents({"late": 1}) == 0
