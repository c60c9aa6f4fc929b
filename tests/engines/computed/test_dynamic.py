"""Rules that read `self.doc`: what they see, what they build on, what they cannot spoil."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from mongoengine import DictField, IntField, ListField, StringField
from pymongo.database import Database

from lazymig import MigrationFailed, RuleDefinitionError
from tests.support.handlers import copying, handler, model, rule


def _post(rules: Any, **fields: Any) -> Any:
    numbers = {name: IntField() for name in ("a", "b", "c")}
    return model(rules, **{**numbers, "tags": ListField(StringField()), **fields})


def test_a_rule_builds_on_what_an_earlier_one_wrote(any_db: Any) -> None:
    """`self.doc` is the document as the earlier rules of the same run left it."""
    any_db["post"].insert_many([{"_id": n, "a": n} for n in range(3)])

    def third(self: Any) -> None:
        self.target = {"c": {"$exists": False}}
        self.update = {"$set": {"c": self.doc["a"] + self.doc["b"]}}

    post = _post(handler(migration01__b=copying("a", "b"), migration02__c=third))
    assert [(each.b, each.c) for each in post.objects.order_by("key")] == [(0, 0), (1, 2), (2, 4)]


def test_a_rule_sees_database_field_names(mongoengine_db: Database[Any]) -> None:
    """`self.doc` is the raw document: stored names, whatever the model calls them."""
    mongoengine_db["post"].insert_one({"_id": 1, "old": "x"})
    rules = handler(
        migration01__t=copying("old", "t"),
        migration02__x=rule({"old": {"$exists": True}}, {"$unset": {"old": ""}}),
    )
    post = _post(rules, title=StringField(db_field="t"))
    assert post.objects.get().title == "x"


def test_what_a_rule_does_to_its_document_reaches_nothing(mongoengine_db: Database[Any]) -> None:
    """Mutating nested values of `self.doc` changes neither what is stored nor what is loaded."""
    mongoengine_db["post"].insert_one({"_id": 1, "tags": ["a"], "sub": {"x": [1]}})

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        tags, sub = self.doc["tags"], self.doc["sub"]
        with suppress(AttributeError, TypeError):
            tags.append("b")
            sub["x"].clear()
        self.update = {"$set": {"a": 1}}

    loaded = _post(handler(migration01__x=method), sub=DictField()).objects.get()
    assert (loaded.a, loaded.tags, loaded.sub) == (1, ["a"], {"x": [1]})
    expected = {"_id": 1, "tags": ["a"], "sub": {"x": [1]}, "a": 1}
    assert mongoengine_db["post"].find_one() == expected


def test_the_document_is_read_only(mongoengine_db: Database[Any]) -> None:
    """A rule that assigns to `self.doc` fails, naming itself; the document stays as it is."""
    mongoengine_db["post"].insert_one({"_id": 1, "b": 1})

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        if int(self.doc["b"]):
            self.doc["a"] = 1
        self.update = {"$set": {"a": 1}}

    post = _post(handler(migration01__x=method))
    with pytest.raises(MigrationFailed, match=r"migration01__x.*self\.doc, which is read-only"):
        post.objects.get()
    assert mongoengine_db["post"].find_one() == {"_id": 1, "b": 1}


def test_assigning_to_the_document_at_once_is_an_error_of_definition() -> None:
    """A rule that needs no document to be seen assigning to it is refused with its class."""

    def at_once(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.doc["a"] = 1

    def in_a_branch(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        if self.doc["b"]:
            self.doc["a"] = 1
        self.update = {"$set": {"a": 1}}

    for method in (at_once, in_a_branch):
        with pytest.raises(RuleDefinitionError, match=r"self\.doc, which is read-only"):
            _post(handler(migration01__x=method))


def test_a_rule_that_reads_a_missing_field_fails_with_its_name(
    mongoengine_db: Database[Any],
) -> None:
    """A KeyError in a rule is a MigrationFailed that names the rule, with the KeyError as cause."""
    mongoengine_db["post"].insert_one({"_id": 1})

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.update = {"$set": {"a": self.doc["nowhere"]}}

    with pytest.raises(MigrationFailed, match=r"migration01__x.*nowhere") as caught:
        _post(handler(migration01__x=method)).objects.get()
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_rule_that_catches_exceptions_still_sees_each_document(
    mongoengine_db: Database[Any],
) -> None:
    """`except Exception` in a rule does not hide that the document is read: values are its own."""
    mongoengine_db["post"].insert_many([{"_id": n, "a": n} for n in range(3)])

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        value = -1
        with suppress(Exception):
            value = self.doc["a"]
        self.update = {"$set": {"b": value}}

    rules = handler(migration01__x=method)
    post = _post(rules)
    assert rules(post).get_status()[0].static is False
    assert [each.b for each in post.objects.order_by("key")] == [0, 1, 2]


def test_a_rule_may_decide_that_a_document_does_not_concern_it(
    mongoengine_db: Database[Any],
) -> None:
    """A rule that sets its target back to None leaves this document alone."""
    mongoengine_db["post"].insert_many([{"_id": n, "a": n} for n in range(4)])

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        if self.doc["a"] % 2:
            self.target = None
        self.update = {"$set": {"b": 0}}

    post = _post(handler(migration01__x=method))
    assert [each.b for each in post.objects.order_by("key")] == [0, None, 0, None]


def test_an_undetermined_rule_starts_on_a_load_error(mongoengine_db: Database[Any]) -> None:
    """A rule whose target needs the document is applied to documents that fail to load."""
    mongoengine_db["post"].insert_many([{"_id": 1, "a": 1, "lost": 5}, {"_id": 2, "a": 2}])

    def method(self: Any) -> None:
        lost = self.doc.get("lost")
        self.target = {"lost": lost, "$and": [{"lost": {"$exists": True}}]}
        self.update = {"$set": {"b": lost}, "$unset": {"lost": ""}}

    rules = handler(migration01__x=method)
    post = _post(rules)
    (status,) = rules(post).get_status()
    assert (status.undetermined, status.remaining, status.dynamic) == (True, None, True)
    assert [(each.a, each.b) for each in post.objects.order_by("key")] == [(1, 5), (2, None)]
    assert mongoengine_db["post"].find_one({"_id": 1}) == {"_id": 1, "a": 1, "b": 5}


def test_migrate_pending_rescues_by_undetermined_rules(mongoengine_db: Database[Any]) -> None:
    """In bulk an undetermined rule is applied to exactly the documents that do not load."""
    mongoengine_db["post"].insert_many([{"_id": n, "a": n} for n in range(250)])
    broken = [5, 100, 101, 249]
    mongoengine_db["post"].update_many({"_id": {"$in": broken}}, {"$set": {"lost": 1}})

    def method(self: Any) -> None:
        value = self.doc["a"]
        self.target = {"a": value}
        self.update = {"$set": {"b": value}, "$unset": {"lost": ""}}

    rules = handler(
        migration01__c=rule({"c": {"$exists": False}}, {"$set": {"c": 1}}), migration02__x=method
    )
    report = rules(_post(rules)).migrate_pending()
    assert [(each.name, each.matched, each.modified) for each in report.rules] == [
        ("migration01__c", 250, 250),
        ("migration02__x", 4, 4),
    ]
    written = mongoengine_db["post"].find({"b": {"$exists": True}}).sort("_id")
    assert [(doc["_id"], doc["b"]) for doc in written] == [(n, n) for n in broken]
    assert mongoengine_db["post"].count_documents({"lost": {"$exists": True}}) == 0


def test_array_filters_of_a_computed_update_are_used(mongoengine_db: Database[Any]) -> None:
    """A dynamic rule's array filters go with its update."""
    mongoengine_db["post"].insert_one({"_id": 1, "a": 2, "tags": ["x", "y"]})

    def method(self: Any) -> None:
        self.target = {"tags": "x"}
        self.update = {"$set": {"tags.$[e]": str(self.doc["a"])}}
        self.array_filters = [{"e": "x"}]

    rules = handler(allmigration01__z=method)
    post = _post(rules)
    assert rules(post).migrate_all().modified == 1
    assert post.objects.get().tags == ["2", "y"]
