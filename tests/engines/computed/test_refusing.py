"""A rule that matches and leaves its document as old as it is is a refusal (invariant 16)."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from mongoengine import DateTimeField, DynamicField, IntField, StringField
from pymongo.database import Database

from lazymig import ConvergenceWarning, History, MigrationFailed
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model, rule


def _post(*methods: Any, on_error: str = "raise") -> Any:
    named = {f"migration{number:02}__x": each for number, each in enumerate(methods, start=1)}
    fields = {name: DynamicField() for name in ("a", "b", "c", "flags", "items")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model(handler(**named, on_error=on_error), **fields)


def _stored(database: Database[Any]) -> list[dict[str, Any]]:
    return list(database["post"].find().sort("_id"))


# --- Without a proof, with the document at hand -------------------------------------------


def _both_numbers(self: Any) -> None:
    self.target = {"$or": [{"a": {"$type": "string"}}, {"b": {"$type": "string"}}]}
    self.update = {"$set": {k: int(self.doc[k]) for k in "ab" if isinstance(self.doc.get(k), str)}}


def _flags(self: Any) -> None:
    self.target = {
        "$expr": {
            "$anyElementTrue": [
                {
                    "$map": {
                        "input": {"$objectToArray": "$flags"},
                        "in": {"$eq": [{"$type": "$$this.v"}, "bool"]},
                    }
                }
            ]
        }
    }
    flags = self.doc["flags"].items()
    self.update = {
        "$set": {"flags": {k: {"on": v} if isinstance(v, bool) else v for k, v in flags}}
    }


def _lower(self: Any) -> None:
    self.target = {"a": {"$regex": "[A-Z]"}}
    self.update = {"$set": {"a": f"{self.doc['a']}".lower()}}


def _pipeline(self: Any) -> None:
    self.target = {"items.price": {"$exists": True}}
    factor = int(str(self.doc["_id"])) * 0 + 100
    cents = {"$multiply": ["$$this.price", factor]}
    self.update = [{"$set": {"items": {"$map": {"input": "$items", "in": {"cents": cents}}}}}]


def _pulled(self: Any) -> None:
    self.target = {"items": {"$gte": 5}}
    self.update = {"$pull": {"items": {"$gt": len(self.doc["items"])}}}


def _moved(self: Any) -> None:
    self.target = {"b": {"$exists": False}, "$expr": {"$gt": [{"$type": "$a"}, ""]}}
    self.update = {"$rename": {"a": "b"}, "$set": {"c": len(str(self.doc["a"]))}}


CASES: list[tuple[Any, dict[str, Any], dict[str, Any]]] = [
    (_both_numbers, {"a": "3", "b": 4}, {"a": 3, "b": 4}),
    (_both_numbers, {"b": "5"}, {"b": 5}),
    (_flags, {"flags": {"dark": True, "old": 1}}, {"flags": {"dark": {"on": True}, "old": 1}}),
    (_lower, {"a": "Ada"}, {"a": "ada"}),
    (_pipeline, {"items": [{"price": 2}]}, {"items": [{"cents": 200}]}),
    (_pulled, {"items": [1, 7, 2]}, {"items": [1, 2]}),
    (_moved, {"a": "xyz"}, {"b": "xyz", "c": 3}),
]


@pytest.mark.parametrize("way", ["load", "run", "settle", "only"])
@pytest.mark.parametrize(("method", "before", "after"), CASES)
def test_what_ends_its_match_needs_no_proof(
    mongoengine_db: Database[Any], method: Any, before: Any, after: Any, way: str
) -> None:
    """A computed update that ends the match of its document is applied on every way."""
    mongoengine_db["post"].insert_many([{"_id": n, **before} for n in (1, 2)])
    post = _post(method)
    if way == "load":
        assert len(list(post.objects)) == 2
    elif way == "only":
        assert len(list(post.objects.only("a", "b", "c", "flags", "items"))) == 2
    elif way == "settle":
        post.objects(a__gte=0, b__gte=0, flags=0, items=0).delete()
        list(post.objects)
    else:
        report = post.migration_handler(post).migrate_pending()
        assert (report.matched, report.modified, report.complete) == (2, 2, True)
    assert _stored(mongoengine_db) == [{"_id": n, **after} for n in (1, 2)]
    assert post.migration_handler(post).get_status()[0].remaining == 0
    assert post.migration_handler(post).migrate_pending().complete


# --- What would match again, or still matches ---------------------------------------------


def _split(self: Any) -> None:
    # An array that holds a string has, to MongoDB, the type string as well.
    self.target = {"a": {"$type": "string"}}
    self.update = {"$set": {"a": self.doc["a"].split(",")}}


def _count(self: Any) -> None:
    self.target = {"a": {"$gte": 5}}
    self.update = {"$inc": {"a": len(str(self.doc["a"]))}}


def _elsewhere(self: Any) -> None:
    self.target = {"a": {"$exists": True}}
    self.update = {"$push": {"b": str(self.doc["a"])}, "$inc": {"c": 1}}


def _same_pipeline(self: Any) -> None:
    self.target = {"items.n": {"$exists": True}}
    size = len(str(self.doc["items"])) * 0 + 1
    inner = {"n": {"$add": ["$$this.n", size]}}
    self.update = [{"$set": {"items": {"$map": {"input": "$items", "in": inner}}}}]


def _nothing(self: Any) -> None:
    self.target = {"a": {"$exists": True}}
    if isinstance(self.doc["a"], bool):
        self.update = {"$unset": {"a": ""}}


UNWRITTEN: list[tuple[Any, dict[str, Any], str]] = [
    (_split, {"a": "x,y"}, "would still match"),
    (_count, {"a": 5}, "would still match"),
    (_elsewhere, {"a": 1}, "would still match"),
    (_same_pipeline, {"items": [{"n": 1}]}, "would still match"),
    (_nothing, {"a": 1}, "sets no update"),
]


@pytest.mark.parametrize(("method", "document", "reason"), UNWRITTEN)
def test_what_would_match_again_is_not_written(
    monitored_db: Database[Any],
    command_log: CommandLog,
    caplog: pytest.LogCaptureFixture,
    method: Any,
    document: Any,
    reason: str,
) -> None:
    """A load raises the reason, or gives the old form; the document is not touched."""
    old = {"_id": 1, **document}
    monitored_db["post"].insert_many([old, {"_id": 2, "label": 1}][:1])
    post = _post(method)
    command_log.clear()
    for _ in range(2):
        with pytest.raises(MigrationFailed, match=reason) as raised:
            post.objects.get()
        assert (raised.value.document_id, raised.value.rule) == (1, "migration01__x")
    skipping = _post(method, on_error="skip")
    (found,) = list(skipping.objects)
    assert found.to_mongo().to_dict() == old
    assert "update" not in command_log.names
    assert _stored(monitored_db) == [old]
    assert "after it was applied" not in caplog.text


@pytest.mark.parametrize(("method", "document", "reason"), UNWRITTEN)
def test_a_run_tells_of_what_would_match_again(
    mongoengine_db: Database[Any], method: Any, document: Any, reason: str
) -> None:
    """Such a document is refused, in the report and in quarantine, and no success is claimed."""
    mongoengine_db["post"].insert_many([{"_id": n, **document} for n in range(3)])
    before = _stored(mongoengine_db)
    post = _post(method, rule({"z": {"$exists": True}}, {"$unset": {"z": ""}}))
    migration = post.migration_handler(post)
    report = migration.migrate_pending(max_errors=3)
    assert (report.state, report.complete, report.modified) == ("finished", False, 0)
    assert [error.document_id for error in report.errors] == [0, 1, 2]
    assert all(reason in str(error) for error in report.errors)
    left = list(History(mongoengine_db).quarantined(report.run_id))
    assert [entry.rule for entry in left] == ["migration01__x"] * 3
    assert migration.get_status()[0].remaining == 3
    assert _stored(mongoengine_db) == before
    stopped = migration.migrate_pending()
    assert (stopped.state, stopped.complete) == ("failed", False)
    retried = migration.retry_quarantined(report.run_id)
    assert (retried.state, len(retried.errors)) == ("failed", 3)
    assert _stored(mongoengine_db) == before


def _not_known(self: Any) -> None:
    self.target = {"items.old": {"$exists": True}}
    self.update = {"$set": {"items.$[].new": len(str(self.doc["items"]))}}


def test_what_only_the_document_can_tell_is_asked_of_it(mongoengine_db: Database[Any]) -> None:
    """Where no forecast is certain the update is written, and refused if the match is still there.

    Its neighbours are migrated.
    """
    mongoengine_db["post"].insert_many(
        [{"_id": 1, "items": [{"old": 1}]}, {"_id": 2, "items": [{"old": 2}]}]
    )

    def method(self: Any) -> None:
        _not_known(self)
        if self.doc["_id"] == 2:
            self.update = {"$unset": {"items.$[].old": ""}}

    post = _post(method)
    report = post.migration_handler(post).migrate_pending(max_errors=5)
    assert [error.document_id for error in report.errors] == [1]
    assert "still matches after the rule was applied" in str(report.errors[0])
    assert _stored(mongoengine_db)[1] == {"_id": 2, "items": [{}]}
    with pytest.raises(MigrationFailed, match="still matches after the rule was applied"):
        post.objects.get(key=1)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_proof_that_does_not_hold_for_a_document_is_told(
    mongoengine_db: Database[Any], on_error: str
) -> None:
    """A proof takes parents for sub-documents; where one is an array, the load tells what is left.

    That holds for rules that read the document and for those that do not.
    """
    mongoengine_db["post"].insert_many([{"_id": 1, "a": [{"x": 1}]}, {"_id": 2, "a": {"x": 1}}])

    def reading(self: Any) -> None:
        self.target = {"a.x": {"$exists": True}}
        self.update = {"$unset": {"a.x": ""}, "$set": {"b": self.doc["a"]}}

    static = rule({"a.x": {"$exists": True}}, {"$unset": {"a.x": ""}})
    for method in (static, reading):
        post = _post(method, on_error=on_error)
        assert post.migration_handler(post).get_status()[0].converges is True
        assert post.objects.get(key=2).a == {}
        if on_error == "skip":
            assert [each.a for each in post.objects.order_by("key")] == [[{"x": 1}], {}]
            continue
        with pytest.raises(MigrationFailed, match="still matches after the rule was applied"):
            post.objects.get(key=1)
        mongoengine_db["post"].update_one({"_id": 2}, {"$set": {"a": {"x": 1}}})


def test_a_static_rule_without_a_proof_runs_in_bulk(mongoengine_db: Database[Any]) -> None:
    """A run applies it where it ends the match, and refuses, unwritten, where it would not."""
    negated = rule({"a": {"$gt": 0}}, {"$mul": {"a": -1}})
    renamed = rule({"items.q": {"$exists": True}}, [{"$set": {"items": {"$map": {
        "input": "$items", "in": {"n": "$$this.q"}}}}}])  # fmt: skip
    added = rule({"c": {"$lt": 3}}, {"$inc": {"c": 2}})
    mongoengine_db["post"].insert_many(
        [{"_id": n, "a": n, "items": [{"q": n}], "c": n} for n in (0, 1, 2)]
    )
    post = _post(negated, renamed, added)
    assert [each.a for each in post.objects.order_by("key")] == [0, 1, 2]
    report = post.migration_handler(post).migrate_pending(max_errors=5)
    assert [error.document_id for error in report.errors] == [0]
    assert "migration03__x: the document would still match" in str(report.errors[0])
    assert _stored(mongoengine_db) == [
        {"_id": 0, "a": 0, "items": [{"n": 0}], "c": 0},
        {"_id": 1, "a": -1, "items": [{"n": 1}], "c": 3},
        {"_id": 2, "a": -2, "items": [{"n": 2}], "c": 4},
    ]


def test_a_document_that_changes_meanwhile_is_judged_anew(mongoengine_db: Database[Any]) -> None:
    """What was foreseen of a document is written only while that document is stored."""
    mongoengine_db["post"].insert_one({"_id": 1, "a": "1", "b": 0})
    meddled: list[int] = []

    def method(self: Any) -> None:
        self.target = {"$or": [{"a": {"$type": "string"}}, {"b": {"$type": "string"}}]}
        value = int(self.doc["a"])
        if not meddled and not self.status:
            meddled.append(mongoengine_db["post"].update_one({}, {"$set": {"b": "x"}}) and 1)
        self.update = {"$set": {"a": value}}

    post = _post(method)
    with pytest.raises(MigrationFailed, match="would still match"):
        post.objects.get()
    assert _stored(mongoengine_db) == [{"_id": 1, "a": "1", "b": "x"}]


# --- Values that differ from call to call --------------------------------------------------


def _token(self: Any) -> None:
    self.target = {"token": {"$exists": False}}
    self.update = {"$set": {"token": uuid.uuid4().hex}}


@pytest.mark.parametrize("way", ["load", "run", "chunks", "one command", "settle", "rescue"])
def test_each_document_has_a_random_value_of_its_own(
    mongoengine_db: Database[Any], way: str
) -> None:
    """A static rule whose update is drawn by lot is evaluated once for each document."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(30)])
    if way == "rescue":
        mongoengine_db["post"].update_many({}, {"$set": {"lost": 1}})
    post = model(handler(migration01__token=_token), token=StringField(), n=IntField())
    runs: dict[str, Callable[[], object]] = {
        "load": lambda: list(post.objects),
        "run": lambda: post.migration_handler(post).migrate_pending(),
        "chunks": lambda: post.migration_handler(post).migrate_pending(chunk_size=7),
        "one command": lambda: post.migration_handler(post).migrate_pending(chunk_size=None),
        "settle": lambda: post.objects(token__ne="").update(inc__n=1),
        "rescue": lambda: post.migration_handler(post).migrate_pending(),
    }
    runs[way]()
    stored = _stored(mongoengine_db)
    assert len({each["token"] for each in stored}) == 30
    again = post.migration_handler(post).migrate_pending()
    assert (again.modified, _stored(mongoengine_db)) == (0, stored)


def test_the_time_is_one_for_a_batch(mongoengine_db: Database[Any]) -> None:
    """The present time in a static update is the time of the migration: one for many documents."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(30)])

    def method(self: Any) -> None:
        self.target = {"at": {"$exists": False}}
        self.update = {"$set": {"at": datetime.now(timezone.utc)}}

    post = model(handler(migration01__at=method), at=DateTimeField())
    list(post.objects)
    assert len({each["at"] for each in _stored(mongoengine_db)}) == 1


def test_a_preview_says_that_values_differ(mongoengine_db: Database[Any]) -> None:
    """Who looks before a run sees that each document is given a value of its own."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(4)])
    post = model(handler(migration01__token=_token), token=StringField())
    report = post.migration_handler(post).preview()
    assert "differs from call to call" in report.rules[0].problems[0]
    assert len({(sample.after or {})["token"] for sample in report.samples}) == 4
